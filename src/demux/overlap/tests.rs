#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::demux::Ending;
use crate::demux::names::Pattern;
use crate::demux::rule::{Content, Http, Protocol, Tls, TlsVersion};

mod against_the_plan;

fn content(content: Content) -> Rule {
    Rule {
        content: vec![content],
        ..Rule::default()
    }
}

fn pattern(text: &str) -> Pattern {
    let of = |suffix: &str| suffix.to_owned();
    match (text.strip_prefix("**."), text.strip_prefix("*.")) {
        (Some(suffix), _) => Pattern::Depth(of(suffix)),
        (_, Some(suffix)) => Pattern::Label(of(suffix)),
        _ => Pattern::Exact(of(text)),
    }
}

fn sni(names: &[&str]) -> Rule {
    content(Content::Tls(Tls {
        sni: names.iter().map(|name| pattern(name)).collect(),
        ..Tls::default()
    }))
}

fn alpn(name: &str) -> Rule {
    content(Content::Tls(Tls {
        alpn: vec![name.to_owned()],
        ..Tls::default()
    }))
}

fn path(paths: &[&str]) -> Rule {
    content(Content::Http(Http {
        path: paths.iter().map(|&path| path.to_owned()).collect(),
        ..Http::default()
    }))
}

fn ssh() -> Rule {
    content(Content::Is(Protocol::Ssh))
}

fn any_tls() -> Rule {
    content(Content::Tls(Tls::default()))
}

fn from(mut rule: Rule, prefixes: &[&str]) -> Rule {
    rule.address.from = prefixes.iter().map(|p| p.parse().unwrap()).collect();
    rule
}

fn priority(mut rule: Rule, priority: i32) -> Rule {
    rule.priority = priority;
    rule
}

fn ended(mut rule: Rule, ending: Ending) -> Rule {
    rule.endings.push(ending);
    rule
}

/// Each rule is a service of its own.
fn found(rules: &[Rule]) -> Vec<Finding> {
    let shares: Vec<Share<'_>> = rules
        .iter()
        .map(|rule| Share {
            rules: std::slice::from_ref(rule),
            speaks_first: false,
        })
        .collect();
    inspect(&shares, Medium::Streams)
}

fn id(service: usize) -> Id {
    Id {
        service,
        rule: Some(0),
    }
}

fn never(rule: usize, by: usize) -> Vec<Finding> {
    vec![Finding::Unreachable {
        rule: id(rule),
        part: None,
        by: id(by),
    }]
}

fn part(rule: usize, part: &str, by: usize) -> Finding {
    Finding::Unreachable {
        rule: id(rule),
        part: Some(part.to_owned()),
        by: id(by),
    }
}

fn by_order(first: usize, second: usize) -> Vec<Finding> {
    vec![Finding::ByOrder {
        first: id(first),
        second: id(second),
    }]
}

#[test]
fn what_is_more_specific_is_reached_wherever_it_stands() {
    for rules in [
        [sni(&["**.example"]), sni(&["a.example"])],
        [sni(&["**.example"]), sni(&["*.example"])],
        [sni(&["**.example"]), sni(&["*.b.example"])],
        [sni(&["*.example"]), sni(&["a.example"])],
        [path(&["/"]), path(&["/api"])],
        [path(&["/api"]), path(&["/api/v2"])],
        [path(&["/api"]), path(&["/apiary"])],
        [sni(&["a.example"]), sni(&["b.example"])],
        [ssh(), any_tls()],
        [any_tls(), from(sni(&["a.example"]), &["10.0.0.0/8"])],
        [
            from(any_tls(), &["10.0.0.0/8"]),
            from(any_tls(), &["10.1.0.0/16"]),
        ],
        [sni(&["a.example"]), any_tls()],
    ] {
        let [a, b] = rules;
        assert_eq!(found(&[a.clone(), b.clone()]), [], "{a:?} {b:?}");
    }
}

