//! Requests that wait for a place at a full service, and what a reload, a
//! drain and a lost front do to those that wait.

use nix::sys::signal::Signal;

use crate::common::opening::{hello, proxy1};
use crate::common::*;
use crate::handover::watched;
use crate::pending::bounded;
use crate::shared_port::*;
use crate::tests;

tests![
    who_waits_for_a_place_is_served_when_one_ends,
    who_waits_for_a_token_is_served_in_time,
    who_does_not_want_to_wait_gives_up_the_place,
    nobody_passes_those_who_wait,
    coming_and_leaving_keeps_nobody_out,
    a_full_service_may_refuse_while_others_go_on,
    a_reload_judges_the_undecided_by_the_new_rules,
    a_reload_finds_out_what_the_new_rules_ask,
    a_reload_may_leave_a_single_service,
    a_reload_that_denies_a_source_closes_its_undecided,
    a_reload_that_takes_the_listener_closes_its_undecided,
    a_reload_that_takes_the_service_closes_who_waits_for_it,
    a_reload_that_moves_the_service_tells_who_waits_for_it,
    a_reload_may_make_a_proxy_of_an_undecided_source,
    a_drain_closes_the_undecided,
    a_front_that_is_lost_loses_only_the_undecided,
];

/// `a` has one place, `b` has many.
fn small(port: u16, more: &str) -> String {
    let one = format!("match = {{ prefix = \"a\" }}\ninstances = 1\n{more}");
    [
        on(port, "a", &one),
        on(port, "b", "match = { prefix = \"b\" }\n"),
    ]
    .concat()
}

fn until_watched(front: Pid, count: usize) {
    until(&format!("{count} that are watched"), SOON, || {
        (watched(front) == count).then_some(())
    });
}

/// Sends the bytes and waits until the front keeps the connection.
fn waiting(daemon: &Daemon, port: u16, bytes: &[u8]) -> Peer {
    let front = daemon.front();
    let before = watched(front);
    let mut peer = Peer::tcp(port);
    peer.send(bytes);
    until_watched(front, before + 1);
    peer
}

/// The only place of `a` is taken.
fn filled(daemon: &Daemon, port: u16) -> Peer {
    let front = daemon.front();
    let idle = watched(front);
    let mut first = Peer::tcp(port);
    assert_eq!(server(first.send("a")), "a");
    until_watched(front, idle);
    first
}

fn who_waits_for_a_place_is_served_when_one_ends() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "on_full = \"queue\"\nfirst_byte_timeout = \"100ms\"\nmatch_timeout = \"200ms\"\n";
    let daemon = Daemon::start(&dir, &small(port, more));
    let mut first = filled(&daemon, port);
    let mut second = waiting(&daemon, port, b"a second");
    let mut third = waiting(&daemon, port, b"a third");
    // Its own deadlines are over, and others are served meanwhile.
    assert!(second.hears_nothing_for(std::time::Duration::from_millis(400)));
    assert_eq!(served_by(&mut Peer::tcp(port), b"b"), "b");
    first.finish();
    assert_eq!(server(&mut second), "a");
    assert_eq!(second.finish().read_text(), "a second");
    assert_eq!(server(&mut third), "a");
    assert_eq!(third.finish().read_text(), "a third");
}

fn who_waits_for_a_token_is_served_in_time() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "on_full = \"queue\"\nrate = \"4/s burst 1\"\n";
    let services = small(port, more).replace("instances = 1", "instances = 9");
    let _daemon = Daemon::start(&dir, &services);
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::tcp(port)).collect();
    for peer in &mut peers {
        peer.send("a");
    }
    assert_eq!(served_by(&mut Peer::tcp(port), b"b"), "b");
    for peer in &mut peers {
        assert_eq!(server(peer), "a");
    }
}

fn who_does_not_want_to_wait_gives_up_the_place() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &small(port, "on_full = \"queue\"\n"));
    let mut first = filled(&daemon, port);
    let front = daemon.front();
    let idle = watched(front);
    let leaves = waiting(&daemon, port, b"a leaves");
    let mut stays = waiting(&daemon, port, b"a stays");
    leaves.reset();
    until_watched(front, idle + 1);
    // The end of its own side is no reason to go: it waits for an answer.
    stays.finish();
    first.finish();
    assert_eq!(server(&mut stays), "a");
    assert_eq!(stays.read_text(), "a stays");
    daemon.log.wait_exactly(2, &["started", "service=a"]);
}

