//! The connections that nobody serves yet, within their bounds.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use socket2::Socket;

use super::crowd::{Crowd, Source};
use crate::demux::proxy::Header;
use crate::front::peer::Peer;
use crate::front::slots::Slots;
use crate::helper::told::Told;
use crate::ids::{ListenerId, ServiceId};
use crate::table::Undecided;

/// One connection between accept and hand-over. Its bytes stay in the kernel.
#[derive(Debug)]
pub struct Waiting {
    pub socket: Socket,
    pub listener: ListenerId,
    /// Who connected, as the kernel says.
    pub peer: Peer,
    /// A proxy that has not told yet whom it brings.
    pub owes_header: bool,
    /// What a proxy told.
    pub header: Option<Box<Header>>,
    pub local: Option<IpAddr>,
    pub interface: Option<Box<str>>,
    /// Of the peer of a Unix socket, uid and gid.
    pub credentials: Option<(u32, u32)>,
    pub accepted: Instant,
    /// When to look without an event.
    pub due: Instant,
    /// `SO_RCVLOWAT` as it is now.
    pub mark: u32,
    /// How often its bytes were looked at.
    pub looks: u16,
    /// How many bytes were there the last time.
    pub seen: usize,
    pub watched: bool,
    /// Decided; waits for a place.
    pub held: Option<Box<Held>>,
}

/// A request whose service is full.
#[derive(Debug)]
pub struct Held {
    pub service: ServiceId,
    pub told: Option<Box<Told>>,
}

impl Waiting {
    #[must_use]
    pub fn new(socket: Socket, peer: Peer, listener: ListenerId, now: Instant) -> Self {
        Self {
            socket,
            listener,
            peer,
            owes_header: false,
            header: None,
            local: None,
            interface: None,
            credentials: None,
            accepted: now,
            due: now,
            mark: 1,
            looks: 0,
            seen: 0,
            watched: false,
            held: None,
        }
    }

    /// Whom the request is from: what a trusted proxy told, else who connected.
    #[must_use]
    pub fn client(&self) -> Peer {
        let told = self.header.as_ref().and_then(|header| header.ends);
        told.map_or(self.peer, |(source, _)| source.into())
    }

