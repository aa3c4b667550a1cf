//! `allow` and `deny`: the longest prefix wins, deny on a tie.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address prefix such as `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prefix {
    pub addr: IpAddr,
    pub bits: u8,
}

/// Who may speak to a service. No `allow` at all means everybody but `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub allow: Option<Vec<Prefix>>,
    pub deny: Vec<Prefix>,
    /// `"list:NAME"`; `allow` is there too where this is not empty.
    pub allow_lists: Vec<List>,
    pub deny_lists: Vec<List>,
}

/// A local list, and what is in it as long as it is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub name: String,
    /// By length, then address, for the search.
    members: Vec<Prefix>,
}

impl List {
    /// One with nothing in it yet.
    #[must_use]
    pub fn named(name: String) -> Self {
        let members = Vec::new();
        Self { name, members }
    }

    pub fn set(&mut self, mut members: Vec<Prefix>) {
        members.sort_unstable_by_key(|one| (one.bits, one.addr));
        members.dedup();
        self.members = members;
    }

    /// Bits of the longest prefix in it that `ip` (canonical) is in. However many there
    /// are, it takes a search for each length that there is.
    fn longest(&self, ip: IpAddr) -> Option<u8> {
        let mut rest = self.members.as_slice();
        while let Some(last) = rest.last() {
            let bits = last.bits;
            let start = rest.partition_point(|one| one.bits < bits);
            let (shorter, these) = rest.split_at(start);
            if let Some(masked) = mask(ip, bits)
                && these.binary_search_by_key(&masked, |one| one.addr).is_ok()
            {
                return Some(bits);
            }
            rest = shorter;
        }
        None
    }
}

/// An entry of `allow` or `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    Prefix(Prefix),
    /// The name of a local list.
    List(String),
}

impl Peers {
    /// Prefixes, and lists that are still empty.
    #[must_use]
    pub fn parted(all: &[Peers]) -> (Vec<Prefix>, Vec<List>) {
        let (mut prefixes, mut lists) = (Vec::new(), Vec::new());
        for one in all {
            match one {
                Peers::Prefix(prefix) => prefixes.push(*prefix),
                Peers::List(name) => lists.push(List::named(name.clone())),
            }
        }
        (prefixes, lists)
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peers::Prefix(prefix) => prefix.fmt(f),
            Peers::List(name) => write!(f, "list:{name}"),
        }
    }
}

impl Access {
    /// Whether a peer at `ip` may come in. IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let longest = |rules: &[Prefix], lists: &[List]| {
            let own = rules.iter().filter(|p| p.contains(ip)).map(|p| p.bits);
            let listed = lists.iter().filter_map(|list| list.longest(ip));
            own.chain(listed).max()
        };
        let allowed = self.allow.as_deref();
        let allowed = allowed.map(|rules| longest(rules, &self.allow_lists));
        match (allowed, longest(&self.deny, &self.deny_lists)) {
            (None, denied) => denied.is_none(),
            (Some(None), _) => false,
            (Some(Some(_)), None) => true,
            (Some(Some(allowed)), Some(denied)) => allowed > denied,
        }
    }

    /// Whether every peer may come in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty() && self.deny_lists.is_empty()
    }
}

impl Prefix {
    /// Whether `ip` (canonical) lies in this prefix; families never match each other.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        mask(ip, self.bits).is_some_and(|masked| masked == self.addr)
    }
}

