//! PROXY headers of clients: who must send one, what is believed of it, and
//! that the server reads exactly what comes behind it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use usherd::helper::told::{Proxied, Told};
use usherd::helper::wire::{Notice, Refusal};

use crate::common::opening::*;
use crate::common::*;
use crate::helper::{Stolen, refused};
use crate::shared_port::*;
use crate::tests;

tests![
    version_1_may_be_cut_at_every_byte,
    version_2_may_be_cut_at_every_byte,
    every_byte_may_come_alone,
    header_and_payload_in_one_segment_are_told_apart,
    a_client_of_ipv6_may_come_through_a_proxy_of_ipv4,
    a_checksum_is_checked,
    what_a_header_tells_is_in_the_environment,
    a_proxy_may_speak_for_itself,
    from_others_a_header_is_payload,
    a_proxy_without_a_header_is_turned_away,
    half_a_header_ends_at_the_deadline_and_falls_back_to_nobody,
    a_proxy_that_connects_and_leaves_is_no_event,
    the_announced_peer_is_judged,
    the_announced_peer_counts_for_its_source,
    the_announced_peer_has_its_own_rate,
    a_relay_announces_the_first_client,
    the_helper_believes_proxies_and_nobody_else,
];

const CLIENT: &str = "203.0.113.9:50000";
const SERVER: &str = "192.0.2.1:443";
const SSH: &[u8] = b"SSH-2.0-x\r\nrest";

/// Three services behind 127.0.0.1 as the only proxy; more for the first one.
fn services(port: u16, more: &str) -> String {
    let first = format!(
        "match = {{ ssh = true }}\nproxy_protocol = [\"127.0.0.1\"]\ninstances = 500\n{more}\n"
    );
    let shop = "match = { tls.sni = \"shop.test\" }\n";
    [
        on(port, "ssh", &first),
        on(port, "shop", shop),
        on(port, "rest", ""),
    ]
    .concat()
}

fn v1() -> Vec<u8> {
    proxy1(CLIENT, SERVER)
}

fn v2(tlvs: &[u8]) -> Vec<u8> {
    proxy2(CLIENT, SERVER, tlvs)
}

/// Reads what the server got, the header apart.
fn through(peer: &mut Peer, payload: &[u8]) -> String {
    let (name, said) = greeting(peer.finish());
    assert_eq!(peer.read_all(), payload, "{name} read something else");
    assert!(
        name.is_empty() || value(&said, "peer") == CLIENT,
        "{name} {said}"
    );
    name
}

fn cut_everywhere(header: &[u8]) {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, ""));
    let all = [header, SSH].concat();
    let mut peers = Vec::new();
    for cut in 1..all.len() {
        let mut peer = Peer::tcp(port);
        peer.send(&all[..cut]);
        peers.push((cut, peer));
    }
    for (cut, peer) in &mut peers {
        peer.send(&all[*cut..]);
    }
    for (cut, mut peer) in peers {
        assert_eq!(through(&mut peer, SSH), "ssh", "cut at {cut}");
    }
}

fn version_1_may_be_cut_at_every_byte() {
    cut_everywhere(&v1());
}

fn version_2_may_be_cut_at_every_byte() {
    cut_everywhere(&v2(&tlv(5, b"id")));
}

fn every_byte_may_come_alone() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, "match_timeout = \"60s\"\n"));
    for header in [v1(), v2(&[])] {
        let mut peer = Peer::tcp(port);
        peer.send_one_by_one(&header).send_one_by_one(SSH);
        assert_eq!(through(&mut peer, SSH), "ssh");
    }
}

fn header_and_payload_in_one_segment_are_told_apart() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, ""));
    let large = hello_of_size("shop.test", 5_000);
    for header in [v1(), v2(&[]), proxy2_summed(CLIENT, SERVER, &[], true)] {
        for (payload, name) in [(SSH, "ssh"), (&large[..], "shop"), (b"PROXY", "rest")] {
            let mut peer = Peer::tcp(port);
            peer.send([&header[..], payload].concat());
            assert_eq!(through(&mut peer, payload), name);
        }
    }
}

fn a_client_of_ipv6_may_come_through_a_proxy_of_ipv4() {
    let (dir, port) = (Dir::new(), free_port());
    let near = "match = { from = \"2001:db8::/32\", to = \"2001:db8::1\" }\n";
    let table = services(port, "") + &on(port, "near", near);
    let _daemon = Daemon::start(&dir, &table);
    let ends = ("[2001:db8::7]:50000", "[2001:db8::1]:443");
    for header in [proxy1(ends.0, ends.1), proxy2(ends.0, ends.1, &[])] {
        let (name, said) = greeting(Peer::tcp(port).send(header));
        assert_eq!(name, "near", "{said}");
        assert_eq!(value(&said, "peer"), "2001:db8::7:50000");
        assert_eq!(value(&said, "local"), "2001:db8::1:443");
    }
}

