#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::demux::names;
use crate::demux::protocol::vectors::flights;
use crate::demux::rule::{Content, Dns, Http, Protocol, Tls};

fn rule(content: Vec<Content>) -> Rule {
    Rule {
        content,
        ..Rule::default()
    }
}

fn is(protocol: Protocol) -> Rule {
    rule(vec![Content::Is(protocol)])
}

fn sni(names: &[&str]) -> Rule {
    rule(vec![Content::Tls(Tls {
        sni: names
            .iter()
            .map(|name| names::pattern(name).unwrap())
            .collect(),
        ..Tls::default()
    })])
}

fn host(names: &[&str], path: &[&str]) -> Rule {
    rule(vec![Content::Http(Http {
        host: names
            .iter()
            .map(|name| names::pattern(name).unwrap())
            .collect(),
        path: path.iter().map(|path| (*path).to_owned()).collect(),
        ..Http::default()
    })])
}

fn from(prefix: &str) -> Rule {
    let mut rule = Rule::default();
    rule.address.from = vec![prefix.parse().unwrap()];
    rule
}

fn ended(endings: &[Ending]) -> Rule {
    Rule {
        endings: endings.to_vec(),
        ..Rule::default()
    }
}

/// A plan with one rule per service; none is the fallback.
fn plan(services: &[Option<Rule>]) -> Plan {
    let rules: Vec<Vec<Rule>> = services
        .iter()
        .map(|rule| rule.iter().cloned().collect())
        .collect();
    let candidates: Vec<_> = rules
        .iter()
        .map(|rules| Candidate {
            rules,
            speaks_first: false,
        })
        .collect();
    Plan::compile(&candidates).unwrap()
}

fn peer(ip: &str) -> Facts<'static> {
    Facts {
        peer: Some((ip.parse().unwrap(), 40_000)),
        ..Facts::default()
    }
}

/// Which service, by number; `None`: refused. Panics if undecided.
fn service(step: Step) -> Option<usize> {
    match step {
        Step::Route(route) => Some(route.candidate),
        Step::Refuse => None,
        Step::Need(k) => panic!("undecided, needs {k}"),
    }
}

fn hello(name: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let host = [&[0][..], &sized(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &sized(&sized(&host))].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &sized(&extension),
    ]
    .concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

#[test]
fn an_undecided_rule_holds_back_those_after_it() {
    let plan = plan(&[Some(sni(&["a.test"])), Some(is(Protocol::Ssh)), None]);
    let step = |bytes: &[u8], ended| plan.step(&Facts::default(), bytes, ended);
    assert_eq!(step(b"", None), Step::Need(1));
    assert!(matches!(step(&[0x16, 3, 1], None), Step::Need(_)));
    assert_eq!(service(step(b"SSH-", None)), Some(1));
    assert_eq!(service(step(b"hello", None)), Some(2));
    assert_eq!(service(step(&hello("a.test"), None)), Some(0));
    assert_eq!(service(step(&hello("b.test"), None)), Some(2));
    // At the end what is undecided does not hold.
    assert_eq!(service(step(b"SS", Some(Ending::Eof))), Some(2));
    assert_eq!(service(step(b"", Some(Ending::Timeout))), Some(2));
}

#[test]
fn whoever_leaves_without_a_word_is_for_nobody() {
    let plan = plan(&[Some(is(Protocol::Ssh)), Some(ended(&[Ending::Eof])), None]);
    let step = |bytes: &[u8]| service(plan.step(&Facts::default(), bytes, Some(Ending::Eof)));
    assert_eq!(step(b""), None);
    assert_eq!(step(b"S"), Some(1));
    assert_eq!(step(b"x"), Some(2), "decided before its end");
}

#[test]
fn an_address_is_enough_where_it_comes_first() {
    let plan = plan(&[Some(is(Protocol::Ssh)), Some(from("192.0.2.0/24")), None]);
    // Without a byte: the prefix says more than the content rule, which has none.
    assert_eq!(service(plan.step(&peer("192.0.2.1"), b"", None)), Some(1));
    assert!(matches!(
        plan.step(&peer("198.51.100.1"), b"", None),
        Step::Need(_)
    ));
}

#[test]
fn longer_prefixes_come_first_then_priority_then_the_table() {
    let mut preferred = from("192.0.2.0/24");
    preferred.priority = 5;
    let plan = plan(&[
        Some(from("192.0.2.0/24")),
        Some(preferred),
        Some(from("192.0.2.7/32")),
        Some(from("192.0.0.0/16")),
    ]);
    let to = |ip: &str| service(plan.step(&peer(ip), b"", None));
    assert_eq!(to("192.0.2.7"), Some(2));
    assert_eq!(to("192.0.2.8"), Some(1));
    assert_eq!(to("192.0.3.1"), Some(3));
    assert_eq!(to("10.0.0.1"), None);
}

#[test]
fn the_name_that_says_more_wins_in_any_order() {
    let wide = [
        Some(sni(&["**.example.test"])),
        Some(sni(&["*.example.test", "x.other.test"])),
        Some(sni(&["shop.example.test"])),
        None,
    ];
    let mut narrow = wide.clone();
    narrow[..3].reverse();
    let to = |plan: &Plan, name: &str| service(plan.step(&Facts::default(), &hello(name), None));
    for (plan, turn) in [(plan(&wide), false), (plan(&narrow), true)] {
        let expect = |at: usize| Some(if turn && at < 3 { 2 - at } else { at });
        assert_eq!(to(&plan, "shop.example.test"), expect(2));
        assert_eq!(to(&plan, "Any.Example.Test"), expect(1));
        assert_eq!(to(&plan, "a.b.example.test"), expect(0));
        assert_eq!(to(&plan, "x.other.test"), expect(1));
        assert_eq!(to(&plan, "y.other.test"), expect(3));
    }
}

#[test]
fn a_host_says_more_than_a_path_and_a_longer_path_more_than_a_shorter() {
    let plan = plan(&[
        Some(host(&[], &["/"])),
        Some(host(&[], &["/api/v2"])),
        Some(host(&["a.test"], &[])),
    ]);
    let to = |path: &str, name: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n");
        service(plan.step(&Facts::default(), request.as_bytes(), None))
    };
    assert_eq!(to("/api/v2/x", "b.test"), Some(1));
    assert_eq!(to("/api/v2/x", "a.test"), Some(2));
    assert_eq!(to("/other", "b.test"), Some(0));
}

