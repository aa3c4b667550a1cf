//! Who is waited for, by source, so that the one with the most goes first.
//! Pure. To join and to leave costs what a lookup of the source does, however
//! many wait.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::front::limits::source_of;
use crate::front::peer::Peer;
use crate::table::SourcePrefix;

/// What counts as one source of IP: a host, or the network that one host of
/// IPv6 usually has to itself.
const NETWORK: SourcePrefix = SourcePrefix { v4: 32, v6: 64 };
const NONE: u32 = u32::MAX;

/// Whom a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A host or network.
    Inet(IpAddr),
    /// A trusted proxy that has not told yet whom it brings. It may bring any number.
    Proxy(IpAddr),
    /// The user at the other end of a Unix socket, if the kernel tells.
    User(Option<u32>),
    /// The context id of a virtual machine.
    Machine(u32),
}

impl Source {
    /// `uid` is that of the peer of a Unix socket.
    #[must_use]
    pub fn of(peer: &Peer, uid: Option<u32>) -> Self {
        match *peer {
            Peer::Inet { ip, .. } => Source::Inet(source_of(ip, NETWORK)),
            Peer::Vsock { cid, .. } => Source::Machine(cid),
            Peer::Unix => Source::User(uid),
        }
    }

    /// Whether it is held to the share of one source.
    #[must_use]
    pub fn has_a_share(self) -> bool {
        !matches!(self, Source::Proxy(_))
    }
}

/// Places in the table, in one line per source, oldest first.
#[derive(Debug, Default)]
pub struct Crowd {
    lines: HashMap<Source, Line>,
    /// Heaviest last.
    weights: BTreeSet<(u32, Source)>,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    length: u32,
    first: u32,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

impl Crowd {
    /// Puts `place` at the end of the line of `source`.
    pub fn join(&mut self, place: u32, source: Source) {
        let at = place as usize;
        if self.links.len() <= at {
            let apart = Link {
                before: NONE,
                after: NONE,
            };
            self.links.resize(at + 1, apart);
        }
        let line = self.lines.entry(source).or_insert(Line {
            length: 0,
            first: NONE,
            last: NONE,
        });
        self.links[at] = Link {
            before: line.last,
            after: NONE,
        };
        match self.links.get_mut(line.last as usize) {
            Some(last) => last.after = place,
            None => line.first = place,
        }
        line.last = place;
        self.weights.remove(&(line.length, source));
        line.length += 1;
        self.weights.insert((line.length, source));
    }

    /// Takes `place` out of the line of `source`, where it is.
    pub fn leave(&mut self, place: u32, source: Source) {
        let (Some(link), Some(line)) = (
            self.links.get(place as usize).copied(),
            self.lines.get_mut(&source),
        ) else {
            return;
        };
        match self.links.get_mut(link.before as usize) {
            Some(before) => before.after = link.after,
            None => line.first = link.after,
        }
        match self.links.get_mut(link.after as usize) {
            Some(after) => after.before = link.before,
            None => line.last = link.before,
        }
        self.weights.remove(&(line.length, source));
        line.length -= 1;
        if line.length > 0 {
            self.weights.insert((line.length, source));
        } else {
            self.lines.remove(&source);
        }
        if self.lines.is_empty() {
            *self = Self::default(); // an attack is over: give its memory back
        }
    }

    /// How many of `source` wait.
    #[must_use]
    pub fn of(&self, source: Source) -> u32 {
        self.lines.get(&source).map_or(0, |line| line.length)
    }

    /// Those of `source`, oldest first.
    pub fn line(&self, source: Source) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.lines.get(&source).map_or(NONE, |line| line.first);
        std::iter::from_fn(move || {
            let place = next;
            next = self.links.get(place as usize)?.after;
            Some(place)
        })
    }

    /// All, the source with the most first, and the oldest of each first.
    pub fn heaviest_first(&self) -> impl Iterator<Item = u32> + '_ {
        let sources = self.weights.iter().rev();
        sources.flat_map(|(_, source)| self.line(*source))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ip(n: u32) -> Source {
        Source::Inet(IpAddr::V4(n.into()))
    }

    #[test]
    fn the_oldest_of_the_heaviest_source_is_first() {
        let mut crowd = Crowd::default();
        crowd.join(0, ip(1));
        for place in 1..4 {
            crowd.join(place, ip(2));
        }
        crowd.join(4, ip(3));
        assert_eq!(crowd.heaviest_first().next(), Some(1));
        crowd.leave(1, ip(2));
        assert_eq!(crowd.heaviest_first().next(), Some(2));
        assert_eq!(crowd.of(ip(2)), 2);
        assert_eq!(crowd.line(ip(2)).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn lines_stay_whole_whoever_leaves() {
        let mut crowd = Crowd::default();
        for place in 0..100 {
            crowd.join(place, ip(place % 7));
        }
        for place in (0..100).filter(|place| place % 3 != 0) {
            crowd.leave(place, ip(place % 7));
        }
        let mut left: Vec<u32> = crowd.heaviest_first().collect();
        left.sort_unstable();
        assert_eq!(left, (0..100).step_by(3).collect::<Vec<_>>());
        for place in left {
            crowd.leave(place, ip(place % 7));
        }
        assert!(crowd.lines.is_empty() && crowd.weights.is_empty() && crowd.links.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| {
            let ip = text.parse().unwrap();
            Source::of(&Peer::Inet { ip, port: 1 }, None)
        };
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        let user = |uid| Source::of(&Peer::Unix, Some(uid));
        assert_ne!(user(1), user(2));
    }
}
