//! SOCKS: requests of version 4 and 4a, greetings of version 5.
#![forbid(unsafe_code)]

use crate::demux::protocol::{Step, Walk, require, run};
use crate::demux::verdict::Verdict;

/// Longest user id and longest name, without the NUL behind them.
const TEXT: usize = 255;

/// Whether a stream begins with a SOCKS request of one of these versions (4 or
/// 5; others never match). What follows the request is not looked at.
#[must_use]
pub fn judge_socks(versions: &[u8], bytes: &[u8]) -> Verdict {
    run(bytes, |walk| {
        let version = walk.octet_that(|octet| versions.contains(&octet))?;
        match version {
            4 => four(walk),
            5 => five(walk),
            _ => Err(Verdict::No),
        }
    })
}

/// The request as in "SOCKS: A protocol for TCP proxy across firewalls" and
/// "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol": command, port, address,
/// user id, and for an address of 0.0.0.x with x above 0 a name.
fn four(walk: &mut Walk) -> Step<()> {
    let command = walk.octet_that(|command| command == 1 || command == 2)?;
    // BIND names a port of an earlier connection, which nobody checks.
    walk.number(2, u64::from(command == 1)..=0xffff)?;
    let address = walk.number(4, 1..=u64::from(u32::MAX))?;
    walk.until(0, TEXT, |octet| octet >= b' ' && octet != 0x7f)?;
    if address <= 0xff {
        let name = walk.until(0, TEXT, |octet| octet > b' ' && octet != 0x7f)?;
        require(name > 0)?;
    }
    Ok(())
}

/// RFC 1928, 3: a count of methods and the methods, those assigned (0 to 9) or
/// private (0x80 to 0xfe).
fn five(walk: &mut Walk) -> Step<()> {
    let methods = walk.octet_that(|count| count > 0)?;
    for _ in 0..methods {
        walk.octet_that(|method| method <= 9 || (0x80..=0xfe).contains(&method))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Need, No, Yes};

    const FOUR: &[u8] = b"\x04\x01\x00\x50\xc0\x00\x02\x07root\0";
    const FOUR_A: &[u8] = b"\x04\x01\x01\xbb\0\0\0\x01\0shop.example\0";
    const FIVE: &[u8] = b"\x05\x02\x00\x02";

    #[test]
    fn each_version_is_found_where_it_is_asked_for() {
        for (bytes, version, other) in [(FOUR, 4, 5), (FOUR_A, 4, 5), (FIVE, 5, 4)] {
            for end in 0..bytes.len() {
                let verdict = judge_socks(&[4, 5], &bytes[..end]);
                assert_eq!(verdict, Need(end + 1), "{bytes:?} up to {end}");
            }
            assert_eq!(judge_socks(&[4, 5], bytes), Yes);
            assert_eq!(judge_socks(&[version], bytes), Yes);
            assert_eq!(judge_socks(&[other], &bytes[..1]), No);
        }
    }

    #[test]
    fn what_follows_a_greeting_does_not_change_it() {
        assert_eq!(judge_socks(&[5], b"\x05\x01\x00\x05\x01\x00\x01"), Yes);
    }

    #[test]
    fn a_version_that_is_none_never_matches() {
        assert_eq!(judge_socks(&[6], b"\x06\x01\x00"), No);
        assert_eq!(judge_socks(&[], FIVE), No);
    }

    #[test]
    fn near_misses_are_no_at_once() {
        for bytes in [
            b"\x04\x03".as_slice(),
            b"\x04\x01\x00\x00",
            b"\x04\x01\x00\x50\x00\x00\x00\x00",
            b"\x04\x01\x00\x50\xc0\x00\x02\x07ro\x01",
            b"\x04\x01\x00\x50\x00\x00\x00\x01\0\0",
            b"\x05\x00",
            b"\x05\x01\x0b",
            b"\x05\x01\xff",
            b"\x06",
        ] {
            assert_eq!(judge_socks(&[4, 5], bytes), No, "{bytes:?}");
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(judge_socks(&[4, 5], before), Need(bytes.len()));
        }
    }

    #[test]
    fn a_user_id_without_an_end_is_given_up() {
        let mut bytes = FOUR[..8].to_vec();
        bytes.resize(8 + TEXT, b'a');
        assert_eq!(judge_socks(&[4], &bytes), Need(8 + TEXT + 1));
        bytes.push(b'a');
        assert_eq!(judge_socks(&[4], &bytes), No);
    }
}
