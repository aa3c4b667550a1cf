//! Redis: a command as an array of bulk strings ("RESP protocol description"
//! in Redis' manual). Commands typed as a plain line are not recognised.
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Most strings in one command.
const STRINGS: u64 = 1024 * 1024;
/// Longest string (`proto-max-bulk-len`).
const LONGEST: u64 = 512 * 1024 * 1024;

/// `*`, count, CRLF, `$`, length, CRLF; neither is zero.
pub fn walk(walk: &mut Walk) -> Step<()> {
    count(walk, b'*', STRINGS)?;
    count(walk, b'$', LONGEST)
}

fn count(walk: &mut Walk, sign: u8, highest: u64) -> Step<()> {
    walk.literal(&[sign])?;
    require(matches!(walk.peek()?, b'1'..=b'9'))?;
    walk.decimal(highest, b'\r')?;
    walk.literal(b"\n")
}
