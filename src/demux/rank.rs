//! Which of two rules is asked first, as far as addresses and priority say:
//! the longest `from`, then the longest `to`, then the priority. What is left
//! equal keeps the order of the table (sort stably).
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::demux::Rule;
use crate::table::access::Prefix;

/// Sorts best first: of two ranks the smaller one is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rank {
    /// Bits of the peer's prefix; `None`: any peer, which says less than a prefix of no bits.
    pub from: Option<u8>,
    /// Bits of this host's prefix.
    pub to: Option<u8>,
    pub priority: i32,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |rank: &Self| (rank.from, rank.to, rank.priority);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `rule` as rules of one rank each, best first. Prefixes of one length stay
/// together: a request lies in at most one of them for each length, so that
/// exactly the requests of `rule` are those of its entries.
#[must_use]
pub fn entries(rule: &Rule) -> Vec<(Rank, Rule)> {
    let mut all: Vec<(Rank, Rule)> = Vec::new();
    for (from, peers) in by_length(&rule.address.from) {
        for (to, hosts) in by_length(&rule.address.to) {
            let mut entry = rule.clone();
            entry.address.from.clone_from(&peers);
            entry.address.to = hosts;
            let priority = rule.priority;
            all.push((Rank { from, to, priority }, entry));
        }
    }
    all.sort_by_key(|(rank, _)| *rank);
    all
}

/// One group without a length where there are no prefixes.
fn by_length(prefixes: &[Prefix]) -> BTreeMap<Option<u8>, Vec<Prefix>> {
    let mut groups = BTreeMap::new();
    if prefixes.is_empty() {
        groups.insert(None, Vec::new());
    }
    for prefix in prefixes {
        let group: &mut Vec<Prefix> = groups.entry(Some(prefix.bits)).or_default();
        group.push(*prefix);
    }
    groups
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn longer_prefixes_come_first_and_peers_before_hosts() {
        let rank = |from, to, priority| Rank { from, to, priority };
        let best_first = [
            rank(Some(32), None, 0),
            rank(Some(24), Some(32), -5),
            rank(Some(24), None, 9),
            rank(Some(0), None, 0),
            rank(None, Some(128), 0),
            rank(None, Some(16), 0),
            rank(None, None, 7),
            rank(None, None, -1),
        ];
        let mut sorted = best_first;
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, best_first);
    }

    #[test]
    fn a_rule_without_addresses_is_one_entry() {
        let rule = Rule {
            priority: 3,
            ..Rule::default()
        };
        let rank = Rank {
            priority: 3,
            ..Rank::default()
        };
        assert_eq!(entries(&rule), [(rank, rule)]);
    }

    #[test]
    fn prefixes_of_several_lengths_are_split() {
        let mut rule = Rule::default();
        rule.address.from = prefixes(&["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"]);
        rule.address.to = prefixes(&["127.0.0.1", "::1"]);
        let found: Vec<_> = entries(&rule)
            .into_iter()
            .map(|(rank, rule)| (rank.from, rank.to, rule.address.from.len(), rule.address.to))
            .collect();
        assert_eq!(
            found,
            [
                (Some(24), Some(128), 2, prefixes(&["::1"])),
                (Some(24), Some(32), 2, prefixes(&["127.0.0.1"])),
                (Some(8), Some(128), 1, prefixes(&["::1"])),
                (Some(8), Some(32), 1, prefixes(&["127.0.0.1"])),
            ]
        );
    }
}
