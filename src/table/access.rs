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
}

impl Access {
    /// Whether a peer at `ip` may come in. IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let longest = |rules: &[Prefix]| {
            rules
                .iter()
                .filter(|p| p.contains(ip))
                .map(|p| p.bits)
                .max()
        };
        match (self.allow.as_deref().map(longest), longest(&self.deny)) {
            (None, denied) => denied.is_none(),
            (Some(None), _) => false,
            (Some(Some(_)), None) => true,
            (Some(Some(allowed)), Some(denied)) => allowed > denied,
        }
    }

    /// Whether every peer may come in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
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
