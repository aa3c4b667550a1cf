//! Requests as clients and attackers write them, judged at every cut.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::demux::laws;
use crate::demux::names;

fn host_rule(host: &str) -> Http {
    Http {
        host: vec![names::pattern(host).unwrap()],
        ..Http::default()
    }
}

fn path_rule(path: &str) -> Http {
    Http {
        path: vec![path.into()],
        ..Http::default()
    }
}

fn malformed_rule(malformed: bool) -> Http {
    Http {
        malformed: Some(malformed),
        ..Http::default()
    }
}

fn obeys_the_laws(sample: &[u8]) {
    let rules = [
        Http::default(),
        host_rule("shop.example"),
        path_rule("/api"),
        Http {
            method: vec!["GET".into()],
            ..Http::default()
        },
        Http {
            header: vec!["Upgrade".into()],
            ..Http::default()
        },
        Http {
            header: vec!["host".into()],
            malformed: Some(true),
            ..Http::default()
        },
        malformed_rule(true),
        malformed_rule(false),
    ];
    for rule in rules {
        laws::obeyed(sample, |bytes| judge(&rule, &view(bytes)).0);
    }
    laws::obeyed(sample, |bytes| start_line(bytes, b"RTSP/1.0"));
}

fn verdict(rule: &Http, request: &[u8]) -> Verdict {
    obeys_the_laws(request);
    judge(rule, &view(request)).0
}

fn is_http(request: &[u8]) -> Verdict {
    verdict(&Http::default(), request)
}

fn host(request: &str) -> Option<String> {
    obeys_the_laws(request.as_bytes());
    view(request.as_bytes()).host().map(Name::to_string)
}

fn get(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\n{headers}\r\n")
}

/// Malformed by its request line: not HTTP to any other rule.
fn assert_broken_line(request: &[u8]) {
    let shown = request.escape_ascii();
    assert_eq!(
        verdict(&malformed_rule(true), request),
        Verdict::Yes,
        "{shown}"
    );
    for rule in [
        Http::default(),
        malformed_rule(false),
        host_rule("**.example"),
        path_rule("/"),
    ] {
        assert_eq!(verdict(&rule, request), Verdict::No, "{shown}");
    }
}

/// Malformed by its headers: what the request line said stays said.
fn assert_broken_head(headers: &str) {
    let request = get(headers);
    let request = request.as_bytes();
    assert_eq!(
        verdict(&malformed_rule(true), request),
        Verdict::Yes,
        "{headers:?}"
    );
    assert_eq!(
        verdict(&malformed_rule(false), request),
        Verdict::No,
        "{headers:?}"
    );
    assert_eq!(verdict(&path_rule("/"), request), Verdict::Yes);
    assert_eq!(is_http(request), Verdict::Yes);
    assert_eq!(verdict(&host_rule("shop.example"), request), Verdict::No);
    let header = Http {
        header: vec!["host".into()],
        ..Http::default()
    };
    assert_eq!(verdict(&header, request), Verdict::No);
    assert!(view(request).fault().is_some());
}

#[test]
fn a_request_is_known_at_the_end_of_its_first_line() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\n",
        "PROPFIND /x?y=/../z HTTP/1.1\r\n",
        "GET http://a.example HTTP/1.1\r\n",
        "A / HTTP/1.9\n",
    ] {
        assert_eq!(is_http(line.as_bytes()), Verdict::Yes, "{line}");
        let cut = &line.as_bytes()[..line.len() - 1];
        assert_eq!(is_http(cut), Verdict::Need(line.len()), "{line}");
    }
}

