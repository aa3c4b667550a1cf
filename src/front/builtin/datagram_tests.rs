#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::UdpSocket;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use socket2::{SockAddr, Type};
use std::os::fd::AsFd;

use super::*;

fn listener(addr: &str) -> (Socket, u16) {
    let addr: SocketAddr = addr.parse().unwrap();
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::DGRAM, None).unwrap();
    if addr.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.bind(&addr.into()).unwrap();
    prepare(&socket).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

fn peer(addr: &str) -> UdpSocket {
    let peer = UdpSocket::bind(addr).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    peer
}

fn responder(kind: Builtin) -> Responder {
    Responder::new(kind, Rc::new([]))
}

fn wait_for(socket: &Socket) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 10_000u16).unwrap(), 1);
}

fn serve(responder: &mut Responder, socket: &Socket) -> bool {
    wait_for(socket);
    responder
        .ready(socket, &mut |_| true, Instant::now())
        .unwrap()
}

/// What `kind` answers to `request`, and from where.
fn ask(kind: Builtin, request: &[u8]) -> Vec<u8> {
    let (socket, port) = listener("127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(request, ("127.0.0.1", port)).unwrap();
    assert!(!serve(&mut responder(kind), &socket));
    let mut heard = [0; 65_536];
    let (count, from) = peer.recv_from(&mut heard).unwrap();
    assert_eq!(from.port(), port);
    heard[..count].to_vec()
}

#[test]
fn every_service_answers_as_its_rfc_says() {
    assert_eq!(ask(Builtin::Echo, b"hello"), b"hello");
    let large = vec![5; 60_000];
    assert_eq!(ask(Builtin::Echo, &large), large);
    assert_eq!(ask(Builtin::Echo, b""), b"");
    assert_eq!(ask(Builtin::Chargen, b"?"), b" ");
    assert_eq!(ask(Builtin::Chargen, &[0; 80]), chargen::opening(80));
    assert_eq!(ask(Builtin::Chargen, &[0; 5_000]).len(), 512);
    assert_eq!(ask(Builtin::Time, b"").len(), 4);
    assert_eq!(ask(Builtin::Daytime, b"").len(), 26);
}

#[test]
fn the_answer_comes_from_the_queried_address() {
    for (bound, asked, from) in [
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
        ("[::]:0", "127.0.0.2", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
        ("[::1]:0", "::1", "[::1]:0"),
    ] {
        let (socket, port) = listener(bound);
        let peer = peer(from);
        let asked: IpAddr = asked.parse().unwrap();
        peer.send_to(b"x", (asked, port)).unwrap();
        let mut seen = Vec::new();
        wait_for(&socket);
        let mut admit = |ip| {
            seen.push(ip);
            true
        };
        responder(Builtin::Echo)
            .ready(&socket, &mut admit, Instant::now())
            .unwrap();
        assert_eq!(seen, [peer.local_addr().unwrap().ip()]);
        let (_, answered) = peer.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(answered, SocketAddr::new(asked, port), "bound to {bound}");
    }
}

#[test]
fn a_source_that_answers_back_or_is_not_admitted_hears_nothing() {
    let (socket, port) = listener("127.0.0.1:0");
    let talkative = peer("127.0.0.1:0");
    let own = talkative.local_addr().unwrap().port();
    let mut echo = responder(Builtin::Echo);
    echo.set_own_ports(Rc::new([own]));
    talkative.send_to(b"x", ("127.0.0.1", port)).unwrap();
    serve(&mut echo, &socket);
    assert_eq!((echo.answered(), echo.unanswered()), (0, 1));

    echo.set_own_ports(Rc::new([]));
    talkative.send_to(b"y", ("127.0.0.1", port)).unwrap();
    wait_for(&socket);
    let denied = echo.ready(&socket, &mut |_| false, Instant::now());
    assert!(!denied.unwrap());
    assert_eq!((echo.answered(), echo.unanswered()), (0, 1));
    assert_eq!(echo.traffic().received, 1);
}

#[test]
fn one_batch_a_turn_and_one_budget_a_source() {
    let (socket, port) = listener("127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let mut echo = responder(Builtin::Echo);
    let now = Instant::now();
    for _ in 0..150 {
        peer.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    let mut turns = 1;
    while echo.ready(&socket, &mut |_| true, now).unwrap() {
        turns += 1;
    }
    assert_eq!(turns, 3);
    assert_eq!((echo.answered(), echo.unanswered()), (100, 50));
}

#[test]
fn a_unix_peer_with_a_name_is_answered_and_one_without_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
    socket.bind(&SockAddr::unix(&ours).unwrap()).unwrap();
    prepare(&socket).unwrap();
    let named = std::os::unix::net::UnixDatagram::bind(&theirs).unwrap();
    let unnamed = std::os::unix::net::UnixDatagram::unbound().unwrap();
    unnamed.send_to(b"one", &ours).unwrap();
    named.send_to(b"two", &ours).unwrap();
    let mut echo = responder(Builtin::Echo);
    assert!(!serve(&mut echo, &socket));
    let mut heard = [0; 8];
    assert_eq!(named.recv(&mut heard).unwrap(), 3);
    assert_eq!(&heard[..3], b"two");
    assert_eq!(echo.answered(), 1);
}

#[test]
fn a_request_that_came_before_the_responder_is_answered() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    let anywhere: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&anywhere.into()).unwrap();
    let to = socket.local_addr().unwrap().as_socket().unwrap();
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"early", to).unwrap();
    prepare(&socket).unwrap();
    serve(&mut responder(Builtin::Echo), &socket);
    let mut answer = [0; 16];
    assert_eq!(peer.recv(&mut answer).unwrap(), 5);
}
