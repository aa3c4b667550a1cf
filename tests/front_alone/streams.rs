use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use usherd::helper::wire::{Notice, Refusal, Request};
use usherd::ids::{InstanceId, ListenerId};
use usherd::sandbox::Step;
use usherd::table::{OnFull, Rate, Rules};

use super::helper::{Helper, LISTENER, SERVICE, open_rules};

/// A front with one stream service, and how to reach it.
struct Stream {
    helper: Helper,
    listener: TcpListener,
}

impl Stream {
    fn new(rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let helper = Helper::serving(rules, listener.try_clone().unwrap(), false);
        Self { helper, listener }
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        peer
    }
}

fn read_all(mut peer: TcpStream) -> String {
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_connection_becomes_a_request_with_a_blocking_socket() {
    let mut stream = Stream::new(open_rules());
    let peer = stream.connect();
    let (connection, socket) = stream.helper.hear_start();
    let mut server = TcpStream::from(socket.unwrap());
    let flags = nix::fcntl::fcntl(&server, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0);
    let instance = stream.helper.started(connection);
    server.write_all(b"served").unwrap();
    drop(server);
    assert_eq!(read_all(peer), "served");
    stream.helper.exited(instance);
    stream.helper.wait_for_log("accepted");
}

#[test]
fn a_denied_peer_reads_why_and_is_told_once() {
    let mut rules = open_rules();
    rules.access.deny = vec!["127.0.0.0/8".parse().unwrap()];
    rules.banner.refused = Some("not for you\r\n".into());
    let stream = Stream::new(rules);
    for _ in 0..5 {
        assert_eq!(read_all(stream.connect()), "not for you\r\n");
    }
    stream.helper.hears_nothing();
    stream.helper.wait_for_log("address denied");
    assert_eq!(stream.helper.log().matches("refused").count(), 1);
}

#[test]
fn a_full_service_lets_clients_wait_and_serves_them_later() {
    let mut rules = open_rules();
    rules.instances = 1;
    let mut stream = Stream::new(rules);
    let _first = stream.connect();
    let second = stream.connect();
    let (connection, _socket) = stream.helper.hear_start();
    let instance = stream.helper.started(connection);
    stream.helper.hears_nothing();
    stream.helper.exited(instance);
    let (_, socket) = stream.helper.hear_start();
    let waited = TcpStream::from(socket.unwrap()).peer_addr().unwrap();
    assert_eq!(waited, second.local_addr().unwrap());
}

#[test]
fn a_full_service_can_refuse_instead() {
    let mut rules = open_rules();
    rules.instances = 1;
    rules.on_full = OnFull::Refuse;
    rules.banner.admitted = Some("hello\r\n".into());
    rules.banner.refused = Some("busy\r\n".into());
    let stream = Stream::new(rules);
    let mut first = stream.connect();
    let (_, _socket) = stream.helper.hear_start();
    assert_eq!(read_all(stream.connect()), "busy\r\n");
    stream.helper.hears_nothing();
    let mut greeting = [0; 7];
    first.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello\r\n");
}

#[test]
fn a_spent_rate_delays_and_loses_nobody() {
    let mut rules = open_rules();
    rules.rate = Some(Rate {
        count: 10,
        per: Duration::from_secs(1),
        burst: 2,
    });
    let stream = Stream::new(rules);
    let began = Instant::now();
    let peers: Vec<_> = (0..4).map(|_| stream.connect()).collect();
    for _ in &peers {
        stream.helper.hear_start();
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(190), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_failed_start_rests_the_service_and_the_next_one_is_served() {
    let mut stream = Stream::new(open_rules());
    let first = stream.connect();
    let (connection, socket) = stream.helper.hear_start();
    drop(socket);
    let failed = Notice::Failed {
        connection,
        step: Step::Exec,
        errno: 2,
    };
    stream.helper.tell(&failed, None);
    assert_eq!(read_all(first), "");
    stream.helper.settle();
    let began = Instant::now();
    let _second = stream.connect();
    let (connection, _socket) = stream.helper.hear_start();
    assert!(began.elapsed() >= Duration::from_millis(40));
    stream.helper.started(connection);
    let _third = stream.connect();
    stream.helper.hear_start();
}

#[test]
fn a_start_that_fails_after_the_clone_rests_longer_each_time() {
    let mut stream = Stream::new(open_rules());
    let _peers: Vec<_> = (0..4).map(|_| stream.connect()).collect();
    let mut rests = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let (connection, _) = stream.helper.hear_start();
        rests.push(began.elapsed());
        // What came in the same turn was asked for before the failure was known.
        while stream.helper.hear(Duration::from_millis(10)).is_some() {}
        let instance = stream.helper.started(connection);
        let failed = Notice::Failed {
            connection,
            step: Step::Exec,
            errno: 2,
        };
        stream.helper.tell(&failed, None);
        stream.helper.exited(instance);
        let _ = stream.connect();
    }
    assert!(rests[1] >= Duration::from_millis(60), "{rests:?}");
    assert!(rests[2] >= Duration::from_millis(140), "{rests:?}");
}

#[test]
fn instances_of_an_earlier_front_are_counted() {
    let mut rules = open_rules();
    rules.instances = 1;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let helper = Helper::start(None);
    helper.plan(vec![(rules, false)]);
    let instance = InstanceId(77);
    let running = Notice::Running {
        connection: usherd::ids::ConnectionId(1),
        pid: 1,
        age: 0,
        instance,
        service: SERVICE,
        listener: LISTENER,
        source: None,
    };
    helper.tell(&running, None);
    helper.give(LISTENER, listener.try_clone().unwrap().into());
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    helper.hears_nothing();
    helper.exited(instance);
    helper.hear_start();
}

#[test]
fn a_reload_applies_at_once_and_keeps_listeners_and_counts() {
    let mut rules = open_rules();
    rules.instances = 2;
    let mut stream = Stream::new(rules.clone());
    let _first = stream.connect();
    let (connection, _socket) = stream.helper.hear_start();
    let instance = stream.helper.started(connection);
    rules.instances = 1;
    stream.helper.plan(vec![(rules.clone(), false)]);
    stream.helper.settle();
    let second = stream.connect();
    stream.helper.hears_nothing();
    rules.access.deny = vec!["127.0.0.1/32".parse().unwrap()];
    stream.helper.plan(vec![(rules, false)]);
    stream.helper.settle();
    stream.helper.exited(instance);
    assert_eq!(read_all(second), "");
    stream.helper.hears_nothing();
}

#[test]
fn a_removed_service_is_not_accepted_for_any_more() {
    let stream = Stream::new(open_rules());
    let _first = stream.connect();
    stream.helper.hear_start();
    stream.helper.plan(Vec::new());
    stream.helper.settle();
    let _second = stream.connect();
    stream.helper.hears_nothing();
}

#[test]
fn a_stream_that_is_handed_over_is_left_alone_until_the_server_ends() {
    let mut rules = open_rules();
    rules.wait = true;
    let mut stream = Stream::new(rules);
    let _first = stream.connect();
    let asked = stream.helper.hear(Duration::from_secs(10)).unwrap();
    let Request::StartWait {
        connection,
        peer: None,
        ..
    } = asked.request
    else {
        panic!("unexpected {asked:?}");
    };
    let instance = stream.helper.started(connection);
    stream.listener.accept().unwrap();
    let _second = stream.connect();
    stream.helper.hears_nothing();
    stream.listener.accept().unwrap();
    stream.helper.exited(instance);
    stream.helper.hears_nothing();
    let _third = stream.connect();
    stream.helper.hear_start();
}

#[test]
fn a_stream_server_that_never_accepts_is_rested_and_its_client_closed() {
    let mut rules = open_rules();
    rules.wait = true;
    let mut stream = Stream::new(rules);
    let peer = stream.connect();
    for _ in 0..5 {
        let (connection, _) = stream.helper.hear_start();
        let instance = stream.helper.started(connection);
        stream.helper.exited(instance);
    }
    assert_eq!(read_all(peer), "");
    stream.helper.wait_for_log("without taking its request");
    stream.helper.hears_nothing();
}

#[test]
fn a_refusal_by_the_helper_gives_the_place_back() {
    let mut rules = open_rules();
    rules.instances = 1;
    let stream = Stream::new(rules);
    let _first = stream.connect();
    let (connection, _) = stream.helper.hear_start();
    let refused = Notice::Refused {
        connection,
        reason: Refusal::PeerGone,
    };
    stream.helper.tell(&refused, None);
    let _second = stream.connect();
    stream.helper.hear_start();
}

#[test]
fn out_of_descriptors_it_pauses_and_recovers_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Room for the front and its 40 listeners, and a reserve of 6.
    let helper = Helper::start(Some(52));
    helper.plan(vec![(open_rules(), false); 40]);
    for id in 1..=40 {
        helper.give(ListenerId(id), listener.try_clone().unwrap().into());
    }
    // The last connection before the reserve is served, the next one waits.
    let _first = connect();
    helper.hear_start();
    let _second = connect();
    helper.hears_nothing();
    helper.wait_for_log("trying again in 400 ms");
    // The reserve lets a plan in, and services that it removes free their descriptors.
    helper.plan(vec![(open_rules(), false)]);
    helper.hear_start();
    let told = helper.log().matches("unable to accept").count();
    assert!((3..8).contains(&told), "told {told} times");
}

#[test]
fn draining_ends_the_front_and_closes_nothing_of_ours() {
    let mut stream = Stream::new(open_rules());
    let _first = stream.connect();
    let (connection, _) = stream.helper.hear_start();
    stream.helper.tell(&Notice::Drain, None);
    // It stays for the server, whose stderr it reads.
    let gone = Notice::Refused {
        connection,
        reason: Refusal::PeerGone,
    };
    stream.helper.tell(&gone, None);
    assert_eq!(stream.helper.exit_code(), Some(0));
    let _queued = stream.connect();
}

#[test]
fn a_malformed_packet_ends_the_front() {
    let mut stream = Stream::new(open_rules());
    stream.helper.tell_bytes(&[200, 1, 2], None);
    assert_eq!(stream.helper.exit_code(), Some(71));
}
