//! What services at one address have to do with each other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn what_belongs_to_an_address_is_in_every_service_there() {
    let table = load_ok(EVERYTHING);
    let service = |name: &str| table.services.iter().find(|s| s.name == name).unwrap();
    for name in ["tls", "http", "ssh", "bytes", "left"] {
        let Service {
            routing, socket, ..
        } = service(name);
        assert_eq!(
            routing.match_timeout,
            Some(Duration::from_secs(8)),
            "{name}"
        );
        assert_eq!(routing.first_byte_timeout, Some(Duration::from_secs(2)));
        assert_eq!(routing.proxy_protocol.as_ref().unwrap().len(), 2);
        assert_eq!(socket.backlog, Some(9));
        assert_eq!((socket.dscp, socket.mark), (Some(10), Some(3)));
        // From [defaults], for those without a table of their own.
        assert!(socket.nodelay);
    }
    for name in ["peers", "quic", "relay"] {
        let routing = &service(name).routing;
        assert_eq!(routing.match_timeout, None, "{name}");
        assert_eq!(routing.proxy_protocol, None);
    }
    let peers = &service("peers").routing.rules[0].address;
    assert_eq!(
        (peers.uid.as_slice(), peers.gid.as_slice()),
        (&[200, 7][..], &[4][..])
    );
}

fn routing(text: &str) -> Vec<(Option<Duration>, Option<Duration>)> {
    let services = load_ok(text).services;
    let both = |s: Service| (s.routing.match_timeout, s.routing.first_byte_timeout);
    services.into_iter().map(both).collect()
}

#[test]
fn deadlines_are_there_where_bytes_are_waited_for() {
    let seconds = |n| Some(Duration::from_secs(n));
    let two = |a: &str, b: &str| {
        routing(&format!(
            "service.a = {{ listen = 'tcp:80', forward = 'tcp:[::1]:1', {a} }}\n\
             service.b = {{ listen = 'tcp:80', forward = 'tcp:[::1]:2', {b} }}\n"
        ))
    };
    let both = |total, first| vec![(seconds(total), seconds(first)); 2];
    assert_eq!(two("enabled = true", "match.ssh = true"), both(5, 5));
    let server = "speaks_first = 'server'";
    assert_eq!(two(server, "match.ssh = true"), both(5, 2));
    assert_eq!(two(server, "enabled = true"), both(5, 2));
    assert_eq!(two("match.tls = true", "match.timeout = true"), both(5, 2));
    assert_eq!(
        two(
            "match.tls = true, match_timeout = '1s'",
            "match.timeout = true"
        ),
        both(1, 1)
    );
    assert_eq!(
        two(
            "match.tls = true, first_byte_timeout = '1s'",
            "match.ssh = true"
        ),
        both(5, 1)
    );
    assert_eq!(
        two("match.from = '::1'", "enabled = true"),
        vec![(None, None); 2]
    );
    assert_eq!(
        routing("service.a = { listen = 'tcp:80', builtin = 'echo', proxy_protocol = '::1' }"),
        [(seconds(5), seconds(5))]
    );
    assert_eq!(
        routing(
            "service.a = { listen = 'tcp:80', builtin = 'time' }\n[defaults]\nmatch_timeout = '1s'"
        ),
        [(None, None)]
    );
}

#[test]
fn a_services_own_word_goes_before_the_default_at_a_shared_address() {
    let table = load_ok(
        "[defaults]\nmatch_timeout = '9s'\nproxy_protocol = '192.0.2.1'\nsocket = { nodelay = true }\n\
         [service.a]\nlisten = 'tcp:80'\nbuiltin = 'echo'\n\
         [service.b]\nlisten = ['tcp:80', 'udp:80']\nbuiltin = 'discard'\nmatch_timeout = '3s'\n\
         proxy_protocol = '::1'\nmatch.dns = true\nsocket = { nodelay = false, dscp = 1 }\n\
         [service.c]\nlisten = 'udp:80'\nbuiltin = 'echo'\nmatch.from = '10.0.0.0/8'\n",
    );
    let [a, b, c] = table.services.as_slice() else {
        unreachable!()
    };
    for service in [a, b] {
        assert_eq!(service.routing.match_timeout, Some(Duration::from_secs(3)));
        assert_eq!(service.routing.proxy_protocol.as_ref().unwrap().len(), 1);
        assert!(!service.socket.nodelay);
        assert_eq!(service.socket.dscp, Some(1));
    }
    // Datagram sockets are each service's own.
    assert_eq!((c.routing.match_timeout, c.socket.dscp), (None, None));
}

