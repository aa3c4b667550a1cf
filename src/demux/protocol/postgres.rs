//! PostgreSQL's first message: a start-up, or a request for TLS, for GSSAPI
//! encryption or to cancel ("Message Formats" in PostgreSQL's manual).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Longest start-up message that a server takes (MAX_STARTUP_PACKET_LENGTH).
const LONGEST: u64 = 10_000;

/// Length of a request for TLS or for GSSAPI encryption.
const BARE: u64 = 8;

/// A cancel request has a process id and a key of 4 to 256 octets (protocol
/// 3.2; always 4 before) on top of the bare message.
const CANCEL: std::ops::RangeInclusive<u64> = 16..=268;

/// A length that counts itself, then 3 as the major version of the protocol or
/// 1234 and what is asked for.
pub fn walk(walk: &mut Walk) -> Step<()> {
    let length = walk.number(4, BARE..=LONGEST)?;
    // 3.any, or 1234 (0x04d2).
    let major = walk.octet_that(|octet| octet == 0x00 || octet == 0x04)?;
    if major == 0x00 {
        // The empty list of parameters is one NUL.
        require(length > BARE)?;
        return walk.literal(&[0x03]);
    }
    require(length == BARE || CANCEL.contains(&length))?;
    walk.literal(&[0xd2, 0x16])?;
    match walk.octet()? {
        // 5678
        0x2e => require(CANCEL.contains(&length)),
        // 5679 and 5680
        0x2f | 0x30 => require(length == BARE),
        _ => require(false),
    }
}
