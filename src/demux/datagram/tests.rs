#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::demux::names::Pattern;
use crate::demux::rule::{Dns, Http, Quic, Tftp, Tls};
use crate::demux::{Content, Ending, Protocol};
use crate::sys::bpf::machine;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn rule(content: Content) -> Rule {
    Rule {
        content: vec![content],
        ..Rule::default()
    }
}

fn is(protocol: Protocol) -> Rule {
    rule(Content::Is(protocol))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The verdict of the first rule that holds, by both programs and by the
/// reference, which must agree.
fn verdict(rules: &[(Tests, u32)], from: IpAddr, to: IpAddr, payload: &[u8]) -> u32 {
    let first = rules
        .iter()
        .find(|(tests, _)| tests.holds(from, to, payload));
    let expected = first.map_or(0, |(_, verdict)| *verdict);
    let network = machine::network(from, to);
    let group = program(rules, 0, Base::Payload).unwrap();
    assert_eq!(
        machine::run(&group, payload, &network),
        expected,
        "{payload:02x?}"
    );
    let packet = [&[0xee; 8], payload].concat();
    let filter = program(rules, 0, Base::Transport).unwrap();
    assert_eq!(
        machine::run(&filter, &packet, &network),
        expected,
        "{payload:02x?}"
    );
    expected
}

fn passes(rule: &Rule, payload: &[u8]) -> bool {
    let tests = compile_rule(rule).unwrap();
    verdict(&[(tests, 7)], ip("192.0.2.1"), ip("192.0.2.2"), payload) == 7
}

/// A header of zeroes with these first octets, cut or filled to a length.
fn filled(first: &str, length: usize) -> Vec<u8> {
    let mut octets = hex(first);
    octets.resize(length, 0x5a);
    octets
}

fn dns_query(name: &str, code: u16) -> Vec<u8> {
    let mut query = hex("abcd 0100 0001 0000 0000 0000");
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(code.to_be_bytes());
    query.extend([0, 1]);
    query
}

fn tftp_request(opcode: u8, file: &str) -> Vec<u8> {
    let mut request = vec![0, opcode];
    request.extend(file.as_bytes());
    request.extend(b"\0octet\0");
    request
}

fn dns(names: &[&str], types: &[u16]) -> Rule {
    let exact = |name: &&str| Pattern::Exact((*name).to_owned());
    rule(Content::Dns(Dns {
        name: names.iter().map(exact).collect(),
        r#type: types.to_vec(),
    }))
}

/// A datagram of each protocol and the rule for it, in an order in which each reaches its own.
pub(super) fn samples() -> Vec<(Rule, Vec<u8>)> {
    let quic = |long| {
        rule(Content::Quic(Quic {
            long: Some(long),
            version: Vec::new(),
        }))
    };
    vec![
        (dns(&[], &[]), dns_query("shop.example", 1)),
        (
            is(Protocol::Stun),
            filled(
                "0001 0008 2112a442 000102030405060708090a0b 80280004 01020304",
                28,
            ),
        ),
        (is(Protocol::Wireguard), filled("01000000", 148)),
        (
            is(Protocol::Dtls),
            filled("16 fefd 0000 000000000000 0020", 45),
        ),
        (quic(true), filled("c3 00000001 08", 1200)),
        (
            rule(Content::Tftp(Tftp::default())),
            tftp_request(1, "pxelinux.0"),
        ),
        (is(Protocol::Syslog), b"<34>su: failed".to_vec()),
        (
            is(Protocol::Sip),
            b"REGISTER sip:example.net SIP/2.0\r\n".to_vec(),
        ),
        (is(Protocol::Radius), filled("01 2a 0026", 38)),
        (is(Protocol::Ntp), filled("23", 48)),
        (
            is(Protocol::Openvpn),
            filled("38 0102030405060708 00 00000000", 14),
        ),
        (
            rule(Content::Prefix(vec![b"\xfe\xed".to_vec()])),
            b"\xfe\xedcafe".to_vec(),
        ),
        // Last: nothing but two bits and a length tells it from text.
        (quic(false), filled("47", 40)),
    ]
}

#[test]
fn each_protocol_knows_its_own_and_few_others() {
    let mut overlaps = Vec::new();
    for (at, (rule, own)) in samples().iter().enumerate() {
        assert!(passes(rule, own), "{rule:?}");
        assert!(!passes(rule, b""));
        assert!(!passes(rule, &own[..1]));
        let others = samples().into_iter().enumerate();
        overlaps.extend(
            others
                .filter(|(other, (_, payload))| *other != at && passes(rule, payload))
                .map(|(other, _)| (at, other)),
        );
    }
    // OpenVPN's control packets and NTP; short headers and SIP: the bits leave
    // no choice but the order.
    assert_eq!(overlaps, [(10, 9), (12, 7)]);
}

#[test]
fn no_content_takes_everything_and_every_content_must_hold() {
    assert!(passes(&Rule::default(), b""));
    let mut both = is(Protocol::Syslog);
    both.content
        .push(Content::Prefix(vec![b"<1".to_vec(), b"<34".to_vec()]));
    assert!(passes(&both, b"<34>x"));
    assert!(passes(&both, b"<13>x"));
    assert!(!passes(&both, b"<55>x"));
    assert!(!passes(&both, b"<1345"));
}

#[test]
fn dns_names_are_compared_as_a_whole_and_without_case() {
    let rule = dns(&["shop.example", "x"], &[]);
    assert!(passes(&rule, &dns_query("shop.example", 1)));
    assert!(passes(&rule, &dns_query("ShOp.EXAMPLE", 28)));
    assert!(passes(&rule, &dns_query("x", 15)));
    assert!(!passes(&rule, &dns_query("www.shop.example", 1)));
    assert!(!passes(&rule, &dns_query("shop.examples", 1)));
    assert!(!passes(&rule, &dns_query("", 1)));
    // The same octets, other labels; and `{`, which is not `[` in lower case.
    assert!(!passes(&rule, &dns_query("shop-example", 1)));
    let bracket = dns(&["a[b"], &[]);
    assert!(passes(&bracket, &dns_query("A[B", 1)));
    assert!(!passes(&bracket, &dns_query("a{b", 1)));
    let cut = dns_query("shop.example", 1);
    assert!(!passes(&rule, &cut[..cut.len() - 1]));
}

#[test]
fn dns_types_stand_behind_whole_names() {
    let rule = dns(&["shop.example", "mail.example"], &[15, 16]);
    assert!(passes(&rule, &dns_query("mail.example", 15)));
    assert!(passes(&rule, &dns_query("shop.example", 16)));
    assert!(!passes(&rule, &dns_query("shop.example", 1)));
    assert!(!passes(&rule, &dns_query("other.example", 15)));
    let root = dns(&[""], &[2]);
    assert!(passes(&root, &dns_query("", 2)));
    assert!(!passes(&root, &dns_query("example", 2)));
}

#[test]
fn dns_answers_and_nonsense_are_no_queries() {
    let rule = dns(&[], &[]);
    let with = |at: usize, octet: u8| {
        let mut query = dns_query("a.example", 1);
        query[at] = octet;
        query
    };
    assert!(passes(&rule, &with(2, 0x20)), "NOTIFY");
    assert!(passes(&rule, &with(2, 0x28)), "UPDATE");
    assert!(passes(&rule, &with(3, 0x10)), "checking disabled");
    assert!(passes(&rule, &with(9, 1)), "IXFR has an authority section");
    assert!(!passes(&rule, &with(2, 0x81)), "a response");
    assert!(!passes(&rule, &with(2, 0x08)), "an inverse query");
    assert!(!passes(&rule, &with(3, 0x40)), "Z");
    assert!(!passes(&rule, &with(5, 2)), "two questions");
    assert!(!passes(&rule, &with(7, 1)), "a query with an answer");
    assert!(!passes(&rule, &with(12, 0xc0)), "a pointer");
}

#[test]
fn stun_lengths_fit_and_channels_pass() {
    let stun = is(Protocol::Stun);
    let head = "0001 0000 2112a442 000102030405060708090a0b";
    assert!(passes(&stun, &filled(head, 20)));
    assert!(!passes(&stun, &filled(head, 24)));
    assert!(!passes(&stun, &filled("0001 0002 2112a442", 22)));
    assert!(!passes(&stun, &filled("0001 0000 2112a443", 20)));
    assert!(!passes(&stun, &filled("8001 0000 2112a442", 20)));
    for length in 9..=12 {
        assert!(passes(&stun, &filled("4001 0005", length)), "{length}");
    }
    assert!(!passes(&stun, &filled("4001 0005", 8)));
    assert!(!passes(&stun, &filled("4001 0005", 13)));
    assert!(!passes(&stun, &filled("5001 0005", 9)));
}

#[test]
fn wireguard_takes_peers_that_roam() {
    let wireguard = is(Protocol::Wireguard);
    for (first, length) in [("02", 92), ("03", 64), ("04", 32), ("04", 1440)] {
        let whole = filled(&format!("{first}000000"), length);
        assert!(passes(&wireguard, &whole), "{first}, {length}");
        assert!(!passes(&wireguard, &[&whole[..], b"x"].concat()));
    }
    assert!(!passes(&wireguard, &filled("04000000", 16)));
    assert!(!passes(&wireguard, &filled("01000001", 148)));
    assert!(!passes(&wireguard, &filled("05000000", 148)));
}

#[test]
fn dtls_takes_handshakes_and_what_follows() {
    let dtls = is(Protocol::Dtls);
    assert!(passes(&dtls, &filled("17 fefd 0001 000000000001 0010", 29)));
    // Two records in one datagram.
    assert!(passes(&dtls, &filled("14 fefd 0000 000000000001 0001", 60)));
    assert!(!passes(
        &dtls,
        &filled("16 fefd 0000 000000000000 0020", 44)
    ));
    assert!(!passes(
        &dtls,
        &filled("16 0303 0000 000000000000 0020", 45)
    ));
    assert!(!passes(
        &dtls,
        &filled("13 fefd 0000 000000000000 0020", 45)
    ));
    assert!(passes(&dtls, &filled("19 fefd 0001 000000000001 c1d0", 40)));
    // Unified headers.
    assert!(passes(&dtls, &filled("2e 0001 0020", 37)));
    assert!(!passes(&dtls, &filled("2e 0001 0020", 36)));
    assert!(passes(&dtls, &filled("26 01 0020", 36)));
    assert!(!passes(&dtls, &filled("2a 0001", 30)), "no length");
    assert!(!passes(&dtls, &filled("3e aa 0001 0010", 30)), "an id");
    assert!(!passes(&dtls, &filled("2e 0001 000c", 17)));
}

#[test]
fn quic_headers_and_versions() {
    let quic = |long, version: &[u32]| {
        rule(Content::Quic(Quic {
            long,
            version: version.to_vec(),
        }))
    };
    let (one, two) = (
        filled("c0 00000001 08", 1200),
        filled("d0 6b3343cf 08", 1200),
    );
    let short = filled("40", 21);
    assert!(passes(&quic(Some(true), &[]), &one));
    assert!(!passes(&quic(Some(true), &[]), &short));
    assert!(passes(&quic(Some(true), &[1]), &one));
    assert!(!passes(&quic(Some(true), &[1]), &two));
    assert!(passes(&quic(Some(true), &[1, 0x6b33_43cf]), &two));
    assert!(passes(&quic(None, &[1]), &short));
    assert!(!passes(&quic(None, &[1]), &two));
    assert!(!passes(&quic(Some(false), &[]), &short[..20]));
    assert!(!passes(&quic(None, &[]), &filled("80 00000001 08", 1200)));
    assert_eq!(
        compile_rule(&quic(Some(false), &[1])),
        Err(Inexpressible::VersionOfShortHeaders)
    );
}

#[test]
fn tftp_opcodes_and_whole_file_names() {
    let tftp = |write, files: &[&str]| {
        rule(Content::Tftp(Tftp {
            write,
            file: files.iter().map(|file| (*file).to_owned()).collect(),
        }))
    };
    assert!(passes(&tftp(None, &[]), &tftp_request(2, "x")));
    assert!(!passes(&tftp(None, &[]), &tftp_request(3, "x")));
    assert!(!passes(&tftp(None, &[]), &tftp_request(1, "")));
    assert!(passes(&tftp(Some(true), &[]), &tftp_request(2, "x")));
    assert!(!passes(&tftp(Some(true), &[]), &tftp_request(1, "x")));
    let some = tftp(Some(false), &["boot.img", "boot/grub"]);
    assert!(passes(&some, &tftp_request(1, "boot/grub")));
    assert!(!passes(&some, &tftp_request(1, "boot.img2")));
    assert!(!passes(&some, &tftp_request(1, "boot.im")));
    assert!(!passes(&some, &tftp_request(1, "BOOT.IMG")));
}

#[test]
fn syslog_priorities_end_at_191() {
    let syslog = is(Protocol::Syslog);
    for priority in 0..1000 {
        let line = format!("<{priority}>x");
        assert_eq!(passes(&syslog, line.as_bytes()), priority <= 191, "{line}");
    }
    assert!(passes(&syslog, b"<007>"));
    for line in ["<>", "<1", "<1x", "<1234>", "34>", "< 1>", "<1:>"] {
        assert!(!passes(&syslog, line.as_bytes()), "{line}");
    }
}

#[test]
fn sip_is_not_ssdp_or_http() {
    let sip = is(Protocol::Sip);
    for line in [
        "OPTIONS sip:a@b SIP/2.0",
        "SIP/2.0 200 OK",
        "MESSAGE TEL:+1 SIP/2.0",
    ] {
        assert!(passes(&sip, line.as_bytes()), "{line}");
    }
    for line in [
        "NOTIFY * HTTP/1.1",
        "GET / HTTP/1.1",
        "INVITE",
        "INVITEsip:a",
        "SIP/2.0",
    ] {
        assert!(!passes(&sip, line.as_bytes()), "{line}");
    }
}

#[test]
fn radius_ntp_and_openvpn_at_their_bounds() {
    let radius = is(Protocol::Radius);
    assert!(passes(&radius, &filled("04 00 0014", 20)));
    assert!(passes(&radius, &filled("0c 00 0014", 24)), "padding");
    assert!(!passes(&radius, &filled("01 00 0015", 20)));
    assert!(!passes(&radius, &filled("01 00 0013", 20)));
    assert!(!passes(&radius, &filled("02 00 0014", 20)));
    let ntp = is(Protocol::Ntp);
    for (first, fits) in [("e3", true), ("09", true), ("24", false), ("03", false)] {
        assert_eq!(passes(&ntp, &filled(first, 68)), fits, "{first}");
    }
    assert!(!passes(&ntp, &filled("2b", 48)), "version 5");
    assert!(!passes(&ntp, &filled("23", 50)));
    let openvpn = is(Protocol::Openvpn);
    assert!(!passes(&openvpn, &filled("38 0000000000000000", 14)));
    assert!(!passes(&openvpn, &filled("39", 54)), "a reset with key 1");
    assert!(passes(&openvpn, &filled("50", 54)));
    assert!(passes(&openvpn, &filled("20 0000000000000001", 60)));
    assert!(passes(&openvpn, &filled("48 000000 00000001", 64)));
    assert!(!passes(&openvpn, &filled("48 000000 00000001", 23)));
}

#[test]
fn addresses_of_both_families_are_asked() {
    let mut from = Rule::default();
    from.address.from = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    from.address.to = vec!["127.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
    let tests = [(compile_rule(&from).unwrap(), 1)];
    let goes = |from: &str, to: &str| verdict(&tests, ip(from), ip(to), b"x") == 1;
    assert!(goes("10.9.9.9", "127.0.0.2"));
    assert!(goes("::ffff:10.9.9.9", "::ffff:127.0.0.2"));
    assert!(goes("192.0.2.7", "127.0.0.1"));
    assert!(!goes("192.0.2.8", "127.0.0.1"));
    assert!(!goes("10.9.9.9", "128.0.0.2"));
    assert!(goes("2001:db8:7fff::1", "2001:db8::1"));
    assert!(!goes("2001:db8:8000::1", "::1"));
    assert!(goes("::1", "::1"));
}

#[test]
fn what_cannot_be_said_is_named() {
    use Inexpressible::{BadName, Credentials, Interface, Regex, SourcePort, Stream, WildcardName};
    let address = |change: fn(&mut crate::demux::Address)| {
        let mut rule = Rule::default();
        change(&mut rule.address);
        rule
    };
    let ending = Rule {
        endings: vec![Ending::Timeout],
        ..Rule::default()
    };
    let wild = rule(Content::Dns(Dns {
        name: vec![Pattern::Label("example".into())],
        r#type: Vec::new(),
    }));
    let cases = [
        (rule(Content::Tls(Tls::default())), Stream("tls")),
        (rule(Content::Http(Http::default())), Stream("http")),
        (rule(Content::Socks(vec![5])), Stream("socks")),
        (is(Protocol::Ssh), Stream("ssh")),
        (rule(Content::Regex(vec!["a+".into()])), Regex),
        (wild, WildcardName("*.example".into())),
        (dns(&[], &[1]), Inexpressible::TypeWithoutName),
        (dns(&["a..b"], &[]), BadName("a..b".into())),
        (address(|a| a.interface.push("lo".into())), Interface),
        (address(|a| a.source_port.push((1, 2))), SourcePort),
        (address(|a| a.gid.push(0)), Credentials),
        (ending, Inexpressible::Ending(Ending::Timeout)),
    ];
    for (rule, expected) in cases {
        assert_eq!(compile_rule(&rule), Err(expected.clone()));
        assert!(!expected.to_string().is_empty());
    }
    assert_eq!(
        Stream("tls").to_string(),
        "tls is spoken over streams, not in datagrams"
    );
}

#[test]
fn a_program_has_an_end() {
    let long = dns(&[&format!("{0}.{0}.{0}", "a".repeat(63))], &[1, 2, 3]);
    let tests = compile_rule(&long).unwrap();
    let query = dns_query(&format!("{0}.{0}.{0}", "A".repeat(63)), 3);
    let many = vec![(tests, 1); 15];
    // Further than a conditional jump reaches.
    assert!(program(&many, 0, Base::Payload).unwrap().len() > 2000);
    assert_eq!(verdict(&many, ip("::1"), ip("::1"), &query), 1);
    assert_eq!(verdict(&many, ip("::1"), ip("::1"), &query[..200]), 0);
    let more = [many.clone(), many].concat();
    assert!(program(&more, 0, Base::Payload).is_err());
}

fn any_tests() -> impl Strategy<Value = Tests> {
    let width = prop_oneof![Just(Width::One), Just(Width::Two), Just(Width::Four)];
    // Few bits, so that both outcomes are likely.
    let number =
        (0..12u32, width, 0..8u32, 0..8u32, 0..8u32).prop_map(|(at, width, mask, low, high)| {
            Test::Number {
                at,
                width,
                mask,
                low,
                high,
            }
        });
    let prefix = prop_oneof![Just("127.0.0.0/9"), Just("10.1.0.0/16"), Just("fd00::/77")];
    let prefix = prefix.prop_map(|text| text.parse().unwrap());
    let one = prop_oneof![
        1 => (0..20u32, 0..20u32).prop_map(|(low, high)| Test::Length(low, high)),
        1 => (1..5u32).prop_map(Test::MultipleOf),
        4 => number,
        1 => (0..4u32, 0..6u32, 0..9u32).prop_map(|(at, plus, slack)| Test::Announced {
            at,
            plus,
            slack
        }),
        1 => any::<bool>().prop_map(Test::Ipv4),
    ];
    let address = (any::<bool>(), prefix).prop_map(|(from, prefix)| {
        super::tree::lies_in(&[prefix], if from { Test::From } else { Test::To })
    });
    let leaf = prop_oneof![4 => one.prop_map(Tests::One), 1 => address];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tests::All),
            prop::collection::vec(inner, 0..5).prop_map(Tests::Any),
        ]
    })
}

