//! The busiest sources of requests, in memory that a flood of sources cannot grow.
//!
//! "Space-saving" (Metwally, Agrawal, El Abbadi: Efficient Computation of
//! Frequent and Top-k Elements in Data Streams, 2005): where the table is full,
//! a newcomer takes the place of the least busy source and inherits its weight.
//! So one that comes often is never pushed out by many that come once, and
//! whoever is told has come at least as often as is told. Weights halve with
//! time: who was busy yesterday makes room for who is busy now.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::front::limits::source_of;
use crate::table::SourcePrefix;

/// A host, or the network that one host of IPv6 usually has to itself.
const NETWORK: SourcePrefix = SourcePrefix { v4: 32, v6: 64 };
const MAX_SOURCES: u16 = 1024;
const HALF_LIFE: Duration = Duration::from_secs(600);
/// What one request weighs: a power of two, so that halves of it still count.
const WEIGHT: u64 = 1 << 16;

#[derive(Debug)]
pub struct Sources {
    places: HashMap<IpAddr, u16>,
    entries: Vec<Entry>,
    /// Places in `entries`, lightest first, as a binary heap. Empty until
    /// somebody has to make room.
    heap: Vec<u16>,
    limit: u16,
    /// Weights were halved for all the time before.
    aged: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: IpAddr,
    weight: u64,
    /// Inherited: part of the weight, but of others.
    error: u64,
    accepted: u64,
    refused: u64,
    /// Where it is in the heap.
    rank: u16,
}

/// What is known of one source since it found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub source: IpAddr,
    pub accepted: u64,
    /// Of those.
    pub refused: u64,
}

impl Default for Sources {
    fn default() -> Self {
        Self::with_limit(MAX_SOURCES)
    }
}

impl Sources {
    fn with_limit(limit: u16) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            heap: Vec::new(),
            limit,
            aged: None,
        }
    }

    /// The source that `ip` belongs to.
    #[must_use]
    pub fn of(ip: IpAddr) -> IpAddr {
        source_of(ip, NETWORK)
    }

    /// One more request.
    pub fn accept(&mut self, ip: IpAddr, now: Instant) {
        self.age(now);
        let key = Self::of(ip);
        let known = self.places.get(&key).copied();
        let place = known.unwrap_or_else(|| self.enter(key));
        let Some(entry) = self.entries.get_mut(usize::from(place)) else {
            return;
        };
        entry.accepted += 1;
        entry.weight = entry.weight.saturating_add(WEIGHT);
        let rank = entry.rank;
        self.sink(usize::from(rank));
    }

    /// One that was accepted is refused.
    pub fn refuse(&mut self, ip: IpAddr) {
        if let Some(place) = self.places.get(&Self::of(ip)) {
            self.entries[usize::from(*place)].refused += 1;
        }
    }

    /// At most `count`, those that come most often these days first.
    #[must_use]
    pub fn busiest(&self, count: usize) -> Vec<Counted> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        let own = |entry: &Entry| entry.weight - entry.error;
        entries.sort_by_key(|entry| Reverse((own(entry), entry.accepted)));
        entries.truncate(count);
        let counted = entries.into_iter().map(|entry| Counted {
            source: entry.key,
            accepted: entry.accepted,
            refused: entry.refused,
        });
        counted.collect()
    }

    /// A place for a source that has none; the caller adds its first request.
    fn enter(&mut self, key: IpAddr) -> u16 {
        let mut entry = Entry {
            key,
            weight: 0,
            error: 0,
            accepted: 0,
            refused: 0,
            rank: 0,
        };
        let place = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        if place < self.limit {
            self.entries.push(entry);
            self.places.insert(key, place);
            return place;
        }
        if self.heap.is_empty() {
            self.build_heap();
        }
        let place = self.heap.first().copied().unwrap_or(0);
        let lightest = &mut self.entries[usize::from(place)];
        entry.weight = lightest.weight;
        entry.error = lightest.weight;
        self.places.remove(&lightest.key);
        *lightest = entry;
        self.places.insert(key, place);
        place
    }

    fn build_heap(&mut self) {
        let entries = &self.entries;
        self.heap = (0..self.limit).collect();
        self.heap
            .sort_by_key(|place| entries[usize::from(*place)].weight);
        for (rank, place) in (0..).zip(&self.heap) {
            self.entries[usize::from(*place)].rank = rank;
        }
    }

    /// Lets what has become heavier sink to where it belongs.
    fn sink(&mut self, mut rank: usize) {
        let weight = |rank: usize, heap: &[u16], entries: &[Entry]| {
            let place = heap.get(rank)?;
            Some(entries[usize::from(*place)].weight)
        };
        loop {
            let at = |rank| weight(rank, &self.heap, &self.entries);
            let (left, right) = (2 * rank + 1, 2 * rank + 2);
            let Some(lightest) = at(left) else {
                return;
            };
            let (child, lightest) = match at(right) {
                Some(weight) if weight < lightest => (right, weight),
                _ => (left, lightest),
            };
            if at(rank).is_none_or(|own| own <= lightest) {
                return;
            }
            self.heap.swap(rank, child);
            for rank in [rank, child] {
                let place = usize::from(self.heap[rank]);
                self.entries[place].rank = u16::try_from(rank).unwrap_or(u16::MAX);
            }
            rank = child;
        }
    }

    /// Halving changes nobody's order, so the heap stays one.
    fn age(&mut self, now: Instant) {
        let aged = *self.aged.get_or_insert(now);
        let passed = now.saturating_duration_since(aged).as_secs() / HALF_LIFE.as_secs();
        let Some(halvings) = u32::try_from(passed).ok().filter(|count| *count > 0) else {
            return;
        };
        for entry in &mut self.entries {
            entry.weight = entry.weight.checked_shr(halvings).unwrap_or(0);
            entry.error = entry.error.checked_shr(halvings).unwrap_or(0);
        }
        self.aged = Some(aged + HALF_LIFE * halvings);
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