#[test]
fn silent_clients_go_to_who_speaks_first() {
    let (ssh, tls) = ([is(Protocol::Ssh)], [sni(&["a.test"])]);
    let candidate = |rules, speaks_first| Candidate {
        rules,
        speaks_first,
    };
    let plan = Plan::compile(&[
        candidate(&tls[..], false),
        candidate(&ssh[..], true),
        candidate(&[], false),
    ])
    .unwrap();
    let step = |bytes: &[u8], ended| service(plan.step(&Facts::default(), bytes, ended));
    assert_eq!(step(b"", Some(Ending::Timeout)), Some(1));
    assert_eq!(step(b"S", Some(Ending::Timeout)), Some(2));
    assert_eq!(step(b"", Some(Ending::Eof)), None);

    let smtp = Plan::compile(&[candidate(&tls[..], false), candidate(&[], true)]).unwrap();
    let step = |bytes: &[u8], ended| service(smtp.step(&Facts::default(), bytes, ended));
    assert_eq!(step(b"", Some(Ending::Timeout)), Some(1));
    assert_eq!(step(b"EHLO x\r\n", None), Some(1));
}

#[test]
fn a_silent_client_is_waited_for_where_somebody_greets() {
    let candidate = |speaks_first| Candidate {
        rules: &[],
        speaks_first,
    };
    let plan = Plan::compile(&[candidate(false), candidate(true)]).unwrap();
    let step = |bytes: &[u8], ended| plan.step(&Facts::default(), bytes, ended);
    assert_eq!(step(b"", None), Step::Need(1));
    assert_eq!(service(step(b"x", None)), Some(0));
    assert_eq!(service(step(b"", Some(Ending::Timeout))), Some(1));

    let plan = super::tests::plan(&[Some(ended(&[Ending::Timeout])), None]);
    let step = |bytes: &[u8], ended| plan.step(&Facts::default(), bytes, ended);
    assert_eq!(step(b"", None), Step::Need(1));
    assert_eq!(service(step(b"x", None)), Some(1));
    assert_eq!(service(step(b"", Some(Ending::Timeout))), Some(0));
}

#[test]
fn the_wait_goes_on_for_those_who_ask_how_it_ends() {
    let mut tls_to_the_end = rule(vec![Content::Prefix(vec![vec![0x16, 3]])]);
    tls_to_the_end.endings = vec![Ending::Eof];
    let plan = plan(&[
        Some(is(Protocol::Ssh)),
        Some(tls_to_the_end),
        Some(ended(&[Ending::Full])),
    ]);
    let step = |bytes: &[u8], ended| plan.step(&Facts::default(), bytes, ended);
    // Nobody is undecided, but bytes and their end need not come together.
    assert_eq!(step(b"hello", None), Step::Need(LIMIT));
    assert_eq!(service(step(b"hello", Some(Ending::Full))), Some(2));
    assert_eq!(service(step(b"hello", Some(Ending::Eof))), None);
    assert_eq!(step(&[0x16, 3], None), Step::Need(LIMIT));
    assert_eq!(service(step(&[0x16, 3], Some(Ending::Eof))), Some(1));
    // What was decided before the end is not for the end to change.
    assert_eq!(service(step(b"SSH-", Some(Ending::Full))), Some(0));
}

