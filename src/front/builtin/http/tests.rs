#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::Shutdown;

use super::super::drive::{spawn, tcp_pair};
use super::*;
use crate::front::board::News;

/// What comes back for these pieces, each in a segment of its own.
fn ask(pieces: &[&[u8]]) -> String {
    let pair = tcp_pair();
    let (mut peer, ours) = (pair.peer, pair.ours);
    let driven = spawn(move || Http::boxed(ours, Site::Metrics));
    peer.set_nodelay(true).unwrap();
    for piece in pieces {
        peer.write_all(piece).unwrap();
    }
    peer.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    let ended = driven.join().unwrap();
    assert!(matches!(ended.progress, Ok(Progress::Done)), "{ended:?}");
    heard
}

#[test]
fn figures_come_with_their_length_and_the_connection_ends() {
    let heard = ask(&[b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(heard.contains("version=0.0.4"), "{heard}");
    assert!(heard.contains("\r\nContent-Length: 8\r\n"), "{heard}");
    assert!(heard.contains("\r\nConnection: close\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\nMetrics\n"), "{heard}");
}

#[test]
fn a_head_in_single_bytes_is_the_same_and_pipelined_requests_get_one_answer() {
    let whole = b"GET /metrics HTTP/1.1\r\nHost: [::1]:9\r\n\r\n";
    let pieces: Vec<&[u8]> = whole.chunks(1).collect();
    let heard = ask(&pieces);
    assert_eq!(heard, ask(&[whole]));
    assert_eq!(heard, ask(&[&whole.repeat(20)]));
}

#[test]
fn head_gets_the_head_alone() {
    let heard = ask(&[b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    assert!(heard.contains("\r\nContent-Length: 8\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\n"), "{heard}");
}

#[test]
fn everything_else_is_refused_by_its_name() {
    for (asked, status) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 "),
        ("GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 "),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "405 "),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "405 "),
        (
            "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "421 ",
        ),
        ("GET /metrics HTTP/1.1\r\n\r\n", "400 "),
        ("GET /met", "400 "),
        ("SSH-2.0-x\r\n", "400 "),
    ] {
        let heard = ask(&[asked.as_bytes()]);
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{heard}");
    }
    assert!(ask(&[b"PUT / HTTP/1.0\r\n\r\n"]).contains("\r\nAllow: GET, HEAD\r\n"));
    let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(2 * HEAD_LIMIT));
    assert!(ask(&[long.as_bytes()]).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_peer_that_says_nothing_hears_nothing() {
    assert_eq!(ask(&[]), "");
}

#[test]
fn half_a_request_is_answered_when_its_time_is_up() {
    let pair = tcp_pair();
    let mut peer = &pair.peer;
    peer.write_all(b"GET /").unwrap();
    let mut http = Http::boxed(pair.ours, Site::Metrics);
    let poll = mio::Poll::new().unwrap();
    let now = Instant::now();
    let tokens = [Token(0), Token(1)];
    let progress = http.begin(poll.registry(), tokens, now).unwrap();
    assert!(matches!(progress, Progress::Pending));
    let late = http.deadline().unwrap();
    assert_eq!(late, now + HEAD_TIME);
    http.ready(poll.registry(), tokens[0], late).unwrap();
    let mut heard = [0; 12];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 408");
}

#[test]
fn who_reads_nothing_is_told_nothing_new_and_goes_in_the_end() {
    let pair = tcp_pair();
    let (mut now, mut traffic) = (Instant::now(), Traffic::default());
    // More than the kernel keeps for both ends.
    let mut feed = Feed::new("head", News::sample(64 << 20, now), now);
    let mut turn = |feed: &mut Feed, now| feed.turn(&pair.ours, &mut traffic, now).unwrap();
    let began = now;
    let end = loop {
        match turn(&mut feed, now) {
            Progress::Pending => now = feed.deadline().unwrap(),
            end => break end,
        }
        assert!(now < began + Duration::from_secs(60), "it never ends");
    };
    assert!(matches!(end, Progress::Done), "{end:?}");
    assert!(now >= began + Duration::from_secs(30));
}

#[test]
fn who_reads_is_told_more_when_the_time_has_come() {
    let pair = tcp_pair();
    let (now, mut traffic) = (Instant::now(), Traffic::default());
    let later = now + Duration::from_secs(1);
    let mut feed = Feed::new("head", News::sample(10, later), now);
    let mut turn = |feed: &mut Feed, now| feed.turn(&pair.ours, &mut traffic, now).unwrap();
    assert!(matches!(turn(&mut feed, now), Progress::Pending));
    let asked = turn(&mut feed, later);
    assert!(matches!(asked, Progress::Ask(Question::News(Some(_)))));
    feed.take(News::sample(10, later + Duration::from_secs(1)));
    assert!(matches!(turn(&mut feed, later), Progress::Pending));
    let mut heard = [0; 24];
    (&pair.peer).read_exact(&mut heard).unwrap();
    assert!(heard.starts_with(b"headx"));
    drop(pair.peer);
}
