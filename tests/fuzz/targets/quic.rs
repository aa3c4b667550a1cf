//! Datagrams: every kind of rule on any payload, QUIC's among them, and the
//! kernel's program for them is never one that it would refuse.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use usherd::demux::datagram::{Tests, compile_rule};
use usherd::demux::names::pattern;
use usherd::demux::rule::{Content, Dns, Protocol, Quic, Rule, Tftp};

fn rule(content: Content) -> Tests {
    let rule = Rule {
        content: vec![content],
        ..Rule::default()
    };
    compile_rule(&rule).expect("a rule for datagrams")
}

fn quic(long: Option<bool>, version: &[u32]) -> Tests {
    rule(Content::Quic(Quic {
        long,
        version: version.to_vec(),
    }))
}

struct Rules {
    any: Tests,
    long: Tests,
    short: Tests,
    first: Tests,
    others: Vec<Tests>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let datagrams = Protocol::ALL.iter().filter(|kind| kind.is_datagram());
    let mut others: Vec<Tests> = datagrams.map(|kind| rule(Content::Is(*kind))).collect();
    others.push(rule(Content::Dns(Dns {
        name: pattern("a.test").into_iter().collect(),
        r#type: vec![1],
    })));
    others.push(rule(Content::Tftp(Tftp {
        write: Some(false),
        file: vec!["pxelinux.0".into()],
    })));
    Rules {
        any: quic(None, &[]),
        long: quic(Some(true), &[]),
        short: quic(Some(false), &[]),
        first: quic(Some(true), &[1]),
        others,
    }
});

fuzz_target!(|data: &[u8]| {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let holds = |tests: &Tests| tests.holds(here, here, data);
    let (long, short) = (holds(&RULES.long), holds(&RULES.short));
    assert!(!(long && short), "long and short at once");
    assert_eq!(holds(&RULES.any), long || short);
    assert!(!holds(&RULES.first) || long, "a version without a long header");
    // RFC 7983, 7: what has the two upper bits clear is none of QUIC's.
    assert!(!holds(&RULES.any) || data[0] & 0x40 != 0 || data[0] & 0x80 != 0);
    for tests in &RULES.others {
        let _ = holds(tests);
    }
});