/// Laws of a whole walk: whatever is decided stays, whatever is asked for is
/// needed, and an end of the wait decides.
fn obeys(plan: &Plan, facts: &Facts<'_>, sample: &[u8]) -> Result<(), TestCaseError> {
    let mut asked = 0;
    let mut decided = None;
    for length in 0..=sample.len() {
        let bytes = &sample[..length];
        for ended in [
            None,
            Some(Ending::Timeout),
            Some(Ending::Eof),
            Some(Ending::Full),
        ] {
            // What the index leaves out makes no difference.
            let look = Look::new(bytes);
            let whole = plan.decide(facts, &look, ended, &mut |_, _| {});
            prop_assert_eq!(plan.choose(facts, &look, ended), whole);
        }
        for ended in [Ending::Timeout, Ending::Eof, Ending::Full] {
            let at_the_end = plan.step(facts, bytes, Some(ended));
            prop_assert!(!matches!(at_the_end, Step::Need(_)));
            // What the bytes have decided is not for the end to change.
            if let Some(before) = decided
                && !(bytes.is_empty() && ended == Ending::Eof)
            {
                prop_assert_eq!(at_the_end, before);
            }
        }
        let step = plan.step(facts, bytes, None);
        match (decided, step) {
            (Some(before), _) => prop_assert_eq!(step, before, "changed at {} octets", length),
            (None, Step::Need(k)) => {
                prop_assert!(k > length);
                asked = asked.max(k);
            }
            (None, _) => {
                prop_assert!(
                    length >= asked,
                    "decided at {}, asked for {}",
                    length,
                    asked
                );
                decided = Some(step);
            }
        }
    }
    Ok(())
}

fn contents() -> impl Strategy<Value = Content> {
    let names = prop::sample::select(vec![
        "a.test",
        "*.test",
        "**.test",
        "*.a.test",
        "shop.a.test",
    ]);
    let pattern = names
        .prop_map(|name| vec![names::pattern(name).unwrap()])
        .boxed();
    let paths = prop::sample::select(vec!["/", "/api", "/api/v1"]);
    let malformed = || prop::sample::select(vec![None, None, Some(true), Some(false)]);
    prop_oneof![
        prop::sample::select(Protocol::ALL.to_vec()).prop_map(Content::Is),
        (pattern.clone(), malformed()).prop_map(|(sni, malformed)| Content::Tls(Tls {
            sni,
            malformed,
            ..Tls::default()
        })),
        Just(Content::Tls(Tls::default())),
        Just(Content::Tls(Tls {
            alpn: vec!["h2".into()],
            ..Tls::default()
        })),
        Just(Content::Tls(Tls {
            malformed: Some(true),
            ..Tls::default()
        })),
        (pattern.clone(), malformed()).prop_map(|(host, malformed)| Content::Http(Http {
            host,
            malformed,
            ..Http::default()
        })),
        paths.prop_map(|path| Content::Http(Http {
            path: vec![path.into()],
            ..Http::default()
        })),
        Just(Content::Http(Http {
            malformed: Some(true),
            ..Http::default()
        })),
        pattern.prop_map(|name| Content::Dns(Dns {
            name,
            ..Dns::default()
        })),
        Just(Content::Socks(vec![4, 5])),
        Just(Content::Prefix(vec![
            b"GET".to_vec(),
            vec![0x16, 3],
            b"S".to_vec()
        ])),
        prop::sample::select(vec!["[A-Z]+ /", "\\x16..", "SSH-2|GET", ".{20}"])
            .prop_map(|regex| Content::Regex(vec![regex.into()])),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    let prefixes = prop::sample::select(vec![
        vec![],
        vec!["192.0.2.0/24"],
        vec!["192.0.2.1/32", "10.0.0.0/8"],
    ]);
    let endings = prop::sample::select(vec![
        vec![],
        vec![],
        vec![],
        vec![Ending::Timeout],
        vec![Ending::Eof, Ending::Full],
    ]);
    let content = prop::collection::vec(contents(), 0..3);
    (content, prefixes, endings, -1..2_i32).prop_map(|(content, from, endings, priority)| {
        let mut rule = rule(content);
        rule.address.from = from.iter().map(|prefix| prefix.parse().unwrap()).collect();
        rule.endings = endings;
        rule.priority = priority;
        rule
    })
}

fn samples() -> impl Strategy<Value = Vec<u8>> {
    let mut known: Vec<Vec<u8>> = flights().into_iter().map(|flight| flight.bytes).collect();
    known.retain(|bytes| bytes.len() < 2_000);
    known.extend(["a.test", "shop.a.test", "x.y.test"].map(hello));
    known.extend(["/", "/api/v1/x", "http://a.test/api"].map(|target| {
        format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n").into_bytes()
    }));
    let changed = (
        prop::sample::select(known.clone()),
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    let changed = changed.prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![
        prop::sample::select(known),
        changed,
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #[test]
    fn cuts_never_change_the_result_and_decisions_stay(
        services in prop::collection::vec((prop::collection::vec(rules(), 0..3), any::<bool>()), 1..6),
        sample in samples(),
        here in any::<bool>(),
    ) {
        let candidates: Vec<_> = services
            .iter()
            .map(|(rules, speaks_first)| Candidate { rules, speaks_first: *speaks_first })
            .collect();
        let plan = Plan::compile(&candidates).unwrap();
        let facts = peer(if here { "192.0.2.1" } else { "198.51.100.9" });
        obeys(&plan, &facts, &sample)?;
    }
}
