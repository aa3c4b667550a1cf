//! The decision: rules of one listener in their order, and the walk through them.
//!
//! A rule that is undecided holds back those after it, so that the result
//! never depends on how the bytes were cut into packets. When no more bytes
//! will be waited for, what is undecided does not hold, and the list is walked
//! once more.
#![forbid(unsafe_code)]

mod walk;

use std::net::IpAddr;

use super::LIMIT;
use super::index::Index;
use super::look::{Look, Test};
use super::rank::{self, Rank};
use super::rule::{Address, Ending, Rule};
use super::verdict::Verdict;
use super::weight::{self, Weight};
use walk::{holds, walk_twice};

/// What is known of a request before a byte of it is read. Addresses are
/// canonical: no IPv4-mapped ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    pub peer: Option<(IpAddr, u16)>,
    pub local: Option<IpAddr>,
    pub interface: Option<&'a str>,
    /// Of the peer of a Unix socket, uid and gid.
    pub credentials: Option<(u32, u32)>,
}

/// A service at the address, with what its `match` says.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// None: it takes whatever no other service takes.
    pub rules: &'a [Rule],
    /// Its clients wait for a greeting: it gets those that say nothing in time.
    pub speaks_first: bool,
}

/// Which candidate a request is for, by the number of its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub candidate: usize,
    /// Which of its rules; `None` for a service without rules and for silent clients.
    pub rule: Option<usize>,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Route(Route),
    /// Look again when this many bytes are there in all; more than were seen.
    Need(usize),
    /// No rule will ever hold.
    Refuse,
}

/// The rules of a listener, ready for use.
#[derive(Debug)]
pub struct Plan {
    entries: Vec<Entry>,
    index: Index,
    asks: Asks,
}

/// What somebody has to find out for the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub local: bool,
    pub interface: bool,
    pub credentials: bool,
    pub tls: bool,
    pub http: bool,
}

/// One alternative of one rule, as far as the order is concerned.
#[derive(Debug)]
pub struct Entry {
    pub route: Route,
    /// `None`: after everything else.
    rank: Option<Rank>,
    address: Address,
    tests: Vec<Test>,
    when: When,
    heaviest: Weight,
}

/// At which point of the wait an entry is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// Once the wait has ended in one of these ways.
    Ended(Vec<Ending>),
    /// A deadline has passed without a single byte.
    Silent,
}

/// What the walk found at an entry, for those who want to know why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Meant for other addresses.
    Elsewhere,
    /// Meant for another end of the wait, or the wait goes on.
    NotNow,
    Content(Verdict),
}

impl Plan {
    /// Fails with the reason if a regex cannot be compiled; the table's check
    /// has found out before.
    pub fn compile(candidates: &[Candidate<'_>]) -> Result<Self, String> {
        let mut entries = Vec::new();
        let others_fall_back =
            |but: usize| others(candidates, but).any(|c| c.rules.is_empty() && !c.speaks_first);
        for (candidate, service) in candidates.iter().enumerate() {
            let route = Route {
                candidate,
                rule: None,
            };
            if service.rules.is_empty() {
                if !service.speaks_first || !others_fall_back(candidate) {
                    entries.push(Entry::fallback(route, When::Always));
                } else {
                    entries.push(Entry::fallback(route, When::Silent));
                }
                continue;
            }
            for (number, rule) in service.rules.iter().enumerate() {
                let rule_route = Route {
                    rule: Some(number),
                    ..route
                };
                for (rank, rule) in rank::entries(rule) {
                    if service.speaks_first && !rule.content.is_empty() {
                        entries.push(Entry::silent(route, rank, &rule));
                    }
                    entries.push(Entry::new(rule_route, rank, rule)?);
                }
            }
        }
        entries.sort_by(|a, b| match (&a.rank, &b.rank) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            // The route of silent clients comes before what takes everybody.
            (None, None) => a.when.is_open().cmp(&b.when.is_open()),
        });
        let mut asks = Asks::default();
        for entry in &entries {
            asks.local |= !entry.address.to.is_empty();
            asks.interface |= !entry.address.interface.is_empty();
            asks.credentials |= !entry.address.uid.is_empty() || !entry.address.gid.is_empty();
            asks.tls |= entry.tests.iter().any(|test| matches!(test, Test::Tls(_)));
            asks.http |= entry.tests.iter().any(|test| matches!(test, Test::Http(_)));
        }
        let index = Index::new(entries.iter().map(|entry| entry.tests.as_slice()));
        Ok(Self {
            entries,
            index,
            asks,
        })
    }

    /// What the facts must tell.
    #[must_use]
    pub fn asks(&self) -> Asks {
        self.asks
    }

