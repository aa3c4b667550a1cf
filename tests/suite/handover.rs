//! What a server finds when it gets a connection that was looked at first: the
//! same as if nobody had looked, and nobody else who has it.

use std::collections::BTreeMap;
use std::fs;

use socket2::Type;

use crate::common::opening::{hello, hello_of_size};
use crate::common::*;
use crate::shared_port::*;
use crate::tests;

tests![
    the_socket_is_as_accept_gave_it,
    the_socket_of_a_rule_with_an_interface_is_as_accept_gave_it,
    the_socket_of_a_unix_peer_is_as_accept_gave_it,
    the_front_keeps_no_copy_and_does_not_watch_it,
    every_byte_is_still_there,
    a_hello_byte_by_byte_ends_where_it_belongs,
    a_hello_byte_by_byte_over_a_unix_socket_ends_where_it_belongs,
    a_record_of_packets_is_left_whole,
];

/// Tells the state of its socket in one line and reads to the end.
const STATE: &str = r#"#!/usr/bin/perl
use Fcntl;
my %int = (
    RCVBUF => [1, 8], SNDBUF => [1, 7], RCVLOWAT => [1, 18], SNDLOWAT => [1, 19], ERROR => [1, 4],
    KEEPALIVE => [1, 9], OOBINLINE => [1, 10], PRIORITY => [1, 12], MARK => [1, 36], PEEK_OFF => [1, 42],
    BUSY_POLL => [1, 46], TIMESTAMP => [1, 29], PASSCRED => [1, 16], RCVTIMEO => [1, 20], SNDTIMEO => [1, 21],
    LINGER => [1, 13], NODELAY => [6, 1], CORK => [6, 3], DEFER => [6, 9], USER_TIMEOUT => [6, 18],
    INQ => [6, 36], PKTINFO => [0, 8], TOS => [0, 1], RECVTTL => [0, 12], RECVTOS => [0, 13],
    V6PKTINFO => [41, 49], V6HOPLIMIT => [41, 51], V6OLDPKTINFO => [41, 2],
);
my $out = "";
for my $name (sort keys %int) {
    my $got = getsockopt(STDIN, $int{$name}[0], $int{$name}[1]);
    $out .= "$name=" . (defined $got ? unpack("H*", $got) : "-") . " ";
}
$out .= "NONBLOCK=" . (fcntl(STDIN, F_GETFL, 0) & 04000);
syswrite(STDOUT, "$out\n");
1 while sysread(STDIN, my $bytes, 65536);
"#;

fn state_server(listen: &str, program: &str, name: &str, more: &str) -> String {
    format!("[service.{name}]\nlisten = \"{listen}\"\nexec = [\"{program}\"]\n{more}\n")
}

fn options(line: &str) -> BTreeMap<String, String> {
    let pairs = line
        .trim_end()
        .split(' ')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A service without rules and one with them, on sockets of one kind: the
/// servers of both see the same options.
fn compare(plain: &str, looked_at: &str, rule: &str, connect: impl Fn(bool) -> Peer) {
    let dir = Dir::new();
    let program = dir.script("state", STATE);
    let services = [
        state_server(plain, &program, "plain", ""),
        state_server(looked_at, &program, "ruled", rule),
        state_server(looked_at, &program, "other", "match = { ssh = true }\n"),
    ];
    let daemon = Daemon::start(&dir, &services.concat());
    // The second part is waited for with a higher mark.
    let bytes = hello_of_size("a.test", 9_000);
    let mut peer = connect(false);
    let before = options(&peer.send(&bytes).read_line());
    let front = daemon.front();
    let idle = watched(front);
    let mut peer = connect(true);
    peer.send(&bytes[..50]);
    until("a connection that is waited for", SOON, || {
        (watched(front) > idle).then_some(())
    });
    assert!(peer.hears_nothing_for(std::time::Duration::from_millis(50)));
    let after = options(&peer.send(&bytes[50..]).read_line());
    assert!(before.len() > 20, "{before:?}");
    assert_eq!(before, after);
    assert_eq!(after["RCVLOWAT"], "01000000");
    assert_eq!(after["ERROR"], "00000000");
    assert_eq!(after["NONBLOCK"], "0");
}

fn the_socket_is_as_accept_gave_it() {
    let (one, two) = (free_port(), free_port());
    let rule = "match = { tls.sni = \"a.test\" }\nmatch_timeout = \"60s\"\n";
    let connect = |ruled| Peer::tcp(if ruled { two } else { one });
    compare(&format!("tcp:{one}"), &format!("tcp:{two}"), rule, connect);
}

fn the_socket_of_a_rule_with_an_interface_is_as_accept_gave_it() {
    let rule = "match = { tls.sni = \"a.test\", interface = \"lo\", to = \"127.0.0.0/8\" }\nmatch_timeout = \"60s\"\n";
    for kind in ["tcp", "tcp4"] {
        let (one, two) = (free_port(), free_port());
        let connect = |ruled| Peer::tcp(if ruled { two } else { one });
        compare(
            &format!("{kind}:{one}"),
            &format!("{kind}:{two}"),
            rule,
            connect,
        );
    }
}

fn the_socket_of_a_unix_peer_is_as_accept_gave_it() {
    let names = ["one", "two"].map(|name| format!("@usherd-{name}-{}", free_port()));
    let user = if as_root() { ", user = \"root\"" } else { "" };
    let rule = format!("match = {{ tls.sni = \"a.test\"{user} }}\nmatch_timeout = \"60s\"\n");
    let listen = names.clone().map(|name| format!("unix:{name}"));
    let connect = |ruled| Peer::unix(Type::STREAM, &names[usize::from(ruled)]);
    compare(&listen[0], &listen[1], &rule, connect);
}

/// The front's files in /proc are root's: nobody else may look into it.
pub fn needs_sight(front: Pid) {
    if fs::read_dir(format!("/proc/{front}/fd")).is_err() {
        skip("only root sees what the front has open");
    }
}

/// How many descriptors the front's poll set holds: see proc(5), "fdinfo".
/// There may be several descriptors of the one set.
pub fn watched(front: Pid) -> usize {
    needs_sight(front);
    let sets = process::descriptors(front);
    let sets = sets
        .iter()
        .filter(|(_, target)| target.contains("eventpoll"));
    let held = sets.map(|(number, _)| {
        let text = fs::read_to_string(format!("/proc/{front}/fdinfo/{number}"));
        text.unwrap_or_default().matches("tfd:").count()
    });
    held.max().unwrap_or(0)
}

fn the_front_keeps_no_copy_and_does_not_watch_it() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("tls", "{ tls.sni = \"a.test\" }"),
        ("rest", "{ from = \"127.0.0.9\" }"),
    ];
    let daemon = Daemon::start(&dir, &table(port, &services));
    let front = daemon.front();
    let state = || (process::descriptors(front).len(), watched(front));
    let idle = state();
    let mut peers: Vec<Peer> = (0..5).map(|_| Peer::tcp(port)).collect();
    for peer in &mut peers {
        peer.send(&hello("a.test")[..20]);
    }
    until("five that are waited for", SOON, || {
        (state() == (idle.0 + 5, idle.1 + 5)).then_some(())
    });
    for peer in &mut peers {
        peer.send(&hello("a.test")[20..]);
        assert_eq!(server(peer), "tls");
    }
    // The answer of a server may be faster than the rest of the front's turn.
    until("none that is watched", SOON, || {
        (state() == idle).then_some(())
    });
    daemon.wait_servers(5);
}

