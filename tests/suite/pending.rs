//! Connections whose service is not known yet: how the wait for their bytes
//! ends, and what nobody is bothered with.

use std::time::{Duration, Instant};

use crate::common::opening::hello;
use crate::common::*;
use crate::handover::{needs_sight, watched};
use crate::shared_port::*;
use crate::tests;

tests![
    an_end_in_the_middle_is_a_final_answer,
    an_end_in_the_middle_falls_back,
    silence_in_the_middle_is_a_final_answer,
    too_many_bytes_are_a_final_answer,
    too_many_bytes_that_were_there_at_accept_are_a_final_answer,
    who_leaves_without_a_word_is_no_event,
    who_resets_starts_nothing,
    who_resets_where_an_address_is_enough_is_no_event,
    a_silent_client_is_closed_at_the_first_deadline,
    a_byte_now_and_then_does_not_put_off_the_deadline,
    a_byte_in_time_gives_the_rest_of_the_time,
    a_server_that_speaks_first_is_not_kept_from_it,
    a_silent_client_gets_the_server_that_speaks_first,
    a_client_that_speaks_is_not_taken_for_a_silent_one,
    a_source_has_no_more_than_its_share_of_the_wait,
    the_oldest_of_the_heaviest_source_makes_room,
    a_listener_has_no_more_than_its_share_of_the_wait,
    whoever_is_served_counts_for_nothing,
];

const NO_HOST: &[u8] = b"GET / HTTP/1.1\r\nAccept: x\r\n";

/// Rules that stay undecided for some bytes, and a service for each ending.
fn endings(port: u16, more: &str) -> String {
    let services = [
        ("web", r#"{ http.host = "a.test" }"#),
        ("ended", "{ eof = true }"),
        ("slow", "{ timeout = true }"),
        ("full", "{ full = true }"),
    ];
    table(port, &services) + more
}

fn an_end_in_the_middle_is_a_final_answer() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &endings(port, "match_timeout = \"60s\"\n"));
    for cut in [1, 5, NO_HOST.len()] {
        let mut peer = Peer::tcp(port);
        assert_eq!(served_by(&mut peer, &NO_HOST[..cut]), "ended", "{cut}");
    }
    let whole = [NO_HOST, b"Host: a.test\r\n\r\n"].concat();
    assert_eq!(served_by(&mut Peer::tcp(port), &whole), "web");
}

fn an_end_in_the_middle_falls_back() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [("tls", "{ tls.sni = \"a.test\" }"), ("rest", "")];
    let slow = "match_timeout = \"60s\"\n";
    let _daemon = Daemon::start(&dir, &(table(port, &services) + slow));
    let bytes = hello("a.test");
    for cut in [1, 5, 50, bytes.len() - 1] {
        let mut peer = Peer::tcp(port);
        // The end may come with the bytes, or long after.
        peer.send(&bytes[..cut]);
        peer.hears_nothing_for(Duration::from_millis(20));
        assert_eq!(server(peer.finish()), "rest", "{cut}");
        assert_eq!(peer.read_all(), &bytes[..cut]);
        assert_eq!(served_by(&mut Peer::tcp(port), &bytes[..cut]), "rest");
    }
}

fn silence_in_the_middle_is_a_final_answer() {
    let (dir, port) = (Dir::new(), free_port());
    let short = "first_byte_timeout = \"200ms\"\nmatch_timeout = \"400ms\"\n";
    let _daemon = Daemon::start(&dir, &endings(port, short));
    let mut peer = Peer::tcp(port);
    assert_eq!(server(peer.send(NO_HOST)), "slow");
    assert_eq!(peer.finish().read_all(), NO_HOST);
    assert_eq!(server(&mut Peer::tcp(port)), "slow", "with no byte at all");
}

/// A header that goes on for longer than anything is looked at.
fn endless() -> Vec<u8> {
    let line = [&b"X-Y: "[..], &[b'z'; 93], b"\r\n"].concat();
    [NO_HOST, &line.repeat(170)].concat()
}