/// `ip` with all but its first `bits` bits cleared; `None` if it has not that many.
#[must_use]
pub fn mask(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) if bits <= 32 => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Some(IpAddr::V4((u32::from(v4) & keep).into()))
        }
        IpAddr::V6(v6) if bits <= 128 => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Some(IpAddr::V6((u128::from(v6) & keep).into()))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPrefix {
    NotAnAddress,
    BadLength,
    /// The address has bits set outside the prefix; this is what was meant, probably.
    HostBits(Prefix),
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (
                addr,
                Some(bits.parse::<u8>().map_err(|_| BadPrefix::BadLength)?),
            ),
            None => (text, None),
        };
        let given: IpAddr = addr.parse().map_err(|_| BadPrefix::NotAnAddress)?;
        let (addr, bits) = match (given, given.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) => {
                let bits = bits
                    .unwrap_or(128)
                    .checked_sub(96)
                    .ok_or(BadPrefix::BadLength)?;
                (IpAddr::V4(v4), bits)
            }
            (addr, _) => (addr, bits.unwrap_or(if addr.is_ipv4() { 32 } else { 128 })),
        };
        let masked = mask(addr, bits).ok_or(BadPrefix::BadLength)?;
        let prefix = Prefix { addr: masked, bits };
        if masked == addr {
            Ok(prefix)
        } else {
            Err(BadPrefix::HostBits(prefix))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let list = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| t.parse().unwrap())
                .collect::<Vec<Prefix>>()
        };
        Access {
            allow: (!allow.is_empty()).then(|| list(allow)),
            deny: list(deny),
            ..Access::default()
        }
    }

    #[test]
    fn longest_prefix_wins_and_deny_wins_a_tie() {
        let rules = access(
            &["10.0.0.0/8", "10.1.2.0/24", "10.9.0.0/16"],
            &["10.1.0.0/16", "10.9.0.0/16"],
        );
        let verdict = |ip: &str| rules.permits(ip.parse().unwrap());
        assert!(verdict("10.2.0.1"));
        assert!(!verdict("10.1.3.1"));
        assert!(verdict("10.1.2.1"));
        assert!(!verdict("10.9.0.1"));
        assert!(!verdict("11.0.0.1"));
    }

    #[test]
    fn a_list_counts_as_its_members_do() {
        let members = |texts: &[&str]| {
            let mut list = List::named("x".into());
            list.set(texts.iter().map(|text| text.parse().unwrap()).collect());
            list
        };
        let ten_thousand: Vec<String> = (0..10_000)
            .map(|n| format!("198.18.{}.{}", n / 256, n % 256))
            .collect();
        let ten_thousand: Vec<&str> = ten_thousand.iter().map(String::as_str).collect();
        let mut rules = access(&["10.1.0.0/16"], &[]);
        rules.allow_lists = vec![members(&["10.2.0.0/16", "2001:db8::/32"])];
        rules.deny_lists = vec![
            members(&["10.0.0.0/8", "10.2.3.0/24"]),
            members(&ten_thousand),
        ];
        let verdict = |ip: &str| rules.permits(ip.parse().unwrap());
        assert!(verdict("10.1.2.3"));
        assert!(verdict("10.2.2.3"));
        assert!(!verdict("10.2.3.3"));
        assert!(!verdict("10.3.3.3"));
        assert!(verdict("2001:db8::9"));
        assert!(!verdict("192.0.2.1"), "on no list");
        rules.allow = None;
        let verdict = |ip: &str| rules.permits(ip.parse().unwrap());
        assert!(verdict("192.0.2.1"));
        assert!(!verdict("198.18.39.15"));
        assert!(verdict("198.18.39.16"));
    }

    #[test]
    fn mapped_peers_count_as_ipv4() {
        let rules = access(&["192.0.2.0/24"], &[]);
        assert!(rules.permits("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!rules.permits("::ffff:192.0.3.9".parse().unwrap()));
        assert_eq!(
            "::ffff:192.0.2.0/120"
                .parse::<Prefix>()
                .unwrap()
                .to_string(),
            "192.0.2.0/24"
        );
    }

    #[test]
    fn no_allow_list_means_everybody_but_the_denied() {
        let rules = access(&[], &["2001:db8::/32"]);
        assert!(rules.permits("192.0.2.1".parse().unwrap()));
        assert!(!rules.permits("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn host_bits_are_pointed_out() {
        let meant = Prefix {
            addr: "192.0.2.0".parse().unwrap(),
            bits: 24,
        };
        assert_eq!(
            "192.0.2.7/24".parse::<Prefix>(),
            Err(BadPrefix::HostBits(meant))
        );
        assert_eq!("192.0.2.7/33".parse::<Prefix>(), Err(BadPrefix::BadLength));
        assert_eq!(
            "shop.example".parse::<Prefix>(),
            Err(BadPrefix::NotAnAddress)
        );
        assert!(
            "0.0.0.0/0"
                .parse::<Prefix>()
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
    }
}
