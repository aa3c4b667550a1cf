//! Thousands of clients that say nothing, or as little as they can, while a
//! good one is served; and what they cost the front.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::common::opening::{hello, hello_of_size};
use crate::common::*;
use crate::handover::watched;
use crate::pending::bounded;
use crate::shared_port::*;
use crate::tests;

tests![
    ten_thousand_silent_ones_of_one_source: 120,
    ten_thousand_silent_ones_of_as_many_sources: 120,
    an_undecided_connection_costs_at_most_512_bytes: 120,
    five_hundred_that_send_a_byte_in_time: 120,
    a_hello_byte_by_byte_costs_a_bounded_number_of_looks,
    a_header_byte_by_byte_costs_a_bounded_number_of_looks,
    those_who_fall_silent_after_many_bytes_cost_nothing: 120,
];

const MANY: usize = 10_000;

/// One flood at a time: they need most descriptors there are.
static FLOOD: Mutex<()> = Mutex::new(());

fn flood(needed: u64) -> MutexGuard<'static, ()> {
    let guard = FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = needed + 2_000;
    if most < wanted || setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err() {
        skip(format!("needs {wanted} descriptors, the limit is {most}"));
    }
    guard
}

fn services(port: u16, more: &str) -> String {
    let services = [
        ("tls", "{ tls.sni = \"a.test\" }"),
        ("web", "{ http.host = \"a.test\" }"),
        ("rest", ""),
    ];
    table(port, &services) + more
}

const SLOW: &str = "match_timeout = \"60s\"\n";
const ALL: &str = "total = 20000, per_listener = 20000, per_source = 20000";

/// A loopback address of its own for each number: 127.1.x.y.
fn source(nth: usize) -> [u8; 4] {
    let nth = u32::try_from(nth).unwrap();
    (0x7f01_0000 + nth).to_be_bytes()
}

fn connect(from: [u8; 4], port: u16) -> Peer {
    let from = SocketAddr::from((from, 0));
    let to = SocketAddr::from((IpAddr::from([127, 0, 0, 1]), port));
    Peer::try_between(from, to).unwrap_or_else(|err| panic!("unable to connect from {from}: {err}"))
}

fn good(port: u16) -> Duration {
    let began = Instant::now();
    let mut peer = connect([127, 200, 0, 1], port);
    assert_eq!(served_by(&mut peer, &hello("a.test")), "tls");
    began.elapsed()
}

/// A good client now and then while `count` silent ones come.
fn good_among(
    daemon: &Daemon,
    port: u16,
    count: usize,
    from: impl Fn(usize) -> [u8; 4],
) -> Vec<Peer> {
    let idle: Duration = (0..10).map(|_| good(port)).max().unwrap();
    let mut held = Vec::new();
    let mut worst = Duration::ZERO;
    for nth in 0..count {
        held.push(connect(from(nth), port));
        if nth % 500 == 499 {
            worst = worst.max(good(port));
        }
    }
    println!(
        "{}: the good client had its answer after {worst:?} at worst, {idle:?} at worst before; {} watched",
        runner::current_test(),
        watched(daemon.front())
    );
    held
}

fn ten_thousand_silent_ones_of_one_source() {
    let _one = flood(MANY as u64);
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, SLOW));
    let held = good_among(&daemon, port, MANY, |_| [127, 0, 0, 66]);
    // Its share is 200, so that most of them have been closed by now.
    until("no more than its share", SOON, || {
        (watched(daemon.front()) < 220).then_some(())
    });
    daemon
        .log
        .wait_exactly(1, &["127.0.0.66", "too many undecided"]);
    drop(held);
    good(port);
}

fn ten_thousand_silent_ones_of_as_many_sources() {
    let _one = flood(MANY as u64);
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, SLOW));
    let held = good_among(&daemon, port, MANY, source);
    until("no more than the share of a listener", SOON, || {
        (watched(daemon.front()) < 5_020).then_some(())
    });
    drop(held);
    good(port);
}

