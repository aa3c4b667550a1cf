//! Hellos built octet by octet, judged at every cut.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::demux::laws;
use crate::demux::names;
use crate::demux::tls::samples::{
    alpn, extension, in_records, message, old, record, sni, sni_entry, sni_list, usual_message,
    versions, with,
};

fn rules() -> Vec<Tls> {
    let any = Tls::default();
    vec![
        any.clone(),
        Tls {
            sni: vec![names::pattern("shop.example").unwrap()],
            ..any.clone()
        },
        Tls {
            sni: vec![names::pattern("*.example").unwrap()],
            ..any.clone()
        },
        Tls {
            alpn: vec!["h2".into()],
            ..any.clone()
        },
        Tls {
            version: vec![TlsVersion::Tls13],
            ..any.clone()
        },
        Tls {
            ech: Some(false),
            ..any.clone()
        },
        Tls {
            malformed: Some(true),
            ..any.clone()
        },
        Tls {
            malformed: Some(false),
            ..any
        },
    ]
}

fn obeys_the_laws(sample: &[u8]) {
    laws::obeyed(sample, |bytes| view(bytes).is_tls());
    for rule in rules() {
        laws::obeyed(sample, |bytes| judge(&rule, &view(bytes)).0);
    }
}

fn complete(bytes: &[u8]) -> ClientHello<'_> {
    match view(bytes).hello() {
        Hello::Complete(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

fn assert_malformed(bytes: &[u8], reason: &str) {
    let view = view(bytes);
    assert!(
        matches!(view.hello(), Hello::Malformed(told) if *told == reason),
        "{reason}: {:?}",
        view.hello()
    );
    assert_eq!(view.is_tls(), Verdict::Yes);
    let asked = Tls {
        malformed: Some(true),
        ..Tls::default()
    };
    assert_eq!(judge(&asked, &view).0, Verdict::Yes);
    let named = Tls {
        sni: vec![names::pattern("**.example").unwrap()],
        ..Tls::default()
    };
    assert_eq!(judge(&named, &view).0, Verdict::No);
    obeys_the_laws(bytes);
}

#[test]
fn a_post_quantum_hello_tells_everything() {
    let bytes = record(&usual_message());
    assert!(bytes.len() > 1500);
    let hello = complete(&bytes);
    assert_eq!(hello.sni().unwrap().as_str(), "shop.example");
    let offered: Vec<_> = hello.alpn().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(offered, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(hello.version(), TlsVersion::Tls13);
    assert!(hello.ech());
    obeys_the_laws(&bytes);
}

#[test]
fn tls_is_known_at_the_sixth_octet() {
    let bytes = record(&usual_message());
    let any = Tls::default();
    assert_eq!(judge(&any, &view(&bytes[..5])).0, Verdict::Need(6));
    assert_eq!(judge(&any, &view(&bytes[..6])).0, Verdict::Yes);
    assert_eq!(judge(&any, &view(b"G")).0, Verdict::No);
    assert_eq!(judge(&any, &view(&[0x16, 2])).0, Verdict::No);
    assert_eq!(judge(&any, &view(&[0x16, 3, 4, 0x42])).0, Verdict::No);
    assert_eq!(judge(&any, &view(&[0x16, 3, 1, 0, 0])).0, Verdict::No);
    assert_eq!(judge(&any, &view(&[0x16, 3, 1, 0, 50, 2])).0, Verdict::No);
}

#[test]
fn a_whole_record_is_asked_for_at_once() {
    let bytes = record(&usual_message());
    let asked = Tls {
        ech: Some(true),
        ..Tls::default()
    };
    assert_eq!(
        judge(&asked, &view(&bytes[..9])).0,
        Verdict::Need(bytes.len())
    );
    assert_eq!(
        judge(&asked, &view(&bytes[..700])).0,
        Verdict::Need(bytes.len())
    );
}

#[test]
fn any_cut_into_records_says_the_same() {
    let message = usual_message();
    for size in [1, 2, 3, 4, 5, 40, 100, 127, 128, 500, message.len() - 1] {
        let bytes = in_records(&message, &[size]);
        assert_eq!(
            complete(&bytes).sni().unwrap().as_str(),
            "shop.example",
            "{size}"
        );
        obeys_the_laws(&bytes);
    }
    let single = in_records(&message, &[1; MAX_RECORDS - 1]);
    assert_eq!(complete(&single).alpn().count(), 2);
    obeys_the_laws(&single);
}

#[test]
fn a_thirty_third_record_is_too_much() {
    let bytes = in_records(&usual_message(), &[1; MAX_RECORDS]);
    assert!(matches!(view(&bytes).hello(), Hello::TooLarge));
    obeys_the_laws(&bytes);
}

#[test]
fn sixteen_kibioctets_are_looked_at_and_not_one_more() {
    let filled = |length: usize| {
        let empty = message(0x0303, Some(&[sni("a.example"), extension(21, &[])])).len() - 4;
        message(
            0x0303,
            Some(&[sni("a.example"), extension(21, &vec![0; length - empty])]),
        )
    };
    let largest = filled(MAX_MESSAGE);
    for sizes in [&[16_380][..], &[16_384], &[1, 16_383], &[550; 29]] {
        let bytes = in_records(&largest, sizes);
        assert!(bytes.len() <= crate::demux::LIMIT);
        assert!(complete(&bytes).sni().is_some());
    }
    obeys_the_laws(&in_records(&largest, &[9000]));

    let larger = filled(MAX_MESSAGE + 1);
    let bytes = in_records(&larger, &[9000]);
    let view = view(&bytes);
    assert!(matches!(view.hello(), Hello::TooLarge));
    for (rule, verdict) in rules()
        .iter()
        .zip([Verdict::Yes].into_iter().chain([Verdict::No; 7]))
    {
        assert_eq!(judge(rule, &view).0, verdict);
    }
    obeys_the_laws(&bytes[..100]);
}

#[test]
fn a_hello_may_end_before_its_extensions() {
    let bytes = record(&message(0x0301, None));
    let hello = complete(&bytes);
    assert_eq!(
        (hello.sni(), hello.version(), hello.ech()),
        (None, TlsVersion::Tls10, false)
    );
    assert_eq!(hello.alpn().count(), 0);
    obeys_the_laws(&bytes);
    assert_eq!(
        complete(&record(&message(0x0302, Some(&[])))).version(),
        TlsVersion::Tls11
    );
}

#[test]
fn the_highest_known_version_counts() {
    let offered = |list: &[u16]| complete(&with(&[versions(list)])).version();
    assert_eq!(offered(&[0xfafa, 0x0303, 0x0302]), TlsVersion::Tls12);
    assert_eq!(offered(&[0x0301, 0x7f1c, 0x0304]), TlsVersion::Tls13);
    assert_eq!(offered(&[0x0a0a]), TlsVersion::Tls12);
    assert_eq!(
        complete(&record(&message(0x0300, None))).version(),
        TlsVersion::Ssl3
    );
    assert_eq!(
        complete(&record(&message(0x0304, None))).version(),
        TlsVersion::Tls12
    );
}

#[test]
fn an_address_is_no_name_and_unknown_kinds_are_passed_over() {
    for list in [
        sni("192.0.2.1"),
        sni("2001:db8::1"),
        sni("[2001:db8::1]"),
        sni_list(&[sni_entry(9, b"x")]),
    ] {
        assert_eq!(complete(&with(&[list])).sni(), None);
    }
    let mixed = sni_list(&[sni_entry(9, b""), sni_entry(0, b"a.example")]);
    assert_eq!(
        complete(&with(&[mixed])).sni().unwrap().as_str(),
        "a.example"
    );
}

#[test]
fn names_that_no_server_reads_alike_are_malformed() {
    for name in [
        &b"a\0.example"[..],
        b"a b",
        b"a/b",
        b"a\n",
        b"a\x7f",
        b".",
        b"a..b",
        b"\xc3\xbc",
    ] {
        assert_malformed(&with(&[sni_list(&[sni_entry(0, name)])]), "host name");
    }
    assert_malformed(
        &with(&[sni_list(&[sni_entry(0, &[b'a'; 256])])]),
        "server_name",
    );
    assert_malformed(&with(&[sni_list(&[])]), "server_name");
    assert_malformed(
        &with(&[sni_list(&[
            sni_entry(0, b"a.example"),
            sni_entry(0, b"b.example"),
        ])]),
        "two host names",
    );
}

#[test]
fn lengths_must_add_up() {
    let short = "lengths do not add up";
    let good = message(0x0303, Some(&[sni("a.example")]));
    // The extension block, one octet more and one less than there is.
    for (change, at) in [(1_u8, 80), (255, 80)] {
        let mut bad = good.clone();
        bad[at] = bad[at].wrapping_add(change);
        assert_malformed(&record(&bad), short);
    }
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[3] += 1;
    assert_malformed(&record(&trailing), short);
    assert_malformed(
        &record(&[&good[..], &[0]].concat()),
        "the record goes on after the hello",
    );
    assert_malformed(&with(&[vec![0, 99, 0]]), short);
    assert_malformed(
        &with(&[extension(9, &[]), extension(9, &[])]),
        "an extension comes twice",
    );
    assert_malformed(&with(&[alpn(&[])]), "ALPN");
    assert_malformed(&with(&[alpn(&[b"h2", b""])]), "ALPN");
    assert_malformed(&with(&[versions(&[])]), "supported_versions");
    assert_malformed(&record(&message(0x0200, None)), "version");
    assert_malformed(&record(&[1, 0, 0, 40]), "a hello cannot be that short");
    for (at, value, reason) in [
        (38, 33, "session id"),
        (72, 5, "cipher list"),
        (72, 0, "cipher list"),
        (77, 0, "compression list"),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_malformed(&record(&bad), reason);
    }
}

#[test]
fn no_other_record_comes_inside_a_hello() {
    let (first, rest) = usual_message().split_at(50).to_owned_pair();
    let foreign = [&record(&first)[..], &[0x14, 3, 3, 0, 1, 1], &record(&rest)].concat();
    assert_malformed(&foreign, "another record inside the hello");
    let empty = [&record(&first)[..], &record(&[]), &record(&rest)].concat();
    assert_malformed(&empty, "record length");
    let after = [&record(&usual_message())[..], &[0x14, 3, 3, 0, 1, 1]].concat();
    assert!(complete(&after).sni().is_some());
}

trait OwnedPair {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>);
}

impl OwnedPair for (&[u8], &[u8]) {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>) {
        (self.0.to_vec(), self.1.to_vec())
    }
}

#[test]
fn lists_are_bounded() {
    let many: Vec<_> = (100..356).map(|kind| extension(kind, &[])).collect();
    assert!(complete(&with(&many)).sni().is_none());
    let more: Vec<_> = (100..357).map(|kind| extension(kind, &[])).collect();
    assert!(matches!(view(&with(&more)).hello(), Hello::TooLarge));
    assert_eq!(
        complete(&with(&[alpn(&[&b"x"[..]; 64])])).alpn().count(),
        64
    );
    assert!(matches!(
        view(&with(&[alpn(&[&b"x"[..]; 65])])).hello(),
        Hello::TooLarge
    ));
}

#[test]
fn ssl2_framing_is_tls_without_names() {
    for (version, known) in [
        ([0, 2], TlsVersion::Ssl2),
        ([3, 0], TlsVersion::Ssl3),
        ([3, 1], TlsVersion::Tls10),
        ([3, 3], TlsVersion::Tls12),
    ] {
        let bytes = old(version, [45, 0, 16]);
        assert_eq!(view(&bytes[..5]).is_tls(), Verdict::Yes);
        let hello = complete(&bytes);
        assert_eq!(
            (hello.version(), hello.sni(), hello.alpn().count()),
            (known, None, 0)
        );
        obeys_the_laws(&bytes);
    }
    assert_malformed(&old([0, 2], [44, 0, 16]), "lengths do not add up");
    assert_malformed(&old([0, 2], [45, 3, 16]), "lengths do not add up");
    for not in [
        &[0x80, 27][..],
        &[0x80, 46, 4],
        &[0x80, 46, 1, 4],
        &[0x80, 46, 1, 0, 3],
    ] {
        assert_eq!(view(not).is_tls(), Verdict::No);
    }
}

#[test]
fn all_that_a_rule_asks_must_hold() {
    let bytes = record(&usual_message());
    let view = view(&bytes);
    let rule = Tls {
        sni: vec![
            names::pattern("**.example").unwrap(),
            names::pattern("*.example").unwrap(),
        ],
        alpn: vec!["spdy".into(), "http/1.1".into()],
        version: vec![TlsVersion::Tls13],
        ech: Some(true),
        malformed: Some(false),
    };
    let weight = u32::from(names::pattern("*.example").unwrap().weight()) << 16;
    assert_eq!(judge(&rule, &view), (Verdict::Yes, weight));
    for fails in [
        Tls {
            sni: vec![names::pattern("a.example").unwrap()],
            ..rule.clone()
        },
        Tls {
            alpn: vec!["H2".into()],
            ..rule.clone()
        },
        Tls {
            version: vec![TlsVersion::Tls12],
            ..rule.clone()
        },
        Tls {
            ech: Some(false),
            ..rule.clone()
        },
        Tls {
            malformed: Some(true),
            ..rule
        },
    ] {
        assert_eq!(judge(&fails, &view), (Verdict::No, 0));
    }
}

proptest! {
    #[test]
    fn noise_obeys_the_laws(noise in proptest::collection::vec(any::<u8>(), 0..200), framed: bool) {
        let bytes = if framed { record(&[&[1, 0, 0][..], &noise].concat()) } else { noise };
        obeys_the_laws(&bytes);
    }

    #[test]
    fn damaged_hellos_obey_the_laws(
        sizes in proptest::collection::vec(1_usize..300, 0..8),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let extensions = [sni("shop.example"), alpn(&[b"h2", b"x"]), versions(&[0x0304]), extension(7, &[1; 60])];
        let mut bytes = in_records(&message(0x0303, Some(&extensions)), &sizes);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        obeys_the_laws(&bytes);
    }
}