#[test]
fn rules_are_shown_as_they_are_written() {
    let shown = |rule: &str| {
        let text = format!("service.a = {{ listen = 'tcp:80', builtin = 'echo', match = {rule} }}");
        show_rule(&load_ok(&text).services[0].routing.rules[0])
    };
    for (written, expected) in [
        (
            "{ tls.sni = 'Shop.example.' }",
            "tls.sni = [\"shop.example\"]",
        ),
        ("{ tls = true }", "tls = true"),
        ("{ any = true }", "any = true"),
        ("{ any = true, priority = -3 }", "any = true, priority = -3"),
        (
            "{ from = '192.0.2.7', ssh = true }",
            "ssh = true, from = [\"192.0.2.7/32\"]",
        ),
        ("{ socks = [4, 5] }", "socks = true"),
        ("{ socks = 4 }", "socks = [4]"),
        (
            "{ prefix = ['ab', { hex = '00ff' }] }",
            "prefix = [\"ab\", { hex = \"00 ff\" }]",
        ),
        (
            "{ dns.type = [1, 'TYPE257', 'type9999'] }",
            "dns.type = [\"A\", \"CAA\", \"TYPE9999\"]",
        ),
        (
            "{ timeout = true, eof = true }",
            "timeout = true, eof = true",
        ),
    ] {
        assert_eq!(shown(written), expected, "{written}");
    }
}

#[test]
fn services_share_an_address_if_match_tells_them_apart() {
    let pair = |listen: &str, a: &str, b: &str| {
        let text = format!(
            "[defaults]\nuser = 'git'\n\
             [service.a]\nlisten = '{listen}'\nexec = ['/a']\n{a}\n\
             [service.b]\nlisten = '{listen}'\nexec = ['/b']\n{b}\n"
        );
        try_load(&text, true).map_or_else(|c| c.to_string(), |_| String::new())
    };
    let ssh = "match.ssh = true";
    let server = "speaks_first = 'server'";
    for (listen, a, b) in [
        ("tcp:80", ssh, ""),
        ("tcp:80", "", ssh),
        ("tcp:80", ssh, "match.tls = true"),
        ("tcp:80", server, ""),
        ("unix:/run/x", ssh, ""),
        ("unix-seqpacket:@x", ssh, ""),
        ("vsock:5", ssh, ""),
        ("udp:80", "match.dns = true", ""),
        ("udp:80", "match.from = '10.0.0.0/8'", "match.prefix = 'x'"),
    ] {
        assert_eq!(pair(listen, a, b), "", "{listen} {a} {b}");
    }
    for (listen, a, b, expected) in [
        ("tcp:80", "", "", "already taken"),
        ("tcp:80", server, server, "already taken"),
        ("udp:80", "", "", "already taken"),
        ("udp:80", "speaks_first = 'server'", "", "already taken"),
        (
            "tcp:80",
            "wait = true",
            ssh,
            "takes its requests from the socket itself",
        ),
        (
            "tcp:80",
            "",
            "wait = true",
            "takes its requests from the socket itself",
        ),
        (
            "unix-dgram:/x",
            "",
            "match.prefix = 'x'",
            "cannot tell the datagrams",
        ),
        ("fd:web", ssh, "", "an inherited socket is for one service"),
        (
            "rpc-tcp:5/1",
            "",
            "",
            "rpcbind has one service for each program",
        ),
        ("tcp:80", "match.any = true", "", "is never reached"),
    ] {
        let said = pair(listen, a, b);
        assert!(said.contains(expected), "{listen} {a} {b}: {said}");
    }
}

#[test]
fn a_thousand_services_at_one_address_are_compared_in_no_time() {
    let mut text = String::from("[defaults]\nuser = 'nobody'\n");
    for n in 0..1_000 {
        text.push_str(&format!(
            "[service.s{n}]\nlisten = 'tcp:443'\nexec = ['/bin/cat']\n\
             match = {{ tls.sni = ['h{n}.example', '**.h{n}.example'] }}\n"
        ));
    }
    let began = std::time::Instant::now();
    assert_eq!(load_ok(&text).services.len(), 1_000);
    println!("loaded in {:?}", began.elapsed());
}
