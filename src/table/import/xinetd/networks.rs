//! Names of networks, networks(5), which `only_from` may have.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;

use crate::table::access::Prefix;

#[derive(Clone, Debug, Default)]
pub(super) struct Networks(HashMap<String, Prefix>);

impl Networks {
    /// From `/etc/networks`; if it cannot be read there are none.
    pub fn probe() -> Self {
        Self::new(&fs::read_to_string("/etc/networks").unwrap_or_default())
    }

    pub fn new(text: &str) -> Self {
        let mut networks = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let found = words.next().zip(words.next().and_then(network));
            let Some((name, prefix)) = found else {
                continue;
            };
            for name in std::iter::once(name).chain(words) {
                networks.entry(name.to_ascii_lowercase()).or_insert(prefix);
            }
        }
        Self(networks)
    }

    pub fn get(&self, name: &str) -> Option<Prefix> {
        self.0.get(&name.to_ascii_lowercase()).copied()
    }
}

/// A network number with its mask: octets of zero at the end are no part of it,
/// and neither are those that are not written.
fn network(text: &str) -> Option<Prefix> {
    let octets: Option<Vec<u8>> = text.split('.').map(|octet| octet.parse().ok()).collect();
    let octets = octets.filter(|octets| octets.len() <= 4)?;
    let written = octets.iter().rposition(|octet| *octet != 0)? + 1;
    let mut addr = [0; 4];
    addr[..written].copy_from_slice(&octets[..written]);
    Some(Prefix {
        addr: Ipv4Addr::from(addr).into(),
        bits: u8::try_from(8 * written).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_octets_that_are_not_zero() {
        let networks =
            Networks::new("loopback 127.0.0.0\nlab 10.1 office # ours\ndefault 0.0.0.0\nbad x\n");
        let shown = |name| networks.get(name).map(|p| p.to_string());
        assert_eq!(shown("loopback").as_deref(), Some("127.0.0.0/8"));
        assert_eq!(shown("Office").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(shown("default"), None);
        assert_eq!(shown("bad"), None);
    }
}
