//! What happened lately, for those who watch: a ring that forgets the oldest.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::control::types::{self, EventKind};
use crate::front::event_loop::Front;
use crate::front::peer::Peer;
use crate::ids::{ConnectionId, ServiceId};

/// As many events are kept,
const MOST: usize = 4096;
/// and no more octets of text than this.
const MOST_TEXT: usize = 512 * 1024;

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    sequence: u64,
    /// Microseconds since 1970.
    time: u64,
    kind: EventKind,
    service: Option<ServiceId>,
    connection: Option<ConnectionId>,
    peer: Option<Peer>,
    text: Box<str>,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    pub service: Option<ServiceId>,
    pub connection: Option<ConnectionId>,
    pub peer: Option<Peer>,
}

impl About {
    #[must_use]
    pub fn service(id: ServiceId) -> Self {
        Self {
            service: Some(id),
            ..Self::default()
        }
    }
}

/// The last events, by sequence number.
#[derive(Debug, Default)]
pub struct Ring {
    events: VecDeque<Event>,
    text: usize,
    next: u64,
}

/// Microseconds since 1970, now.
#[must_use]
pub fn date() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Where somebody who watches has got to, and what he wants to see.
#[derive(Clone, Debug)]
pub struct Watcher {
    next: u64,
    service: Option<ServiceId>,
    kinds: Vec<EventKind>,
}

impl Ring {
    /// Takes note of something that happens now.
    pub fn add(&mut self, kind: EventKind, about: About, text: &str) {
        self.events.push_back(Event {
            sequence: self.next,
            time: date(),
            kind,
            service: about.service,
            connection: about.connection,
            peer: about.peer,
            text: text.into(),
        });
        self.next += 1;
        self.text += text.len();
        while self.events.len() > MOST || self.text > MOST_TEXT {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.text -= oldest.text.len();
        }
    }

    /// The number that the next event will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Watches from the last `backlog` events on that fit.
    #[must_use]
    pub fn watch(
        &self,
        service: Option<ServiceId>,
        kinds: Vec<EventKind>,
        backlog: usize,
    ) -> Watcher {
        let mut watcher = Watcher {
            next: self.next,
            service,
            kinds,
        };
        let fitting = self.events.iter().rev().filter(|e| watcher.wants(e));
        if let Some(first) = fitting.take(backlog).last() {
            watcher.next = first.sequence;
        }
        watcher
    }

    /// What `watcher` has not seen yet, at most `most` of it, and how many events are gone that it might have.
    pub fn read(&self, watcher: &mut Watcher, most: usize) -> (Vec<&Event>, u64) {
        let first = self.events.front().map_or(self.next, |e| e.sequence);
        let lost = first.saturating_sub(watcher.next);
        watcher.next = watcher.next.max(first);
        let skip = usize::try_from(watcher.next - first).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for event in self.events.iter().skip(skip) {
            if found.len() == most {
                break;
            }
            watcher.next = event.sequence + 1;
            if watcher.wants(event) {
                found.push(event);
            }
        }
        (found, lost)
    }

    /// The newest `most` events that `watcher` has not seen, for one who would rather miss
    /// some than be late, and how many he misses.
    pub fn read_newest(&self, watcher: &mut Watcher, most: usize) -> (Vec<&Event>, u64) {
        let before = watcher.next;
        let most_ago = self.next.saturating_sub(most as u64);
        watcher.next = watcher.next.max(most_ago);
        let skipped = watcher.next - before;
        let (found, lost) = self.read(watcher, most);
        (found, lost + skipped)
    }
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let of_it = self.service.is_none() || event.service == self.service;
        of_it && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    /// Whether it has seen everything before `next`.
    #[must_use]
    pub fn has_seen(&self, next: u64) -> bool {
        self.next >= next
    }
}

