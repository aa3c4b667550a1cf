//! OpenVPN over TCP: the client's hard reset, as "Network protocol" and
//! "Control channel" in OpenVPN's developer documentation lay it out.
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};
use crate::demux::verdict::Verdict;

/// P_CONTROL_HARD_RESET_CLIENT_V2 with key 0: opcode 7 in the upper five bits.
const RESET_V2: u8 = 7 << 3;
/// P_CONTROL_HARD_RESET_CLIENT_V3 with key 0: with a wrapped client key.
const RESET_V3: u8 = 10 << 3;

const SESSION_ID: usize = 8;
const HEAD: usize = 1 + SESSION_ID;
/// An empty list of acknowledgements, then message 0.
const TAIL: [u8; 5] = [0; 5];
/// Packet id and time, against replays.
const REPLAY: usize = 4 + 4;

const PLAIN: usize = HEAD + TAIL.len();
/// `tls-crypt`: an authentication tag of 32 octets, the tail encrypted.
const CRYPT: usize = PLAIN + REPLAY + 32;
/// `tls-crypt-v2`: a wrapped key follows, its tag, key and length at least, at
/// most 1024 octets.
const CRYPT_V2: std::ops::RangeInclusive<usize> = CRYPT + 290..=CRYPT + 1024;
/// `tls-auth`: octets of the digests that OpenSSL offers.
const DIGESTS: [usize; 6] = [16, 20, 28, 32, 48, 64];

/// The first packet has this packet id.
const FIRST: &[u8] = &[0, 0, 0, 1];
/// Or one of these, from clients that announce early negotiation.
const EARLY: [&[u8]; 2] = [&[0x0f, 0, 0, 0], &[0x0f, 0, 0, 1]];

/// A length of two octets, then the packet. Two octets and an opcode alone
/// would hit one DNS query in some hundreds, so the packet's known octets are
/// looked at too.
pub fn walk(walk: &mut Walk) -> Step<()> {
    let length = walk.number(2, PLAIN as u64..=*CRYPT_V2.end() as u64)?;
    let length = usize::try_from(length).unwrap_or_default();
    let digest = length.checked_sub(PLAIN + REPLAY);
    let digest = digest.filter(|octets| DIGESTS.contains(octets));
    let v2 = length == PLAIN || digest.is_some();
    require(v2 || CRYPT_V2.contains(&length))?;
    walk.literal(&[if v2 { RESET_V2 } else { RESET_V3 }])?;
    // A session id of the client's choice.
    walk.skip(SESSION_ID);
    match digest {
        None if v2 => walk.literal(&TAIL),
        None => wrapped(walk),
        Some(_) if length == CRYPT => {
            // Also the length of tls-auth with a digest of 32 octets.
            let mut other = walk.clone();
            match wrapped(&mut other) {
                Err(Verdict::No) => authenticated(walk, 32),
                found => found,
            }
        }
        Some(octets) => authenticated(walk, octets),
    }
}

/// `tls-crypt` and `tls-crypt-v2`: the packet id stands in front of the tag.
fn wrapped(walk: &mut Walk) -> Step<()> {
    walk.one_of(&[FIRST, EARLY[0], EARLY[1]])?;
    Ok(())
}

/// `tls-auth`: the packet id stands behind the digest, the tail is plain.
fn authenticated(walk: &mut Walk, digest: usize) -> Step<()> {
    walk.skip(digest);
    walk.one_of(&[FIRST, EARLY[0], EARLY[1]])?;
    walk.skip(4);
    walk.literal(&TAIL)
}
