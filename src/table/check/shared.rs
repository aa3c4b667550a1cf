//! Values that several services say about one thing they share.
#![forbid(unsafe_code)]

use super::conflicts::Group;
use crate::table::complaint::{At, Place};

/// What each service says about one key, or takes from another that shares
/// an address with it. Services are linked through all their addresses.
pub(super) struct Agreement<T> {
    values: Vec<Option<Said<T>>>,
}

struct Said<T> {
    value: T,
    by: usize,
    place: Place,
}

/// Two services that say different things.
pub(super) struct Clash {
    pub listen: String,
    pub first: usize,
    pub first_place: Place,
    pub later: usize,
    pub later_place: Place,
}

impl<T: Clone + PartialEq> Agreement<T> {
    pub fn new(services: usize) -> Self {
        Self {
            values: (0..services).map(|_| None).collect(),
        }
    }

    pub fn say(&mut self, service: usize, said: Option<At<T>>) {
        if let (Some(slot), Some(At { value, place })) = (self.values.get_mut(service), said) {
            let by = service;
            *slot = Some(Said { value, by, place });
        }
    }

    pub fn say_if_silent(&mut self, service: usize, said: Option<At<T>>) {
        if self.value(service).is_none() {
            self.say(service, said);
        }
    }

    /// Where the value of a service was said, by itself or by another.
    pub fn place(&self, service: usize) -> Option<Place> {
        self.said(service).map(|said| said.place)
    }

    pub fn value(&self, service: usize) -> Option<&T> {
        self.values.get(service)?.as_ref().map(|said| &said.value)
    }

    /// Spreads what is said to those that say nothing, until nothing changes;
    /// gives back who says different things. A service named in a clash has its own value still.
    pub fn settle(
        &mut self,
        groups: &[&Group<'_>],
        fits: impl Fn(&Group<'_>) -> bool,
    ) -> Vec<Clash> {
        let groups: Vec<&Group<'_>> = groups
            .iter()
            .copied()
            .filter(|group| group.members.len() > 1 && fits(group))
            .collect();
        let mut changed = true;
        while changed {
            changed = false;
            for group in &groups {
                changed |= self.spread(group);
            }
        }
        groups
            .iter()
            .flat_map(|group| self.clashes(group))
            .collect()
    }

    fn said(&self, service: usize) -> Option<&Said<T>> {
        self.values.get(service)?.as_ref()
    }

    fn spread(&mut self, group: &Group<'_>) -> bool {
        let members = || group.members.iter().map(|member| member.service);
        let Some(said) = members().find_map(|service| self.said(service)) else {
            return false;
        };
        let (value, by, place) = (said.value.clone(), said.by, said.place);
        let mut changed = false;
        for service in members() {
            if let Some(slot @ None) = self.values.get_mut(service) {
                let value = value.clone();
                *slot = Some(Said { value, by, place });
                changed = true;
            }
        }
        changed
    }

    fn clashes(&self, group: &Group<'_>) -> Vec<Clash> {
        let mut said = group.members.iter().filter_map(|m| self.said(m.service));
        let Some(first) = said.next() else {
            return Vec::new();
        };
        let others = said.filter(|other| other.value != first.value);
        others
            .map(|other| Clash::new(group, first, other))
            .collect()
    }
}

impl Clash {
    fn new<T>(group: &Group<'_>, a: &Said<T>, b: &Said<T>) -> Self {
        let (first, later) = if a.by <= b.by { (a, b) } else { (b, a) };
        Self {
            listen: group.listen.to_string(),
            first: first.by,
            first_place: first.place,
            later: later.by,
            later_place: later.place,
        }
    }
}
