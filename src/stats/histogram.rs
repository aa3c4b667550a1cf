//! Spans of time on a logarithmic scale, two buckets an octave: no value is
//! told more than half too high, from a microsecond to over an hour.
#![forbid(unsafe_code)]

/// The last one is for everything longer than all others take.
const BUCKETS: usize = 65;

/// Counts of spans, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    count: u64,
    sum: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(micros);
        self.buckets[place(micros)] += 1;
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The buckets that hold something: inclusive upper bound and count. The
    /// one without a bound is last.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let all = self.buckets.iter().enumerate();
        all.filter(|(_, count)| **count > 0)
            .map(|(place, count)| (bound(place), *count))
    }
}

/// The first bucket whose bound is not below `micros`.
fn place(micros: u64) -> usize {
    let Some(octave) = micros.saturating_sub(1).checked_ilog2() else {
        return 0;
    };
    let below = micros - 1;
    let half = if octave == 0 {
        1 // there is nothing between 1 and 2
    } else {
        below >> (octave - 1) & 1
    };
    let place = 2 * octave + u32::from(half == 1);
    (place as usize).min(BUCKETS - 1)
}

/// 1, 2, 3, 4, 6, 8, 12, 16 and so on; `None` for the last.
fn bound(place: usize) -> Option<u64> {
    if place == BUCKETS - 1 {
        return None;
    }
    Some(match (place / 2, place % 2) {
        (0, half) => 1 << half,
        (octave, 0) => 3 << (octave - 1),
        (octave, _) => 2 << octave,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_rise_twice_an_octave_to_over_an_hour() {
        let bounds: Vec<u64> = (0..BUCKETS).map_while(bound).collect();
        assert_eq!(bounds[..10], [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]);
        assert!(bounds.is_sorted());
        assert_eq!(bounds.len(), BUCKETS - 1);
        assert!(bounds[BUCKETS - 2] > 3_600_000_000);
    }

    #[test]
    fn a_bound_is_in_its_bucket_and_what_follows_in_the_next() {
        for at in 0..BUCKETS - 1 {
            let bound = bound(at).unwrap();
            assert_eq!((place(bound), place(bound + 1)), (at, at + 1));
        }
        assert_eq!(place(0), 0);
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn only_buckets_that_hold_something_are_told() {
        let mut histogram = Histogram::default();
        for micros in [5, 6, 7, u64::MAX] {
            histogram.record(micros);
        }
        let told: Vec<_> = histogram.buckets().collect();
        assert_eq!(told, [(Some(6), 2), (Some(8), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, u64::MAX));
    }

    proptest! {
        #[test]
        fn no_value_is_told_more_than_half_too_high(micros in 1_u64..4_000_000_000) {
            let bound = bound(place(micros)).unwrap();
            prop_assert!(bound >= micros);
            prop_assert!(bound - micros <= micros / 2);
        }
    }
}
