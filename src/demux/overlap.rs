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

use std::collections::HashSet;

use crate::demux::rank::{self, Rank};
use crate::demux::{Ending, Rule};
use crate::table::access::Prefix;

use index::Index;
use kinds::Meeting;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Looks at the services of one address, given in the order of the table.
#[must_use]
pub fn inspect(services: &[Share<'_>]) -> Vec<Finding> {
    let entries = entries(services);
    let index = Index::new(&entries);
    let mut findings = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if !unreachable(&entries, &index, at, &mut findings) {
            by_order(&entries, &index, at, entry, &mut findings);
        }
    }
    fallbacks(services, &entries, &mut findings);
    silent(services, &entries, &mut findings);
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(format!("{finding:?}")));
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

/// Reports what of an entry is never reached; whether anything is.
fn unreachable(entries: &[Entry], index: &Index, at: usize, findings: &mut Vec<Finding>) -> bool {
    let Some(entry) = entries.get(at) else {
        return false;
    };
    let id = entry.id;
    if let Some(by) = coverer(entries, index, at, &entry.rule) {
        let part = entry.partial.then(|| prefixes_of(&entry.rule));
        findings.push(Finding::Unreachable { rule: id, part, by });
        return true;
    }
    let before = findings.len();
    for (name, part) in order::parts(&entry.rule) {
        if let Some(by) = coverer(entries, index, at, &part) {
            findings.push(Finding::Unreachable {
                rule: id,
                part: Some(name),
                by,
            });
        }
    }
    findings.len() > before
}

/// The first entry that takes every request of `rule`, which is the one at `at` or a part of it.
fn coverer(entries: &[Entry], index: &Index, at: usize, rule: &Rule) -> Option<Id> {
    let this = entries.get(at)?;
    let mut found: Option<usize> = None;
    index.near(rule, &mut |other| {
        let Some(candidate) = entries.get(other) else {
            return;
        };
        let nearer = found.is_none_or(|found| other < found);
        if candidate.id != this.id
            && nearer
            && sets::covers(&candidate.rule, rule)
            && order::wins(
                (candidate.rank, other, &candidate.rule),
                (this.rank, at, rule),
            )
        {
            found = Some(other);
        }
    });
    entries.get(found?).map(|entry| entry.id)
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

/// Reports the first earlier entry that takes some of this one's requests for
/// no other reason than that it stands first.
fn by_order(
    entries: &[Entry],
    index: &Index,
    at: usize,
    entry: &Entry,
    findings: &mut Vec<Finding>,
) {
    let mut first: Option<usize> = None;
    let mut compare = |other: usize| {
        let Some(before) = entries.get(other) else {
            return;
        };
        if other < at
            && first.is_none_or(|first| other < first)
            && before.rank == entry.rank
            && before.id.service != entry.id.service
            && sets::may_meet(&before.rule, &entry.rule) == Meeting::Possible
            && !sets::covers(&before.rule, &entry.rule)
            && !sets::covers(&entry.rule, &before.rule)
            && order::is_by_table(&before.rule, &entry.rule)
        {
            first = Some(other);
        }
    };
    if index.is_loose(at) {
        (0..at).for_each(&mut compare);
    } else {
        index.near(&entry.rule, &mut compare);
    }
    if let Some(before) = first.and_then(|first| entries.get(first)) {
        findings.push(Finding::ByOrder {
            first: before.id,
            second: entry.id,
        });
    }
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

/// Where a client may end up that says nothing until the deadline.
struct Silence<'a> {
    id: Id,
    /// `None`: after all rules.
    entry: Option<&'a Entry>,
    /// By a rule that says `timeout`, not by who speaks first.
    explicit: bool,
}

fn silent(services: &[Share<'_>], entries: &[Entry], findings: &mut Vec<Finding>) {
    let greets = |id: Id| services.get(id.service).is_some_and(|s| s.speaks_first);
    let mut routes: Vec<Silence<'_>> = Vec::new();
    for entry in entries {
        let reads = !entry.rule.content.is_empty();
        let explicit = !reads && entry.rule.endings.contains(&Ending::Timeout);
        if explicit || (reads && greets(entry.id)) {
            routes.push(Silence {
                id: entry.id,
                entry: Some(entry),
                explicit,
            });
        }
    }
    for (service, share) in services.iter().enumerate() {
        if share.rules.is_empty() && share.speaks_first {
            let id = Id {
                service,
                rule: None,
            };
            routes.push(Silence {
                id,
                entry: None,
                explicit: false,
            });
        }
    }
    for (at, second) in routes.iter().enumerate() {
        let first = routes.iter().take(at).find(|first| compete(first, second));
        if let Some(first) = first {
            findings.push(Finding::Silent {
                first: first.id,
                second: second.id,
            });
        }
    }
}

fn compete(first: &Silence<'_>, second: &Silence<'_>) -> bool {
    if first.id.service == second.id.service || (first.explicit && second.explicit) {
        return false;
    }
    match (first.entry, second.entry) {
        (Some(a), Some(b)) => {
            a.rank == b.rank && sets::addresses_meet(&a.rule.address, &b.rule.address)
        }
        // Rules come first; but one that says nothing but what the bytes are
        // has no more claim to silence than a service without rules.
        (Some(rule), None) | (None, Some(rule)) => {
            !first.explicit
                && !second.explicit
                && rule.rule.priority == 0
                && sets::is_anywhere(&rule.rule.address)
        }
        (None, None) => true,
    }
}

/// Why no request can be for `rule`, if that is so.
#[must_use]
pub fn contradiction(rule: &Rule) -> Option<String> {
    for (at, first) in rule.content.iter().enumerate() {
        if let Some(why) = kinds::contradicts_itself(first) {
            return Some(why);
        }
        for second in rule.content.iter().skip(at + 1) {
            if kinds::meet(first, second) == Meeting::Never {
                let (first, second) = (kinds::name(first), kinds::name(second));
                return Some(format!("no request is `{first}` and `{second}` at once"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
