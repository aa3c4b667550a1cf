//! Git's own transport: a pkt-line with a request (gitprotocol-pack, "Git
//! Transport"; gitprotocol-common, "pkt-line Format").
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

const REQUESTS: [&[u8]; 3] = [
    b"git-upload-pack ",
    b"git-receive-pack ",
    b"git-upload-archive ",
];

/// Longest pkt-line, its own length included.
const LONGEST: usize = 65_520;
/// A path of one octet and the NUL behind it.
const PATH: usize = 2;

/// Four hexadecimal digits, a request, a space; a path follows.
pub fn walk(walk: &mut Walk) -> Step<()> {
    let mut length = 0;
    for _ in 0..4 {
        let digit = char::from(walk.octet()?).to_digit(16);
        let digit = digit.ok_or(super::Verdict::No)?;
        length = length * 16 + usize::try_from(digit).unwrap_or_default();
    }
    require(length <= LONGEST)?;
    walk.one_of(&REQUESTS)?;
    require(length >= walk.at() + PATH)
}
