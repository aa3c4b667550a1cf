//! Two services at one address that cannot be told apart: each is said at the
//! later one, naming both. Every address is looked up in a hash, so that a
//! table of thousands loads in no time.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use super::Check;
use crate::table::address::{Family, Inet, Transport, UnixName};
use crate::table::complaint::{At, Fault, Place};
use crate::table::schema::RawService;
use crate::table::{Builtin, Listen, Serve, Service};

/// Who has an address.
#[derive(Clone, Copy)]
struct Claim<'a> {
    service: &'a str,
    place: Place,
    listen: &'a Listen,
    /// Sockets bound to different interfaces do not meet.
    device: Option<&'a str>,
}

/// A port of one transport and IP version.
#[derive(Default)]
struct Port<'a> {
    /// On every address.
    everywhere: Vec<Claim<'a>>,
    specific: HashMap<(IpAddr, Option<&'a str>), Vec<Claim<'a>>>,
    /// One claim of `specific` for each interface.
    some: Vec<Claim<'a>>,
}

/// Addresses with neither families nor wildcards.
#[derive(PartialEq, Eq, Hash)]
enum Plain<'a> {
    Unix(&'a UnixName),
    Tcpmux(String),
    Inherited(&'a str),
}

/// The first and last version of an RPC program that a claim is about.
type Versions<'a> = (u32, u32, Claim<'a>);

#[derive(Default)]
struct Claims<'a> {
    ports: HashMap<(Transport, u16, bool), Port<'a>>,
    plain: HashMap<Plain<'a>, Claim<'a>>,
    vsock: HashMap<u32, Vec<(Option<u32>, Claim<'a>)>>,
    rpc: HashMap<(Transport, u32), Vec<Versions<'a>>>,
}

impl Check<'_> {
    /// Complains about addresses claimed twice by enabled services, and about
    /// tcpmux services without a tcpmux.
    pub(super) fn distinct(&mut self, raw: &[RawService], built: &[Option<Service>]) {
        let mut claims = Claims::default();
        let has_mux = self.partial
            || built.iter().any(Option::is_none)
            || built
                .iter()
                .flatten()
                .any(|s| s.enabled && matches!(s.serve, Serve::Builtin(Builtin::Tcpmux)));
        for (raw, service) in raw.iter().zip(built) {
            let Some(service) = service.as_ref().filter(|s| s.enabled) else {
                continue;
            };
            let written = raw.keys.listen.iter().flat_map(|at| &at.value);
            for At { value, place } in written {
                let claim = Claim {
                    service: &service.name,
                    place: *place,
                    listen: value,
                    device: service.socket.device.as_deref(),
                };
                if let Some(first) = claims.add(claim) {
                    self.taken(&claim, &first);
                }
                if matches!(value, Listen::Tcpmux { .. }) && !has_mux {
                    self.no_mux(&claim);
                }
            }
        }
    }

    fn taken(&mut self, later: &Claim<'_>, first: &Claim<'_>) {
        let Claim {
            service, listen, ..
        } = later;
        let complaint = if *service == first.service {
            Fault::new(format!("service \"{service}\": {listen} is there twice"))
                .at(later.place)
                .and(first.place, format!("{} covers it already", first.listen))
        } else {
            let other = first.service;
            Fault::new(format!(
                "service \"{service}\": {listen} is already taken by service \"{other}\""
            ))
            .at(later.place)
            .and(
                first.place,
                format!("service \"{other}\" listens at {}", first.listen),
            )
        };
        self.complaints.push(complaint);
    }

    fn no_mux(&mut self, claim: &Claim<'_>) {
        let fault = Fault::new(format!(
            "service \"{}\": no enabled service has builtin = \"tcpmux\", so nobody can ask for it",
            claim.service
        ));
        self.complain(
            claim.place,
            fault.help("add a service with listen = \"tcp:1\" and builtin = \"tcpmux\""),
        );
    }
}

impl<'a> Claims<'a> {
    /// Enters a claim; gives back one that it collides with.
    fn add(&mut self, claim: Claim<'a>) -> Option<Claim<'a>> {
        match claim.listen {
            Listen::Inet(inet) => self.add_inet(inet, claim),
            Listen::Unix { name, .. } => self.add_plain(Plain::Unix(name), claim),
            Listen::Tcpmux { name, .. } => {
                self.add_plain(Plain::Tcpmux(name.to_ascii_lowercase()), claim)
            }
            Listen::Inherited { name } => self.add_plain(Plain::Inherited(name), claim),
            Listen::Vsock { cid, port } => {
                let there = self.vsock.entry(*port).or_default();
                let meets = |other: &Option<u32>| cid.is_none() || other.is_none() || cid == other;
                let found = there.iter().find(|(other, _)| meets(other)).map(|f| f.1);
                there.push((*cid, claim));
                found
            }
            Listen::Rpc {
                transport,
                program,
                first,
                last,
            } => {
                let there = self.rpc.entry((*transport, *program)).or_default();
                let found = there
                    .iter()
                    .find(|(low, high, _)| first <= high && low <= last)
                    .map(|found| found.2);
                there.push((*first, *last, claim));
                found
            }
        }
    }

    fn add_plain(&mut self, key: Plain<'a>, claim: Claim<'a>) -> Option<Claim<'a>> {
        let first = *self.plain.entry(key).or_insert(claim);
        (first.place != claim.place).then_some(first)
    }

    fn add_inet(&mut self, inet: &'a Inet, claim: Claim<'a>) -> Option<Claim<'a>> {
        let v4 = match inet.addr {
            Some(addr) => addr.is_ipv4(),
            None => inet.family != Family::V6,
        };
        let v6 = match inet.addr {
            Some(addr) => addr.is_ipv6(),
            None => inet.family != Family::V4,
        };
        let mut found = None;
        for (version6, there) in [(false, v4), (true, v6)] {
            if there {
                let key = (inet.transport, inet.port, version6);
                found = found.or(self.ports.entry(key).or_default().add(inet, claim));
            }
        }
        found
    }
}

impl<'a> Port<'a> {
    fn add(&mut self, inet: &'a Inet, claim: Claim<'a>) -> Option<Claim<'a>> {
        let meets = |other: &&Claim<'a>| {
            claim.device.is_none() || other.device.is_none() || claim.device == other.device
        };
        let everywhere = self.everywhere.iter().find(meets).copied();
        let Some(addr) = inet.addr.filter(|addr| !addr.is_unspecified()) else {
            let found = everywhere.or(self.some.iter().find(meets).copied());
            if everywhere.is_none() {
                self.everywhere.push(claim);
            }
            return found;
        };
        let same = self
            .specific
            .entry((addr, inet.zone.as_deref()))
            .or_default();
        let found = everywhere.or(same.iter().find(meets).copied());
        if found.is_none() {
            same.push(claim);
            if !self.some.iter().any(|c| c.device == claim.device) {
                self.some.push(claim);
            }
        }
        found
    }
}
