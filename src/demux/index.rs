//! Which entries of a plan a name can reach. A table of many hosts is mostly
//! rules about a whole name, and of those only the ones for the name that was
//! sent can hold; the others need not be asked.
//!
//! Leaves out only what would be judged [`Verdict::No`], so that the result of
//! the walk is the same.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::Verdict;
use super::look::{Look, Test};
use super::names::{Name, Pattern};
use super::tls::Hello;

/// Places of entries in their list, ascending in every list here.
#[derive(Debug, Default)]
pub struct Index {
    sni: Names,
    host: Names,
    /// Those that no name rules out.
    rest: Vec<usize>,
}

/// Entries that hold for nothing but these names.
#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<Vec<u8>, Vec<usize>>,
    all: Vec<usize>,
}

impl Index {
    /// `entries`: what each of them asks of the bytes.
    pub fn new<'t>(entries: impl Iterator<Item = &'t [Test]>) -> Self {
        let mut index = Self::default();
        for (at, tests) in entries.enumerate() {
            let sni = tests.iter().find_map(|test| match test {
                Test::Tls(rule) => whole_names(&rule.sni),
                _ => None,
            });
            let host = tests.iter().find_map(|test| match test {
                Test::Http(rule) => whole_names(&rule.host),
                _ => None,
            });
            match (sni, host) {
                (Some(names), _) => index.sni.add(at, names),
                (None, Some(names)) => index.host.add(at, names),
                (None, None) => index.rest.push(at),
            }
        }
        index
    }

    /// In their order, all entries that may hold for these bytes or may yet come to.
    pub fn within_reach<'i>(&'i self, look: &Look<'_>) -> impl Iterator<Item = usize> + 'i {
        let mut lists = [
            self.rest.as_slice(),
            self.sni.within_reach(|| match look.tls().hello() {
                Hello::Need(_) => Told::NotYet,
                Hello::Complete(hello) => Told::Name(hello.sni().copied()),
                Hello::NotTls | Hello::Malformed(_) | Hello::TooLarge => Told::Name(None),
            }),
            self.host.within_reach(|| {
                let http = look.http();
                match http.has_good_head() {
                    Verdict::Need(_) => Told::NotYet,
                    Verdict::Yes => Told::Name(http.host().copied()),
                    Verdict::No => Told::Name(None),
                }
            }),
        ];
        std::iter::from_fn(move || {
            let next = lists.iter_mut().filter(|list| !list.is_empty());
            let list = next.min_by_key(|list| list.first().copied())?;
            let (at, left) = list.split_first()?;
            *list = left;
            Some(*at)
        })
    }
}

/// What the bytes say about the name.
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack for one turn; boxing would allocate before a match"
)]
enum Told {
    NotYet,
    /// `None`: there is none, and none will come.
    Name(Option<Name>),
}

impl Names {
    fn add(&mut self, at: usize, names: Vec<&str>) {
        self.all.push(at);
        for name in names {
            let places = self.by_name.entry(name.into()).or_default();
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
    }

    fn within_reach(&self, told: impl FnOnce() -> Told) -> &[usize] {
        if self.all.is_empty() {
            return &[]; // nobody asks: not walked
        }
        match told() {
            Told::NotYet => &self.all,
            Told::Name(None) => &[],
            Told::Name(Some(name)) => self.by_name.get(name.as_bytes()).map_or(&[], Vec::as_slice),
        }
    }
}

/// The names, if there are some and none is a wildcard.
fn whole_names(patterns: &[Pattern]) -> Option<Vec<&str>> {
    if patterns.is_empty() {
        return None; // not asked
    }
    let names = patterns.iter().map(|pattern| match pattern {
        Pattern::Exact(name) => Some(name.as_str()),
        Pattern::Label(_) | Pattern::Depth(_) => None,
    });
    names.collect()
}
