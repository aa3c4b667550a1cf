//! Bans: prefixes whose requests are refused before anything else is looked at,
//! until a moment or for good. Pure; the file is read and written elsewhere.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::types;
use crate::table::access::{Prefix, mask};

/// So many are kept; each costs memory in two processes.
pub const MOST: usize = 65_536;
/// The longest reason, in octets.
pub const LONGEST_REASON: usize = 256;

/// One ban, as it is written to the file. Moments are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    pub prefix: Prefix,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub made: u64,
    /// `None`: for good.
    pub until: Option<u64>,
}

/// All of them, at most one for a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bans {
    bans: Vec<Ban>,
}

impl Bans {
    /// Adds a ban, or replaces the one of the same prefix. False: there are too many.
    pub fn add(&mut self, ban: Ban) -> bool {
        self.remove(ban.prefix);
        if self.bans.len() >= MOST {
            return false;
        }
        self.bans.push(ban);
        true
    }

    /// Whether there was one.
    pub fn remove(&mut self, prefix: Prefix) -> bool {
        let before = self.bans.len();
        self.bans.retain(|ban| ban.prefix != prefix);
        self.bans.len() < before
    }

    /// Drops those that are over at `now`; whether there were any.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.bans.len();
        self.bans
            .retain(|ban| ban.until.is_none_or(|until| until > now));
        self.bans.len() < before
    }

    /// Who is kept out.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.bans.iter().map(|ban| ban.prefix).collect()
    }

    /// How many seconds after `now` the next one is over.
    #[must_use]
    pub fn next_end(&self, now: u64) -> Option<u64> {
        let ends = self.bans.iter().filter_map(|ban| ban.until);
        ends.min().map(|end| end.saturating_sub(now))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// For the socket.
    #[must_use]
    pub fn show(&self, now: u64) -> Vec<types::BanEntry> {
        self.bans.iter().map(|ban| ban.show(now)).collect()
    }

    /// What is left of each of them, for the front.
    #[must_use]
    pub fn left(&self, now: u64) -> Vec<Left> {
        let left = |ban: &Ban| Left {
            prefix: ban.prefix,
            seconds: ban.until.map(|until| until.saturating_sub(now)),
        };
        self.bans.iter().map(left).collect()
    }
}

impl Ban {
    #[must_use]
    pub fn show(&self, now: u64) -> types::BanEntry {
        types::BanEntry {
            prefix: self.prefix.to_string(),
            reason: self.reason.clone(),
            expires_s: self.until.map(|until| until.saturating_sub(now)),
            age_s: now.saturating_sub(self.made),
        }
    }
}

/// A ban as the front is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub prefix: Prefix,
    /// `None`: for good.
    pub seconds: Option<u64>,
}

/// The bans in force, for questions about one address at a time: one look for
/// each length of prefix that there is, however many bans there are.
#[derive(Debug, Default)]
pub struct Banned {
    lengths: BTreeSet<u8>,
    until: HashMap<Prefix, Option<Instant>>,
}

impl Banned {
    #[must_use]
    pub fn new(bans: &[Left], now: Instant) -> Self {
        let mut banned = Self::default();
        for ban in bans {
            let seconds = ban.seconds.map(Duration::from_secs);
            let until = seconds.map(|left| now.checked_add(left));
            banned.lengths.insert(ban.prefix.bits);
            // A span beyond the clock's end is for good.
            banned.until.insert(ban.prefix, until.flatten());
        }
        banned
    }

    /// Whether a peer at `ip` is kept out. IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn holds(&self, ip: IpAddr, now: Instant) -> bool {
        let ip = ip.to_canonical();
        self.lengths.iter().any(|bits| {
            let addr = mask(ip, *bits);
            let ban = addr.and_then(|addr| self.until.get(&Prefix { addr, bits: *bits }));
            ban.is_some_and(|until| until.is_none_or(|until| until > now))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ban(prefix: &str, until: Option<u64>) -> Ban {
        Ban {
            prefix: prefix.parse().unwrap(),
            reason: None,
            made: 100,
            until,
        }
    }

    #[test]
    fn a_ban_holds_for_its_prefix_and_its_time() {
        let mut bans = Bans::default();
        assert!(bans.add(ban("192.0.2.0/24", Some(160))));
        assert!(bans.add(ban("2001:db8::7", None)));
        let now = Instant::now();
        let banned = Banned::new(&bans.left(100), now);
        let holds = |ip: &str, at| banned.holds(ip.parse().unwrap(), at);
        assert!(holds("192.0.2.255", now));
        assert!(holds("::ffff:192.0.2.1", now));
        assert!(!holds("192.0.3.1", now));
        assert!(holds("192.0.2.1", now + Duration::from_secs(59)));
        assert!(!holds("192.0.2.1", now + Duration::from_secs(60)));
        assert!(holds("2001:db8::7", now + Duration::from_secs(1 << 30)));
        assert!(!holds("2001:db8::8", now));
    }

    #[test]
    fn a_prefix_has_one_ban_and_none_outlives_its_time() {
        let mut bans = Bans::default();
        assert!(bans.add(ban("192.0.2.0/24", Some(160))));
        assert!(bans.add(ban("192.0.2.0/24", Some(500))));
        assert_eq!(bans.show(200).len(), 1);
        assert_eq!(bans.show(200)[0].expires_s, Some(300));
        assert_eq!(bans.show(200)[0].age_s, 100);
        assert!(!bans.expire(499));
        assert!(bans.expire(500));
        assert!(bans.is_empty());
        assert!(!bans.remove("192.0.2.0/24".parse().unwrap()));
    }

    #[test]
    fn bans_survive_their_file() {
        let mut bans = Bans::default();
        assert!(bans.add(ban("2001:db8::/32", None)));
        let text = serde_json::to_string(&bans).unwrap();
        assert_eq!(serde_json::from_str::<Bans>(&text).unwrap(), bans);
    }
}
