//! Syslog over TCP (RFC 6587): with octet counting or without, then a priority.
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Longest count of octets that is believed.
const LONGEST: u64 = 9_999_999;

pub fn walk(walk: &mut Walk) -> Step<()> {
    if walk.peek()? == b'<' {
        priority(walk)?;
        return Ok(());
    }
    // MSG-LEN SP, not beginning with zero (RFC 6587, 3.4.1).
    require(matches!(walk.peek()?, b'1'..=b'9'))?;
    let counted = walk.decimal(LONGEST, b' ')?;
    let octets = priority(walk)?;
    require(octets <= counted)
}

/// `<`, one to three digits up to 191, `>` (RFC 5424, 6.2.1). No leading zeros
/// (RFC 3164, 4.3.3). Gives its octets.
fn priority(walk: &mut Walk) -> Step<u64> {
    walk.literal(b"<")?;
    let value = walk.decimal(191, b'>')?;
    Ok(match value {
        0..=9 => 3,
        10..=99 => 4,
        _ => 5,
    })
}