fn nobody_passes_those_who_wait() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "on_full = \"queue\"\nmatch_timeout = \"60s\"\n";
    let daemon = Daemon::start(&dir, &small(port, more));
    let mut first = filled(&daemon, port);
    let mut second = waiting(&daemon, port, b"a second");
    let mut later = waiting(&daemon, port, b"");
    // The place gets free and the later one speaks in the same turn.
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    until("a stopped front", SOON, || {
        (process::state(front) == Some('T')).then_some(())
    });
    later.send("a later");
    first.finish();
    daemon.wait_servers(0);
    process::kill(front, Signal::SIGCONT);
    assert_eq!(server(&mut second), "a");
    assert_eq!(second.finish().read_text(), "a second");
    assert_eq!(server(&mut later), "a");
    assert_eq!(later.finish().read_text(), "a later");
}

fn coming_and_leaving_keeps_nobody_out() {
    let (dir, port) = (Dir::new(), free_port());
    let services = small(port, "on_full = \"queue\"\n");
    let bounds = "total = 5000, per_listener = 5000, per_source = 5000";
    let daemon = bounded(&dir, bounds, &services).start();
    let mut first = filled(&daemon, port);
    let mut second = waiting(&daemon, port, b"a second");
    let front = daemon.front();
    let idle = watched(front);
    for _ in 0..11 {
        let mut peers: Vec<Peer> = (0..100).map(|_| Peer::tcp(port)).collect();
        for peer in &mut peers {
            peer.send("a");
        }
        until_watched(front, idle + 100);
        peers.into_iter().for_each(Peer::reset);
        until_watched(front, idle);
    }
    let mut good = waiting(&daemon, port, b"a good one");
    first.finish();
    assert_eq!(server(&mut second), "a");
    second.finish();
    assert_eq!(server(&mut good), "a");
    assert_eq!(good.finish().read_text(), "a good one");
}

fn a_full_service_may_refuse_while_others_go_on() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "on_full = \"refuse\"\nbanner = { refused = \"full\\n\" }\n";
    let daemon = Daemon::start(&dir, &small(port, more));
    let mut first = filled(&daemon, port);
    assert_eq!(Peer::tcp(port).send("a").read_text(), "full\n");
    assert_eq!(served_by(&mut Peer::tcp(port), b"b"), "b");
    assert_eq!(first.finish().read_text(), "a");
}

const SLOW: &str = "match_timeout = \"60s\"\n";

fn ssh_or(port: u16, more: &[(&str, &str)]) -> String {
    let services = [&[("ssh", "{ ssh = true }")], more].concat();
    table(port, &services) + SLOW
}

fn a_reload_judges_the_undecided_by_the_new_rules() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &ssh_or(port, &[("tls", "{ tls = true }")]));
    let mut now = waiting(&daemon, port, b"SSH");
    let mut later = waiting(&daemon, port, b"S");
    let new = [("new", "{ prefix = \"SSH\", priority = 9 }")];
    assert!(daemon.reload(&dir, &ssh_or(port, &new)));
    assert_eq!(server(&mut now), "new");
    assert_eq!(now.finish().read_text(), "SSH");
    assert_eq!(server(later.send("SH")), "new");
}

fn a_reload_finds_out_what_the_new_rules_ask() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &ssh_or(port, &[("tls", "{ tls = true }")]));
    let mut peer = waiting(&daemon, port, b"SSH");
    let new = [("near", "{ to = \"127.0.0.0/8\" }")];
    assert!(daemon.reload(&dir, &ssh_or(port, &new)));
    assert_eq!(server(&mut peer), "near");
}

fn a_reload_may_leave_a_single_service() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &ssh_or(port, &[("rest", "")]));
    let mut peer = waiting(&daemon, port, b"SSH");
    assert!(daemon.reload(&dir, &on(port, "rest", "")));
    assert_eq!(server(&mut peer), "rest");
    assert_eq!(peer.finish().read_text(), "SSH");
}

fn a_reload_that_denies_a_source_closes_its_undecided() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &ssh_or(port, &[]));
    let mut peer = waiting(&daemon, port, b"SSH");
    let denies = ssh_or(port, &[]) + "deny = [\"127.0.0.1\"]\n";
    assert!(daemon.reload(&dir, &denies));
    assert_eq!(peer.read_text(), "");
    assert_eq!(daemon.log.count(&["started"]), 0);
}