fn too_many_bytes_are_a_final_answer() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &endings(port, "match_timeout = \"60s\"\n"));
    let mut peer = Peer::tcp(port);
    for (nth, part) in endless().chunks(1_000).enumerate() {
        peer.send(part);
        // By then there are more lines than are looked at, so only one rule is left.
        if nth == 12 {
            assert!(peer.hears_nothing_for(Duration::from_millis(100)));
        }
    }
    assert_eq!(server(&mut peer), "full");
    assert_eq!(peer.finish().read_all(), endless());
}

fn too_many_bytes_that_were_there_at_accept_are_a_final_answer() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &endings(port, "match_timeout = \"60s\"\n"));
    let front = daemon.front();
    process::kill(front, nix::sys::signal::Signal::SIGSTOP);
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::tcp(port)).collect();
    for peer in &mut peers {
        peer.send(endless());
    }
    process::kill(front, nix::sys::signal::Signal::SIGCONT);
    for peer in &mut peers {
        assert_eq!(server(peer), "full");
        assert_eq!(peer.finish().read_all(), endless());
    }
}

/// Rules that need bytes, with a fallback; nothing is waited for by the test's own clock.
fn patient(port: u16) -> String {
    let services = [("tls", "{ tls.sni = \"a.test\" }"), ("rest", "")];
    table(port, &services) + "match_timeout = \"60s\"\n"
}

/// Waits until the front has as many sockets as at first.
fn until_idle(front: Pid, idle: usize) {
    until("a front with nothing to wait for", SOON, || {
        (process::descriptors(front).len() == idle).then_some(())
    });
}

fn who_leaves_without_a_word_is_no_event() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &patient(port));
    let (idle, lines) = (
        process::descriptors(daemon.front()).len(),
        daemon.log.mark(),
    );
    for _ in 0..20 {
        drop(Peer::tcp(port));
        let mut half = Peer::tcp(port);
        assert_eq!(half.finish().read_text(), "");
    }
    until_idle(daemon.front(), idle);
    assert_eq!(daemon.log.mark(), lines, "{}", daemon.log.text());
}

fn who_resets_starts_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &patient(port));
    let front = daemon.front();
    needs_sight(front);
    assert_eq!(served_by(&mut Peer::tcp(port), &hello("a.test")), "tls");
    daemon.wait_servers(0);
    let idle = process::descriptors(front).len();
    // Before anything was seen of it, and after.
    for seen in [false, true] {
        if !seen {
            process::kill(front, nix::sys::signal::Signal::SIGSTOP);
        }
        let mut peers: Vec<Peer> = (0..20).map(|_| Peer::tcp(port)).collect();
        for (nth, peer) in peers.iter_mut().enumerate() {
            peer.send(&hello("a.test")[..nth % 3 * 20]);
        }
        if seen {
            until("all to be waited for", SOON, || {
                (process::descriptors(front).len() == idle + 20).then_some(())
            });
        }
        peers.into_iter().for_each(Peer::reset);
        process::kill(front, nix::sys::signal::Signal::SIGCONT);
        assert_eq!(served_by(&mut Peer::tcp(port), &hello("a.test")), "tls");
        daemon.wait_servers(0);
        until_idle(front, idle);
        daemon.log.wait_exactly(2 + usize::from(seen), &["started"]);
        assert_eq!(daemon.log.count(&["warn"]), 0, "{}", daemon.log.text());
    }
}

fn who_resets_where_an_address_is_enough_is_no_event() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("near", "{ from = \"127.0.0.1\" }"),
        ("tls", "{ tls = true }"),
    ];
    let once = "rate_per_source = \"1/h burst 1\"\n";
    let services = table(port, &services).replacen("match", &format!("{once}match"), 1);
    let daemon = Daemon::start(&dir, &services);
    let front = daemon.front();
    process::kill(front, nix::sys::signal::Signal::SIGSTOP);
    (0..5).for_each(|_| Peer::tcp(port).reset());
    let mut good = Peer::tcp(port);
    process::kill(front, nix::sys::signal::Signal::SIGCONT);
    assert_eq!(server(&mut good), "near", "the only token was left");
    assert_eq!(daemon.log.count(&["refused"]), 0, "{}", daemon.log.text());
}

