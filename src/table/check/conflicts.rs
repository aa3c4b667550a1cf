//! Who has which address: services that share one, and those that only get
//! into each other's way, said at the later one, naming both. Every address is
//! looked up in a hash, so that a table of thousands loads in no time.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use super::Check;
use crate::table::address::{Family, Inet, Transport, UnixName};
use crate::table::complaint::{At, Fault, Place};
use crate::table::schema::RawService;
use crate::table::{Builtin, Listen, Serve, Service};

/// The enabled services that listen at one address, in table order.
pub(super) struct Group<'a> {
    pub listen: &'a Listen,
    pub members: Vec<Member>,
}

/// A service by its number, and where it names the address.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub service: usize,
    pub place: Place,
}

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
    /// Complains about addresses claimed twice by enabled services that are
    /// not told apart, and about tcpmux services without a tcpmux.
    pub(super) fn distinct<'r>(
        &mut self,
        raw: &'r [RawService],
        built: &[Option<Service>],
    ) -> Vec<Group<'r>> {
        let mut claims = Claims::default();
        let mut groups: Vec<Group<'r>> = Vec::new();
        let mut known: HashMap<(&Listen, Option<&str>), usize> = HashMap::new();
        let has_mux = self.partial
            || built.iter().any(Option::is_none)
            || built
                .iter()
                .flatten()
                .any(|s| s.enabled && matches!(s.serve, Serve::Builtin(Builtin::Tcpmux)));
        for (number, (raw, service)) in raw.iter().zip(built).enumerate() {
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
                let member = Member {
                    service: number,
                    place: *place,
                };
                let group = known.get(&(value, claim.device)).copied();
                match group.and_then(|group| groups.get_mut(group)) {
                    // The same socket: whether they can be told apart is seen below.
                    Some(group) if group.members.last().is_some_and(|m| m.service != number) => {
                        group.members.push(member);
                    }
                    _ => {
                        if let Some(first) = claims.add(claim) {
                            self.taken(&claim, &first);
                        }
                        known.insert((value, claim.device), groups.len());
                        groups.push(Group {
                            listen: value,
                            members: vec![member],
                        });
                    }
                }
                if matches!(value, Listen::Tcpmux { .. }) && !has_mux {
                    self.no_mux(&claim);
                }
            }
        }
        for group in &mut groups {
            self.told_apart(group, raw, built);
        }
        groups
    }

    /// Complains about services that cannot share an address, and leaves them out of the group.
    fn told_apart(&mut self, group: &mut Group<'_>, raw: &[RawService], built: &[Option<Service>]) {
        let listen = group.listen;
        let service = |member: &Member| built.get(member.service).and_then(Option::as_ref);
        let has_match = |member: &Member| {
            let keys = raw.get(member.service).map(|raw| &raw.keys);
            keys.is_some_and(|keys| keys.mentions("match"))
        };
        let mut kept: Vec<Member> = Vec::new();
        for member in std::mem::take(&mut group.members) {
            let Some(later) = service(&member) else {
                continue;
            };
            let alone = |member: &Member| {
                service(member).and_then(|s| self.unshareable(listen, s.rules.wait))
            };
            let clash = match (kept.first(), alone(&member)) {
                (None, _) => None,
                (Some(first), Some(why)) => Some((*first, why)),
                (Some(first), None) if alone(first).is_some() => {
                    alone(first).map(|why| (*first, why))
                }
                (Some(_), None) if has_match(&member) => None,
                (Some(_), None) => {
                    let same = |other: &&Member| {
                        !has_match(other)
                            && (listen.is_datagram() == Some(true)
                                || service(other).map(|s| s.routing.speaks_first)
                                    == Some(later.routing.speaks_first))
                    };
                    let help = "only one service at an address can take what is left over; \
                                `match` says which requests are for the other";
                    kept.iter().find(same).map(|other| (*other, help))
                }
            };
            let Some((other, help)) = clash else {
                kept.push(member);
                continue;
            };
            if let Some(first) = service(&other) {
                let fault = already_taken(&later.name, listen, &first.name).help(help);
                let note = format!("service \"{}\" listens at {listen}", first.name);
                self.complaints
                    .push(fault.at(member.place).and(other.place, note));
            }
        }
        group.members = kept;
    }

    /// Why an address has room for one service only.
    fn unshareable(&self, listen: &Listen, wait: bool) -> Option<&'static str> {
        if matches!(listen, Listen::Inherited { .. }) {
            return Some("an inherited socket is for one service");
        }
        self.way(listen, wait).err()
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
            let mut fault = already_taken(service, listen, other);
            if matches!((listen, first.listen), (Listen::Inet(_), Listen::Inet(_))) {
                fault = fault.help(if listen == &first.listen {
                    "to share it, both need the same `socket.device`; `match.interface` tells them apart"
                } else {
                    "to share it, listen at the very same address; `match.to` tells them apart"
                });
            }
            fault.at(later.place).and(
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

fn already_taken(later: &str, listen: &Listen, first: &str) -> Fault {
    Fault::new(format!(
        "service \"{later}\": {listen} is already taken by service \"{first}\""
    ))
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
        // Two that have it `from` a third have it at one place.
        let is_this = first.place == claim.place && first.service == claim.service;
        (!is_this).then_some(first)
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
