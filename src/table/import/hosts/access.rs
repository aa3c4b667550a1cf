//! `allow` and `deny` from a decision about regions of addresses.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::table::access::{Access, Prefix};
use crate::table::import::draft::Draft;

/// Everybody: the regions that all others are in.
const EVERYBODY: [Prefix; 2] = [
    Prefix {
        addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        bits: 0,
    },
    Prefix {
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        bits: 0,
    },
];

/// Whether every address of `region` is in `net`.
#[must_use]
pub fn covers(net: &Prefix, region: &Prefix) -> bool {
    net.bits <= region.bits && net.contains(region.addr)
}

/// Asks `admits` about each of the prefixes, and about everybody: what it says
/// holds for the addresses that are in no longer one of them.
pub fn from_regions(nets: Vec<Prefix>, mut admits: impl FnMut(&Prefix) -> bool) -> Access {
    let mut regions: Vec<Prefix> = EVERYBODY.into_iter().chain(nets).collect();
    regions.sort_by_key(|region| (region.bits, region.addr));
    regions.dedup();
    let mut told: Vec<(Prefix, bool)> = Vec::new();
    for region in regions {
        let admitted = admits(&region);
        // The longest so far that it lies in.
        let around = told.iter().rev().find(|(net, _)| covers(net, &region));
        if around.is_none_or(|(_, known)| *known != admitted) {
            told.push((region, admitted));
        }
    }
    let is_all = |region: &Prefix| region.bits == 0;
    let open = told
        .iter()
        .all(|(region, admitted)| *admitted == is_all(region));
    let pick = |wanted: bool, all: bool| -> Vec<Prefix> {
        let picked = told
            .iter()
            .filter(|(net, admitted)| *admitted == wanted && (all || !is_all(net)));
        picked.map(|(net, _)| *net).collect()
    };
    let allow = pick(true, true);
    if open || allow.is_empty() {
        return Access {
            allow: None,
            deny: pick(false, true),
            ..Access::default()
        };
    }
    Access {
        allow: Some(allow),
        deny: pick(false, false),
        ..Access::default()
    }
}

/// Whoever both let in.
#[must_use]
pub fn both(one: &Access, other: &Access) -> Access {
    let nets = |access: &Access| {
        let allow = access.allow.iter().flatten();
        allow.chain(&access.deny).copied().collect::<Vec<_>>()
    };
    let all = [nets(one), nets(other)].concat();
    from_regions(all, |region| permits(one, region) && permits(other, region))
}

/// [`Access::permits`] for a region that no prefix of it cuts.
fn permits(access: &Access, region: &Prefix) -> bool {
    let longest = |nets: &[Prefix]| {
        let around = nets.iter().filter(|net| covers(net, region));
        around.map(|net| net.bits).max()
    };
    match (access.allow.as_deref().map(longest), longest(&access.deny)) {
        (None, denied) => denied.is_none(),
        (Some(None), _) => false,
        (Some(allowed), denied) => allowed > denied,
    }
}

/// Writes `allow` and `deny` of a draft.
pub fn set(draft: &mut Draft, access: &Access) {
    let show = |net: &Prefix| {
        let host = if net.addr.is_ipv4() { 32 } else { 128 };
        match net.bits == host {
            true => net.addr.to_string(),
            false => net.to_string(),
        }
    };
    if let Some(allow) = &access.allow {
        draft.set_list("allow", allow.iter().map(show));
    }
    if !access.deny.is_empty() {
        draft.set_list("deny", access.deny.iter().map(show));
    }
}