fn a_checksum_is_checked() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, ""));
    let send = |right| {
        let header = proxy2_summed(CLIENT, SERVER, &tlv(5, b"id"), right);
        server(Peer::tcp(port).send([&header[..], SSH].concat()))
    };
    assert_eq!(send(true), "ssh");
    assert_eq!(send(false), "");
    daemon
        .log
        .wait_after(0, &["refused", "no good PROXY header"]);
    daemon.log.wait_exactly(1, &["started"]);
}

fn what_a_header_tells_is_in_the_environment() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, ""));
    let tlvs = [
        tlv(1, b"h2"),
        tlv(2, b"www.shop.test"),
        tlv(5, &[1, 0xab]),
        tlv(0xe7, b"?"),
    ];
    let payload = hello("shop.test");
    let mut peer = Peer::tcp(port);
    peer.send([&v2(&tlvs.concat())[..], &payload].concat());
    let (name, said) = greeting(&mut peer);
    assert_eq!(name, "shop");
    for (key, wanted) in [
        ("peer", CLIENT),
        ("local", SERVER),
        ("sni", "shop.test"),
        ("v", "2"),
        ("authority", "www.shop.test"),
        ("id", "01ab"),
    ] {
        assert_eq!(value(&said, key), wanted, "{said}");
    }
    let real = format!("127.0.0.1:{}", peer.local_port());
    assert_eq!(value(&said, "proxy"), real);
    daemon.log.wait_after(0, &["started", "shop", CLIENT]);
}

fn a_proxy_may_speak_for_itself() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, ""));
    let headers = [
        proxy2_local(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\n".to_vec(),
    ];
    for header in headers {
        let mut peer = Peer::tcp(port);
        peer.send([&header[..], SSH].concat());
        let (name, said) = greeting(&mut peer);
        assert_eq!(name, "ssh", "{:?}", String::from_utf8_lossy(&header));
        let real = format!("127.0.0.1:{}", peer.local_port());
        assert_eq!(value(&said, "peer"), real);
        assert_eq!(peer.finish().read_all(), SSH);
    }
}

fn from_others_a_header_is_payload() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, ""));
    let sent = [&v1()[..], SSH].concat();
    let mut peer = Peer::tcp_from([127, 0, 0, 2], port);
    assert_eq!(served_by(&mut peer, &sent), "rest");
    let mut peer = Peer::tcp_from([127, 0, 0, 2], port);
    assert_eq!(served_by(&mut peer, SSH), "ssh");
}

fn a_proxy_without_a_header_is_turned_away() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, ""));
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    let bad: [&[u8]; 6] = [
        SSH,
        &hello("shop.test"),
        b"PROXY TCP4 999.0.0.1 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n",
        b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        &long,
    ];
    for bytes in bad {
        assert_eq!(server(Peer::tcp(port).send(bytes)), "");
    }
    daemon
        .log
        .wait_after(0, &["refused", "no good PROXY header", "127.0.0.1"]);
    assert_eq!(daemon.log.count(&["started"]), 0);
}

fn half_a_header_ends_at_the_deadline_and_falls_back_to_nobody() {
    let (dir, port) = (Dir::new(), free_port());
    let deadlines = "first_byte_timeout = \"300ms\"\nmatch_timeout = \"600ms\"\n";
    let daemon = Daemon::start(&dir, &services(port, deadlines));
    for header in [v1(), v2(&[])] {
        let mut peer = Peer::tcp(port);
        assert_eq!(peer.send(&header[..14]).read_text(), "");
        let mut peer = Peer::tcp(port);
        assert_eq!(peer.send(&header[..14]).finish().read_text(), "");
    }
    // All of a header and nothing behind it is another matter.
    assert_eq!(server(Peer::tcp(port).send(v1())), "rest");
    daemon.log.wait_exactly(1, &["started"]);
}

fn a_proxy_that_connects_and_leaves_is_no_event() {
    let (dir, port) = (Dir::new(), free_port());
    let deadlines = "first_byte_timeout = \"300ms\"\nmatch_timeout = \"600ms\"\n";
    let daemon = Daemon::start(&dir, &services(port, deadlines));
    assert_eq!(Peer::tcp(port).finish().read_text(), "");
    assert_eq!(Peer::tcp(port).read_text(), "");
    assert_eq!(daemon.log.count(&["started"]), 0);
    assert_eq!(daemon.log.count(&["warn"]), 0, "{}", daemon.log.text());
}

/// Comes through the proxy from this address.
fn from(port: u16, client: &str) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send([&proxy1(client, SERVER)[..], SSH].concat());
    peer
}