fn a_silent_client_is_closed_at_the_first_deadline() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [("tls", "{ tls = true }"), ("ssh", "{ ssh = true }")];
    let deadlines = "first_byte_timeout = \"300ms\"\nmatch_timeout = \"60s\"\n";
    let daemon = Daemon::start(&dir, &(table(port, &services) + deadlines));
    let began = Instant::now();
    assert_eq!(Peer::tcp(port).read_text(), "");
    assert!(began.elapsed() >= Duration::from_millis(290));
    assert_eq!(daemon.log.count(&["warn"]), 0, "{}", daemon.log.text());
}

fn a_byte_now_and_then_does_not_put_off_the_deadline() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("web", "{ http.host = \"a.test\" }"),
        ("ssh", "{ ssh = true }"),
    ];
    let deadlines = "first_byte_timeout = \"400ms\"\nmatch_timeout = \"1500ms\"\n";
    let daemon = Daemon::start(&dir, &(table(port, &services) + deadlines));
    let began = Instant::now();
    let mut peer = Peer::tcp(port);
    // The first one at once: on a busy machine the next may be late for its deadline.
    peer.send(&NO_HOST[..1]);
    let mut sent = 1;
    // The pace of the attack: nine tenths of the shorter deadline.
    while peer.hears_nothing_for(Duration::from_millis(360)) {
        peer.try_send(&NO_HOST[sent..=sent]);
        sent += 1;
        assert!(sent < NO_HOST.len(), "never cut off");
    }
    let took = began.elapsed();
    assert_eq!(peer.read_text(), "");
    assert!(took >= Duration::from_millis(1_450), "after {took:?}");
    assert!(sent > 1, "the first deadline is over with the first byte");
    daemon.log.wait_after(0, &["no rule of `match` holds"]);
}

fn a_byte_in_time_gives_the_rest_of_the_time() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("tls", "{ tls.sni = \"a.test\" }"),
        ("ssh", "{ ssh = true }"),
    ];
    let deadlines = "first_byte_timeout = \"300ms\"\nmatch_timeout = \"60s\"\n";
    let _daemon = Daemon::start(&dir, &(table(port, &services) + deadlines));
    let bytes = hello("a.test");
    let mut peer = Peer::tcp(port);
    peer.send(&bytes[..1]);
    assert!(peer.hears_nothing_for(Duration::from_millis(500)));
    assert_eq!(server(peer.send(&bytes[1..])), "tls");
}

fn a_server_that_speaks_first_is_not_kept_from_it() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [
        ("tls", "{ tls.sni = \"a.test\" }"),
        ("near", "{ from = \"127.0.0.9\" }"),
        ("rest", "{ any = true, priority = -9 }"),
    ];
    let slow = "match_timeout = \"60s\"\nfirst_byte_timeout = \"60s\"\n";
    let _daemon = Daemon::start(&dir, &(table(port, &services) + slow));
    // Long before the deadline, and without a byte.
    assert_eq!(server(&mut Peer::tcp_from([127, 0, 0, 9], port)), "near");
}

fn greeted(port: u16, deadline: &str) -> String {
    let ssh = format!(
        "match = {{ ssh = true }}\nspeaks_first = \"server\"\nfirst_byte_timeout = \"{deadline}\"\nmatch_timeout = \"60s\"\n"
    );
    [
        on(port, "tls", "match = { tls = true }\n"),
        on(port, "ssh", &ssh),
        on(port, "rest", ""),
    ]
    .concat()
}

fn a_silent_client_gets_the_server_that_speaks_first() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &greeted(port, "200ms"));
    let mut peer = Peer::tcp(port);
    assert_eq!(server(&mut peer), "ssh");
    assert_eq!(peer.send("late").finish().read_text(), "late");
}

