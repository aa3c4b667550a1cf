//! `from`: a service's keys over those of another, and of the one that has
//! its keys `from` a third.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use toml::Spanned;
use toml::de::DeValue;

use super::{Files, Section, merge};
use crate::table::complaint::{Complaint, Fault, Place, did_you_mean};
use crate::table::origins::Whose;
use crate::table::reader::{Reader, Value};
use crate::table::schema;

/// A chain longer than this helps nobody.
const LONGEST: usize = 16;

/// The services that one has its keys from, nearest first.
enum Chain {
    Whole(Vec<usize>),
    /// What is wrong with it, unless another service is to be told so.
    Bad(Option<Complaint>),
}

impl<'t> Files<'_, 't> {
    /// Puts every service together and reads its keys.
    pub(super) fn read_services(&mut self) {
        let mut taken = HashSet::new();
        let mut found = Vec::new();
        for number in 0..self.sections.len() {
            let chain = match self.chain(number) {
                Chain::Whole(chain) => chain,
                Chain::Bad(complaint) => {
                    self.written.partial = true;
                    self.found.extend(complaint);
                    continue;
                }
            };
            taken.extend(chain.first().copied());
            let section = &self.sections[number];
            let mut reader = Reader {
                starts: &self.starts,
                pin: None,
                names: self.names,
                complaints: Vec::new(),
            };
            let read = |reader: &mut Reader<'_>, value: &Value<'t>| {
                schema::read_service(reader, &section.name, value)
            };
            let service = match self.put_together(section, &chain) {
                Some(whole) => read(&mut reader, &whole),
                None => read(&mut reader, &section.value),
            };
            self.written
                .services
                .extend(service.filter(|_| !section.broken));
            found.extend(reader.complaints.into_iter().map(|c| (number, c)));
        }
        for service in &mut self.written.services {
            let number = self.by_name.get(&service.name.value);
            service.is_taken = number.is_some_and(|number| taken.contains(number));
        }
        self.keep(found);
    }

    /// `None` if it has its keys from nobody.
    fn put_together(&self, section: &Section<'t>, chain: &[usize]) -> Option<Value<'t>> {
        let (first, nearer) = chain.split_last()?;
        let table = |section: &Section<'t>| section.value.get_ref().as_table().cloned();
        let mut whole = table(self.sections.get(*first)?)?;
        for number in nearer.iter().rev() {
            merge::inherit(&mut whole, table(self.sections.get(*number)?)?);
        }
        merge::inherit(&mut whole, table(section)?);
        Some(Spanned::new(section.value.span(), DeValue::Table(whole)))
    }

    fn chain(&self, number: usize) -> Chain {
        let mut chain = Vec::new();
        let mut at = number;
        while let Some((name, place)) = self.from(at) {
            let Some(next) = self.by_name.get(name).copied() else {
                return Chain::Bad(self.nobody(name, place));
            };
            if next == number {
                return Chain::Bad(self.is_circle(number, &chain));
            }
            let is_table = self.sections[next].value.get_ref().is_table();
            if chain.contains(&next) || self.sections[next].broken || !is_table {
                return Chain::Bad(None);
            }
            chain.push(next);
            if chain.len() > LONGEST {
                let fault =
                    Fault::new(format!("more than {LONGEST} services in a chain of `from`"));
                return Chain::Bad(Some(fault.at(place)));
            }
            at = next;
        }
        Chain::Whole(chain)
    }

    /// Whom a service has its keys from, and where that is written.
    fn from(&self, number: usize) -> Option<(&str, Place)> {
        let section = self.sections.get(number)?;
        let from = section.value.get_ref().as_table()?.get("from")?;
        Some((from.get_ref().as_str()?, self.place(from)))
    }

    fn nobody(&self, name: &str, place: Place) -> Option<Complaint> {
        if self.written.partial {
            return None; // it may have been in what could not be read
        }
        let fault = Fault::new(format!("no service \"{name}\" to take keys from"));
        let known = self.sections.iter().map(|s| s.name.get_ref().as_ref());
        let fault = match did_you_mean(name, known) {
            Some(near) => fault.help(format!("did you mean \"{near}\"?")),
            None => fault.help("it is the name of another service, which may be disabled"),
        };
        Some(fault.at(place))
    }

    /// Said once, at the first of the circle.
    fn is_circle(&self, number: usize, chain: &[usize]) -> Option<Complaint> {
        if chain.iter().any(|other| *other < number) {
            return None;
        }
        let name = |number: &usize| format!("\"{}\"", self.sections[*number].name.get_ref());
        let ends = [number];
        let circle = ends.iter().chain(chain).chain(&ends);
        let shown: Vec<String> = circle.map(name).collect();
        let fault = Fault::new(format!(
            "service {} has its keys from itself: {}",
            name(&number),
            shown.join(" from ")
        ));
        Some(fault.at(self.from(number)?.1))
    }

    /// What is wrong with keys that a service has `from` another is said of
    /// that one, unless it is only wrong together with its own.
    fn keep(&mut self, found: Vec<(usize, Complaint)>) {
        let origins = &self.written.origins;
        let is_own = |number: usize, place: Place| match origins.of(place) {
            Whose::Service(owner) => owner == number,
            Whose::Defaults | Whose::Nobody => true,
        };
        let said: HashSet<Place> = found
            .iter()
            .filter(|(number, c)| is_own(*number, c.place))
            .map(|(_, c)| c.place)
            .collect();
        for (number, complaint) in found {
            if is_own(number, complaint.place) {
                self.found.push(complaint);
            } else if !said.contains(&complaint.place) {
                let from = self
                    .from(number)
                    .map_or(complaint.place, |(_, place)| place);
                let note = self.sections[number].name.get_ref();
                let note = format!("service \"{note}\" has it by `from`");
                self.found.push(complaint.and(from, note));
            }
        }
    }
}
