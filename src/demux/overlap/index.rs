//! Finds the rules that may have requests in common with one, without asking
//! each: ten thousand rules for ten thousand names are compared in no time.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::Entry;
use crate::demux::names::Pattern;
use crate::demux::{Content, Rule};
use crate::table::access::Prefix;

/// Numbers of entries.
type Entries = Vec<usize>;

/// Entries by one thing that they ask for. Two that ask for different
/// prefixes of one length, or for names of which neither holds the other, do not meet.
#[derive(Debug, Default)]
pub struct Index {
    from: HashMap<Prefix, Entries>,
    names: HashMap<(u8, Pattern), Entries>,
    paths: HashMap<String, Entries>,
    /// Those that ask for nothing of this kind.
    loose: Entries,
}

/// Which protocol a name belongs to, and the names.
fn names_of(content: &Content) -> (u8, &[Pattern]) {
    match content {
        Content::Tls(tls) => (0, &tls.sni),
        Content::Http(http) => (1, &http.host),
        Content::Dns(dns) => (2, &dns.name),
        _ => (3, &[]),
    }
}

impl Index {
    pub fn new(entries: &[Entry]) -> Self {
        let mut index = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            index.add(at, &entry.rule);
        }
        index
    }

    fn add(&mut self, at: usize, rule: &Rule) {
        if !rule.address.from.is_empty() {
            for prefix in &rule.address.from {
                self.from.entry(*prefix).or_default().push(at);
            }
            return;
        }
        let named = rule.content.iter().map(names_of);
        if let Some((kind, names)) = named.into_iter().find(|(_, names)| !names.is_empty()) {
            for name in names {
                let key = (kind, name.clone());
                self.names.entry(key).or_default().push(at);
            }
            return;
        }
        let http = rule.content.iter().find_map(|content| match content {
            Content::Http(http) if !http.path.is_empty() => Some(&http.path),
            _ => None,
        });
        match http {
            Some(paths) => {
                for path in paths {
                    let key = path.trim_end_matches('/').to_owned();
                    self.paths.entry(key).or_default().push(at);
                }
            }
            None => self.loose.push(at),
        }
    }

    /// Whether an entry is found by nothing that it asks for.
    pub fn is_loose(&self, at: usize) -> bool {
        self.loose.binary_search(&at).is_ok()
    }

    /// Calls `seen` with every entry that may hold all requests of `rule`, or
    /// comes before it by its place alone; with others too.
    pub fn near(&self, rule: &Rule, seen: &mut dyn FnMut(usize)) {
        let mut all = Entries::new();
        let mut found = |entries: Option<&Entries>| all.extend(entries.into_iter().flatten());
        found(Some(&self.loose));
        for prefix in &rule.address.from {
            found(self.from.get(prefix));
        }
        for content in &rule.content {
            let (kind, names) = names_of(content);
            for name in names {
                for key in above(name) {
                    found(self.names.get(&(kind, key)));
                }
            }
            if let Content::Http(http) = content {
                for path in &http.path {
                    for end in path.match_indices('/').map(|(at, _)| at) {
                        found(path.get(..end).and_then(|path| self.paths.get(path)));
                    }
                    found(self.paths.get(path));
                }
            }
        }
        // A list of names finds an entry once for each of them.
        all.sort_unstable();
        all.dedup();
        all.into_iter().for_each(seen);
    }
}

/// Every pattern that holds all names of this one.
fn above(pattern: &Pattern) -> Vec<Pattern> {
    let (Pattern::Exact(name) | Pattern::Label(name) | Pattern::Depth(name)) = pattern;
    let mut all = vec![pattern.clone()];
    let mut rest = name.as_str();
    match pattern {
        Pattern::Exact(_) => {
            if let Some((_, suffix)) = name.split_once('.') {
                all.push(Pattern::Label(suffix.to_owned()));
            }
        }
        Pattern::Label(suffix) => all.push(Pattern::Depth(suffix.clone())),
        Pattern::Depth(_) => {}
    }
    while let Some((_, suffix)) = rest.split_once('.') {
        all.push(Pattern::Depth(suffix.to_owned()));
        rest = suffix;
    }
    all
}