#[test]
fn what_is_not_http_is_denied_at_once() {
    for (bytes, denied_at) in [
        (&b"\x16\x03\x01"[..], 1),
        (b"\r\nGET / HTTP/1.1\r\n", 1),
        (b" GET / HTTP/1.1\r\n", 1),
        (b"SSH-2.0-x\r\n", 10),
        (b"GET /\r\n", 6),
        (b"GET\t/ HTTP/1.1\r\n", 4),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 12),
        (b"OPTIONS * RTSP/1.0\r\n", 11),
        (b"OPTIONS sip:a@b SIP/2.0\r\n", 17),
        (b"OPTIONS icap://a/b ICAP/1.0\r\n", 20),
        (b"GET / HTTP/1.1x\r\n", 15),
        (b"GET / http/1.1\r\n", 7),
        (&[b'A'; 40], 33),
    ] {
        assert_eq!(is_http(bytes), Verdict::No);
        let at = (0..=bytes.len()).find(|&at| view(&bytes[..at]).is_http() == Verdict::No);
        assert_eq!(at, Some(denied_at), "{}", bytes.escape_ascii());
        assert_eq!(
            verdict(&malformed_rule(true), bytes),
            Verdict::No,
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn broken_request_lines_are_malformed_http() {
    for line in [
        &b"GET  / HTTP/1.1\r\n"[..],
        b"GET /a b HTTP/1.1\r\n",
        b"GET HTTP/1.1\r\n",
        b"GET /\0 HTTP/1.1\r\n",
        b"GET /\rx HTTP/1.1\n",
        b"GET /\xc3\xbc HTTP/1.1\r\n",
        b"GET x HTTP/1.1\r\n",
        b"GET * HTTP/1.1\r\n",
        b"CONNECT / HTTP/1.1\r\n",
        b"CONNECT a.example HTTP/1.1\r\n",
        b"CONNECT a.example:70000 HTTP/1.1\r\n",
        b"GET http:///x HTTP/1.1\r\n",
        b"GET http://user@a.example/ HTTP/1.1\r\n",
        b"GET http://[fe80::1%25e]/ HTTP/1.1\r\n",
        b"GET 1http://a.example/ HTTP/1.1\r\n",
    ] {
        assert_broken_line(line);
    }
}

#[test]
fn broken_headers_are_malformed_http() {
    for headers in [
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host : a\r\n",
        "Host\r\n",
        ": a\r\n",
        " Host: a\r\n",
        "A: b\r\n c\r\n",
        "A: b\rc\r\n",
        "A: b\r\r\n",
        "A: b\0\r\n",
        "A: \x1b[2J\r\n",
        "A b: c\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a..b\r\n",
        "Host: a:b\r\n",
        "Host: a:65536\r\n",
        "Host: a:+80\r\n",
        "Host: :80\r\n",
        "Host: 2001:db8::1\r\n",
        "Host: [2001:db8::1%eth0]\r\n",
        "Host: [192.0.2.1]\r\n",
        "Host: [::1]x\r\n",
    ] {
        assert_broken_head(headers);
    }
}

#[test]
fn a_host_is_folded_and_its_port_removed() {
    for (value, expected) in [
        ("Shop.EXAMPLE", "shop.example"),
        ("shop.example.:8080", "shop.example"),
        ("  shop.example: \t", "shop.example"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[2001:DB8:0::1]:443", "2001:db8::1"),
        ("a_b", "a_b"),
    ] {
        assert_eq!(
            host(&get(&format!("A: b\r\nhOST:{value}\r\n"))).as_deref(),
            Some(expected)
        );
    }
    assert_eq!(host(&get("Host:\r\n")), None);
    assert_eq!(host(&get("A: b\r\n")), None);
    assert_eq!(host("GET / HTTP/1.1\r\nHost: a.example\r\n"), None);
}

#[test]
fn the_target_counts_before_the_host_header() {
    let said = |line: &str| host(&format!("{line} HTTP/1.1\r\nHost: other.example\r\n\r\n"));
    assert_eq!(
        said("GET http://Shop.example:80/x").as_deref(),
        Some("shop.example")
    );
    assert_eq!(said("GET https://[::1]?q").as_deref(), Some("::1"));
    assert_eq!(
        said("CONNECT shop.example:443").as_deref(),
        Some("shop.example")
    );
    assert_eq!(said("OPTIONS *").as_deref(), Some("other.example"));
    let twice = b"GET http://shop.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(verdict(&host_rule("shop.example"), twice), Verdict::No);
    assert_eq!(verdict(&malformed_rule(true), twice), Verdict::Yes);
}

#[test]
fn host_rules_wait_for_the_blank_line() {
    let request = get("Host: shop.example\r\n");
    let rule = host_rule("shop.example");
    let cut = &request.as_bytes()[..request.len() - 1];
    assert_eq!(verdict(&rule, cut), Verdict::Need(request.len()));
    let weight = u32::from(u16::MAX) << 16;
    assert_eq!(
        judge(&rule, &view(request.as_bytes())),
        (Verdict::Yes, weight)
    );
    let other = get("Host: other.example\r\n");
    assert_eq!(verdict(&rule, other.as_bytes()), Verdict::No);
    let bare = b"GET / HTTP/1.1\nHost: shop.example\n\nbody \0";
    assert_eq!(verdict(&rule, bare), Verdict::Yes);
}

#[test]
fn paths_are_compared_on_segment_boundaries() {
    let holds = |rule: &str, target: &str| {
        verdict(
            &path_rule(rule),
            format!("GET {target} HTTP/1.1\r\n").as_bytes(),
        ) == Verdict::Yes
    };
    for (rule, target) in [
        ("/api", "/api"),
        ("/api", "/api?x"),
        ("/api", "/api/"),
        ("/api", "/api/x"),
        ("/api/", "/api/"),
        ("/api/", "/api/x"),
        ("/", "/anything?a//b/../c"),
        ("/", "http://a.example"),
        ("/", "http://a.example?q"),
        ("/api", "http://a.example/api/x?y"),
        ("/a", "/a/..b/c..d/..."),
    ] {
        assert!(holds(rule, target), "{rule} {target}");
    }
    for (rule, target) in [
        ("/api", "/apix"),
        ("/api", "/API"),
        ("/api/", "/api"),
        ("/api", "/"),
        ("/", "/api/../x"),
        ("/", "/."),
        ("/", "/x/.."),
        ("/", "//x"),
        ("/api", "/api//x"),
        ("/api", "/api/%2e%2E/x"),
        ("/api", "/api/x%2Ey"),
    ] {
        assert!(!holds(rule, target), "{rule} {target}");
    }
    assert_eq!(
        verdict(&path_rule("/"), b"OPTIONS * HTTP/1.1\r\n"),
        Verdict::No
    );
    assert_eq!(
        verdict(&path_rule("/"), b"CONNECT a:1 HTTP/1.1\r\n"),
        Verdict::No
    );
}

#[test]
fn host_weighs_more_than_path() {
    let rule = Http {
        host: vec![names::pattern("*.example").unwrap()],
        path: vec!["/".into(), "/api".into()],
        method: vec!["POST".into(), "GET".into()],
        header: vec!["upgrade".into()],
        malformed: Some(false),
    };
    let request = b"GET /api/x HTTP/1.1\r\nHost: shop.example\r\nUpgrade:\r\n\r\n";
    let weight = u32::from(rule.host[0].weight()) << 16 | 5;
    assert_eq!(judge(&rule, &view(request)), (Verdict::Yes, weight));
    for fails in [
        Http {
            method: vec!["get".into()],
            ..rule.clone()
        },
        Http {
            path: vec!["/other".into()],
            ..rule.clone()
        },
        Http {
            header: vec!["up".into()],
            ..rule.clone()
        },
        Http {
            malformed: Some(true),
            ..rule
        },
    ] {
        assert_eq!(judge(&fails, &view(request)), (Verdict::No, 0));
    }
}

#[test]
fn a_hundred_header_lines_are_looked_at() {
    let rule = Http {
        header: vec!["last".into()],
        ..Http::default()
    };
    let enough = get(&("A: b\r\n".repeat(99) + "Last: x\r\n"));
    assert_eq!(verdict(&rule, enough.as_bytes()), Verdict::Yes);
    let more = get(&("A: b\r\n".repeat(100) + "Last: x\r\n"));
    assert_eq!(verdict(&rule, more.as_bytes()), Verdict::No);
    assert_eq!(is_http(more.as_bytes()), Verdict::Yes);
    assert_eq!(verdict(&malformed_rule(true), more.as_bytes()), Verdict::No);
}

#[test]
fn a_long_target_is_followed_to_its_end() {
    let request = format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(8000));
    assert_eq!(
        judge(&path_rule("/a"), &view(request.as_bytes())).0,
        Verdict::Yes
    );
    assert_eq!(
        view(&request.as_bytes()[..15_000]).is_http(),
        Verdict::Need(15_001)
    );
}

#[test]
fn other_protocols_have_the_same_first_line() {
    assert_eq!(
        start_line(b"DESCRIBE rtsp://a/b RTSP/1.0\r\n", b"RTSP/1.0"),
        Verdict::Yes
    );
    assert_eq!(
        start_line(b"INVITE sip:a@b SIP/2.0\r\n", b"SIP/2.0"),
        Verdict::Yes
    );
    assert_eq!(
        start_line(b"INVITE sip:a@b SIP/2", b"SIP/2.0"),
        Verdict::Need(21)
    );
    assert_eq!(start_line(b"INVITE sip:a@b R", b"SIP/2.0"), Verdict::No);
    assert_eq!(start_line(b"", b"SIP/2.0"), Verdict::Need(1));
}

const SEEDS: [&[u8]; 4] = [
    b"GET /api/x?y HTTP/1.1\r\nHost: shop.example\r\nUpgrade: x\r\n\r\nbody",
    b"CONNECT shop.example:443 HTTP/1.1\nHost: [::1]:80\n\n",
    b"GET http://shop.example/api HTTP/1.0\r\nA:b\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
];

proptest! {
    #[test]
    fn noise_obeys_the_laws(noise in "[ -~\r\n\t\0]{0,120}", raw in proptest::collection::vec(any::<u8>(), 0..60)) {
        obeys_the_laws(noise.as_bytes());
        obeys_the_laws(&raw);
        obeys_the_laws(format!("GET /{noise}").as_bytes());
        obeys_the_laws(format!("GET / HTTP/1.1\r\n{noise}").as_bytes());
    }

    #[test]
    fn damaged_requests_obey_the_laws(
        seed in 0..SEEDS.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b" \r\n\t\0:/.A\xff"[..])), 0..4),
    ) {
        let mut bytes = SEEDS[seed].to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        obeys_the_laws(&bytes);
    }
}