fn a_reload_that_takes_the_listener_closes_its_undecided() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &ssh_or(port, &[("rest", "")]));
    let mut peer = waiting(&daemon, port, b"SSH");
    assert!(daemon.reload(&dir, &ssh_or(other, &[("rest", "")])));
    assert_eq!(peer.read_text(), "");
    assert_eq!(served_by(&mut Peer::tcp(other), b"x"), "rest");
}

fn a_reload_that_takes_the_service_closes_who_waits_for_it() {
    let (dir, port) = (Dir::new(), free_port());
    let services = small(port, "on_full = \"queue\"\nrate = \"1/h burst 1\"\n");
    let daemon = Daemon::start(&dir, &services);
    assert_eq!(served_by(&mut Peer::tcp(port), b"a"), "a");
    daemon.wait_servers(0);
    let mut peer = waiting(&daemon, port, b"a waits");
    let b = on(port, "b", "match = { prefix = \"b\" }\n");
    assert!(daemon.reload(&dir, &b));
    assert_eq!(peer.read_text(), "");
    assert_eq!(served_by(&mut Peer::tcp(port), b"b"), "b");
}

fn a_reload_that_moves_the_service_tells_who_waits_for_it() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let told = "on_full = \"queue\"\nbanner = { refused = \"moved\\n\" }\n";
    let daemon = Daemon::start(&dir, &small(port, told));
    let mut first = filled(&daemon, port);
    let mut peer = waiting(&daemon, port, b"a waits");
    let moved = [
        on(
            other,
            "a",
            &format!("match = {{ prefix = \"a\" }}\ninstances = 1\n{told}"),
        ),
        on(port, "b", "match = { prefix = \"b\" }\n"),
    ];
    assert!(daemon.reload(&dir, &moved.concat()));
    assert_eq!(peer.read_text(), "moved\n");
    first.send("still here\n");
    assert_eq!(first.read_line(), "astill here\n");
}

fn a_reload_may_make_a_proxy_of_an_undecided_source() {
    let (dir, port) = (Dir::new(), free_port());
    // Of a P nobody knows yet whether it is a POST.
    let services = ssh_or(port, &[("web", "{ http = true }")]);
    let daemon = Daemon::start(&dir, &services);
    let mut peer = waiting(&daemon, port, b"P");
    let listed = services.clone() + "proxy_protocol = [\"127.0.0.1\"]\n";
    assert!(daemon.reload(&dir, &listed));
    let header = proxy1("203.0.113.9:5", "192.0.2.1:443");
    let (name, said) = greeting(peer.send([&header[1..], b"SSH-2.0-x\r\n"].concat()));
    assert_eq!((&*name, value(&said, "peer")), ("ssh", "203.0.113.9:5"));
    // And no proxy any more, with its header read already.
    let mut peer = waiting(&daemon, port, &header);
    assert!(daemon.reload(&dir, &services));
    assert_eq!(peer.read_text(), "");
}

fn a_drain_closes_the_undecided() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &small(port, "on_full = \"queue\"\n"));
    let mut first = filled(&daemon, port);
    let mut held = waiting(&daemon, port, b"a");
    let mut undecided = waiting(&daemon, port, b"");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(undecided.read_text(), "");
    assert_eq!(held.read_text(), "");
    first.send("still here\n");
    assert_eq!(first.read_line(), "astill here\n");
    first.finish();
    assert_eq!(daemon.exit_code(), Some(0));
    daemon.log.wait_exactly(1, &["started"]);
}

fn a_front_that_is_lost_loses_only_the_undecided() {
    let (dir, port) = (Dir::new(), free_port());
    let services = [("tls", "{ tls.sni = \"a.test\" }"), ("rest", "")];
    let daemon = Daemon::start(&dir, &(table(port, &services) + SLOW));
    let mut served = Peer::tcp(port);
    assert_eq!(server(served.send("x")), "rest");
    let mut undecided = waiting(&daemon, port, &hello("a.test")[..30]);
    let front = daemon.front();
    process::kill(front, Signal::SIGKILL);
    assert_eq!(undecided.read_text(), "");
    assert_eq!(served_by(&mut Peer::tcp(port), &hello("a.test")), "tls");
    assert_ne!(daemon.front(), front);
    assert_eq!(served.finish().read_text(), "x");
}
