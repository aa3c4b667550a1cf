//! Who wrote what: which service, or `[defaults]`, a place in the files is about.
#![forbid(unsafe_code)]

use super::complaint::Place;

/// Whom a part of a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// By its number in the order of reading.
    Service(usize),
    Defaults,
    /// The table as a whole.
    Nobody,
}

/// Where the parts of all files begin.
#[derive(Debug, Default)]
pub struct Origins {
    /// By file and byte.
    heads: Vec<(usize, usize, Whose)>,
    names: Vec<String>,
}

impl Origins {
    /// From `place` to the next such place it is about `whose`.
    pub fn begin(&mut self, place: Place, whose: Whose) {
        self.heads.push((place.file, place.start, whose));
    }

    /// Everything is read; services have these names.
    pub fn settle(&mut self, names: Vec<String>) {
        self.heads
            .sort_unstable_by_key(|(file, start, _)| (*file, *start));
        self.names = names;
    }

    /// Where services begin in a file, and which.
    pub fn services_in(&self, file: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let heads = self.heads.iter().filter(move |(of, ..)| *of == file);
        heads.filter_map(|(_, start, whose)| match whose {
            Whose::Service(number) => Some((*start, *number)),
            Whose::Defaults | Whose::Nobody => None,
        })
    }

    /// Whom a place is about.
    #[must_use]
    pub fn of(&self, place: Place) -> Whose {
        let at = (place.file, place.start);
        let after = self
            .heads
            .partition_point(|(file, start, _)| (*file, *start) <= at);
        let head = after.checked_sub(1).and_then(|last| self.heads.get(last));
        match head {
            Some((file, _, whose)) if *file == place.file => *whose,
            _ => Whose::Nobody,
        }
    }

    /// The service that a place is about.
    #[must_use]
    pub fn service(&self, place: Place) -> Option<&str> {
        match self.of(place) {
            Whose::Service(number) => self.names.get(number).map(String::as_str),
            Whose::Defaults | Whose::Nobody => None,
        }
    }
}