proptest! {
    #[test]
    fn program_and_reference_agree_on_any_tests(
        rules in prop::collection::vec((any_tests(), 1..9u32), 0..6),
        payload in prop::collection::vec(0..8u8, 0..20),
        v4 in any::<bool>(),
    ) {
        let (from, to) = if v4 { ("127.0.0.1", "10.1.2.3") } else { ("fd00::7", "fd00::8000:0") };
        verdict(&rules, ip(from), ip(to), &payload);
    }

    #[test]
    fn queries_are_read_as_in_streams(
        name in prop::sample::select(vec!["shop.example", "SHOP.example", "x", "", "other.example"]),
        more in prop::sample::select(vec![0usize, 0, 0, 4, 40]),
        damage in prop::collection::vec((2..30usize, prop::sample::select(vec![0, 1, 2, 4, 0x20, 0x28, 0x24, 0x40, 0x80, 0xff])), 0..4),
    ) {
        let mut message = dns_query(name, 16);
        message.resize(message.len() + more, 0);
        for (at, octet) in damage {
            if let Some(place) = message.get_mut(at) {
                *place = octet;
            }
        }
        for rule in [dns(&["shop.example", "x"], &[]), dns(&["x", ""], &[16, 28])] {
            let Some(Content::Dns(wanted)) = rule.content.first() else { unreachable!() };
            let judged = crate::demux::dns::judge_message(wanted, &message);
            prop_assert_eq!(passes(&rule, &message), judged, "{:02x?}", message);
        }
        // Behind a name of any length nothing is known.
        prop_assert!(passes(&dns(&[], &[]), &message) || !crate::demux::dns::judge_message(&Dns::default(), &message));
    }

    #[test]
    fn program_and_reference_agree_on_damaged_datagrams(
        which in 0..13usize,
        cut in 0..1500usize,
        damage in prop::collection::vec((0..64usize, any::<u8>()), 0..4),
    ) {
        let rules: Vec<(Tests, u32)> = samples()
            .iter()
            .zip(1..)
            .map(|((rule, _), at)| (compile_rule(rule).unwrap(), at))
            .collect();
        let mut payload = samples().swap_remove(which).1;
        payload.truncate(cut);
        for (at, octet) in damage {
            if let Some(place) = payload.get_mut(at) {
                *place = octet;
            }
        }
        verdict(&rules, ip("192.0.2.1"), ip("192.0.2.2"), &payload);
    }
}
