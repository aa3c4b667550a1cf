//! Counting: token buckets, per-source tables, back-off. Pure: `now` is an argument.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::table::access::mask;
use crate::table::{Rate, SourcePrefix};

/// A token bucket, kept as the moment at which it will be full again: every
/// token taken moves that moment by what a token takes to grow. An unused
/// bucket costs nothing to keep right, and a changed rate applies at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// When the next token is there: `None` is now.
    #[must_use]
    pub fn next_token(&self, rate: &Rate, now: Instant) -> Option<Instant> {
        let slack = interval(rate).checked_mul(rate.burst.max(1) - 1)?;
        let due = self.full_at?.checked_sub(slack)?;
        (due > now).then_some(due)
    }

    pub fn take(&mut self, rate: &Rate, now: Instant) {
        let from = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = from.checked_add(interval(rate));
    }

    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// What one token takes to grow.
fn interval(rate: &Rate) -> Duration {
    (rate.per / rate.count.max(1)).max(Duration::from_nanos(1))
}

/// The most sources a service keeps apart.
const MAX_SOURCES: usize = 65_536;
/// How many entries are looked at to find one that can go.
const SWEEP: usize = 64;

/// What is known about each source of one service.
#[derive(Debug, Default)]
pub struct Sources {
    places: HashMap<IpAddr, u32>,
    entries: Vec<Source>,
    hand: usize,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    key: IpAddr,
    running: u32,
    bucket: Bucket,
}

impl Sources {
    /// The requests of this source that are being served.
    #[must_use]
    pub fn running(&self, key: IpAddr) -> u32 {
        self.find(key).map_or(0, |source| source.running)
    }

    #[must_use]
    pub fn next_token(&self, key: IpAddr, rate: &Rate, now: Instant) -> Option<Instant> {
        self.find(key)?.bucket.next_token(rate, now)
    }

    /// Whether `key` is known, or there is (or can be made) room for it.
    #[must_use]
    pub fn has_room(&self, key: IpAddr) -> bool {
        self.entries.len() < MAX_SOURCES
            || self.places.contains_key(&key)
            || self.nearby().any(|at| self.entries[at].running == 0)
    }

    /// Counts one more request of `key`.
    pub fn begin(&mut self, key: IpAddr, rate: Option<&Rate>, now: Instant) {
        let Some(at) = self.place(key, now) else {
            return;
        };
        self.entries[at].running += 1;
        if let Some(rate) = rate {
            self.entries[at].bucket.take(rate, now);
        }
    }

    /// Takes a token of `key` without counting it as running.
    pub fn take(&mut self, key: IpAddr, rate: &Rate, now: Instant) {
        if let Some(at) = self.place(key, now) {
            self.entries[at].bucket.take(rate, now);
        }
    }

    /// One request of `key` is over.
    pub fn end(&mut self, key: IpAddr) {
        if let Some(&at) = self.places.get(&key) {
            let running = &mut self.entries[at as usize].running;
            *running = running.saturating_sub(1);
        }
    }

    /// Drops every source that is as good as never seen.
    pub fn forget_idle(&mut self, now: Instant) {
        self.entries
            .retain(|source| source.running > 0 || !source.bucket.is_full(now));
        if self.entries.len() == self.places.len() {
            return;
        }
        self.hand = 0;
        self.places.clear();
        let keys = self.entries.iter().map(|source| source.key);
        self.places.extend(keys.zip(0..));
        if self.places.capacity() > 4 * self.places.len() + 64 {
            self.places.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
    }

    fn find(&self, key: IpAddr) -> Option<&Source> {
        self.places.get(&key).map(|at| &self.entries[*at as usize])
    }

    /// The entry of `key`, a new one if need be; `None` when all are busy.
    fn place(&mut self, key: IpAddr, now: Instant) -> Option<usize> {
        if let Some(&at) = self.places.get(&key) {
            return Some(at as usize);
        }
        let source = Source {
            key,
            running: 0,
            bucket: Bucket::default(),
        };
        let at = if self.entries.len() < MAX_SOURCES {
            self.entries.push(source);
            self.entries.len() - 1
        } else {
            let at = self.victim(now)?;
            self.places.remove(&self.entries[at].key);
            self.entries[at] = source;
            at
        };
        self.places.insert(key, u32::try_from(at).ok()?);
        Some(at)
    }

    /// Of the next few entries the one that is missed least: nothing running,
    /// bucket full, or full soonest.
    fn victim(&mut self, now: Instant) -> Option<usize> {
        let best = self
            .nearby()
            .filter(|at| self.entries[*at].running == 0)
            .min_by_key(|at| self.entries[*at].bucket.full_at.filter(|full| *full > now));
        self.hand = (self.hand + SWEEP) % MAX_SOURCES;
        best
    }

    fn nearby(&self) -> impl Iterator<Item = usize> + use<> {
        let (hand, length) = (self.hand, self.entries.len());
        (hand..hand + SWEEP.min(length)).map(move |at| at % length)
    }
}

/// The source that `ip` belongs to.
#[must_use]
pub fn source_of(ip: IpAddr, prefix: SourcePrefix) -> IpAddr {
    let ip = ip.to_canonical();
    let bits = if ip.is_ipv4() { prefix.v4 } else { prefix.v6 };
    mask(ip, bits).unwrap_or(ip)
}

/// How long to rest after failures: longer each time, never for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    failures: u32,
    until: Option<Instant>,
}

