//! Who is let in, how many, how often and when.

use std::time::Duration;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::programs::DATAGRAM_LOOP;
use crate::tests;

tests![
    beyond_instances_connections_wait_in_the_queue,
    beyond_instances_connections_are_refused_with_a_text,
    one_source_has_no_more_than_its_share,
    a_prefix_can_count_as_one_source,
    a_rate_refuses_what_comes_too_fast,
    a_queue_behind_a_rate_moves_on,
    a_rate_per_source_leaves_other_sources_alone,
    outside_its_hours_a_service_refuses,
    inside_its_hours_a_service_answers,
    under_load_a_service_refuses,
    a_denied_peer_reads_the_refusal,
    the_longest_prefix_decides,
    a_list_too_long_for_the_kernel_is_no_open_door,
    a_banner_comes_before_the_servers_words,
    a_server_that_runs_too_long_is_ended,
    limits_of_one_service_do_not_touch_another,
    who_has_used_up_the_descriptors_is_refused_alone,
];

/// For proofs that something does not happen.
const A_WHILE: Duration = Duration::from_millis(300);

fn service(name: &str, port: u16, more: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn cat(dir: &Dir, port: u16, more: &str) -> Daemon {
    Daemon::start(dir, &service("cat", port, more))
}

/// A peer whose server has been seen to answer: it holds a slot.
fn served(port: u16) -> Peer {
    served_from([127, 0, 0, 1], port)
}

fn served_from(source: [u8; 4], port: u16) -> Peer {
    let mut peer = Peer::tcp_from(source, port);
    peer.send("hold\n");
    assert_eq!(peer.read_line(), "hold\n", "not served");
    peer
}

fn beyond_instances_connections_wait_in_the_queue() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "instances = 2\non_full = \"queue\"\n");
    let (first, second) = (served(port), served(port));
    let mut third = Peer::tcp(port);
    third.send("my turn\n");
    assert!(
        third.hears_nothing_for(A_WHILE),
        "three instances instead of two"
    );
    drop(first);
    assert_eq!(third.read_line(), "my turn\n");
    drop(second);
}

fn beyond_instances_connections_are_refused_with_a_text() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = cat(
        &dir,
        port,
        "instances = 1\non_full = \"refuse\"\nbanner = { refused = \"come back later\\r\\n\" }\n",
    );
    let mut first = served(port);
    assert_eq!(hear(port), "come back later\r\n");
    first.finish();
    assert_eq!(first.read_all(), b"");
    daemon.wait_servers(0);
    // The front hears of the end a moment later.
    until("a free place", SOON, || {
        (ask(port, "again") == "again").then_some(())
    });
}

fn one_source_has_no_more_than_its_share() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "per_source = 2\ninstances = 10\n");
    let (_one, _two) = (
        served_from([127, 0, 0, 2], port),
        served_from([127, 0, 0, 2], port),
    );
    assert_eq!(Peer::tcp_from([127, 0, 0, 2], port).read_text(), "");
    let _other = served_from([127, 0, 0, 3], port);
}

fn a_prefix_can_count_as_one_source() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "per_source = 1\nsource_prefix = { v4 = 24 }\n");
    let _one = served_from([127, 0, 7, 2], port);
    assert_eq!(Peer::tcp_from([127, 0, 7, 3], port).read_text(), "");
    let _other = served_from([127, 0, 8, 3], port);
}

fn a_rate_refuses_what_comes_too_fast() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "rate = \"1/h burst 3\"\non_full = \"refuse\"\n");
    for _ in 0..3 {
        assert_eq!(ask(port, "fast"), "fast");
    }
    assert_eq!(ask(port, "too fast"), "");
}

fn a_queue_behind_a_rate_moves_on() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "rate = \"4/s burst 1\"\non_full = \"queue\"\n");
    let began = std::time::Instant::now();
    for nth in 0..5 {
        assert_eq!(ask(port, nth.to_string()), nth.to_string());
    }
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "five at four a second within {took:?}"
    );
}

fn a_rate_per_source_leaves_other_sources_alone() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "rate_per_source = \"1/h burst 2\"\n");
    let from = |host: u8| {
        let mut peer = Peer::tcp_from([127, 0, 0, host], port);
        peer.send("x").finish().read_text()
    };
    assert_eq!(
        (from(2), from(2), from(2)),
        ("x".into(), "x".into(), String::new())
    );
    assert_eq!(from(3), "x");
}

