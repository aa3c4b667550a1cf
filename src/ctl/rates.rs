//! What two readings of the counters say: numbers per second, and percentiles
//! of what came between them. Pure.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::control::types::{Bucket, Histogram, Statistics};

/// A service, or all of them, per second between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    pub accepted: f64,
    pub admitted: f64,
    pub refused: f64,
    pub failed: f64,
    pub started: f64,
    pub exited: f64,
    pub received: f64,
    pub sent: f64,
    /// Of instances that ended in between.
    pub cpu_us: f64,
    pub match_latency: Histogram,
    pub start_latency: Histogram,
    pub run_time: Histogram,
}

impl Rates {
    /// From the counters at the beginning and at the end of `seconds`. A
    /// daemon that was started anew counts from 0, and so does its first reading.
    #[must_use]
    pub fn between(before: &Statistics, now: &Statistics, seconds: f64) -> Self {
        let fresh = Statistics::default();
        let before = match now.accepted < before.accepted || now.started < before.started {
            true => &fresh,
            false => before,
        };
        let per_second = |before: u64, now: u64| per_second(now.saturating_sub(before), seconds);
        let all = |before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>| {
            per_second(sum(before), sum(now))
        };
        let cpu = |of: &Statistics| of.user_us.saturating_add(of.system_us);
        Self {
            accepted: per_second(before.accepted, now.accepted),
            admitted: per_second(before.admitted, now.admitted),
            refused: all(&before.refused, &now.refused),
            failed: all(&before.failed, &now.failed),
            started: per_second(before.started, now.started),
            exited: all(&before.exited, &now.exited),
            received: per_second(before.received, now.received),
            sent: per_second(before.sent, now.sent),
            cpu_us: per_second(cpu(before), cpu(now)),
            match_latency: difference(&before.match_latency, &now.match_latency),
            start_latency: difference(&before.start_latency, &now.start_latency),
            run_time: difference(&before.run_time, &now.run_time),
        }
    }

    /// Accept to running server, as far as both halves are known: the
    /// percentile of the slower one.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Quantile> {
        let halves = [&self.match_latency, &self.start_latency];
        halves.iter().filter_map(|half| quantile(half, share)).max()
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^52 are shown with three digits"
)]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Of all reasons, steps or kinds.
#[must_use]
pub fn sum(counts: &BTreeMap<String, u64>) -> u64 {
    counts
        .values()
        .fold(0, |sum, count| sum.saturating_add(*count))
}

/// What came into a histogram in between.
#[must_use]
pub fn difference(before: &Histogram, now: &Histogram) -> Histogram {
    let old = |bound: Option<u64>| {
        let found = before.buckets.iter().find(|b| b.up_to_us == bound);
        found.map_or(0, |bucket| bucket.count)
    };
    let buckets = now.buckets.iter().map(|bucket| Bucket {
        up_to_us: bucket.up_to_us,
        count: bucket.count.saturating_sub(old(bucket.up_to_us)),
    });
    Histogram {
        count: now.count.saturating_sub(before.count),
        sum_us: now.sum_us.saturating_sub(before.sum_us),
        buckets: buckets.filter(|bucket| bucket.count > 0).collect(),
    }
}

/// A percentile: no more than the bound of its bucket, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    UpTo(u64),
    /// In the last bucket, which has no bound.
    Beyond,
}

impl Quantile {
    #[must_use]
    pub fn show(self) -> String {
        match self {
            Quantile::UpTo(us) => super::text::micros(us),
            Quantile::Beyond => "max".to_owned(),
        }
    }
}

/// The bound that `share` (0 to 1) of what was measured does not exceed.
#[must_use]
pub fn quantile(histogram: &Histogram, share: f64) -> Option<Quantile> {
    let total = histogram
        .buckets
        .iter()
        .fold(0_u64, |sum, bucket| sum.saturating_add(bucket.count));
    if total == 0 {
        return None;
    }
    let mut seen: u64 = 0;
    let mut last = Quantile::Beyond;
    for bucket in &histogram.buckets {
        seen = seen.saturating_add(bucket.count);
        last = bucket.up_to_us.map_or(Quantile::Beyond, Quantile::UpTo);
        if per_second(seen, 1.0) >= share * per_second(total, 1.0) && seen > 0 {
            break;
        }
    }
    Some(last)
}

/// In microseconds.
#[must_use]
pub fn mean(histogram: &Histogram) -> Option<u64> {
    histogram.sum_us.checked_div(histogram.count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn histogram(buckets: &[(u64, u64)]) -> Histogram {
        Histogram {
            count: buckets.iter().map(|b| b.1).sum(),
            sum_us: buckets.iter().map(|b| b.0.min(1 << 40) * b.1).sum(),
            buckets: buckets
                .iter()
                .map(|(bound, count)| Bucket {
                    up_to_us: Some(*bound).filter(|b| *b < u64::MAX),
                    count: *count,
                })
                .collect(),
        }
    }

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let of = histogram(&[(10, 50), (20, 40), (40, 9), (u64::MAX, 1)]);
        for (share, bound) in [
            (0.0, Quantile::UpTo(10)),
            (0.5, Quantile::UpTo(10)),
            (0.51, Quantile::UpTo(20)),
            (0.9, Quantile::UpTo(20)),
            (0.99, Quantile::UpTo(40)),
            (1.0, Quantile::Beyond),
        ] {
            assert_eq!(quantile(&of, share), Some(bound), "{share}");
        }
        assert_eq!(quantile(&Histogram::default(), 0.5), None);
        assert_eq!(mean(&histogram(&[(10, 3), (30, 1)])), Some(15));
        assert_eq!(mean(&Histogram::default()), None);
    }

    #[test]
    fn only_what_came_in_between_is_left() {
        let before = histogram(&[(10, 50), (40, 9)]);
        let now = histogram(&[(10, 50), (20, 4), (40, 10), (u64::MAX, 1)]);
        let between = difference(&before, &now);
        assert_eq!(between.count, 6);
        let left: Vec<_> = between
            .buckets
            .iter()
            .map(|b| (b.up_to_us, b.count))
            .collect();
        assert_eq!(left, [(Some(20), 4), (Some(40), 1), (None, 1)]);
        assert_eq!(quantile(&between, 0.5), Some(Quantile::UpTo(20)));
    }

    #[test]
    fn rates_are_differences_by_time() {
        let counts = |n: u64| BTreeMap::from([("a".to_owned(), n), ("b".to_owned(), 1)]);
        let before = Statistics {
            accepted: 100,
            refused: counts(1),
            user_us: 5,
            ..Statistics::default()
        };
        let now = Statistics {
            accepted: 150,
            refused: counts(4),
            user_us: 1_000_005,
            ..before.clone()
        };
        let rates = Rates::between(&before, &now, 2.0);
        assert_eq!((rates.accepted, rates.refused), (25.0, 1.5));
        assert_eq!(rates.cpu_us, 500_000.0);
        assert_eq!(Rates::between(&before, &now, 0.0).accepted, 0.0);
    }

    #[test]
    fn a_daemon_that_was_started_anew_counts_from_zero() {
        let before = Statistics {
            accepted: 1_000,
            started: 900,
            ..Statistics::default()
        };
        let now = Statistics {
            accepted: 10,
            started: 8,
            ..Statistics::default()
        };
        let rates = Rates::between(&before, &now, 1.0);
        assert_eq!((rates.accepted, rates.started), (10.0, 8.0));
    }
}
