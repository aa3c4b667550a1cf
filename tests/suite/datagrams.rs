//! Services that share a UDP port: the kernel gives each its own datagrams.

use std::net::UdpSocket;

use crate::common::*;
use crate::tests;

tests![
    each_service_of_a_udp_port_gets_its_own_kind,
    what_no_rule_takes_is_dropped_and_the_others_go_on,
    a_reload_moves_nobody_to_another_service,
    a_real_tftp_server_beside_another_service,
];

/// Answers with the name of its service and its process id, for longer than a test takes.
const NAMED: &str = r#"#!/usr/bin/perl
while (1) {
    my $set = ''; vec($set, 0, 1) = 1;
    last unless select($set, undef, undef, 30);
    my $peer = recv(STDIN, my $bytes, 65536, 0);
    send(STDOUT, "$ENV{USHERD_SERVICE} $$", 0, $peer);
}
"#;

fn query() -> Vec<u8> {
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], b"\x01a\x04test\0", &[0, 1, 0, 1]].concat()
}

fn ntp() -> Vec<u8> {
    [&[0x23][..], &[0; 47]].concat()
}

fn stun() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat()
}

/// One service of the shared port.
fn service(port: u16, name: &str, rule: &str, program: &str) -> String {
    let rule = match rule {
        "" => String::new(),
        rule => format!("match = {{ {rule} }}\n"),
    };
    format!("[service.{name}]\nlisten = \"udp:127.0.0.1:{port}\"\n{rule}exec = [\"{program}\"]\n")
}

/// Who answers: the service and its process.
fn who(peer: &UdpPeer, datagram: &[u8]) -> (String, String) {
    let answer = String::from_utf8(peer.send(datagram).receive()).unwrap();
    let (name, pid) = answer.split_once(' ').unwrap();
    (name.to_owned(), pid.to_owned())
}

fn each_service_of_a_udp_port_gets_its_own_kind() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("named", NAMED);
    let table = service(port, "names", "dns = true", &program)
        + &service(port, "times", "ntp = true", &program)
        + &service(port, "rest", "", &program);
    let _daemon = Daemon::start(&dir, &table);
    let peer = UdpPeer::new(port);
    let kinds = [
        (query(), "names"),
        (ntp(), "times"),
        (stun(), "rest"),
        (b"anything".to_vec(), "rest"),
    ];
    let first: Vec<_> = kinds.iter().map(|(bytes, _)| who(&peer, bytes)).collect();
    for (answer, (_, name)) in first.iter().zip(&kinds) {
        assert_eq!(answer.0, *name);
    }
    // Every later one of a kind, from whomever, reaches the same server.
    let other = UdpPeer::new(port);
    for (answer, (bytes, _)) in first.iter().zip(&kinds) {
        assert_eq!(who(&other, bytes), *answer);
    }
}

fn what_no_rule_takes_is_dropped_and_the_others_go_on() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("named", NAMED);
    let daemon = Daemon::start(&dir, &service(port, "names", "dns = true", &program));
    let peer = UdpPeer::new(port);
    for _ in 0..100 {
        peer.send(b"nobody's");
    }
    // The port has one order: had one of the hundred been delivered, it would answer first.
    assert_eq!(who(&peer, &query()).0, "names");
    daemon.log.wait_exactly(1, &["started", "service=names"]);
}

fn a_reload_moves_nobody_to_another_service() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("named", NAMED);
    let names = service(port, "names", "dns = true", &program);
    let times = service(port, "times", "ntp = true", &program);
    let calls = service(port, "calls", "stun = true", &program);
    let daemon = Daemon::start(&dir, &(names.clone() + &times));
    let peer = UdpPeer::new(port);
    let before = (who(&peer, &query()), who(&peer, &ntp()));
    assert_eq!((&*before.0.0, &*before.1.0), ("names", "times"));
    // One leaves while its server runs and holds its socket, one comes.
    assert!(daemon.reload(&dir, &(times.clone() + &calls)));
    assert_eq!(who(&peer, &ntp()), before.1);
    assert_eq!(who(&peer, &stun()).0, "calls");
    peer.send(query());
    assert_eq!(who(&peer, &ntp()), before.1, "a query had been answered");
    assert!(daemon.reload(&dir, &(names + &times + &calls)));
    assert_eq!(who(&peer, &ntp()), before.1);
    assert_eq!(who(&peer, &query()), before.0, "its server still runs");
}

fn a_real_tftp_server_beside_another_service() {
    needs_root();
    let server = needs("in.tftpd", "tftpd-hpa");
    let (dir, port) = (Dir::new(), free_port());
    dir.write("hello.txt", "hello\n");
    let program = dir.script("named", NAMED);
    let folder = dir.path().display().to_string();
    let table = service(port, "names", "dns = true", &program)
        + &format!(
            "[service.tftp]\nlisten = \"udp:127.0.0.1:{port}\"\nmatch = {{ tftp.operation = \"read\" }}\n\
             user = \"root\"\nexec = [\"{}\", \"--secure\", \"{folder}\"]\n",
            server.display()
        );
    let _daemon = Daemon::start(&dir, &table);
    let peer = UdpPeer::new(port);
    assert_eq!(who(&peer, &query()).0, "names");
    // The answer comes from a port of its own (RFC 1350, 4), so nothing is connected.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
        .send_to(b"\0\x01hello.txt\0octet\0", ("127.0.0.1", port))
        .unwrap();
    let mut answer = [0; 600];
    let (length, from) = client.recv_from(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"\0\x03\0\x01hello\n");
    client.send_to(b"\0\x04\0\x01", from).unwrap();
}
