#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::*;
use crate::demux::rule::Content;
use crate::demux::{Protocol, Rule};
use crate::front::links::Link;
use crate::front::plan::{ListenerPlan, Plan, ServePlan, ServicePlan};
use crate::front::samples::{open_rules, prefix};
use crate::helper::wire::{Notice, Outcome, Refusal};
use crate::ids::{ConnectionId, InstanceId, ListenerId};
use crate::sandbox::Step;
use crate::table::{
    Builtin, LogFormat, LogLevel, LogSettings, LogTarget, Routing, Rules, Undecided,
};

const LISTENER: ListenerId = ListenerId(1);

/// A front without its loop, and the helper's end of its link.
struct Alone {
    front: Front,
    _helper: OwnedFd,
    now: Instant,
}

impl Alone {
    fn new(plan: Plan, listener: OwnedFd) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let kind = SockType::SeqPacket;
        let (ours, helper) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        let mut front = Front::new(Link::new(ours)).unwrap();
        let now = Instant::now();
        front.apply_plan(plan);
        front.take_listener(LISTENER, listener);
        front.rebalance(now);
        Self {
            front,
            _helper: helper,
            now,
        }
    }

    /// Takes what waits at the listener; the clock goes on by a millisecond.
    fn accept(&mut self) {
        self.now += Duration::from_millis(1);
        self.front.listener_ready(LISTENER, self.now);
        self.front.rebalance(self.now);
    }

    fn hear(&mut self, notice: Notice) {
        self.now += Duration::from_millis(1);
        self.front.take_notice(notice, &mut Vec::new(), self.now);
    }

    fn start(&mut self, count: u64) {
        self.hear(Notice::Started {
            connection: ConnectionId::new(1, count),
            instance: InstanceId(count),
            pid: 1,
        });
    }

    fn exit(&mut self, instance: u64, outcome: Outcome) {
        self.hear(Notice::Exited {
            instance: InstanceId(instance),
            outcome,
        });
    }

    fn of(&self, id: u32) -> Statistics {
        self.front.statistics(Some(ServiceId(id))).total
    }

    fn total(&self) -> Statistics {
        self.front.statistics(None).total
    }
}

fn service(id: u32, serve: ServePlan, rules: Rules, matches: Vec<Rule>) -> ServicePlan {
    ServicePlan {
        id: ServiceId(id),
        name: format!("service-{id}"),
        description: None,
        blocked: None,
        serve,
        rules,
        routing: Routing {
            rules: matches,
            ..Routing::default()
        },
    }
}

/// All services on the one listener.
fn plan(services: Vec<ServicePlan>, datagram: bool) -> Plan {
    Plan {
        epoch: 1,
        fronts: 1,
        log: LogSettings {
            to: LogTarget::Stderr,
            format: LogFormat::Text,
            level: LogLevel::Info,
        },
        undecided: Undecided::default(),
        listeners: vec![ListenerPlan {
            id: LISTENER,
            services: services.iter().map(|service| service.id).collect(),
            label: "tcp:1".into(),
            datagram,
            bound: true,
        }],
        services,
        tcpmux: Vec::new(),
        disabled: Vec::new(),
        helper_pid: 1,
        uptime: 0,
    }
}

fn listen() -> (TcpListener, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let copy = listener.try_clone().unwrap();
    (listener, copy.into())
}

fn connect(listener: &TcpListener) -> TcpStream {
    TcpStream::connect(listener.local_addr().unwrap()).unwrap()
}

fn map(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let entries = entries.iter();
    entries
        .map(|(key, count)| ((*key).to_owned(), *count))
        .collect()
}

