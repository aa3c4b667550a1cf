//! RDP's connection request: TPKT (RFC 1006), X.224 of class 0, and perhaps a
//! cookie, a routing token or a negotiation request ([MS-RDPBCGR] 2.2.1.1).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Octets of the TPKT header and the fixed part of the X.224 request.
const FIXED: u64 = 11;

/// The length indicator of X.224 ends at 254 and leaves out five octets.
const LONGEST: u64 = 254 + 5;

/// A negotiation request alone.
const NEGOTIATION: u64 = 8;

pub fn walk(walk: &mut Walk) -> Step<()> {
    walk.literal(&[0x03, 0x00])?;
    let length = walk.number(2, FIXED..=LONGEST)?;
    walk.number(1, length - 5..=length - 5)?;
    // Connection request, no destination reference.
    walk.literal(&[0xe0, 0x00, 0x00])?;
    // A source reference of the client's choice.
    walk.skip(2);
    walk.literal(&[0x00])?;
    if length == FIXED {
        return Ok(());
    }
    // ISO transport for others (S7, MMS) has parameters here, 0xc0 and above.
    let next = walk.octet_that(|octet| octet == 0x01 || (0x20..0x7f).contains(&octet))?;
    if next == 0x01 {
        require(length >= FIXED + NEGOTIATION)?;
        // Flags, then a length, little-endian.
        walk.skip(1);
        walk.literal(&[0x08, 0x00])?;
    }
    Ok(())
}
