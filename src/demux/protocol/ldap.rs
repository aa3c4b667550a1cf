//! LDAP: an LDAPMessage with a request in it (RFC 4511, 4.1.1 and 5.1; X.690).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Application tags of requests: bind, unbind, search, modify, add, delete,
/// modify DN, compare, abandon, extended.
const REQUESTS: [u8; 10] = [0x60, 0x42, 0x63, 0x66, 0x68, 0x4a, 0x6c, 0x6e, 0x50, 0x77];

/// SEQUENCE, INTEGER above zero, then the tag of a request.
pub fn walk(walk: &mut Walk) -> Step<()> {
    walk.literal(&[0x30])?;
    let content = length(walk)?;
    let start = walk.at();
    walk.literal(&[0x02])?;
    let octets = length(walk)?;
    require((1..=4).contains(&octets))?;
    message_id(walk, octets)?;
    walk.octet_that(|tag| REQUESTS.contains(&tag))?;
    // One octet at least for the length of the request.
    require(content > (walk.at() - start) as u64)
}

/// Definite lengths only (RFC 4511, 5.1), in one octet or in up to four behind
/// a count of them. Leading zeros are allowed, and Windows sends them.
fn length(walk: &mut Walk) -> Step<u64> {
    match walk.octet()? {
        short @ ..=0x7f => Ok(u64::from(short)),
        long @ 0x81..=0x84 => walk.number(u32::from(long & 0x7f), 0..=u64::from(u32::MAX)),
        _ => Err(super::Verdict::No),
    }
}

/// 1 to 2^31 - 1: zero is for what a server sends unasked.
fn message_id(walk: &mut Walk, octets: u64) -> Step<()> {
    let width = u32::try_from(octets).unwrap_or(1);
    let highest = (1 << (8 * width - 1)) - 1;
    walk.number(width, 1..=highest)?;
    Ok(())
}
