//! The services that need no process: RFC 862 to 868 and 1078.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::tests;

tests![
    echo_gives_back_every_byte,
    echo_serves_many_peers_at_once,
    echo_over_datagrams_answers_each,
    discard_swallows_and_closes_at_the_end,
    chargen_shifts_its_line_by_one_each_time,
    chargen_answers_a_datagram_within_512_octets,
    daytime_is_one_line,
    time_is_four_octets_since_1900,
    time_over_datagrams_is_the_same,
    no_answer_goes_to_the_port_of_such_a_service,
    an_idle_peer_is_closed_after_the_limit,
    a_peer_that_does_not_read_holds_nobody_up,
    builtins_count_against_instances,
    no_process_is_started_for_a_builtin,
];

fn service(port: u16, kind: &str, more: &str) -> String {
    format!(
        "[service.{kind}]\nlisten = [\"tcp:127.0.0.1:{port}\", \"udp:127.0.0.1:{port}\"]\n\
         builtin = \"{kind}\"\n{more}\n"
    )
}

fn start(dir: &Dir, port: u16, kind: &str, more: &str) -> Daemon {
    Daemon::start(dir, &service(port, kind, more))
}

fn echo_gives_back_every_byte() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "echo", "");
    let sent = Seeded::new(7).bytes(300_000);
    let received = Peer::tcp(port).exchange(&sent);
    assert!(
        received == sent,
        "{} of {} bytes, or changed",
        received.len(),
        sent.len()
    );
}

fn echo_serves_many_peers_at_once() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "echo", "instances = 200\n");
    let mut peers: Vec<Peer> = (0..100).map(|_| Peer::tcp(port)).collect();
    for round in 0..3 {
        for (nth, peer) in peers.iter_mut().enumerate() {
            peer.send(format!("{round} {nth}\n"));
        }
        for (nth, peer) in peers.iter_mut().enumerate().rev() {
            assert_eq!(peer.read_line(), format!("{round} {nth}\n"));
        }
    }
}

fn echo_over_datagrams_answers_each() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "echo", "");
    let peer = UdpPeer::new(port);
    for nth in 0..20 {
        peer.send(format!("datagram {nth}"));
    }
    for nth in 0..20 {
        assert_eq!(peer.receive(), format!("datagram {nth}").into_bytes());
    }
}

fn discard_swallows_and_closes_at_the_end() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "discard", "");
    assert_eq!(
        Peer::tcp(port).exchange(&Seeded::new(2).bytes(300_000)),
        b""
    );
    let peer = UdpPeer::new(port);
    peer.send("anything");
    assert_eq!(peer.try_receive(Duration::from_millis(200)), None);
}

fn chargen_shifts_its_line_by_one_each_time() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "chargen", "");
    let mut peer = Peer::tcp(port);
    let lines: Vec<String> = (0..200).map(|_| peer.read_line()).collect();
    for (line, next) in lines.iter().zip(&lines[1..]) {
        assert_eq!(line.len(), 74, "72 characters and CRLF: {line:?}");
        assert!(line.ends_with("\r\n"));
        assert!(line.bytes().take(72).all(|b| (b' '..=b'~').contains(&b)));
        assert_eq!(
            line[1..72],
            next[..71],
            "each line begins one character later"
        );
    }
}

fn chargen_answers_a_datagram_within_512_octets() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "chargen", "");
    let answer = UdpPeer::new(port).send([b'?'; 600]).receive();
    assert!(answer.len() <= 512, "{} octets", answer.len());
}

fn daytime_is_one_line() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "daytime", "");
    let line = hear(port);
    let year = std::process::Command::new("date").arg("+%Y").output();
    let year = String::from_utf8(year.expect("date(1)").stdout).unwrap();
    assert!(line.contains(year.trim()), "{line:?}");
    assert!(
        line.ends_with("\r\n") && line.matches('\n').count() == 1,
        "{line:?}"
    );
    assert!(!line.contains('\0'));
    assert_eq!(UdpPeer::new(port).ask("").len(), line.len());
}

fn check_time(octets: &[u8]) {
    const SINCE_1900: u64 = 2_208_988_800;
    let octets: [u8; 4] = octets.try_into().expect("four octets");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let difference = u64::from(u32::from_be_bytes(octets)).abs_diff(now.as_secs() + SINCE_1900);
    assert!(difference <= 5, "{difference} s off");
}

fn time_is_four_octets_since_1900() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "time", "");
    check_time(&Peer::tcp(port).read_all());
}

fn time_over_datagrams_is_the_same() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "time", "");
    check_time(&UdpPeer::new(port).send("").receive());
}

fn no_answer_goes_to_the_port_of_such_a_service() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let _daemon = start(&dir, one, "echo", "");
    assert_eq!(UdpPeer::new(one).ask("a good peer"), "a good peer");
    needs_root();
    for port in [7, 13, 17, 19, 37] {
        let source = SocketAddr::from(([127, 0, 0, 99], port));
        let peer = UdpPeer::between(source, SocketAddr::from(([127, 0, 0, 1], one)));
        peer.send("ping pong");
        assert_eq!(
            peer.try_receive(Duration::from_millis(100)),
            None,
            "from port {port}"
        );
    }
    assert_eq!(UdpPeer::new(one).ask("still"), "still");
    let _ = two;
}

fn an_idle_peer_is_closed_after_the_limit() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "echo", "idle_timeout = \"500ms\"\n");
    let mut peer = Peer::tcp(port);
    peer.send("x");
    assert_eq!(peer.read_exact(1), b"x");
    assert_eq!(peer.read_all(), b"", "closed by the daemon");
}

fn a_peer_that_does_not_read_holds_nobody_up() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, port, "chargen", "");
    let deaf: Vec<Peer> = (0..10).map(|_| Peer::tcp(port)).collect();
    let mut good = Peer::tcp(port);
    for _ in 0..1_000 {
        assert_eq!(good.read_line().len(), 74);
    }
    drop(good);
    // Nothing can be written: no time should pass on it either.
    let front = daemon.front();
    let mut quiet = Peer::tcp(port);
    let _ = quiet.read_line();
    let before = process::cpu_ticks(front);
    let full = UdpPeer::new(port);
    assert_eq!(full.try_receive(Duration::from_secs(1)), None);
    let used = process::cpu_ticks(front) - before;
    assert!(used <= 20, "{used} ticks within a second without a reader");
    drop(deaf);
}

fn builtins_count_against_instances() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, port, "echo", "instances = 1\non_full = \"refuse\"\n");
    let mut first = Peer::tcp(port);
    first.send("x");
    assert_eq!(first.read_exact(1), b"x");
    assert_eq!(hear(port), "");
    first.finish();
    assert_eq!(first.read_all(), b"");
    until("a free place", SOON, || {
        (ask(port, "y") == "y").then_some(())
    });
}

fn no_process_is_started_for_a_builtin() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, port, "echo", "");
    let mut peer = Peer::tcp(port);
    peer.send("x");
    assert_eq!(peer.read_exact(1), b"x");
    assert_eq!(daemon.servers(), [0; 0]);
}
