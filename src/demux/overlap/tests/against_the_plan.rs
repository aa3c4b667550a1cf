//! Findings held against what the engine does: rules and requests are made of
//! the same few words, so that they often meet.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::demux::plan::{Candidate, Facts, Plan, Step};

fn some(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(words);
    prop::collection::vec(word.prop_map(str::to_owned), 0..3)
}

const HOSTS: &[&str] = &["a.example", "*.example", "**.example", "b.a.example"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b"];

fn content_of_a_rule() -> impl Strategy<Value = Content> {
    let http = (
        some(HOSTS),
        some(PATHS),
        some(&["GET", "PUT"]),
        some(&["x"]),
    );
    prop_oneof![
        6 => http.prop_map(|(host, path, method, header)| Content::Http(Http {
            host: host.iter().map(|name| pattern(name)).collect(),
            path,
            method,
            header,
            malformed: None,
        })),
        1 => Just(Content::Is(Protocol::Ssh)),
        1 => prop::sample::select(&["G", "GET /a", "SSH-", "P"][..])
            .prop_map(|bytes| Content::Prefix(vec![bytes.as_bytes().to_vec()])),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        prop::collection::vec(content_of_a_rule(), 0..2),
        some(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"]),
        -1..=1,
    )
        .prop_map(|(content, from, priority)| {
            let mut rule = Rule {
                content,
                priority,
                ..Rule::default()
            };
            rule.address.from = from.iter().map(|p| p.parse().unwrap()).collect();
            rule
        })
}

fn requests() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for peer in ["10.1.0.1", "10.2.0.1", "192.0.2.1", "192.0.2.2"] {
        all.push((peer, "SSH-2.0-x\r\n".to_owned()));
        for host in ["a.example", "b.a.example", "c.example", "d"] {
            for path in ["/", "/a", "/a/", "/a/b", "/ab"] {
                for (method, header) in [("GET", "x: y\r\n"), ("PUT", ""), ("POST", "")] {
                    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
                    all.push((peer, format!("{head}{header}\r\n")));
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(20_041),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_never_reached_never_gets_a_request(rules in prop::collection::vec(rule(), 2..5)) {
        let candidates: Vec<Candidate<'_>> = rules
            .iter()
            .map(|rule| Candidate {
                rules: std::slice::from_ref(rule),
                speaks_first: false,
            })
            .collect();
        let plan = Plan::compile(&candidates).unwrap();
        let unreachable: Vec<usize> = found(&rules)
            .iter()
            .filter_map(|finding| match finding {
                Finding::Unreachable { rule, part: None, .. } => Some(rule.service),
                _ => None,
            })
            .collect();
        for (peer, request) in requests() {
            let facts = Facts {
                peer: Some((peer.parse().unwrap(), 5)),
                ..Facts::default()
            };
            if let Step::Route(route) = plan.step(&facts, request.as_bytes(), None) {
                prop_assert!(
                    !unreachable.contains(&route.candidate),
                    "{} takes {peer} {request}",
                    route.candidate
                );
            }
        }
    }

    /// Where no warning says that the order of the table decides, it does not.
    #[test]
    fn the_order_of_the_table_decides_only_where_a_warning_says_so(
        a in rule(),
        b in rule(),
    ) {
        let clear = found(&[a.clone(), b.clone()]).is_empty()
            && found(&[b.clone(), a.clone()]).is_empty();
        let plan = |rules: [&Rule; 2]| {
            let candidates = rules.map(|rule| Candidate {
                rules: std::slice::from_ref(rule),
                speaks_first: false,
            });
            Plan::compile(&candidates).unwrap()
        };
        let (forth, back) = (plan([&a, &b]), plan([&b, &a]));
        for (peer, request) in requests() {
            let facts = Facts {
                peer: Some((peer.parse().unwrap(), 5)),
                ..Facts::default()
            };
            let taken = |plan: &Plan| match plan.step(&facts, request.as_bytes(), None) {
                Step::Route(route) => Some(route.candidate),
                Step::Need(_) | Step::Refuse => None,
            };
            let (one, other) = (taken(&forth), taken(&back));
            if clear {
                prop_assert_eq!(one, other.map(|at| 1 - at), "{} {}", peer, request);
            }
        }
    }
}