#[test]
fn what_comes_first_and_holds_whenever_the_other_does_leaves_it_nothing() {
    for rules in [
        [any_tls(), sni(&["a.example"])],
        [any_tls(), alpn("h2")],
        [Rule::default(), ssh()],
        [ssh(), ssh()],
        [sni(&["a.example", "b.example"]), sni(&["a.example"])],
        [
            priority(sni(&["**.example"]), 1),
            sni(&["a.example", "*.example"]),
        ],
        [
            from(ssh(), &["10.0.0.0/8", "192.0.2.0/24"]),
            from(ssh(), &["10.0.0.0/8"]),
        ],
        [path(&["/"]), path(&["/"])],
        [
            ended(Rule::default(), Ending::Timeout),
            ended(ssh(), Ending::Timeout),
        ],
    ] {
        let [a, b] = rules;
        assert_eq!(found(&[a.clone(), b.clone()]), never(1, 0), "{a:?} {b:?}");
    }
    // A higher priority makes the later one the first.
    assert_eq!(
        found(&[sni(&["a.example"]), priority(any_tls(), 5)]),
        never(0, 1)
    );
}

#[test]
fn single_names_paths_and_prefixes_are_found_too() {
    assert_eq!(
        found(&[sni(&["a.example"]), sni(&["b.example", "a.example"])]),
        [part(1, "\"a.example\"", 0)]
    );
    assert_eq!(
        found(&[path(&["/a"]), path(&["/a", "/a/b", "/c"])]),
        [part(1, "\"/a\"", 0)]
    );
    assert_eq!(
        found(&[
            from(ssh(), &["10.0.0.0/8"]),
            from(ssh(), &["10.0.0.0/8", "192.0.2.0/24"])
        ]),
        [part(1, "from \"10.0.0.0/8\"", 0)]
    );
    let bytes = |all: &[&str]| {
        let all = all.iter().map(|text| text.as_bytes().to_vec()).collect();
        content(Content::Prefix(all))
    };
    assert_eq!(
        found(&[bytes(&["AB"]), bytes(&["ABC", "B"])]),
        [part(1, "\"ABC\"", 0)]
    );
}

#[test]
fn rules_that_only_their_order_tells_apart_are_named() {
    let header = content(Content::Http(Http {
        header: vec!["upgrade".to_owned()],
        ..Http::default()
    }));
    let eth0 = Rule {
        address: crate::demux::Address {
            interface: vec!["eth0".to_owned()],
            ..crate::demux::Address::default()
        },
        ..Rule::default()
    };
    for rules in [
        [sni(&["a.example"]), alpn("h2")],
        [alpn("h2"), sni(&["a.example"])],
        [alpn("h2"), alpn("http/1.1")],
        [path(&["/a"]), header],
        [eth0, ssh()],
    ] {
        let [a, b] = rules;
        assert_eq!(
            found(&[a.clone(), b.clone()]),
            by_order(0, 1),
            "{a:?} {b:?}"
        );
        // A priority settles it.
        assert_eq!(found(&[a, priority(b, 1)]), []);
    }
    // The name outweighs the path in any order.
    let host = content(Content::Http(Http {
        host: vec![pattern("a.example")],
        ..Http::default()
    }));
    assert_eq!(found(&[path(&["/a"]), host]), []);
}

#[test]
fn rules_of_one_service_are_never_ambiguous() {
    let rules = [sni(&["a.example"]), alpn("h2")];
    let share = Share {
        rules: &rules,
        speaks_first: false,
    };
    assert_eq!(inspect(&[share], Medium::Streams), []);
}

#[test]
fn nothing_is_left_after_a_rule_for_everything() {
    let all = [Rule::default()];
    let share = |rules| Share {
        rules,
        speaks_first: false,
    };
    let fallback = Id {
        service: 0,
        rule: None,
    };
    assert_eq!(
        inspect(&[share(&[]), share(&all)], Medium::Streams),
        [Finding::Unreachable {
            rule: fallback,
            part: None,
            by: id(1)
        }]
    );
    let late = [ended(Rule::default(), Ending::Eof)];
    assert_eq!(inspect(&[share(&[]), share(&late)], Medium::Streams), []);
}

