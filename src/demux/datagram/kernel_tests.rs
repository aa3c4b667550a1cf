//! The same programs in the kernel: a group of sockets on loopback.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::tests::samples;
use super::*;
use crate::sys::bpf::{DROP, PASS};
use crate::sys::socket::{attach_reuseport_program, set_filter};

/// A socket of a group; the first one of a group finds a free port.
fn member(at: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.into()
}

fn group(at: SocketAddr, others: usize) -> Vec<UdpSocket> {
    let first = member(at);
    let at = first.local_addr().unwrap();
    let others = (0..others).map(|_| member(at));
    std::iter::once(first).chain(others).collect()
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    // What has been sent is there; a test that fails shall say so and end.
    let patience = std::time::Duration::from_secs(5);
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut buffer = vec![0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// Loopback delivers before send returns: what is not there will not come.
fn is_empty(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let empty = socket.recv(&mut [0; 1]).is_err();
    socket.set_nonblocking(false).unwrap();
    empty
}

fn compiled() -> Vec<(Tests, u32)> {
    let rules = samples().into_iter().zip(1..);
    rules
        .map(|((rule, _), verdict)| (compile_rule(&rule).unwrap(), verdict))
        .collect()
}

fn each_kind_reaches_its_own_socket(at: &str) {
    let sockets = group(at.parse().unwrap(), samples().len());
    let program = program(&compiled(), 0, Base::Payload).unwrap();
    attach_reuseport_program(sockets[0].as_fd(), &program).unwrap();
    let to = sockets[0].local_addr().unwrap();
    // From several ports: the choice must not depend on them.
    for _ in 0..4 {
        let peer = UdpSocket::bind((to.ip(), 0)).unwrap();
        for (at, (_, payload)) in samples().iter().enumerate() {
            peer.send_to(payload, to).unwrap();
            assert_eq!(&receive(&sockets[at + 1]), payload);
        }
        for nobodys in [&b""[..], b"\x00", b"something else"] {
            peer.send_to(nobodys, to).unwrap();
            assert_eq!(receive(&sockets[0]), nobodys);
        }
    }
    assert!(sockets.iter().all(is_empty));
}

#[test]
fn each_kind_reaches_its_own_socket_over_ipv4() {
    each_kind_reaches_its_own_socket("127.0.0.1:0");
}

#[test]
fn each_kind_reaches_its_own_socket_over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_ok() {
        each_kind_reaches_its_own_socket("[::1]:0");
    }
}

#[test]
fn addresses_lead_to_sockets() {
    let sockets = group("0.0.0.0:0".parse().unwrap(), 2);
    let mut one = Rule::default();
    one.address.from = vec!["127.0.0.2".parse().unwrap()];
    let mut two = Rule::default();
    two.address.to = vec!["127.0.0.3".parse().unwrap()];
    let rules = [
        (compile_rule(&one).unwrap(), 1),
        (compile_rule(&two).unwrap(), 2),
    ];
    let program = program(&rules, 0, Base::Payload).unwrap();
    attach_reuseport_program(sockets[0].as_fd(), &program).unwrap();
    let port = sockets[0].local_addr().unwrap().port();
    for (from, to, reaches) in [(2, 3, 1), (1, 3, 2), (3, 2, 0), (2, 1, 1)] {
        let ip = |last: u8| IpAddr::from([127, 0, 0, last]);
        let peer = UdpSocket::bind((ip(from), 0)).unwrap();
        peer.send_to(&[from, to], (ip(to), port)).unwrap();
        assert_eq!(receive(&sockets[reaches]), [from, to]);
    }
}

#[test]
fn a_filter_of_one_socket_reads_the_same_rules() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (rule, wanted) = samples().swap_remove(0);
    let rules = [(compile_rule(&rule).unwrap(), PASS)];
    let filter = program(&rules, DROP, Base::Transport).unwrap();
    set_filter(server.as_fd(), &filter).unwrap();
    for (_, payload) in samples() {
        peer.send_to(&payload, to).unwrap();
    }
    assert_eq!(receive(&server), wanted);
    assert!(is_empty(&server));
}
