//! Whom a datagram service must not answer, and how often anybody.
//!
//! A datagram's source can be forged. An answer to another host's echo port
//! would start an endless exchange, an answer to a broadcast address a storm.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::logging::Pace;

/// Ports that answer anything: a reply from one is a request to the other.
const TALKATIVE: [u16; 6] = [7, 9, 13, 17, 19, 37];
const REPLIES_PER_SECOND: u32 = 50;
const BURST: u32 = 100;
/// Sources whose hashes collide share a place: the memory is bounded whatever
/// addresses are forged.
const PLACES: usize = 1024;
const LOG_INTERVAL: Duration = Duration::from_secs(60);
const LOG_BURST: u32 = 20;

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    SourcePort,
    SourceAddress,
    /// Asked by broadcast or multicast: many would answer at once.
    Destination,
    Rate,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::SourcePort => "its port answers everything",
            Silence::SourceAddress => "its address is not that of one host",
            Silence::Destination => "not sent to one host",
            Silence::Rate => "too many requests",
        })
    }
}

/// Judges the sources of one datagram service.
#[derive(Debug)]
pub struct Guard {
    hasher: RandomState,
    /// UDP ports that usherd answers on itself.
    own_ports: Rc<[u16]>,
    /// Allocated at the first request.
    places: Vec<Place>,
    log: Pace,
}

/// What is known of the sources that share a hash.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Thousandths of a reply.
    tokens: u32,
    refilled: Instant,
    logged: Option<(IpAddr, Instant)>,
}

impl Guard {
    pub fn new(own_ports: Rc<[u16]>) -> Self {
        Self {
            hasher: RandomState::new(),
            own_ports,
            places: Vec::new(),
            log: Pace::new(LOG_BURST, LOG_INTERVAL),
        }
    }

    pub fn set_own_ports(&mut self, own_ports: Rc<[u16]>) {
        self.own_ports = own_ports;
    }

    /// Whether a request from `source` (canonical) may be answered at all;
    /// `to` is where it was sent.
    pub fn judge(&self, source: SocketAddr, to: Option<IpAddr>) -> Result<(), Silence> {
        let port = source.port();
        if port == 0 || TALKATIVE.contains(&port) || self.own_ports.contains(&port) {
            return Err(Silence::SourcePort);
        }
        if is_many(source.ip()) {
            return Err(Silence::SourceAddress);
        }
        if to.is_some_and(is_many) {
            return Err(Silence::Destination);
        }
        Ok(())
    }

    /// Takes one reply from the source's budget.
    pub fn spend(&mut self, source: IpAddr, now: Instant) -> Result<(), Silence> {
        let place = self.place(source, now);
        let since = now.saturating_duration_since(place.refilled).as_millis();
        // Milliseconds times replies per second are thousandths of a reply.
        let earned = u32::try_from(since).unwrap_or(u32::MAX);
        let earned = earned.saturating_mul(REPLIES_PER_SECOND);
        if earned > 0 {
            place.tokens = place.tokens.saturating_add(earned).min(BURST * 1000);
            place.refilled = now;
        }
        place.tokens = place.tokens.checked_sub(1000).ok_or(Silence::Rate)?;
        Ok(())
    }

    /// Whether to log about `source` now, and how many lines were held back:
    /// once per source and minute, and not often in all.
    pub fn may_log(&mut self, source: IpAddr, now: Instant) -> Option<u64> {
        let about = prefix(source);
        let place = self.place(source, now);
        let recent = place.logged.is_some_and(|(who, at)| {
            who == about && now.saturating_duration_since(at) < LOG_INTERVAL
        });
        if recent {
            return None;
        }
        place.logged = Some((about, now));
        self.log.admit(now)
    }

    fn place(&mut self, source: IpAddr, now: Instant) -> &mut Place {
        let fresh = Place {
            tokens: BURST * 1000,
            refilled: now,
            logged: None,
        };
        self.places.resize(PLACES, fresh);
        let hash = self.hasher.hash_one(prefix(source));
        let at = usize::try_from(hash % PLACES as u64).unwrap_or(0);
        &mut self.places[at]
    }
}

/// A host of IPv6 has a whole /64 to send from.
fn prefix(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            std::net::Ipv6Addr::from_bits(network).into()
        }
    }
}

/// Not the address of one host. A directed broadcast cannot be told from the
/// address alone; the kernel refuses to send to one.
fn is_many(ip: IpAddr) -> bool {
    ip.is_multicast() || ip.is_unspecified() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(Rc::new([5007]))
    }

    #[test]
    fn sources_that_would_answer_back_or_are_many_get_silence() {
        let guard = guard();
        let judge = |source: &str| guard.judge(source.parse().unwrap(), None);
        for port in [0, 7, 9, 13, 17, 19, 37, 5007] {
            let source = format!("192.0.2.1:{port}");
            assert_eq!(judge(&source), Err(Silence::SourcePort), "{source}");
        }
        for ip in [
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "[ff02::1]",
            "[::]",
        ] {
            let source = format!("{ip}:4000");
            assert_eq!(judge(&source), Err(Silence::SourceAddress), "{source}");
        }
        assert_eq!(judge("192.0.2.1:4000"), Ok(()));
        assert_eq!(judge("[2001:db8::1]:4000"), Ok(()));
        let asked_all = guard.judge(
            "192.0.2.1:4000".parse().unwrap(),
            Some("224.0.0.1".parse().unwrap()),
        );
        assert_eq!(asked_all, Err(Silence::Destination));
    }

    #[test]
    fn a_source_has_a_burst_and_then_its_rate() {
        let (mut guard, start) = (guard(), Instant::now());
        let mut answered = |ip: &str, at| {
            let ip = ip.parse().unwrap();
            (0..1000).filter(|_| guard.spend(ip, at).is_ok()).count()
        };
        assert_eq!(answered("2001:db8::1", start), 100);
        // The same /64.
        assert_eq!(answered("2001:db8::2", start), 0);
        assert_eq!(
            answered("2001:db8::2", start + Duration::from_millis(100)),
            5
        );
        assert_eq!(
            answered("2001:db8::1", start + Duration::from_secs(60)),
            100
        );
    }

    #[test]
    fn each_source_is_logged_once_a_minute_and_all_of_them_seldom() {
        let (mut guard, start) = (guard(), Instant::now());
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(guard.may_log(ip, start), Some(0));
        assert_eq!(guard.may_log(ip, start), None);
        assert!(guard.may_log(ip, start + LOG_INTERVAL).is_some());
        let many = (0..10_000u32).filter(|n| {
            let ip = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            guard.may_log(ip, start + LOG_INTERVAL).is_some()
        });
        assert!(many.count() < LOG_BURST as usize);
    }
}
