#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use socket2::{Domain, SockAddr, SockRef, Type};

use super::*;
use crate::front::builtin::drive::{Ended, Pair, spawn, tcp_pair};
use crate::table::{ProxyVersion, Upstream as Address};

fn forward(to: Vec<Address>) -> Forward {
    Forward {
        to,
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    }
}

/// A client whose connection is relayed as `forward` says, and the relay.
fn start(forward: Forward) -> (TcpStream, JoinHandle<Ended>, [SocketAddr; 2]) {
    let Pair {
        peer,
        ours,
        peer_addr,
        local_addr,
    } = tcp_pair();
    let relaying = spawn(move || relay(&forward, ours, Some(peer_addr), Some(local_addr)));
    (peer, relaying, [peer_addr, local_addr])
}

fn listener() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    (listener, address)
}

/// An address where nobody listens.
fn nobody() -> Address {
    listener().1
}

fn done(relaying: JoinHandle<Ended>) -> Traffic {
    let ended = relaying.join().unwrap();
    assert!(matches!(ended.progress, Ok(Progress::Done)), "{ended:?}");
    ended.traffic
}

fn pattern(seed: u32, len: u32) -> Vec<u8> {
    (0..len).map(|n| ((n ^ seed) % 251) as u8).collect()
}

/// Sends one pattern and reads another to its end, at the same time.
fn exchange(socket: TcpStream, send: Vec<u8>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut writer = socket.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&send).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        (&socket).read_to_end(&mut heard).unwrap();
        writing.join().unwrap();
        heard
    })
}

#[test]
fn ten_megabytes_each_way_arrive_and_are_counted() {
    let (listener, address) = listener();
    let (client, relaying, _) = start(forward(vec![address]));
    let (upstream, _) = listener.accept().unwrap();
    let (up, down) = (pattern(1, 10_000_000), pattern(2, 10_500_000));
    let client = exchange(client, up.clone());
    let upstream = exchange(upstream, down.clone());
    assert!(upstream.join().unwrap() == up);
    assert!(client.join().unwrap() == down);
    let traffic = done(relaying);
    assert_eq!((traffic.received, traffic.sent), (10_000_000, 10_500_000));
}

#[test]
fn the_end_of_a_request_leaves_the_way_back_open() {
    let (listener, address) = listener();
    let (mut client, relaying, _) = start(forward(vec![address]));
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    let mut request = String::new();
    upstream.read_to_string(&mut request).unwrap();
    assert_eq!(request, "x");
    upstream.write_all(b"answer").unwrap();
    drop(upstream);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    done(relaying);
}

#[test]
fn the_end_of_an_answer_leaves_the_way_up_open() {
    let (listener, address) = listener();
    let (mut client, relaying, _) = start(forward(vec![address]));
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.write_all(b"220 hello").unwrap();
    upstream.shutdown(Shutdown::Write).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "220 hello");
    client.write_all(b"later").unwrap();
    drop(client);
    let mut said = String::new();
    upstream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "later");
    done(relaying);
}

#[test]
fn the_next_upstream_is_used_when_one_refuses() {
    let (listener, address) = listener();
    let missing = Address::Unix("/nonexistent/socket".into());
    let (mut client, relaying, _) = start(forward(vec![nobody(), missing, address]));
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.write_all(b"second").unwrap();
    drop(upstream);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "second");
    drop(client);
    done(relaying);
}