impl BackOff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);

    /// One more failure. `noise` (any number) shortens the rest by up to a
    /// quarter, so that services that failed together do not return together.
    /// What fails while resting was under way before, and counts as the same failure.
    /// Returns the rest, if one begins.
    pub fn fail(&mut self, now: Instant, noise: u32) -> Option<Duration> {
        if self.resting(now).is_some() {
            return None;
        }
        if self
            .until
            .is_some_and(|until| now.saturating_duration_since(until) > Self::LONGEST)
        {
            self.failures = 0; // it has worked, or nobody came, for longer than any rest
        }
        let rest = Self::FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let rest = rest - rest / 4 * (noise % 256) / 256;
        self.until = now.checked_add(rest);
        Some(rest)
    }

    /// It works: the next failure starts from the shortest rest.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Until when to rest, if it is not over yet.
    #[must_use]
    pub fn resting(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(count: u32, burst: u32) -> Rate {
        Rate {
            count,
            per: SECOND,
            burst,
        }
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let (rate, start) = (rate(10, 3), Instant::now());
        let mut bucket = Bucket::default();
        let mut given = 0;
        for step in 0..100 {
            let now = start + SECOND / 100 * step;
            if bucket.next_token(&rate, now).is_none() {
                bucket.take(&rate, now);
                given += 1;
            }
        }
        // Three at once, then one every 100 ms within 0.99 s.
        assert_eq!(given, 3 + 9);
    }

    #[test]
    fn an_empty_bucket_says_when_the_next_token_is_due() {
        let (rate, now) = (rate(4, 1), Instant::now());
        let mut bucket = Bucket::default();
        bucket.take(&rate, now);
        assert_eq!(bucket.next_token(&rate, now), Some(now + SECOND / 4));
        assert_eq!(bucket.next_token(&rate, now + SECOND / 4), None);
        assert!(!bucket.is_full(now));
        assert!(bucket.is_full(now + SECOND / 4));
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let now = Instant::now();
        for rate in [
            Rate {
                count: 1,
                per: Duration::MAX,
                burst: u32::MAX,
            },
            Rate {
                count: u32::MAX,
                per: Duration::from_nanos(1),
                burst: 1,
            },
        ] {
            let mut bucket = Bucket::default();
            bucket.take(&rate, now);
            bucket.take(&rate, now);
            let _ = bucket.next_token(&rate, now);
        }
    }

    #[test]
    fn sources_share_a_prefix_and_mapped_peers_are_ipv4() {
        let prefix = SourcePrefix { v4: 24, v6: 64 };
        let source = |text: &str| source_of(text.parse().unwrap(), prefix);
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.99"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }

    #[test]
    fn a_full_table_forgets_idle_sources_and_keeps_busy_ones() {
        let (rate, now) = (rate(1, 2), Instant::now());
        let mut sources = Sources::default();
        sources.begin(address(0), Some(&rate), now);
        for n in 1..200_000 {
            sources.take(address(n), &rate, now);
        }
        assert_eq!(sources.entries.len(), MAX_SOURCES);
        assert_eq!(sources.places.len(), MAX_SOURCES);
        assert_eq!(sources.running(address(0)), 1);
        sources.forget_idle(now + 3 * SECOND);
        assert_eq!(sources.entries.len(), 1);
        assert_eq!(sources.running(address(0)), 1);
        sources.end(address(0));
        sources.forget_idle(now + 3 * SECOND);
        assert!(sources.places.is_empty());
    }

    #[test]
    fn rest_doubles_up_to_a_minute_and_success_ends_it() {
        let mut now = Instant::now();
        let mut back_off = BackOff::default();
        let mut rests = Vec::new();
        for _ in 0..12 {
            back_off.fail(now, 0);
            back_off.fail(now, 0);
            let until = back_off.resting(now).unwrap();
            rests.push(until - now);
            now = until;
        }
        assert_eq!(rests[0], Duration::from_millis(100));
        assert_eq!(rests[1], Duration::from_millis(200));
        assert_eq!(rests[11], Duration::from_secs(60));
        assert_eq!(back_off.resting(now), None);
        back_off.succeed();
        assert_eq!(back_off.resting(now), None);
        back_off.fail(now, 255);
        let shortened = back_off.resting(now).unwrap() - now;
        assert!(shortened > Duration::from_millis(75) && shortened < Duration::from_millis(76));
    }
}
