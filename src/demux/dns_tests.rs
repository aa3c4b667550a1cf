//! Queries built octet by octet, judged at every cut.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::demux::laws;
use crate::demux::names;

fn name(labels: &[&[u8]]) -> Vec<u8> {
    let mut wire: Vec<u8> = labels
        .iter()
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], *label].concat())
        .collect();
    wire.push(0);
    wire
}

fn message(flags: [u8; 2], counts: [u8; 4], name: &[u8], kind: u16) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd];
    bytes.extend(flags);
    bytes.extend(counts.iter().flat_map(|&count| [0, count]));
    bytes.extend(name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn query(labels: &[&[u8]]) -> Vec<u8> {
    message([1, 0x20], [1, 0, 0, 0], &name(labels), 28)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [
        &u16::try_from(message.len()).unwrap().to_be_bytes()[..],
        message,
    ]
    .concat()
}

fn named(pattern: &str) -> Dns {
    Dns {
        name: vec![names::pattern(pattern).unwrap()],
        ..Dns::default()
    }
}

fn typed(kind: u16) -> Dns {
    Dns {
        r#type: vec![kind],
        ..Dns::default()
    }
}

fn obeys_the_laws(stream: &[u8]) {
    for rule in [Dns::default(), named("www.example"), typed(28)] {
        laws::obeyed(stream, |bytes| judge_stream(&rule, bytes).0);
    }
}

/// As a stream and as a datagram.
fn holds(rule: &Dns, message: &[u8]) -> bool {
    let stream = framed(message);
    obeys_the_laws(&stream);
    let verdict = judge_stream(rule, &stream).0;
    assert!(matches!(verdict, Verdict::Yes | Verdict::No));
    assert_eq!(judge_message(rule, message), verdict == Verdict::Yes);
    verdict == Verdict::Yes
}

#[test]
fn a_query_tells_its_name_and_type() {
    let message = query(&[b"WWW", b"Example"]);
    assert!(holds(&Dns::default(), &message));
    assert!(holds(&named("www.example"), &message));
    assert!(holds(&named("*.example"), &message));
    assert!(!holds(&named("example"), &message));
    assert!(holds(&typed(28), &message));
    assert!(!holds(&typed(1), &message));
    let both = Dns {
        r#type: vec![1, 28],
        ..named("**.example")
    };
    let weight = u32::from(both.name[0].weight()) << 16;
    assert_eq!(
        judge_stream(&both, &framed(&message)),
        (Verdict::Yes, weight)
    );
    assert!(holds(&Dns::default(), &query(&[])));
}

#[test]
fn the_question_decides_and_not_what_follows() {
    let with_edns = [
        &message([1, 0], [1, 0, 0, 1], &name(&[b"a"]), 1)[..],
        &[0; 11],
    ]
    .concat();
    let stream = framed(&with_edns);
    assert_eq!(
        judge_stream(&Dns::default(), &stream[..stream.len() - 11]).0,
        Verdict::Yes
    );
    assert!(holds(&Dns::default(), &with_edns));
}

#[test]
fn labels_that_are_no_text_have_no_name() {
    for labels in [
        &[&b"www.example"[..]][..],
        &[b"w\0w", b"example"],
        &[b"\xff", b"example"],
    ] {
        let message = query(labels);
        assert!(holds(&Dns::default(), &message));
        assert!(!holds(&named("www.example"), &message));
        assert!(!holds(&named("**.example"), &message));
    }
}

#[test]
fn notify_and_update_are_queries_too() {
    assert!(holds(
        &Dns::default(),
        &message([0x24, 0], [1, 1, 0, 0], &name(&[b"a"]), 6)
    ));
    assert!(holds(
        &Dns::default(),
        &message([0x28, 0], [1, 1, 9, 1], &name(&[b"a"]), 6)
    ));
    assert!(holds(
        &Dns::default(),
        &message([0, 0], [1, 0, 1, 0], &name(&[b"a"]), 251)
    ));
}

#[test]
fn what_is_no_query_is_denied() {
    let good = query(&[b"a"]);
    assert!(holds(&Dns::default(), &good));
    for (at, value) in [
        (2, 0x80),  // response
        (2, 0x08),  // inverse query
        (2, 0x04),  // authoritative
        (2, 0x02),  // truncated
        (3, 0x40),  // reserved
        (3, 0x03),  // response code
        (5, 0),     // no question
        (5, 2),     // two
        (7, 1),     // an answer
        (12, 0xc0), // pointer
        (12, 64),   // long label
        (17, 1),    // class
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(!holds(&Dns::default(), &bad), "{at}");
    }
    let trailing = [&good[..], &[0]].concat();
    assert!(!holds(&Dns::default(), &trailing));
    for cut in 0..good.len() {
        assert!(!judge_message(&Dns::default(), &good[..cut]));
    }
    for stream in [
        &[0, 16][..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        &framed(&good[..17]),
    ] {
        assert_eq!(judge_stream(&Dns::default(), stream).0, Verdict::No);
        obeys_the_laws(stream);
    }
}

#[test]
fn names_are_bounded() {
    let label = [b'x'; 63];
    let longest = query(&[&label, &label, &label, &label[..61]]);
    assert!(holds(&Dns::default(), &longest));
    let longer = query(&[&label, &label, &label, &label[..62]]);
    assert!(!holds(&Dns::default(), &longer));
}

proptest! {
    #[test]
    fn noise_obeys_the_laws(noise in proptest::collection::vec(any::<u8>(), 0..80)) {
        obeys_the_laws(&noise);
        let _ = judge_message(&named("www.example"), &noise);
    }

    #[test]
    fn damaged_queries_obey_the_laws(at in any::<prop::sample::Index>(), value: u8) {
        let mut stream = framed(&query(&[b"www", b"example"]));
        let at = at.index(stream.len());
        stream[at] = value;
        obeys_the_laws(&stream);
        let _ = judge_message(&Dns::default(), &stream[2..]);
    }
}
