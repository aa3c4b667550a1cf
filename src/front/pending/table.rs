//! The connections that nobody serves yet, within their bounds.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use socket2::Socket;

use super::crowd::{self, Crowd};
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
    fn source(&self) -> IpAddr {
        let client = (!self.owes_header).then(|| self.client());
        crowd::source(client.as_ref())
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Table {
    places: Slots<Waiting>,
    crowd: Crowd,
    due: BTreeSet<(Instant, u32)>,
    count: u32,
}

impl Table {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Who has to go so that `newcomer` finds a place, if anybody.
    #[must_use]
    pub fn victim(&self, newcomer: &Waiting, listed: u32, bounds: &Undecided) -> Option<u32> {
        let source = newcomer.source();
        // Those who are nobody in particular are bounded by the other two only.
        let own = source != crowd::source(None) && self.crowd.of(source) >= bounds.per_source;
        if own {
            return self.crowd.line(source).next();
        }
        if self.count >= bounds.total {
            return self.crowd.heaviest_first().next();
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

    pub fn insert(&mut self, waiting: Waiting) -> u32 {
        let (source, due) = (waiting.source(), waiting.due);
        let place = u32::try_from(self.places.insert(waiting)).unwrap_or(u32::MAX);
        self.crowd.join(place, source);
        self.due.insert((due, place));
        self.count += 1;
        place
    }

    pub fn remove(&mut self, place: u32) -> Option<Waiting> {
        let waiting = self.places.remove(place as usize)?;
        self.crowd.leave(place, waiting.source());
        self.due.remove(&(waiting.due, place));
        self.count -= 1;
        Some(waiting)
    }

    #[must_use]
    pub fn get(&self, place: u32) -> Option<&Waiting> {
        self.places.get(place as usize)
    }

    /// Whether the one that came at `since` still waits there for a place at `service`.
    #[must_use]
    pub fn holds(&self, place: u32, since: Instant, service: ServiceId) -> bool {
        self.get(place).is_some_and(|waiting| {
            let held = waiting.held.as_ref();
            waiting.accepted == since && held.is_some_and(|held| held.service == service)
        })
    }

    /// Changes one, maybe so that it counts for another source.
    pub fn change(&mut self, place: u32, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.places.get_mut(place as usize) {
            let before = waiting.source();
            change(waiting);
            let after = waiting.source();
            if before != after {
                self.crowd.leave(place, before);
                self.crowd.join(place, after);
            }
        }
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

    /// A proxy has told whom it brings: from now on it counts for that source.
    pub fn is_known_now(&mut self, place: u32) {
        if let Some(waiting) = self.places.get_mut(place as usize) {
            let source = waiting.source();
            self.crowd.leave(place, crowd::source(None));
            self.crowd.join(place, source);
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
mod tests {
    use super::*;

    /// What a connection costs besides its entries in the crowd and among the
    /// deadlines, which are about as large again.
    #[test]
    fn a_record_is_small() {
        assert!(std::mem::size_of::<Option<Waiting>>() <= 192);
    }
}