/// A window of two hours that begins so many hours from now, in local time.
fn window(begins_in: i32) -> String {
    let hour = std::process::Command::new("date").arg("+%H").output();
    let hour = String::from_utf8(hour.expect("date(1)").stdout).unwrap();
    let hour: i32 = hour.trim().parse().unwrap();
    let at = |hours: i32| (hour + hours).rem_euclid(24);
    format!(
        "hours = [\"{:02}:00-{:02}:00\"]\n",
        at(begins_in),
        at(begins_in + 2)
    )
}

fn outside_its_hours_a_service_refuses() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, &window(6));
    assert_eq!(ask(port, "anybody?"), "");
}

fn inside_its_hours_a_service_answers() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, &window(-1));
    assert_eq!(ask(port, "anybody?"), "anybody?");
}

fn under_load_a_service_refuses() {
    let (dir, port) = (Dir::new(), free_port());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if load.starts_with("0.0") {
        skip("the host has nothing to do: its load average is below 0.1");
    }
    let _daemon = cat(&dir, port, "max_load = 0.01\non_full = \"refuse\"\n");
    assert_eq!(ask(port, "anybody?"), "");
}

fn a_denied_peer_reads_the_refusal() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(
        &dir,
        port,
        "deny = [\"127.0.0.2/32\"]\nbanner = { refused = \"not you\\n\" }\n",
    );
    assert_eq!(
        Peer::tcp_from([127, 0, 0, 2], port).read_text(),
        "not you\n"
    );
    assert_eq!(ask(port, "me"), "me");
}

fn the_longest_prefix_decides() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(
        &dir,
        port,
        "allow = [\"127.0.0.0/16\", \"127.0.1.7/32\"]\ndeny = [\"127.0.1.0/24\"]\n",
    );
    let from = |source: [u8; 4]| Peer::tcp_from(source, port).send("x").finish().read_text();
    assert_eq!(from([127, 0, 0, 9]), "x");
    assert_eq!(from([127, 0, 1, 9]), "");
    assert_eq!(from([127, 0, 1, 7]), "x");
    assert_eq!(from([127, 9, 0, 1]), "");
}

fn a_list_too_long_for_the_kernel_is_no_open_door() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", DATAGRAM_LOOP);
    let denying = |count: u32| {
        let denied: Vec<String> = (1..=count)
            .map(|n| format!("\"2001:db8::{n:x}/128\""))
            .collect();
        let deny = denied.join(", ");
        format!(
            "[service.s]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\ndeny = [{deny}]\n"
        )
    };
    let daemon = Setup::new(&dir, &denying(500)).begin();
    daemon.log.wait_for("more prefixes than the kernel");
    assert_eq!(daemon.exit_code(), Some(78));
    // What the checker lets pass, the kernel takes.
    let daemon = Daemon::start(&dir, &denying(150));
    assert_eq!(daemon.log.count(&["unable to keep"]), 0);
    assert!(UdpPeer::new(port).ask("x").starts_with("x "));
}

fn a_banner_comes_before_the_servers_words() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = cat(&dir, port, "banner = { admitted = \"welcome\\r\\n\" }\n");
    assert_eq!(ask(port, "thanks"), "welcome\r\nthanks");
}

fn a_server_that_runs_too_long_is_ended() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = cat(&dir, port, "max_runtime = \"500ms\"\n");
    let mut peer = served(port);
    assert_eq!(peer.read_text(), "", "the server has gone");
    daemon.wait_servers(0);
    assert_eq!(ask(port, "next"), "next");
}

fn limits_of_one_service_do_not_touch_another() {
    let (dir, full, free) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &(service("full", full, "instances = 1\n") + &service("free", free, "")),
    );
    let _holder = served(full);
    let _waiting: Vec<Peer> = (0..20).map(|_| Peer::tcp(full)).collect();
    for _ in 0..20 {
        assert_eq!(ask(free, "here"), "here");
    }
}

/// A request whose connection finds no number in the helper is none, and was taken for a lie.
fn who_has_used_up_the_descriptors_is_refused_alone() {
    let prlimit = needs("prlimit", "util-linux");
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let many = service("many", port, "isolation = \"strict\"\ninstances = 300\n");
    let table = many + &service("other", other, "");
    let daemon = Setup::new(&dir, &table)
        .through(&[prlimit.to_str().unwrap(), "--nofile=128:128"])
        .start();
    let front = daemon.front();
    let mut peers: Vec<Peer> = (0..90).map(|_| Peer::tcp(port)).collect();
    let mut served = 0;
    for peer in &mut peers {
        peer.send("x");
        peer.finish();
        served += usize::from(peer.read_text() == "x");
    }
    assert!(served > 0, "nobody was served");
    assert_eq!(ask(other, "and I?"), "and I?");
    assert_eq!(daemon.front(), front, "the front did not survive");
}