#[test]
fn silent_clients_have_one_way_to_go() {
    let greeting = |rules| Share {
        rules,
        speaks_first: true,
    };
    let client = |rules| Share {
        rules,
        speaks_first: false,
    };
    let (ssh, tls, late) = (
        [ssh()],
        [any_tls()],
        [ended(Rule::default(), Ending::Timeout)],
    );
    let silent = |shares: &[Share<'_>]| {
        let all = inspect(shares, Medium::Streams);
        let found = |f: &&Finding| matches!(f, Finding::Silent { .. });
        all.iter().filter(found).count()
    };
    assert_eq!(silent(&[greeting(&ssh), client(&tls), client(&[])]), 0);
    assert_eq!(silent(&[greeting(&ssh), greeting(&tls)]), 1);
    assert_eq!(silent(&[greeting(&ssh), greeting(&[])]), 1);
    assert_eq!(silent(&[greeting(&[]), greeting(&[])]), 1);
    assert_eq!(silent(&[greeting(&ssh), client(&late)]), 1);
    let first = [priority(late[0].clone(), 1)];
    assert_eq!(silent(&[greeting(&ssh), client(&first)]), 0);
    let near = [from(ssh[0].clone(), &["10.0.0.0/8"])];
    assert_eq!(silent(&[greeting(&near), greeting(&tls)]), 0);
    assert_eq!(silent(&[greeting(&near), greeting(&[])]), 0);
}

#[test]
fn two_protocols_at_once_are_a_contradiction() {
    let both = Rule {
        content: vec![
            Content::Is(Protocol::Ssh),
            Content::Tls(Tls {
                sni: vec![pattern("a.example")],
                ..Tls::default()
            }),
        ],
        ..Rule::default()
    };
    let why = contradiction(&both, Medium::Streams).unwrap();
    assert_eq!(why, "no request is `ssh` and `tls` at once");
    let mut tls = Tls {
        sni: vec![pattern("a.example")],
        malformed: Some(true),
        ..Tls::default()
    };
    assert!(contradiction(&content(Content::Tls(tls.clone())), Medium::Streams).is_some());
    tls.malformed = Some(false);
    assert_eq!(
        contradiction(&content(Content::Tls(tls.clone())), Medium::Streams),
        None
    );
    tls.version = vec![TlsVersion::Ssl2];
    assert!(contradiction(&content(Content::Tls(tls)), Medium::Streams).is_some());
    assert_eq!(contradiction(&Rule::default(), Medium::Streams), None);
}

#[test]
fn thousands_of_names_are_compared_in_no_time() {
    let rules: Vec<Rule> = (0..5_000)
        .map(|n| sni(&[&format!("host{n}.example"), &format!("*.host{n}.example")]))
        .collect();
    assert_eq!(found(&rules), []);
}

#[test]
fn bytes_are_held_against_protocols_in_streams() {
    let bytes = |text: &str| content(Content::Prefix(vec![text.as_bytes().to_vec()]));
    assert_eq!(found(&[ssh(), bytes("SSH-2.0-x")]), never(1, 0));
    assert_eq!(found(&[bytes("SSH-2.0-x"), ssh()]), []);
    assert_eq!(found(&[ssh(), bytes("GET ")]), []);
    // "SS" may become ssh, and need not.
    assert_eq!(found(&[bytes("SS"), any_tls()]), []);
    let http = content(Content::Http(Http::default()));
    assert_eq!(found(&[bytes("GET "), http.clone()]), by_order(0, 1));
    let both = Rule {
        content: vec![
            Content::Is(Protocol::Ssh),
            Content::Prefix(vec![b"GET ".to_vec()]),
        ],
        ..Rule::default()
    };
    assert!(contradiction(&both, Medium::Streams).is_some());
    assert_eq!(contradiction(&both, Medium::Datagrams), None);
}

#[test]
fn malformed_requests_are_part_of_their_protocol_only_where_it_says_so() {
    let tls = |malformed| {
        content(Content::Tls(Tls {
            malformed: Some(malformed),
            ..Tls::default()
        }))
    };
    assert_eq!(found(&[any_tls(), tls(true)]), never(1, 0));
    assert_eq!(found(&[tls(true), sni(&["a.example"])]), []);
    assert_eq!(found(&[tls(false), sni(&["a.example"])]), never(1, 0));
    let http = |malformed| {
        content(Content::Http(Http {
            malformed,
            ..Http::default()
        }))
    };
    // A request line can be so broken that it is HTTP no more.
    assert_eq!(found(&[http(None), http(Some(true))]), by_order(0, 1));
}