/// Memory of the process's own, in bytes.
fn anonymous(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes =
        process::field(&text, "Pss_Anon").or_else(|| process::field(&text, "Anonymous"));
    let kilobytes = kilobytes.unwrap_or_else(|| skip("needs /proc/PID/smaps_rollup"));
    kilobytes
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn an_undecided_connection_costs_at_most_512_bytes() {
    needs_root(); // to read what the front, another user, has mapped
    let _one = flood(MANY as u64);
    let (dir, port) = (Dir::new(), free_port());
    for (what, one_source) in [("one source", true), ("as many sources", false)] {
        let daemon = bounded(&dir, ALL, &services(port, SLOW)).start();
        good(port);
        daemon.wait_servers(0);
        let (front, idle) = (daemon.front(), watched(daemon.front()));
        let before = anonymous(front);
        let from = |nth| {
            if one_source {
                [127, 0, 0, 66]
            } else {
                source(nth)
            }
        };
        // Half of them say something that decides nothing.
        let mut held: Vec<Peer> = (0..MANY).map(|nth| connect(from(nth), port)).collect();
        held.iter_mut().step_by(2).for_each(|peer| {
            peer.send(&hello("a.test")[..20]);
        });
        until("all to be waited for", SOON, || {
            (watched(front) == idle + MANY).then_some(())
        });
        let each = anonymous(front).saturating_sub(before) / MANY as u64;
        println!(
            "{}: {each} bytes each with {MANY} of {what}",
            runner::current_test()
        );
        assert!(
            each <= 512,
            "{each} bytes for an undecided connection of {what}"
        );
        good(port);
        held.into_iter().for_each(Peer::reset);
        until("none to be waited for", SOON, || {
            (watched(front) == idle).then_some(())
        });
    }
}

fn five_hundred_that_send_a_byte_in_time() {
    let _one = flood(2_000);
    let (dir, port) = (Dir::new(), free_port());
    let deadlines = "first_byte_timeout = \"1s\"\nmatch_timeout = \"3s\"\n";
    let daemon = bounded(&dir, ALL, &services(port, deadlines)).start();
    let text = b"GET / HTTP/1.1\r\n";
    good(port);
    let began = Instant::now();
    let mut peers: Vec<Peer> = (0..500).map(|nth| connect(source(nth), port)).collect();
    // A byte every nine tenths of the deadline for the first one.
    for (nth, byte) in (1..).zip(&text[..3]) {
        for peer in &mut peers {
            peer.try_send([*byte]);
        }
        good(port);
        let next = began + Duration::from_millis(900) * nth;
        let left = next.saturating_duration_since(Instant::now());
        peers[0].hears_nothing_for(left.max(Duration::from_millis(1)));
    }
    // However they keep on: at the second deadline what is not decided falls back.
    for peer in &mut peers {
        assert_eq!(server(peer), "rest");
        peer.finish();
    }
    assert!(began.elapsed() >= Duration::from_millis(2_900));
    daemon.log.wait_exactly(500, &["started", "service=rest"]);
}

/// How often the process went to sleep: its turns.
fn turns(pid: Pid) -> u64 {
    let count = process::status(pid, "voluntary_ctxt_switches");
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Sends byte by byte, and each so late that the front has slept in between;
/// how many turns the front took, and for how long it went on.
fn drip(daemon: &Daemon, port: u16, bytes: &[u8]) -> (u64, Duration) {
    let front = daemon.front();
    let (before, ticks) = (turns(front), process::cpu_ticks(front));
    let began = Instant::now();
    let mut peer = Peer::tcp(port);
    for byte in bytes {
        peer.send_one_by_one(&[*byte]);
        std::thread::sleep(Duration::from_micros(150)); // the pace of the attack
    }
    let took = began.elapsed();
    assert_eq!(
        server(&mut peer),
        if bytes[0] == 22 { "tls" } else { "web" }
    );
    assert!(peer.finish().read_all() == bytes);
    let turns = turns(front) - before;
    println!(
        "{}: {} bytes in {took:?}, {turns} turns of the front, {} ticks",
        runner::current_test(),
        bytes.len(),
        process::cpu_ticks(front) - ticks
    );
    (turns, took)
}

/// Sixteen looks at once, then one in 64 ms, two of them where nothing came
/// between; and some turns for the start and the end of the server. Of a busy machine
/// as many again: a front that took one turn for each byte would need thousands.
fn allowed(took: Duration) -> u64 {
    let pauses = took.as_millis() / 64;
    2 * (16 + 6 + 2 * u64::try_from(pauses).unwrap() + 30)
}

fn a_hello_byte_by_byte_costs_a_bounded_number_of_looks() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, SLOW));
    good(port);
    let (turns, took) = drip(&daemon, port, &hello_of_size("a.test", 1_800));
    assert!(turns <= allowed(took), "{turns} turns within {took:?}");
}

fn a_header_byte_by_byte_costs_a_bounded_number_of_looks() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &services(port, SLOW));
    good(port);
    let line = [&b"X-Y: "[..], &[b'z'; 93], b"\r\n"].concat();
    let head = [
        &b"GET / HTTP/1.1\r\n"[..],
        &line.repeat(80),
        b"Host: a.test\r\n\r\n",
    ]
    .concat();
    let (turns, took) = drip(&daemon, port, &head);
    assert!(turns <= allowed(took), "{turns} turns within {took:?}");
}

fn those_who_fall_silent_after_many_bytes_cost_nothing() {
    let _one = flood(5_000);
    let (dir, port) = (Dir::new(), free_port());
    let daemon = bounded(&dir, ALL, &services(port, SLOW)).start();
    let front = daemon.front();
    let mut peers: Vec<Peer> = (0..1_000).map(|nth| connect(source(nth), port)).collect();
    // Of a hello the length is known; here every byte may be the last one needed.
    let bytes = b"GET / HTTP/1.1\r\nAccept: text/html\r\nHost: a.test\r\n\r\n";
    for byte in &bytes[..40] {
        for peer in &mut peers {
            peer.send_one_by_one(&[*byte]);
        }
    }
    // Once what was sent has been seen, nothing happens.
    let before = until("a front at rest", SOON, || {
        let before = turns(front);
        peers[0].hears_nothing_for(Duration::from_millis(300));
        (turns(front) < before + 5).then_some(turns(front))
    });
    peers[0].hears_nothing_for(Duration::from_secs(1));
    let idle = turns(front) - before;
    println!(
        "{}: {idle} turns in a second with 1000 waiting",
        runner::current_test()
    );
    assert!(idle < 10, "{idle} turns with nothing to do");
    for peer in peers.iter_mut().step_by(100) {
        peer.send(&bytes[40..]);
        assert_eq!(server(peer), "web");
    }
}