fn a_client_that_speaks_is_not_taken_for_a_silent_one() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &greeted(port, "60s"));
    assert_eq!(served_by(&mut Peer::tcp(port), b"SSH-2.0-x\r\n"), "ssh");
    assert_eq!(served_by(&mut Peer::tcp(port), b"xyz"), "rest");
    assert_eq!(served_by(&mut Peer::tcp(port), &hello("b.test")), "tls");
    // Whoever leaves at once wants nobody's greeting.
    assert_eq!(server(Peer::tcp(port).finish()), "");
}

/// A daemon with bounds on the undecided.
pub fn bounded<'a>(dir: &'a Dir, bounds: &str, services: &str) -> Setup<'a> {
    let table = daemon::table(dir, services);
    let bounds = format!("[daemon]\nundecided = {{ {bounds} }}\n");
    Setup::raw(dir, &table.replacen("[daemon]\n", &bounds, 1))
}

/// Connects one after the other, each seen by the front before the next.
fn silent(daemon: &Daemon, at: &[(u8, u16)]) -> Vec<Peer> {
    let front = daemon.front();
    let one = |(host, port): &(u8, u16)| {
        let before = watched(front);
        let peer = Peer::tcp_from([127, 0, 0, *host], *port);
        until("a connection that is waited for", SOON, || {
            (watched(front) > before).then_some(())
        });
        peer
    };
    at.iter().map(one).collect()
}

fn a_source_has_no_more_than_its_share_of_the_wait() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = bounded(&dir, "per_source = 3", &patient(port)).start();
    let mut peers = silent(&daemon, &[(3, port), (2, port), (2, port), (2, port)]);
    let newest = Peer::tcp_from([127, 0, 0, 2], port);
    assert_eq!(peers.remove(1).read_text(), "", "the oldest of its source");
    for mut peer in peers.into_iter().chain([newest]) {
        assert_eq!(served_by(&mut peer, &hello("a.test")), "tls");
    }
    daemon.log.wait_after(
        0,
        &["refused", "too many undecided connections", "127.0.0.2"],
    );
}

fn the_oldest_of_the_heaviest_source_makes_room() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = bounded(&dir, "total = 5, per_listener = 5", &patient(port)).start();
    let at = [(3, port), (2, port), (2, port), (3, port), (2, port)];
    let mut peers = silent(&daemon, &at);
    let newest = Peer::tcp_from([127, 0, 0, 4], port);
    assert_eq!(peers.remove(1).read_text(), "", "the oldest of three");
    for mut peer in peers.into_iter().chain([newest]) {
        assert_eq!(served_by(&mut peer, &hello("a.test")), "tls");
    }
}

fn a_listener_has_no_more_than_its_share_of_the_wait() {
    let (dir, one, two) = (Dir::new(), free_port(), free_port());
    let listen = format!("listen = [\"tcp:127.0.0.1:{one}\", \"tcp:127.0.0.1:{two}\"]");
    let services = patient(one).replace(&format!("listen = \"tcp:127.0.0.1:{one}\""), &listen);
    let daemon = bounded(&dir, "per_listener = 3", &services).start();
    // The heaviest source is at the other listener, where there is room.
    let at = [(9, two), (9, two), (9, two), (5, one), (6, one), (6, one)];
    let mut peers = silent(&daemon, &at);
    let newest = Peer::tcp_from([127, 0, 0, 7], one);
    assert_eq!(
        peers.remove(4).read_text(),
        "",
        "the oldest of the heaviest here"
    );
    for mut peer in peers.into_iter().chain([newest]) {
        assert_eq!(served_by(&mut peer, &hello("a.test")), "tls");
    }
}

fn whoever_is_served_counts_for_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let bounds = "total = 2, per_listener = 2, per_source = 2";
    let _daemon = bounded(&dir, bounds, &patient(port)).start();
    let mut waits = Peer::tcp(port);
    let mut served = Vec::new();
    for _ in 0..5 {
        let mut peer = Peer::tcp(port);
        assert_eq!(server(peer.send("x")), "rest");
        served.push(peer);
    }
    assert_eq!(served_by(&mut waits, &hello("a.test")), "tls");
}