fn the_announced_peer_is_judged() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "deny = [\"203.0.113.0/24\"]\nallow = [\"192.0.2.0/24\"]\nbanner = { refused = \"no\\n\" }\n";
    let daemon = Daemon::start(&dir, &services(port, more));
    assert_eq!(server(&mut from(port, "192.0.2.77:1")), "ssh");
    assert_eq!(from(port, CLIENT).read_line(), "no\n");
    assert_eq!(from(port, "198.51.100.1:1").read_line(), "no\n");
    daemon
        .log
        .wait_after(0, &["refused", "address denied", CLIENT]);
}

fn the_announced_peer_counts_for_its_source() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, "per_source = 1\n"));
    let mut one = from(port, "203.0.113.9:1");
    assert_eq!(server(&mut one), "ssh");
    assert_eq!(server(&mut from(port, "203.0.113.9:2")), "");
    let mut other = from(port, "203.0.113.10:3");
    assert_eq!(server(&mut other), "ssh");
}

fn the_announced_peer_has_its_own_rate() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &services(port, "rate_per_source = \"1/h burst 1\"\n"));
    assert_eq!(server(&mut from(port, "203.0.113.9:1")), "ssh");
    assert_eq!(server(&mut from(port, "203.0.113.9:2")), "");
    assert_eq!(server(&mut from(port, "203.0.113.10:3")), "ssh");
}

fn a_relay_announces_the_first_client() {
    let (dir, port) = (Dir::new(), free_port());
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let up = upstream.local_addr().unwrap().port();
    let serve = move || {
        for mut stream in upstream.incoming().flatten() {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = stream.write_all(&bytes);
        }
    };
    thread::spawn(serve);
    let relay = |name: &str, rule: &str, version: &str| {
        format!(
            "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nproxy_protocol = [\"127.0.0.1\"]\n{rule}forward = {{ to = [\"tcp:127.0.0.1:{up}\"], proxy = \"{version}\" }}\n"
        )
    };
    let services = [
        relay("one", "match = { ssh = true }\n", "v1"),
        relay("two", "", "v2"),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    let ask = |payload: &[u8]| {
        let mut peer = Peer::tcp(port);
        peer.send([&v1()[..], payload].concat());
        peer.finish().read_all()
    };
    let wanted = format!(
        "PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\r\n{}",
        String::from_utf8_lossy(SSH)
    );
    assert_eq!(String::from_utf8_lossy(&ask(SSH)), wanted);
    let got = ask(b"other");
    assert!(got.ends_with(b"other"));
    assert_eq!(got[12..14], [0x21, 0x11]);
    assert_eq!(got[16..24], [203, 0, 113, 9, 192, 0, 2, 1]);
}

fn the_helper_believes_proxies_and_nobody_else() {
    let (dir, port) = (Dir::new(), free_port());
    let only = on(
        port,
        "only",
        "proxy_protocol = [\"127.0.0.1\"]\ndeny = [\"198.51.100.0/24\"]\n",
    );
    let daemon = Daemon::start(&dir, &only);
    let mut stolen = Stolen::take(&daemon);
    let (service, listener) = stolen.find_service();
    let brings = |from: &str| Told {
        proxy: Some(Proxied {
            version: 1,
            ends: Some((from.parse().unwrap(), SERVER.parse().unwrap())),
            authority: None,
            alpn: None,
            unique_id: None,
        }),
        ..Told::default()
    };
    let mut verdict = |source: u8, told: Option<Told>| {
        let peer = Peer::tcp_from([127, 0, 0, source], port);
        let connection = stolen.accept();
        (
            stolen.start_told(service, listener, &connection, told),
            peer,
        )
    };
    // Not a proxy, but said to bring somebody.
    let (notice, _) = verdict(2, Some(brings(CLIENT)));
    assert_eq!(refused(&notice), Some(Refusal::NotProxied), "{notice:?}");
    // A proxy, passed off as a client of its own, with other facts or none.
    let (notice, _) = verdict(1, None);
    assert_eq!(refused(&notice), Some(Refusal::NotProxied), "{notice:?}");
    let (notice, _) = verdict(
        1,
        Some(Told {
            rule: Some(0),
            ..Told::default()
        }),
    );
    assert_eq!(refused(&notice), Some(Refusal::NotProxied), "{notice:?}");
    // Whom a proxy brings is judged like anybody.
    let (notice, _) = verdict(1, Some(brings("198.51.100.9:1")));
    assert_eq!(refused(&notice), Some(Refusal::AddressDenied), "{notice:?}");
    assert_eq!(daemon.servers(), [0; 0]);
    let (notice, mut peer) = verdict(1, Some(brings(CLIENT)));
    assert!(matches!(notice, Notice::Started { .. }), "{notice:?}");
    assert_eq!(value(&greeting(&mut peer).1, "peer"), CLIENT);
    let (notice, _) = verdict(2, None);
    assert!(matches!(notice, Notice::Started { .. }), "{notice:?}");
}
