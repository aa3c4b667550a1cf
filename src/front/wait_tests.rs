#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use super::*;

/// Looks twice, takes one, looks again: the first two are the same datagram, the third is not.
fn heads_are_told_apart(ours: &Socket, send: impl Fn()) {
    send();
    send();
    let first = head_identity(ours);
    assert!(first.is_some());
    send();
    assert_eq!(head_identity(ours), first);
    discard_one(Some(ours));
    let second = head_identity(ours);
    assert!(second.is_some());
    assert_ne!(second, first);
    discard_one(Some(ours));
    discard_one(Some(ours));
    assert_eq!(head_identity(ours), None);
    let on = nix::sys::socket::getsockopt(ours, sockopt::ReceiveTimestampns).unwrap();
    assert!(!on, "the server must find the socket as it was");
}

#[test]
fn equal_datagrams_of_one_ipv4_peer_are_told_apart() {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = ours.local_addr().unwrap();
    heads_are_told_apart(&ours.into(), || {
        peer.send_to(b"same", to).unwrap();
    });
}

#[test]
fn equal_datagrams_of_one_ipv6_peer_are_told_apart() {
    let Ok(ours) = UdpSocket::bind("[::1]:0") else {
        eprintln!("skipped: needs IPv6");
        return;
    };
    let peer = UdpSocket::bind("[::1]:0").unwrap();
    let to = ours.local_addr().unwrap();
    heads_are_told_apart(&ours.into(), || {
        peer.send_to(b"same", to).unwrap();
    });
}

#[test]
fn equal_datagrams_of_one_unix_peer_are_told_apart() {
    let (ours, peer) = UnixDatagram::pair().unwrap();
    let ours = Socket::from(std::os::fd::OwnedFd::from(ours));
    heads_are_told_apart(&ours, || {
        peer.send(b"same").unwrap();
    });
}

#[test]
fn a_unix_peer_without_a_name_has_no_address() {
    let (ours, peer) = UnixDatagram::pair().unwrap();
    peer.send(b"x").unwrap();
    let ours = Socket::from(std::os::fd::OwnedFd::from(ours));
    assert_eq!(peek_peer(&ours).unwrap(), Peer::Unix);
    assert_eq!(peek_peer(&ours).unwrap(), Peer::Unix);
}

#[test]
fn discarding_takes_exactly_one() {
    let (ours, peer) = UnixDatagram::pair().unwrap();
    for text in [b"1", b"2"] {
        peer.send(text).unwrap();
    }
    let socket = Socket::from(std::os::fd::OwnedFd::from(ours.try_clone().unwrap()));
    discard_one(Some(&socket));
    let mut buffer = [0; 4];
    assert_eq!(ours.recv(&mut buffer).unwrap(), 1);
    assert_eq!(buffer[0], b'2');
}