fn every_byte_is_still_there() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [("tls", "{ tls.sni = \"a.test\" }"), ("rest", "")];
    let _daemon = Daemon::start(&dir, &table(port, &services));
    for size in [0, 1_000, 1_900, 8_000, 16_000] {
        let sent = [hello_of_size("a.test", size), Seeded::new(3).bytes(50_000)].concat();
        let mut peer = Peer::tcp(port);
        let got = peer.exchange(&sent);
        let at = got.iter().position(|byte| *byte == b'\n').unwrap();
        assert!(got.starts_with(b"tls "));
        assert!(got[at + 1..] == sent, "of a hello of {size}: changed");
    }
}

fn a_hello_byte_by_byte_ends_where_it_belongs() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("tls", "{ tls.sni = \"a.test\" }"),
        ("rest", "{ tls = true, priority = -1 }"),
    ];
    let slow = "match_timeout = \"60s\"\n";
    let _daemon = Daemon::start(&dir, &(table(port, &services) + slow));
    for (name, wanted) in [("a.test", "tls"), ("b.test", "rest")] {
        let bytes = hello_of_size(name, 600);
        let mut peer = Peer::tcp(port);
        // The last ones come far behind the looks that are made at once.
        peer.send_one_by_one(&bytes[..400]);
        peer.hears_nothing_for(std::time::Duration::from_millis(30));
        peer.send_one_by_one(&bytes[400..]);
        assert_eq!(server(&mut peer), wanted);
        assert!(peer.finish().read_all() == bytes);
    }
}

fn a_hello_byte_by_byte_over_a_unix_socket_ends_where_it_belongs() {
    let dir = Dir::new();
    let name = format!("@usherd-bytes-{}", free_port());
    let listen = format!("unix:{name}");
    let services = [
        at(
            &listen,
            "tls",
            "match = { tls.sni = \"a.test\" }\nmatch_timeout = \"60s\"\n",
        ),
        at(&listen, "rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    // Each byte fills a buffer of the kernel's: the sender's limit is below 300.
    let bytes = hello_of_size("a.test", 200);
    let mut peer = Peer::unix(Type::STREAM, &name);
    for byte in &bytes {
        peer.send([*byte]);
    }
    assert_eq!(server(&mut peer), "tls");
    assert!(peer.finish().read_all() == bytes);
}

fn a_record_of_packets_is_left_whole() {
    let dir = Dir::new();
    let name = format!("@usherd-packets-{}", free_port());
    let listen = format!("unix-seqpacket:{name}");
    let services = [
        at(&listen, "abc", "match = { prefix = \"abc\" }\n"),
        at(&listen, "rest", ""),
    ];
    let _daemon = Daemon::start(&dir, &services.concat());
    for (packet, wanted) in [("abcdef", "abc "), ("ab", "rest "), ("xyz", "rest ")] {
        let mut peer = Peer::unix(Type::SEQPACKET, &name);
        peer.send(packet).send("second");
        let said = peer.read_packet();
        assert!(said.starts_with(wanted.as_bytes()), "{packet}");
        assert_eq!(peer.read_packet(), packet.as_bytes());
        assert_eq!(peer.read_packet(), b"second");
    }
}
