#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;

use super::*;
use crate::front::builtin::drive::{Ended, spawn, tcp_pair};
use crate::ids::ServiceId;

fn start() -> (TcpStream, JoinHandle<Ended>) {
    let pair = tcp_pair();
    let ours = pair.ours;
    let driven = spawn(move || {
        let names = [("finger", true), ("Who", false)];
        let plan = names.map(|(name, greet)| MuxPlan {
            name: name.to_owned(),
            greet,
            service: ServiceId(u32::from(greet)),
        });
        conversation(ours, Rc::new(plan))
    });
    (pair.peer, driven)
}

/// What the peer is told after sending `line`.
fn told(line: &[u8]) -> String {
    let (mut peer, driven) = start();
    peer.write_all(line).unwrap();
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    drop(peer);
    assert!(matches!(
        driven.join().unwrap().progress,
        Ok(Progress::Done)
    ));
    heard
}

fn handed_over(driven: JoinHandle<Ended>) -> (Socket, ServiceId, bool) {
    match driven.join().unwrap().progress {
        Ok(Progress::HandOver {
            socket,
            service,
            greet,
        }) => (socket, service, greet),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_name_is_recognised_at_every_cut_and_nothing_after_it_is_taken() {
    for line in [&b"WHO\r\n"[..], b"who\n", b"finger\r\n"] {
        for cut in 0..=line.len() {
            let (mut peer, driven) = start();
            peer.set_nodelay(true).unwrap();
            peer.write_all(&line[..cut]).unwrap();
            // Comes as a segment of its own, or not: both must do.
            peer.write_all(&[&line[cut..], b"payload\nmore"].concat())
                .unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            let (mut socket, service, greet) = handed_over(driven);
            assert_eq!(
                (service, greet),
                if line.len() > 5 {
                    (ServiceId(1), true)
                } else {
                    (ServiceId(0), false)
                }
            );
            assert!(!socket.nonblocking().unwrap());
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"payload\nmore", "cut at {cut}");
        }
    }
}

#[test]
fn a_handed_over_socket_is_out_of_the_poll_set_and_still_works() {
    let (mut peer, driven) = start();
    peer.write_all(b"finger\r\n").unwrap();
    let (mut socket, ..) = handed_over(driven);
    socket.write_all(GREETING).unwrap();
    let mut heard = [0; 5];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"+Go\r\n");
}

#[test]
fn help_lists_the_names() {
    assert_eq!(told(b"help\r\n"), "finger\r\nWho\r\n");
}

#[test]
fn an_unknown_or_endless_name_is_refused() {
    let refused = "-Service not available\r\n";
    assert_eq!(told(b"nobody\r\n"), refused);
    assert_eq!(told(b"\r\n"), refused);
    assert_eq!(told(b"\xff\x1b\r\n"), refused);
    assert_eq!(told(&[b'x'; 300]), refused);
    assert_eq!(told(&[&[b'x'; 255][..], b"\n"].concat()), refused);
}

#[test]
fn a_peer_that_leaves_without_a_name_is_forgotten() {
    let (peer, driven) = start();
    drop(peer);
    assert!(matches!(
        driven.join().unwrap().progress,
        Ok(Progress::Done)
    ));
}

#[test]
fn a_name_has_ten_seconds() {
    let pair = tcp_pair();
    let poll = mio::Poll::new().unwrap();
    let mut mux = conversation(pair.ours, Rc::new([]));
    let start = Instant::now();
    let begun = mux.begin(poll.registry(), [Token(0), Token(1)], start);
    assert!(matches!(begun, Ok(Progress::Pending)));
    assert_eq!(mux.deadline(), Some(start + TIME_LIMIT));
    let due = mux.ready(poll.registry(), Token(0), start + TIME_LIMIT);
    assert!(matches!(due, Ok(Progress::Done)));
}
