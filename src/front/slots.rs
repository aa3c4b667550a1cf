//! Numbered places for things that come and go, and the tokens of the loop.
//!
//! A place that is given up in a turn is not given out again before the next:
//! an event that was already fetched for its last owner cannot reach a new one.
#![forbid(unsafe_code)]

use mio::Token;

use crate::ids::{ListenerId, ServiceId};

/// So many places are kept for the next ones.
const KEPT: usize = 256;

#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
    given_up: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            given_up: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, item: T) -> usize {
        if let Some(at) = self.free.pop() {
            self.places[at] = Some(item);
            return at;
        }
        self.places.push(Some(item));
        self.places.len() - 1
    }

    #[must_use]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.places.get(at)?.as_ref()
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.places.get_mut(at)?.as_mut()
    }

    pub fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.places.get_mut(at)?.take()?;
        self.given_up.push(at);
        Some(item)
    }

    /// A new turn: no event of the last one is left. Once all have left after
    /// a rush, the room for them is given back.
    pub fn turn_over(&mut self) {
        self.free.append(&mut self.given_up);
        if self.places.len() > KEPT && self.is_empty() {
            *self = Self::default();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let items = self.places.iter().enumerate();
        items.filter_map(|(at, item)| Some((at, item.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        let items = self.places.iter_mut().enumerate();
        items.filter_map(|(at, item)| Some((at, item.as_mut()?)))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() + self.given_up.len() == self.places.len()
    }
}

/// Who a readiness event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Helper,
    /// Never given to another listener, so it needs no slot.
    Listener(ListenerId),
    /// A conversation, and which of its two descriptors.
    Talk(usize, usize),
    /// The stderr of a service's servers. A new pipe may take the place of an old one:
    /// an event of the old one is but one look too many.
    Pipe(ServiceId),
    /// A connection whose service is not known yet.
    Pending(usize),
    /// Where callers of the status socket arrive.
    StatusSocket,
    Caller(usize),
}

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Token(match source {
            Source::Helper => 0,
            Source::Listener(id) => (id.0 as usize) << 3 | 1,
            Source::Talk(slot, side) => (slot << 1 | side & 1) << 3 | 2,
            Source::Pipe(id) => (id.0 as usize) << 3 | 3,
            Source::Pending(slot) => slot << 3 | 4,
            Source::StatusSocket => 5,
            Source::Caller(slot) => slot << 3 | 6,
        })
    }
}

impl From<Token> for Source {
    fn from(Token(token): Token) -> Self {
        let rest = token >> 3;
        match token & 7 {
            0 => Source::Helper,
            1 => Source::Listener(ListenerId(number(rest))),
            2 => Source::Talk(rest >> 1, rest & 1),
            3 => Source::Pipe(ServiceId(number(rest))),
            4 => Source::Pending(rest),
            5 => Source::StatusSocket,
            _ => Source::Caller(rest),
        }
    }
}

/// The number of an id in a token that was made of it.
fn number(rest: usize) -> u32 {
    u32::try_from(rest).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_sources_are_the_same_thing() {
        for source in [
            Source::Helper,
            Source::Listener(ListenerId(0)),
            Source::Listener(ListenerId(77_777)),
            Source::Talk(0, 0),
            Source::Talk(5, 1),
            Source::Pipe(ServiceId(9)),
            Source::Pending(65_537),
            Source::StatusSocket,
            Source::Caller(3),
        ] {
            assert_eq!(Source::from(Token::from(source)), source);
        }
    }

    #[test]
    fn a_place_is_not_given_out_twice_in_a_turn() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        assert_ne!(slots.insert('b'), first);
        slots.turn_over();
        assert_eq!(slots.insert('c'), first);
        assert!(!slots.is_empty());
    }

    #[test]
    fn a_rush_leaves_no_memory_behind() {
        let mut slots = Slots::default();
        let places: Vec<usize> = (0..1000).map(|n| slots.insert(n)).collect();
        for place in places {
            slots.remove(place);
        }
        assert_eq!(slots.places.len(), 1000);
        slots.turn_over();
        assert_eq!(slots.places.capacity() + slots.free.capacity(), 0);
    }
}