    /// In the order in which they are asked.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What to do with a request of which these are the first bytes. `ended`
    /// says why no more will come; then the answer is never `Need`.
    #[must_use]
    pub fn step(&self, facts: &Facts<'_>, bytes: &[u8], ended: Option<Ending>) -> Step {
        self.choose(facts, &Look::new(bytes), ended)
    }

    /// The candidates that a request with these facts may still be for.
    pub fn reachable<'p>(&'p self, facts: &'p Facts<'_>) -> impl Iterator<Item = usize> + 'p {
        let open = self
            .entries
            .iter()
            .filter(|entry| holds(&entry.address, facts));
        open.map(|entry| entry.route.candidate)
    }

    /// The same as [`Plan::decide`] for those who do not want to know why: does
    /// not come to entries that are for other names.
    #[must_use]
    pub fn choose(&self, facts: &Facts<'_>, look: &Look<'_>, ended: Option<Ending>) -> Step {
        let near = || {
            let near = self.index.within_reach(look);
            near.filter_map(|at| Some((at, self.entries.get(at)?)))
        };
        walk_twice(near, facts, look, ended, &mut |_, _| {})
    }

    /// Walks the list; tells `seen` what was found at each entry it came to.
    pub fn decide(
        &self,
        facts: &Facts<'_>,
        look: &Look<'_>,
        ended: Option<Ending>,
        seen: &mut dyn FnMut(usize, Found),
    ) -> Step {
        walk_twice(|| self.entries.iter().enumerate(), facts, look, ended, seen)
    }
}

fn others<'a, 'b>(
    candidates: &'b [Candidate<'a>],
    but: usize,
) -> impl Iterator<Item = &'b Candidate<'a>> {
    let all = candidates.iter().enumerate();
    all.filter(move |(at, _)| *at != but).map(|(_, c)| c)
}

impl Entry {
    fn new(route: Route, rank: Rank, rule: Rule) -> Result<Self, String> {
        let tests = rule.content.iter().map(Test::compile);
        let tests = tests.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            route,
            rank: Some(rank),
            address: rule.address,
            heaviest: weight::heaviest(&rule.content),
            tests,
            when: match rule.endings {
                endings if endings.is_empty() => When::Always,
                endings => When::Ended(endings),
            },
        })
    }

    fn silent(route: Route, rank: Rank, rule: &Rule) -> Self {
        Self {
            route,
            rank: Some(rank),
            address: rule.address.clone(),
            tests: Vec::new(),
            when: When::Silent,
            heaviest: 0,
        }
    }

    fn fallback(route: Route, when: When) -> Self {
        Self {
            route,
            rank: None,
            address: Address::default(),
            tests: Vec::new(),
            when,
            heaviest: 0,
        }
    }

    /// All tests must hold; the weight is that of the most telling one.
    fn judge(&self, look: &Look<'_>) -> (Verdict, u32) {
        let mut all = (Verdict::Yes, 0);
        for test in &self.tests {
            let (verdict, weight) = test.judge(look);
            all = (all.0.and(verdict), all.1.max(weight));
            if all.0 == Verdict::No {
                break;
            }
        }
        all
    }

    /// If the end of the wait may make it hold: how many bytes are worth a look before.
    fn later(&self, look: &Look<'_>) -> Option<usize> {
        let When::Ended(_) = self.when else {
            return None; // silence is over with the first byte
        };
        match self.judge(look).0 {
            Verdict::No => None,
            Verdict::Need(k) => Some(k),
            Verdict::Yes => Some(LIMIT.max(look.bytes().len() + 1)),
        }
    }

    /// Whether it is for clients that say nothing only.
    #[must_use]
    pub fn is_for_silence(&self) -> bool {
        self.when == When::Silent
    }

    /// Whether bytes, or that there are none, have a say in it.
    #[must_use]
    pub fn reads(&self) -> bool {
        !self.tests.is_empty() || self.when.may_be_silence()
    }

    /// Whether the wait must have ended first.
    #[must_use]
    pub fn is_for_the_end(&self) -> bool {
        self.when != When::Always
    }

    /// Whether a request with these facts may be for it.
    #[must_use]
    pub fn is_open_to(&self, facts: &Facts<'_>) -> bool {
        holds(&self.address, facts)
    }
}

impl When {
    fn is_now(&self, bytes: &[u8], ended: Option<Ending>) -> bool {
        match self {
            When::Always => true,
            When::Ended(endings) => ended.is_some_and(|ending| endings.contains(&ending)),
            When::Silent => ended == Some(Ending::Timeout) && bytes.is_empty(),
        }
    }

    /// Whether a client that says nothing may be for it.
    fn may_be_silence(&self) -> bool {
        match self {
            When::Always => false,
            When::Ended(endings) => endings.contains(&Ending::Timeout),
            When::Silent => true,
        }
    }

    fn is_open(&self) -> bool {
        *self == When::Always
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
