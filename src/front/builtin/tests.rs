#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use super::drive::{Ended, spawn, tcp_pair};
use super::*;

fn start(kind: Builtin) -> (TcpStream, JoinHandle<Ended>) {
    let pair = tcp_pair();
    let ours = pair.ours;
    (pair.peer, spawn(move || conversation(kind, ours)))
}

fn done(driven: JoinHandle<Ended>) -> Traffic {
    let ended = driven.join().unwrap();
    assert!(matches!(ended.progress, Ok(Progress::Done)), "{ended:?}");
    ended.traffic
}

#[test]
fn echo_returns_ten_megabytes_to_a_peer_that_reads_late() {
    let (mut peer, driven) = start(Builtin::Echo);
    let sent: Vec<u8> = (0..10_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = peer.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == sent);
    let all = sent.len() as u64;
    assert_eq!(
        done(driven),
        Traffic {
            received: all,
            sent: all
        }
    );
}

#[test]
fn echo_keeps_no_more_than_one_buffer_for_a_peer_that_does_not_read() {
    let pair = tcp_pair();
    pair.peer.set_nonblocking(true).unwrap();
    let mut echo = echo::Echo::default();
    let mut traffic = Traffic::default();
    let mut peer = &pair.peer;
    // Until both directions are full, nothing moves any more.
    let mut idle = 0;
    while idle < 3 {
        let pushed = peer.write(&[7; 65_536]).unwrap_or(0);
        let before = traffic;
        while let Progress::Again = echo.turn(&pair.ours, &mut traffic, Instant::now()).unwrap() {}
        idle = if pushed == 0 && traffic == before {
            idle + 1
        } else {
            0
        };
    }
    assert!(traffic.received - traffic.sent <= STREAM_READ as u64);
    assert!(traffic.received > traffic.sent);
}

#[test]
fn discard_says_nothing_and_counts() {
    let (mut peer, driven) = start(Builtin::Discard);
    peer.write_all(&[1; 1_000_000]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(done(driven).received, 1_000_000);
}

#[test]
fn chargen_sends_the_rotating_lines_until_the_peer_closes() {
    let (mut peer, driven) = start(Builtin::Chargen);
    let mut heard = vec![0; 74 * 200];
    peer.read_exact(&mut heard).unwrap();
    let mut ring: Vec<u8> = (b' '..=b'~').collect();
    for line in heard.chunks(74) {
        assert_eq!(&line[..72], &ring[..72]);
        assert_eq!(&line[72..], b"\r\n");
        ring.rotate_left(1);
    }
    peer.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    // The end, or a reset when more was under way: over in any case.
    let _ = peer.read_to_end(&mut rest);
    assert!(done(driven).sent >= (heard.len() + rest.len()) as u64);
}

#[test]
fn chargen_ends_when_the_peer_vanishes() {
    let (mut peer, driven) = start(Builtin::Chargen);
    peer.read_exact(&mut [0; 74]).unwrap();
    drop(peer);
    // With what was on its way unread, the peer's end is a reset.
    driven.join().unwrap();
}

#[test]
fn time_is_four_octets_even_to_a_peer_that_talks() {
    let (mut peer, driven) = start(Builtin::Time);
    peer.write_all(b"what time is it?").unwrap();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), 4);
    drop(peer);
    assert_eq!(done(driven).sent, 4);
}

#[test]
fn daytime_is_one_line() {
    let (mut peer, driven) = start(Builtin::Daytime);
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard.len(), 26, "{heard:?}");
    assert!(heard.ends_with("\r\n") && heard.is_ascii());
    drop(peer);
    done(driven);
}

#[test]
fn an_answer_does_not_wait_for_a_peer_that_stays() {
    let (mut peer, driven) = start(Builtin::Time);
    peer.read_exact(&mut [0; 4]).unwrap();
    done(driven);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}
