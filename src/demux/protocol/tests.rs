//! What every walk must keep: cut anywhere, extended by anything.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::vectors::{flights, near_misses};
use super::{judge, judge_socks, name};
use crate::demux::rule::Protocol;
use crate::demux::verdict::Verdict::{self, Need, No, Yes};

/// Judges every prefix of `bytes`. A decided verdict stays, an undecided one
/// asks for more than it saw and stays undecided until that came. Gives the
/// length at which it was decided.
fn judge_every_prefix(bytes: &[u8], judge: impl Fn(&[u8]) -> Verdict) -> (Verdict, Option<usize>) {
    let mut verdict = judge(&[]);
    let mut decided = None;
    for end in 0..=bytes.len() {
        let next = judge(&bytes[..end]);
        match (verdict, next) {
            (Need(k), Need(more)) => {
                assert!(more > end, "asks for {more} with {end}: {bytes:x?}");
                assert!(end >= k || more == k, "{more} instead of {k}: {bytes:x?}");
            }
            (Need(k), _) => assert!(end >= k || end == 0, "{end} before {k}: {bytes:x?}"),
            (before, after) => assert_eq!(before, after, "at {end}: {bytes:x?}"),
        }
        if decided.is_none() && !matches!(next, Need(_)) {
            decided = Some(end);
        }
        verdict = next;
    }
    (verdict, decided)
}

fn streams() -> impl Iterator<Item = Protocol> {
    Protocol::ALL.into_iter().filter(|one| one.is_stream())
}

#[test]
fn every_flight_is_found_wherever_it_is_cut() {
    let mut wrong = Vec::new();
    for flight in flights() {
        let found = judge_every_prefix(&flight.bytes, |bytes| judge(flight.protocol, bytes));
        if found != (Yes, Some(flight.decided)) {
            let start = &flight.bytes[..flight.bytes.len().min(80)];
            wrong.push((
                name(flight.protocol),
                found,
                start.escape_ascii().to_string(),
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_protocol_of_streams_has_a_flight_and_a_near_miss() {
    for protocol in streams() {
        let called = name(protocol);
        assert!(
            flights().iter().any(|one| one.protocol == protocol),
            "{called}"
        );
        assert!(
            near_misses().iter().any(|one| one.0 == protocol),
            "{called}"
        );
    }
}

#[test]
fn a_near_miss_is_no_at_its_last_octet() {
    let mut wrong = Vec::new();
    for (protocol, bytes) in near_misses() {
        let found = judge_every_prefix(&bytes, |bytes| judge(protocol, bytes));
        if found != (No, Some(bytes.len())) {
            wrong.push((name(protocol), found, bytes.escape_ascii().to_string()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_flight_is_taken_for_another_protocol_nor_left_open() {
    for flight in flights() {
        for protocol in streams().filter(|&other| other != flight.protocol) {
            let verdict = judge(protocol, &flight.bytes);
            let called = (name(flight.protocol), name(protocol));
            assert_eq!(verdict, No, "{called:?}: {:x?}", flight.bytes);
        }
        assert_eq!(judge_socks(&[4, 5], &flight.bytes), No);
    }
}

#[test]
fn what_others_send_first_is_none_of_these() {
    let others: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x1d\x38\x01\x01\x20\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    ];
    for bytes in others {
        for protocol in streams() {
            assert_eq!(judge(protocol, bytes), No, "{}: {bytes:x?}", name(protocol));
        }
    }
}

#[test]
fn a_query_is_no_hard_reset_whatever_its_id() {
    // Length, id, flags, counts, question, and an OPT record that ends in zeros.
    let mut query = b"\0\0\x38\x01\x01\x20\0\x01\0\0\0\0\0\x01".to_vec();
    query.extend(b"\x02ab\x05bravo\x04test\0\0\x01\0\x01");
    query.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query[1] = 42;
    assert_eq!(query.len(), 2 + 42, "as long as tls-auth with SHA-1");
    let (verdict, _) = judge_every_prefix(&query, |bytes| judge(Protocol::Openvpn, bytes));
    assert_eq!(verdict, No);
}

#[test]
fn protocols_of_datagrams_are_never_in_a_stream() {
    for protocol in Protocol::ALL {
        assert!(protocol.is_stream() || protocol.is_datagram());
        if !protocol.is_stream() {
            assert_eq!(judge(protocol, b""), No);
        }
    }
}

#[test]
fn names_are_distinct() {
    let mut names = Protocol::ALL.map(name);
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}

/// Bytes of a flight, some of them changed, cut short and followed by others.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = flights().into_iter().map(|one| one.bytes).collect();
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let rest = vec(any::<u8>(), 0..40);
    (prop::sample::select(all), changes, 0..120_usize, rest).prop_map(
        |(mut bytes, changes, cut, rest)| {
            bytes.truncate(cut);
            for (at, octet) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = octet;
                }
            }
            bytes.extend(rest);
            bytes
        },
    )
}

fn hold_for_all(bytes: &[u8]) {
    for protocol in Protocol::ALL {
        judge_every_prefix(bytes, |bytes| judge(protocol, bytes));
    }
    for versions in [&[4][..], &[5], &[4, 5], &[]] {
        judge_every_prefix(bytes, |bytes| judge_socks(versions, bytes));
    }
}

proptest! {
    #[test]
    fn random_bytes_keep_the_promises(bytes in vec(any::<u8>(), 0..100)) {
        hold_for_all(&bytes);
    }

    #[test]
    fn mutated_flights_keep_the_promises(bytes in mutated()) {
        hold_for_all(&bytes);
    }

    /// What would have let a shorter look decide is not left out: all that
    /// stands before `k` can be anything.
    #[test]
    fn nothing_before_what_is_needed_decides(
        start in mutated(),
        cut in any::<prop::sample::Index>(),
        noise in vec(any::<u8>(), 64),
    ) {
        let start = &start[..cut.index(start.len() + 1)];
        for protocol in Protocol::ALL {
            let Need(k) = judge(protocol, start) else { continue };
            let mut longer = start.to_vec();
            longer.extend(noise.iter().take(k - 1 - start.len()));
            prop_assert_eq!(judge(protocol, &longer), Need(k));
        }
    }
}
