//! Rules that can never be reached, and rules that only the order of the
//! table tells apart. Looked for when a table is loaded.
//!
//! Everything reported is certain; what only an automaton could tell (two
//! regular expressions) is passed over.
#![forbid(unsafe_code)]

mod index;
mod kinds;
mod order;
mod sets;
mod silence;

use std::collections::HashSet;

use crate::demux::Rule;
use crate::demux::rank::{self, Rank};
use crate::table::access::Prefix;

use index::Index;
use kinds::Meeting;

/// What comes in at an address: a protocol may look otherwise in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Streams,
    Datagrams,
}

/// A service at one address.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// None: it takes whatever no other service takes.
    pub rules: &'a [Rule],
    /// Its clients wait for a greeting.
    pub speaks_first: bool,
}

/// A rule of a service, by their numbers; no rule for a service without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub service: usize,
    pub rule: Option<usize>,
}

/// Something about rules that is seldom meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// Whenever `rule` holds, `by` is asked before it and holds too.
    Unreachable {
        rule: Id,
        /// What of the rule it is about, as in the table; `None`: all of it.
        part: Option<String>,
        by: Id,
    },
    /// A request may be for both, and `first` gets it for standing first in the table.
    ByOrder { first: Id, second: Id },
    /// A client that says nothing could be for either.
    Silent { first: Id, second: Id },
}

/// A rule of one rank.
#[derive(Debug)]
struct Entry {
    id: Id,
    rank: Rank,
    rule: Rule,
    /// Whether the rule has other entries, for other prefixes.
    partial: bool,
}

/// Every entry of an address.
struct Order {
    medium: Medium,
    /// In the order in which they are asked.
    entries: Vec<Entry>,
    index: Index,
}

/// Looks at the services of one address, given in the order of the table.
#[must_use]
pub fn inspect(services: &[Share<'_>], medium: Medium) -> Vec<Finding> {
    let entries = entries(services);
    let order = Order {
        medium,
        index: Index::new(&entries),
        entries,
    };
    let mut findings = Vec::new();
    for (at, entry) in order.entries.iter().enumerate() {
        let unreachable = order.unreachable(at, entry);
        if unreachable.is_empty() {
            findings.extend(order.by_table(at, entry));
        }
        findings.extend(unreachable);
    }
    fallbacks(services, &order.entries, &mut findings);
    silence::compare(services, &order.entries, &mut findings);
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(finding.clone()));
    findings
}

/// In the order in which they are asked.
fn entries(services: &[Share<'_>]) -> Vec<Entry> {
    let mut all = Vec::new();
    for (service, share) in services.iter().enumerate() {
        for (number, rule) in share.rules.iter().enumerate() {
            let id = Id {
                service,
                rule: Some(number),
            };
            let split = rank::entries(rule);
            let partial = split.len() > 1;
            all.extend(split.into_iter().map(|(rank, rule)| Entry {
                id,
                rank,
                rule,
                partial,
            }));
        }
    }
    all.sort_by_key(|entry| entry.rank);
    all
}

impl Order {
    /// What of an entry is never reached: all of it, or names, paths and prefixes in it.
    fn unreachable(&self, at: usize, entry: &Entry) -> Vec<Finding> {
        let finding = |part: Option<String>, by: Id| Finding::Unreachable {
            rule: entry.id,
            part,
            by,
        };
        if let Some(by) = self.coverer(at, entry, &entry.rule) {
            let part = entry.partial.then(|| prefixes_of(&entry.rule));
            return vec![finding(part, by)];
        }
        let parts = order::parts(&entry.rule).into_iter();
        let covered = parts.filter_map(|(name, part)| {
            let by = self.coverer(at, entry, &part)?;
            Some(finding(Some(name), by))
        });
        covered.collect()
    }

    /// The first entry that takes every request of `rule`, which is `this` or a part of it.
    fn coverer(&self, at: usize, this: &Entry, rule: &Rule) -> Option<Id> {
        let mut found: Option<usize> = None;
        self.index.near(rule, &mut |other| {
            let Some(candidate) = self.entries.get(other) else {
                return;
            };
            if candidate.id != this.id
                && found.is_none_or(|found| other < found)
                && sets::covers(&candidate.rule, rule, self.medium)
                && order::wins(
                    (candidate.rank, other, &candidate.rule),
                    (this.rank, at, rule),
                )
            {
                found = Some(other);
            }
        });
        self.entries.get(found?).map(|entry| entry.id)
    }

    /// The first earlier entry of another service that takes some of this one's requests for
    /// no other reason than that it stands first.
    fn by_table(&self, at: usize, entry: &Entry) -> Option<Finding> {
        let mut first: Option<usize> = None;
        let mut compare = |other: usize| {
            let nearer = other < at && first.is_none_or(|first| other < first);
            let before = self.entries.get(other).filter(|_| nearer);
            if before.is_some_and(|before| self.is_by_table(before, entry)) {
                first = Some(other);
            }
        };
        if self.index.is_loose(at) {
            (0..at).for_each(&mut compare);
        } else {
            self.index.near(&entry.rule, &mut compare);
        }
        let before = self.entries.get(first?)?;
        Some(Finding::ByOrder {
            first: before.id,
            second: entry.id,
        })
    }

    fn is_by_table(&self, before: &Entry, entry: &Entry) -> bool {
        before.rank == entry.rank
            && before.id.service != entry.id.service
            && sets::may_meet(&before.rule, &entry.rule, self.medium) == Meeting::Possible
            && !sets::covers(&before.rule, &entry.rule, self.medium)
            && !sets::covers(&entry.rule, &before.rule, self.medium)
            && order::is_by_table(&before.rule, &entry.rule)
    }
}

fn prefixes_of(rule: &Rule) -> String {
    let show = |key: &str, prefixes: &[Prefix]| {
        let all: Vec<String> = prefixes.iter().map(|p| format!("\"{p}\"")).collect();
        (!all.is_empty()).then(|| format!("{key} {}", all.join(", ")))
    };
    let address = &rule.address;
    let both = [show("from", &address.from), show("to", &address.to)];
    both.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A rule that holds for everything leaves nothing to services without rules.
fn fallbacks(services: &[Share<'_>], entries: &[Entry], findings: &mut Vec<Finding>) {
    let takes_all = |entry: &&Entry| {
        entry.rule.content.is_empty()
            && entry.rule.endings.is_empty()
            && sets::is_anywhere(&entry.rule.address)
    };
    let Some(all) = entries.iter().find(takes_all) else {
        return;
    };
    for (service, share) in services.iter().enumerate() {
        if share.rules.is_empty() {
            findings.push(Finding::Unreachable {
                rule: Id {
                    service,
                    rule: None,
                },
                part: None,
                by: all.id,
            });
        }
    }
}

/// Why no request can be for `rule`, if that is so.
#[must_use]
pub fn contradiction(rule: &Rule, medium: Medium) -> Option<String> {
    for (at, first) in rule.content.iter().enumerate() {
        if let Some(why) = kinds::contradicts_itself(first) {
            return Some(why);
        }
        for second in rule.content.iter().skip(at + 1) {
            if kinds::meet(first, second, medium) == Meeting::Never {
                let (first, second) = (kinds::name(first), kinds::name(second));
                return Some(format!("no request is `{first}` and `{second}` at once"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