    /// The source it counts for.
    fn source(&self) -> Source {
        match self.peer {
            Peer::Inet { ip, .. } if self.owes_header => Source::Proxy(ip),
            _ => Source::of(&self.client(), self.credentials.map(|(uid, _)| uid)),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Table {
    places: Slots<Waiting>,
    /// The undecided ones.
    crowd: Crowd,
    /// The decided ones.
    held: Crowd,
    due: BTreeSet<(Instant, u32)>,
    /// Of undecided ones.
    count: u32,
}

impl Table {
    /// Undecided ones.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Which undecided one has to go so that `newcomer` finds a place, if any.
    #[must_use]
    pub fn victim(&self, newcomer: &Waiting, listed: u32, bounds: &Undecided) -> Option<u32> {
        let source = newcomer.source();
        if source.has_a_share() && self.crowd.of(source) >= bounds.per_source {
            return self.crowd.line(source).next();
        }
        if self.count >= bounds.total {
            return self.heaviest();
        }
        if listed < bounds.per_listener {
            return None;
        }
        let here = |place: &u32| {
            let waiting = self.places.get(*place as usize);
            waiting.is_some_and(|waiting| waiting.listener == newcomer.listener)
        };
        self.crowd.heaviest_first().find(here)
    }

    /// The undecided connection that goes first, whoever else comes.
    #[must_use]
    pub fn heaviest(&self) -> Option<u32> {
        self.crowd.heaviest_first().next()
    }

    /// Who has to go because the source of `place`, known only now, has too many.
    #[must_use]
    pub fn one_too_many(&self, place: u32, bounds: &Undecided) -> Option<u32> {
        let source = self.places.get(place as usize)?.source();
        let exceeds = source.has_a_share() && self.crowd.of(source) > bounds.per_source;
        let oldest = exceeds.then(|| self.crowd.line(source).next()).flatten();
        oldest.filter(|oldest| *oldest != place)
    }

    /// Whether the source of a decided request may have one more that waits for its service.
    #[must_use]
    pub fn may_hold(&self, waiting: &Waiting, bounds: &Undecided) -> bool {
        let source = waiting.source();
        !source.has_a_share() || self.held.of(source) < bounds.per_source
    }

    pub fn insert(&mut self, waiting: Waiting) -> u32 {
        let (source, due) = (waiting.source(), waiting.due);
        let decided = waiting.held.is_some();
        let place = u32::try_from(self.places.insert(waiting)).unwrap_or(u32::MAX);
        if decided {
            self.held.join(place, source);
        } else {
            self.crowd.join(place, source);
            self.count += 1;
        }
        self.due.insert((due, place));
        place
    }

    pub fn remove(&mut self, place: u32) -> Option<Waiting> {
        let waiting = self.places.remove(place as usize)?;
        if waiting.held.is_some() {
            self.held.leave(place, waiting.source());
        } else {
            self.crowd.leave(place, waiting.source());
            self.count -= 1;
        }
        self.due.remove(&(waiting.due, place));
        Some(waiting)
    }

    #[must_use]
    pub fn get(&self, place: u32) -> Option<&Waiting> {
        self.places.get(place as usize)
    }

    /// Changes an undecided one, maybe so that it counts for another source.
    pub fn change<R>(&mut self, place: u32, change: impl FnOnce(&mut Waiting) -> R) -> Option<R> {
        let waiting = self.places.get_mut(place as usize)?;
        let before = waiting.source();
        let result = change(waiting);
        let after = waiting.source();
        if before != after {
            self.crowd.leave(place, before);
            self.crowd.join(place, after);
        }
        Some(result)
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut Waiting> {
        self.places.get_mut(place as usize)
    }

    /// Looks at it no later than `at`, whatever happens.
    pub fn set_due(&mut self, place: u32, at: Instant) {
        if let Some(waiting) = self.places.get_mut(place as usize)
            && waiting.due != at
        {
            self.due.remove(&(waiting.due, place));
            waiting.due = at;
            self.due.insert((at, place));
        }
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    #[must_use]
    pub fn is_due(&self, now: Instant) -> Option<u32> {
        let (at, place) = self.due.first()?;
        (*at <= now).then_some(*place)
    }

    pub fn places(&self) -> impl Iterator<Item = (u32, &Waiting)> {
        let all = self.places.iter();
        all.filter_map(|(at, waiting)| Some((u32::try_from(at).ok()?, waiting)))
    }

    /// A new turn: no event of the last one is left.
    pub fn turn_over(&mut self) {
        self.places.turn_over();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// What a connection costs besides its entries in the crowd and among the
    /// deadlines, which are about as large again.
    #[test]
    fn a_record_is_small() {
        assert!(std::mem::size_of::<Option<Waiting>>() <= 192);
    }

    const BOUNDS: Undecided = Undecided {
        total: 4,
        per_listener: 4,
        per_source: 2,
    };

    fn from(host: u8, held: bool) -> Waiting {
        let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let peer = SocketAddr::from(([192, 0, 2, host], 1));
        let mut waiting = Waiting::new(socket, peer.into(), ListenerId(1), Instant::now());
        waiting.held = held.then(|| {
            let service = ServiceId(1);
            Box::new(Held {
                service,
                told: None,
            })
        });
        waiting
    }

    #[test]
    fn who_waits_for_a_place_at_a_service_makes_room_for_nobody() {
        let mut table = Table::default();
        for _ in 0..2 {
            table.insert(from(1, true));
        }
        assert!(!table.may_hold(&from(1, true), &BOUNDS));
        assert!(table.may_hold(&from(2, true), &BOUNDS));
        let first = table.insert(from(1, false));
        assert_eq!(table.victim(&from(1, false), 1, &BOUNDS), None);
        table.insert(from(1, false));
        assert_eq!(table.victim(&from(1, false), 2, &BOUNDS), Some(first));
    }

    #[test]
    fn a_source_told_late_has_the_same_share() {
        let mut table = Table::default();
        let first = table.insert(from(1, false));
        table.insert(from(1, false));
        let mut proxied = from(1, false);
        proxied.owes_header = true;
        let place = table.insert(proxied);
        assert_eq!(table.one_too_many(place, &BOUNDS), None);
        table.change(place, |waiting| waiting.owes_header = false);
        assert_eq!(table.one_too_many(place, &BOUNDS), Some(first));
    }

    #[test]
    fn both_kinds_leave_nothing_behind() {
        let mut table = Table::default();
        let places: Vec<u32> = (0..6).map(|n| table.insert(from(n, n % 2 == 0))).collect();
        for place in places {
            assert!(table.remove(place).is_some());
            assert!(table.remove(place).is_none());
        }
        assert_eq!((table.count, table.next_due()), (0, None));
        assert_eq!(table.crowd.heaviest_first().next(), None);
        assert_eq!(table.held.heaviest_first().next(), None);
    }
}