#[test]
fn a_server_is_counted_from_accept_to_exit() {
    let (listener, copy) = listen();
    let exec = service(1, ServePlan::Exec, open_rules(), Vec::new());
    let mut alone = Alone::new(plan(vec![exec], false), copy);
    assert_eq!(alone.of(1), Statistics::default());
    let _peers = [connect(&listener), connect(&listener)];
    alone.accept();
    alone.start(1);
    alone.start(2);
    assert_eq!(alone.of(1).running, 2);
    let outcome = Outcome {
        status: 9,
        signalled: true,
        micros: 5_000,
        user_micros: 700,
        system_micros: 300,
        max_rss: 64,
        blocks_read: 3,
        blocks_written: 1,
        ..Outcome::default()
    };
    alone.exit(1, outcome);
    let told = alone.of(1);
    let expected = (2, 2, 2, 1);
    let found = (told.accepted, told.admitted, told.started, told.running);
    assert_eq!(found, expected);
    assert_eq!(told.exited, map(&[("signal 9", 1)]));
    assert_eq!((told.user_us, told.system_us), (700, 300));
    assert_eq!(told.memory_peak, 64 << 10);
    assert_eq!((told.blocks_read, told.blocks_written), (1536, 512));
    // One and two milliseconds after they were asked for, by the clock of this test.
    assert_eq!(
        (told.start_latency.count, told.start_latency.sum_us),
        (2, 3_000)
    );
    assert_eq!((told.run_time.count, told.run_time.sum_us), (1, 5_000));
    assert_eq!(told.match_latency.count, 0);
    assert_eq!(alone.total(), told);
}

#[test]
fn starts_that_come_to_nothing_are_told_by_step_or_refusal() {
    let (listener, copy) = listen();
    let exec = service(1, ServePlan::Exec, open_rules(), Vec::new());
    let mut alone = Alone::new(plan(vec![exec], false), copy);
    let _peers = [(); 3].map(|()| connect(&listener));
    alone.accept();
    let connection = |count| ConnectionId::new(1, count);
    alone.hear(Notice::Refused {
        connection: connection(1),
        reason: Refusal::PeerGone,
    });
    alone.hear(Notice::Failed {
        connection: connection(2),
        step: Step::Clone,
        errno: 11,
    });
    alone.start(3);
    alone.hear(Notice::Failed {
        connection: connection(3),
        step: Step::Exec,
        errno: 2,
    });
    alone.exit(3, Outcome::default());
    let told = alone.of(1);
    let expected = map(&[("clone", 1), ("exec", 1), ("refused: peer gone", 1)]);
    assert_eq!(told.failed, expected);
    assert_eq!((told.running, told.started), (0, 1));
    assert!(told.exited.is_empty());
    assert_eq!(told.run_time.count, 0);
}

#[test]
fn the_refused_are_told_by_reason_and_source() {
    let (listener, copy) = listen();
    let mut rules = open_rules();
    rules.access.deny = vec![prefix("127.0.0.0/8")];
    let exec = service(1, ServePlan::Exec, rules, Vec::new());
    let mut alone = Alone::new(plan(vec![exec], false), copy);
    let _peers = [(); 3].map(|()| connect(&listener));
    alone.accept();
    let told = alone.front.statistics(None);
    assert_eq!((told.total.accepted, told.total.admitted), (3, 0));
    assert_eq!(told.total.refused, map(&[("address_denied", 3)]));
    let source = Source {
        prefix: "127.0.0.1".into(),
        accepted: 3,
        refused: 3,
        running: 0,
    };
    assert_eq!(told.sources, [source]);
    let only = alone.front.statistics(Some(ServiceId(1)));
    assert_eq!(only.total, only.services["service-1"]);
    assert!(only.sources.is_empty());
    assert_eq!(alone.of(7), Statistics::default());
}

#[test]
fn matched_rules_are_told_as_written_and_follow_a_reload() {
    let is = |protocol| Rule {
        content: vec![Content::Is(protocol)],
        ..Rule::default()
    };
    let (ssh, redis) = (is(Protocol::Ssh), is(Protocol::Redis));
    let services = |matches| {
        let picky = service(1, ServePlan::Exec, open_rules(), matches);
        let rest = service(2, ServePlan::Exec, open_rules(), Vec::new());
        plan(vec![picky, rest], false)
    };
    let (listener, copy) = listen();
    let mut alone = Alone::new(services(vec![ssh.clone(), redis.clone()]), copy);
    let mut peers = Vec::new();
    for greeting in [
        "SSH-2.0-x\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut peer = connect(&listener);
        peer.write_all(greeting.as_bytes()).unwrap();
        peers.push(peer);
    }
    peers.push(connect(&listener)); // silent: undecided
    alone.accept();
    let told = alone.of(1);
    let both = map(&[("redis = true", 1), ("ssh = true", 1)]);
    assert_eq!((told.accepted, told.undecided), (2, 1));
    assert_eq!(told.matched, both);
    assert_eq!(told.match_latency.count, 2);
    assert_eq!(alone.of(2).matched, map(&[("fallback", 1)]));
    let told = alone.total();
    assert_eq!((told.accepted, told.undecided), (4, 1));
    assert_eq!(told.matched.values().sum::<u64>(), 3);

    alone.front.apply_plan(services(vec![redis]));
    let told = alone.of(1);
    let expected = map(&[("redis = true", 1), ("rules of earlier tables", 1)]);
    assert_eq!(told.matched, expected);
    assert_eq!(alone.total().matched["rules of earlier tables"], 1);
}

