//! Keeps a flood of peers from becoming a flood of lines.

use std::time::{Duration, Instant};

/// Lets `burst` lines through per `interval` and counts the rest.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    burst: u32,
    since: Option<Instant>,
    used: u32,
    held_back: u64,
}

impl Pace {
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            interval,
            burst,
            since: None,
            used: 0,
            held_back: 0,
        }
    }

    /// Whether nothing of it holds any more.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        let since = self.since.map(|since| now.saturating_duration_since(since));
        since.is_none_or(|since| since >= self.interval) && self.held_back == 0
    }

    /// Whether to log now; if so, how many lines were held back since the last one.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let fresh = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= self.interval);
        if fresh {
            self.since = Some(now);
            self.used = 0;
        }
        if self.used < self.burst {
            self.used += 1;
            return Some(std::mem::take(&mut self.held_back));
        }
        self.held_back += 1;
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_counted_until_the_interval_ends() {
        let start = Instant::now();
        let mut pace = Pace::new(2, Duration::from_secs(60));
        let seconds = |s| start + Duration::from_secs(s);
        let admitted: Vec<_> = [0, 1, 2, 59, 60, 61, 62]
            .map(|s| pace.admit(seconds(s)))
            .into();
        assert_eq!(
            admitted,
            [Some(0), Some(0), None, None, Some(2), Some(0), None]
        );
    }
}
