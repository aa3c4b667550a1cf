//! Which of several services at one address a request is for, as far as
//! addresses and the order of rules have a say.

use crate::common::opening::{hello, hello_of_size};
use crate::common::*;
use crate::shared_port::*;
use crate::tests;

tests![
    the_longest_prefix_wins_over_priority_and_order,
    addresses_and_content_must_both_hold,
    priority_wins_over_order_and_order_decides_the_rest,
    the_most_telling_name_of_a_tls_client_wins,
    several_rules_of_one_service_are_alternatives,
    what_no_rule_holds_for_goes_to_the_fallback,
    without_a_fallback_what_no_rule_holds_for_is_closed,
    a_service_that_denies_the_peer_refuses_and_is_not_skipped,
    whom_every_service_denies_is_closed_before_a_byte,
    whom_one_service_lets_in_is_heard_first,
    facts_of_the_match_are_in_the_environment,
    no_name_of_a_client_breaks_out_of_the_environment,
    a_rule_with_thousands_of_names_fits_into_the_environment,
];

const GET: &[u8] = b"GET /api/x HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn the_longest_prefix_wins_over_priority_and_order() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("eight", r#"{ from = "127.0.0.0/8", priority = 100 }"#),
        ("host", r#"{ from = "127.0.3.9", priority = -100 }"#),
        ("sixteen", r#"{ from = "127.0.0.0/16", priority = 50 }"#),
        ("all", r#"{ from = "0.0.0.0/0", priority = 200 }"#),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let from = |ip| server(&mut Peer::tcp_from(ip, port));
    assert_eq!(from([127, 0, 3, 9]), "host");
    assert_eq!(from([127, 0, 3, 8]), "sixteen");
    assert_eq!(from([127, 1, 3, 9]), "eight");
}

fn addresses_and_content_must_both_hold() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("near", r#"{ from = "127.0.0.9", tls.sni = "a.test" }"#),
        ("tls", "{ tls = true }"),
        ("near_http", r#"{ from = "127.0.0.9", http = true }"#),
        ("rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let from = |host, bytes: &[u8]| served_by(&mut Peer::tcp_from([127, 0, 0, host], port), bytes);
    assert_eq!(from(9, &hello("a.test")), "near");
    assert_eq!(from(8, &hello("a.test")), "tls");
    assert_eq!(from(9, &hello("b.test")), "tls");
    assert_eq!(from(9, GET), "near_http");
    assert_eq!(from(8, GET), "rest");
}

fn priority_wins_over_order_and_order_decides_the_rest() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("low", r#"{ prefix = "ab", priority = -1 }"#),
        ("first", r#"{ prefix = "abc" }"#),
        ("second", r#"{ regex = "abc[def]" }"#),
        ("high", r#"{ prefix = "abcf", priority = 1 }"#),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let sent = |bytes: &str| served_by(&mut Peer::tcp(port), bytes.as_bytes());
    assert_eq!(sent("abf"), "low");
    assert_eq!(sent("abcd"), "first");
    assert_eq!(sent("abcf"), "high");
    assert_eq!(sent("xyz"), "");
}

fn the_most_telling_name_of_a_tls_client_wins() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("depth", r#"{ tls.sni = "**.shop.test" }"#),
        ("label", r#"{ tls.sni = "*.shop.test" }"#),
        ("exact", r#"{ tls.sni = "www.shop.test" }"#),
        ("any", "{ tls = true, priority = -1 }"),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let asks = |bytes: Vec<u8>| served_by(&mut Peer::tcp(port), &bytes);
    assert_eq!(asks(hello("www.shop.test")), "exact");
    assert_eq!(asks(hello("WWW.Shop.TEST")), "exact");
    assert_eq!(asks(hello("img.shop.test")), "label");
    assert_eq!(asks(hello("a.b.shop.test")), "depth");
    assert_eq!(asks(hello("shop.example")), "any");
    assert_eq!(asks(hello_of_size("www.shop.test", 9_000)), "exact");
}

fn several_rules_of_one_service_are_alternatives() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        (
            "both",
            r#"[{ ssh = true }, { tls.sni = ["a.test", "b.test"] }]"#,
        ),
        ("rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let sent = |bytes: &[u8]| served_by(&mut Peer::tcp(port), bytes);
    assert_eq!(sent(b"SSH-2.0-x\r\n"), "both");
    assert_eq!(sent(&hello("b.test")), "both");
    assert_eq!(sent(&hello("c.test")), "rest");
}

fn what_no_rule_holds_for_goes_to_the_fallback() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("shop", r#"{ tls.sni = "shop.test" }"#),
        ("api", r#"{ http.host = "a.test", http.path = "/api" }"#),
        ("rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let sent = |bytes: &[u8]| served_by(&mut Peer::tcp(port), bytes);
    assert_eq!(sent(&hello("shop.test")), "shop");
    assert_eq!(sent(GET), "api");
    assert_eq!(sent(b"GET /apix HTTP/1.1\r\nHost: a.test\r\n\r\n"), "rest");
    assert_eq!(sent(b"\0\x01\x02"), "rest");
    // A decided client need not end to be served.
    let mut peer = Peer::tcp(port);
    assert_eq!(server(peer.send(b"x")), "rest");
}

fn without_a_fallback_what_no_rule_holds_for_is_closed() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("shop", r#"{ tls.sni = "shop.test" }"#),
        ("ssh", "{ ssh = true }"),
    ];
    let daemon = Daemon::start(&dir, &table(port, &services));
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.send(GET).read_text(), "");
    let line = daemon.log.wait_after(0, &["no rule of `match` holds"]);
    assert!(line.contains(&port.to_string()), "{line}");
    assert_eq!(daemon.log.count(&["started"]), 0);
}

fn a_service_that_denies_the_peer_refuses_and_is_not_skipped() {
    let (dir, port) = (Dir::new(), free_port());
    let denies =
        "match = { ssh = true }\ndeny = [\"127.0.0.2\"]\nbanner = { refused = \"not you\\n\" }\n";
    let services = [on(port, "ssh", denies), on(port, "rest", "")];
    let daemon = Daemon::start(&dir, &services.concat());
    let say = |host, bytes: &str| {
        let mut peer = Peer::tcp_from([127, 0, 0, host], port);
        peer.send(bytes).read_line()
    };
    assert!(say(3, "SSH-2.0-x\r\n").starts_with("ssh "));
    assert_eq!(say(2, "SSH-2.0-x\r\n"), "not you\n");
    assert!(say(2, "hello\r\n").starts_with("rest "));
    daemon
        .log
        .wait_after(0, &["refused", "127.0.0.2", "address denied", "ssh"]);
}

fn whom_every_service_denies_is_closed_before_a_byte() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        on(
            port,
            "ssh",
            "match = { ssh = true }\ndeny = [\"127.0.0.2\"]\n",
        ),
        on(
            port,
            "tls",
            "match = { tls = true }\nallow = [\"127.0.0.3\"]\n",
        ),
        on(port, "near", "match = { from = \"127.0.0.4\" }\n"),
    ];
    let daemon = Daemon::start(&dir, &services.concat());
    assert_eq!(Peer::tcp_from([127, 0, 0, 2], port).read_text(), "");
    daemon
        .log
        .wait_after(0, &["refused", "127.0.0.2", "address denied"]);
    assert_eq!(server(&mut Peer::tcp_from([127, 0, 0, 4], port)), "near");
}

fn whom_one_service_lets_in_is_heard_first() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        on(
            port,
            "ssh",
            "match = { ssh = true }\ndeny = [\"127.0.0.2\"]\n",
        ),
        on(port, "tls", "match = { tls = true }\n"),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    let mut peer = Peer::tcp_from([127, 0, 0, 2], port);
    assert!(peer.hears_nothing_for(std::time::Duration::from_millis(100)));
    assert_eq!(served_by(&mut peer, &hello("a.test")), "tls");
    let mut peer = Peer::tcp_from([127, 0, 0, 2], port);
    assert_eq!(peer.send("SSH-2.0-x\r\n").read_text(), "");
}

fn facts_of_the_match_are_in_the_environment() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("shop", r#"[{ ssh = true }, { tls.sni = "*.shop.test" }]"#),
        ("web", r#"{ http.host = "a.test" }"#),
        ("rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let sent = |bytes: &[u8]| greeting(Peer::tcp(port).send(bytes)).1;
    let said = sent(&hello("Img.Shop.test"));
    assert_eq!(value(&said, "sni").to_lowercase(), "img.shop.test");
    assert_eq!(value(&said, "alpn"), "h2,http/1.1");
    assert!(said.contains("rule=tls.sni"), "{said}");
    let said = sent(GET);
    assert_eq!(value(&said, "host"), "a.test");
    assert_eq!(value(&said, "sni"), "");
    let said = sent(b"other");
    assert_eq!(value(&said, "rule"), "", "{said}");
}

fn no_name_of_a_client_breaks_out_of_the_environment() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("named", r#"{ tls.sni = "a.test" }"#),
        ("tls", "{ tls = true, priority = -1 }"),
        ("web", r#"{ http = true }"#),
    ];
    let daemon = Daemon::start(&dir, &table(port, &services));
    let bad = [
        "a\nb=c\0d".to_owned(),
        "x".repeat(250),
        "\u{1b}[31m".to_owned(),
        "$(reboot)`id`".to_owned(),
    ];
    for name in bad {
        let (service, said) = greeting(Peer::tcp(port).send(hello(&name)));
        assert!(["tls", ""].contains(&&*service), "{service} {said}");
        let host = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", name.replace('\n', ""));
        let (_, said) = greeting(Peer::tcp(port).send(host));
        assert!(said.len() < 2_000, "{said}");
    }
    assert!(!daemon.log.text().contains('\u{1b}'));
    assert_eq!(served_by(&mut Peer::tcp(port), &hello("a.test")), "named");
}

fn a_rule_with_thousands_of_names_fits_into_the_environment() {
    let (dir, port) = (Dir::new(), free_port());
    // As one string this is more than execve(2) takes.
    let names: Vec<String> = (0..6_000)
        .map(|nth| format!("\"host-{nth}.customers.test\""))
        .collect();
    let rule = format!("{{ tls.sni = [{}] }}", names.join(", "));
    let services = [("many", &*rule), ("wide", "{ tls.sni = \"**.test\" }")];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    let mut peer = Peer::tcp(port);
    let (name, said) = greeting(peer.send(hello("host-5999.customers.test")));
    assert_eq!(name, "many");
    let (_, rule) = said.split_once("rule=").unwrap();
    let (rule, _) = rule.split_once(" sni=").unwrap();
    assert!(rule.starts_with("tls.sni = [\"host-0."), "{rule}");
    assert!(rule.ends_with("...") && rule.len() <= 256, "{rule}");
}