#[test]
fn a_removed_service_is_told_until_its_last_server_ends_and_in_the_total_for_ever() {
    let (listener, copy) = listen();
    let exec = service(1, ServePlan::Exec, open_rules(), Vec::new());
    let mut alone = Alone::new(plan(vec![exec], false), copy);
    let _peer = connect(&listener);
    alone.accept();
    alone.start(1);
    alone.front.apply_plan(plan(Vec::new(), false));
    assert_eq!(alone.of(1).running, 1);
    alone.exit(1, Outcome::default());
    assert!(alone.front.statistics(None).services.is_empty());
    let told = alone.total();
    assert_eq!((told.accepted, told.started, told.running), (1, 1, 0));
    assert_eq!(told.exited, map(&[("status 0", 1)]));
}

#[test]
fn bytes_of_a_conversation_are_told_while_it_lasts() {
    let (listener, copy) = listen();
    let echo = ServePlan::Builtin(Builtin::Echo);
    let echo = service(1, echo, open_rules(), Vec::new());
    let mut alone = Alone::new(plan(vec![echo], false), copy);
    let mut peer = connect(&listener);
    peer.write_all(b"hello").unwrap();
    alone.accept();
    let told = alone.of(1);
    assert_eq!((told.received, told.sent, told.running), (5, 5, 1));
    assert_eq!(alone.total(), told);
    assert_eq!(alone.front.statistics(None).sources[0].running, 1);
    drop(peer);
    alone.now += Duration::from_millis(2);
    alone.front.talk_ready(0, 0, alone.now);
    let told = alone.of(1);
    assert_eq!((told.received, told.sent, told.running), (5, 5, 0));
    assert_eq!((told.run_time.count, told.run_time.sum_us), (1, 2_000));
    assert_eq!(told.started, 0);
    assert_eq!(alone.total(), told);
}

#[test]
fn datagrams_answered_here_are_counted_one_by_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let copy = socket.try_clone().unwrap().into();
    let mut rules = open_rules();
    rules.rate = Some(crate::front::samples::per_second(1, 2));
    let echo = service(1, ServePlan::Builtin(Builtin::Echo), rules, Vec::new());
    let mut alone = Alone::new(plan(vec![echo], true), copy);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        peer.send_to(b"hello", socket.local_addr().unwrap())
            .unwrap();
    }
    alone.accept();
    let told = alone.of(1);
    assert_eq!((told.accepted, told.admitted), (5, 2));
    assert_eq!(told.refused, map(&[("service_rate", 3)]));
    assert_eq!((told.received, told.sent), (10, 10));
    let source = &alone.front.statistics(None).sources[0];
    assert_eq!((source.accepted, source.refused), (5, 3));
}

#[test]
fn of_datagrams_that_a_server_takes_the_one_that_woke_it_is_counted() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let copy = socket.try_clone().unwrap().into();
    let exec = service(1, ServePlan::Exec, open_rules(), Vec::new());
    let mut alone = Alone::new(plan(vec![exec], true), copy);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        peer.send_to(b"hello", socket.local_addr().unwrap())
            .unwrap();
    }
    alone.accept();
    alone.start(1);
    let told = alone.of(1);
    assert_eq!((told.accepted, told.admitted, told.running), (1, 1, 1));
    alone.exit(1, Outcome::default()); // took nothing: its datagram is dropped
    alone.accept();
    let mut rules = open_rules();
    rules.access.deny = vec![prefix("127.0.0.0/8")];
    let denying = service(1, ServePlan::Exec, rules, Vec::new());
    alone.front.apply_plan(plan(vec![denying], true));
    alone.now += Duration::from_secs(60);
    alone.front.rebalance(alone.now);
    alone.accept();
    let told = alone.of(1);
    assert_eq!((told.accepted, told.admitted), (2, 1));
    assert_eq!(told.refused, map(&[("address_denied", 1)]));
}