impl Event {
    /// For the socket; `name` is that of its service.
    #[must_use]
    pub fn show(&self, name: Option<&str>) -> types::Event {
        types::Event {
            sequence: self.sequence,
            time_us: self.time,
            kind: self.kind,
            service: name.map(str::to_owned),
            connection: self.connection.map(|id| id.to_string()),
            peer: self.peer.map(|peer| peer.to_string()),
            text: self.text.to_string(),
        }
    }

    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        self.service
    }
}

impl Front {
    /// What this host does not let the front give up.
    pub(super) fn note_degraded(&mut self, degraded: Vec<String>) {
        for what in &degraded {
            self.note_event(EventKind::Degraded, About::default(), what);
        }
        self.degraded = degraded;
    }

    pub(super) fn note_event(&mut self, kind: EventKind, about: About, text: &str) {
        self.events.add(kind, about, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(ring: &mut Ring, service: u32, kind: EventKind, text: &str) {
        let about = About::service(ServiceId(service));
        ring.add(kind, about, text);
    }

    fn texts(ring: &Ring, watcher: &mut Watcher, most: usize) -> (Vec<String>, u64) {
        let (events, lost) = ring.read(watcher, most);
        (events.iter().map(|e| e.text.to_string()).collect(), lost)
    }

    #[test]
    fn a_watcher_sees_the_backlog_and_then_what_is_new() {
        let mut ring = Ring::default();
        for n in 0..10 {
            add(&mut ring, n % 2, EventKind::Started, &n.to_string());
        }
        let mut watcher = ring.watch(Some(ServiceId(1)), Vec::new(), 2);
        assert_eq!(texts(&ring, &mut watcher, 1), (vec!["7".into()], 0));
        assert_eq!(texts(&ring, &mut watcher, 9), (vec!["9".into()], 0));
        add(&mut ring, 0, EventKind::Started, "not his");
        add(&mut ring, 1, EventKind::Exited, "new");
        assert!(!watcher.has_seen(ring.next()));
        assert_eq!(texts(&ring, &mut watcher, 9), (vec!["new".into()], 0));
        assert!(watcher.has_seen(ring.next()));
        let mut exits = ring.watch(None, vec![EventKind::Exited], 100);
        assert_eq!(texts(&ring, &mut exits, 9), (vec!["new".into()], 0));
        let mut nothing = ring.watch(None, Vec::new(), 0);
        assert_eq!(texts(&ring, &mut nothing, 9), (Vec::new(), 0));
    }

    #[test]
    fn who_wants_the_newest_misses_what_was_before() {
        let mut ring = Ring::default();
        let mut watcher = ring.watch(None, Vec::new(), 0);
        for n in 0..5 {
            add(&mut ring, 0, EventKind::Stderr, &n.to_string());
        }
        let mut read = |ring: &Ring| {
            let (events, lost) = ring.read_newest(&mut watcher, 2);
            (events.iter().map(|e| e.sequence).collect(), lost)
        };
        assert_eq!(read(&ring), (vec![3, 4], 3));
        assert_eq!(read(&ring), (vec![], 0));
        add(&mut ring, 0, EventKind::Stderr, "one more");
        assert_eq!(read(&ring), (vec![5], 0));
    }

    #[test]
    fn who_is_slow_loses_the_oldest_and_is_told() {
        let mut ring = Ring::default();
        let mut watcher = ring.watch(None, Vec::new(), 0);
        for n in 0..MOST + 7 {
            add(&mut ring, 0, EventKind::Stderr, &n.to_string());
        }
        assert_eq!(texts(&ring, &mut watcher, 1), (vec!["7".into()], 7));
        assert_eq!(texts(&ring, &mut watcher, 1), (vec!["8".into()], 0));
    }

    #[test]
    fn long_texts_do_not_fill_the_memory() {
        let mut ring = Ring::default();
        let line = "x".repeat(1024);
        for _ in 0..MOST {
            add(&mut ring, 0, EventKind::Stderr, &line);
        }
        assert_eq!(ring.events.len(), MOST_TEXT / 1024);
        assert_eq!(ring.text, MOST_TEXT);
    }
}