#[test]
fn without_any_upstream_the_client_is_closed() {
    let (mut client, relaying, _) = start(forward(vec![nobody(), nobody()]));
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(done(relaying), Traffic::default());
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up_after_its_time() {
    // One connection fills the queue; the kernel drops what comes after it.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let full_addr = full.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(full_addr).unwrap();
    let (listener, address) = listener();
    let (client, relaying, _) = start(Forward {
        connect_timeout: Duration::from_millis(50),
        ..forward(vec![Address::Tcp(full_addr), address])
    });
    let (upstream, _) = listener.accept().unwrap();
    drop((client, upstream));
    done(relaying);
}

#[test]
fn unix_upstreams_with_a_path_and_with_an_abstract_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("upstream");
    let name = format!("usherd-test-{}", std::process::id());
    let abstract_addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    for (listener, address) in [
        (UnixListener::bind(&path).unwrap(), Address::Unix(path)),
        (
            UnixListener::bind_addr(&abstract_addr).unwrap(),
            Address::Abstract(name),
        ),
    ] {
        let (mut client, relaying, _) = start(forward(vec![address]));
        client.write_all(&[7; 300_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut upstream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        upstream.read_to_end(&mut request).unwrap();
        assert_eq!(request.len(), 300_000);
        upstream.write_all(b"ok").unwrap();
        drop(upstream);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ok");
        done(relaying);
    }
}

#[test]
fn a_unix_upstream_whose_queue_is_full_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(&path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let queued = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    queued.connect(&address).unwrap();

    let Pair { peer, ours, .. } = tcp_pair();
    let poll = mio::Poll::new().unwrap();
    let mut relay = relay(&forward(vec![Address::Unix(path)]), ours, None, None);
    let (tokens, now) = ([Token(0), Token(1)], Instant::now());
    let begun = relay.begin(poll.registry(), tokens, now);
    assert!(matches!(begun, Ok(Progress::Pending)));
    let due = relay.deadline().unwrap();
    assert!(due < now + Duration::from_secs(1));
    listener.accept().unwrap();
    let again = relay.ready(poll.registry(), Token(0), due);
    assert!(matches!(again, Ok(Progress::Pending)));
    assert_eq!(relay.deadline(), None, "connected");
    drop(peer);
}

#[test]
fn the_header_precedes_the_first_byte() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (listener, address) = listener();
        let (mut client, relaying, [peer, local]) = start(Forward {
            proxy: Some(version),
            ..forward(vec![nobody(), address])
        });
        client.write_all(b"GET").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut upstream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).unwrap();
        let mut expected = header::header(version, Some(peer), Some(local));
        expected.extend_from_slice(b"GET");
        assert_eq!(heard, expected);
        drop(upstream);
        drop(client);
        assert_eq!(done(relaying).received, 3);
    }
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let (listener, address) = listener();
    let (client, relaying, _) = start(forward(vec![address]));
    let (mut upstream, _) = listener.accept().unwrap();
    // The relay answers, so it has both ends.
    (&client).write_all(b"x").unwrap();
    upstream.read_exact(&mut [0; 1]).unwrap();
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    let error = upstream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(relaying.join().unwrap().progress.is_err());
}

#[test]
fn an_answer_given_before_the_whole_request_was_read_still_arrives() {
    let (listener, address) = listener();
    let (mut client, relaying, _) = start(forward(vec![address]));
    let (mut upstream, _) = listener.accept().unwrap();
    client.write_all(&[1; 1000]).unwrap();
    upstream.read_exact(&mut [0; 10]).unwrap();
    upstream.write_all(b"413").unwrap();
    let mut heard = [0; 3];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"413");
    // With bytes unread, this is a reset.
    drop(upstream);
    let _ = client.write_all(&[1; 1000]);
    let _ = client.read(&mut [0; 1]);
    drop(client);
    relaying.join().unwrap();
}

/// Pushes until nothing moves any more, then lets the reader catch up.
fn slow_reader(mut direction: Direction) {
    let (from, to) = (tcp_pair(), tcp_pair());
    let (source, mut reader) = (from.peer, to.peer);
    source.set_nonblocking(true).unwrap();
    let (mut from, mut to) = (Side::new(from.ours), Side::new(to.ours));
    let (mut pushed, mut idle) = (Vec::new(), 0);
    while idle < 3 {
        let piece = pattern(u32::try_from(pushed.len()).unwrap(), 50_000);
        let count = (&source).write(&piece).unwrap_or(0);
        pushed.extend_from_slice(&piece[..count]);
        let before = direction.taken;
        from.woken();
        to.woken();
        while direction.turn(&mut from, &mut to).unwrap() {}
        assert!(direction.taken - direction.delivered <= 64 * 1024);
        idle = if count == 0 && direction.taken == before {
            idle + 1
        } else {
            0
        };
    }
    source.shutdown(Shutdown::Write).unwrap();
    let reading = thread::spawn(move || {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).unwrap();
        heard
    });
    while !direction.is_over() {
        from.woken();
        to.woken();
        direction.turn(&mut from, &mut to).unwrap();
        thread::yield_now();
    }
    assert!(reading.join().unwrap() == pushed);
    assert_eq!(direction.delivered, pushed.len() as u64);
}

#[test]
fn a_slow_reader_loses_nothing_and_costs_one_load() {
    slow_reader(Direction::new(Vec::new()));
    slow_reader(Direction::copying());
}
