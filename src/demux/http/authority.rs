//! `host[:port]` as a target or a Host header has it (RFC 3986, 3.2).
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use crate::demux::names::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Optional,
    /// As in CONNECT.
    Required,
}

/// The host of an authority, folded; an IPv6 address without brackets in its canonical
/// text. `None` for user names, zones, bad ports and whatever else is no host.
#[must_use]
pub fn host(authority: &[u8], port: Port) -> Option<Name> {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let end = rest.iter().position(|&octet| octet == b']')?;
        let (literal, after) = rest.split_at_checked(end)?;
        let address: Ipv6Addr = str::from_utf8(literal).ok()?.parse().ok()?;
        return is_port(after.strip_prefix(b"]")?, port)
            .then(|| Name::of_address(address.into()))
            .flatten();
    }
    let end = authority
        .iter()
        .position(|&octet| octet == b':')
        .unwrap_or(authority.len());
    let (name, after) = authority.split_at_checked(end)?;
    (name.iter().all(is_reg_name) && is_port(after, port))
        .then(|| Name::parse(name))
        .flatten()
}

/// `reg-name` of RFC 3986, 3.2.2. Nothing is percent-decoded.
fn is_reg_name(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(octet)
}

/// Nothing, or a colon and a port; of an optional one the digits may be missing.
fn is_port(after: &[u8], port: Port) -> bool {
    let Some(digits) = after.strip_prefix(b":") else {
        return after.is_empty() && port == Port::Optional;
    };
    if digits.is_empty() {
        return port == Port::Optional;
    }
    digits.iter().all(u8::is_ascii_digit)
        && str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
}
