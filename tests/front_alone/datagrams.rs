use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use usherd::helper::wire::{Notice, Request};
use usherd::sandbox::Step;
use usherd::table::{Rate, Rules};

use super::helper::{Helper, open_rules};

/// A front with one datagram service, its socket, and a peer.
struct Datagrams {
    helper: Helper,
    ours: UdpSocket,
    peer: UdpSocket,
}

impl Datagrams {
    fn new(mut rules: Rules) -> Self {
        rules.wait = true;
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let helper = Helper::serving(rules, ours.try_clone().unwrap(), true);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(ours.local_addr().unwrap()).unwrap();
        Self { helper, ours, peer }
    }

    fn send(&self, text: &str) {
        self.peer.send(text.as_bytes()).unwrap();
    }

    /// What a server would read.
    fn read(&self) -> String {
        let mut buffer = [0; 64];
        let length = self.ours.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// A server that reads `count` datagrams and ends.
    fn serve(&mut self, count: usize) -> Vec<String> {
        let (connection, _) = self.helper.hear_start();
        let instance = self.helper.started(connection);
        let texts = (0..count).map(|_| self.read()).collect();
        self.helper.exited(instance);
        texts
    }
}

#[test]
fn six_datagrams_to_a_server_that_reads_one_are_all_served_without_delay() {
    let mut service = Datagrams::new(open_rules());
    for _ in 0..6 {
        service.send("same");
    }
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(service.serve(1), ["same"]);
    }
    assert!(began.elapsed() < Duration::from_millis(100));
    service.helper.hears_nothing();
    assert!(!service.helper.log().contains("dropped"));
}

#[test]
fn a_server_that_reads_nothing_costs_one_datagram_and_a_rest() {
    let mut service = Datagrams::new(open_rules());
    for text in ["1", "2", "3"] {
        service.send(text);
    }
    assert!(service.serve(0).is_empty());
    let began = Instant::now();
    assert_eq!(service.serve(1), ["2"]);
    let rested = began.elapsed();
    assert!(rested >= Duration::from_millis(60), "{rested:?}");
    let began = Instant::now();
    assert_eq!(service.serve(1), ["3"]);
    assert!(began.elapsed() < Duration::from_millis(50));
    service.helper.wait_for_log("dropped one datagram");
}

#[test]
fn the_request_names_the_peer_and_leaves_the_socket_as_it_was() {
    let mut service = Datagrams::new(open_rules());
    service.send("hello");
    let asked = service.helper.hear(Duration::from_secs(10)).unwrap();
    let Request::StartWait {
        peer: Some(peer), ..
    } = asked.request
    else {
        panic!("unexpected {asked:?}");
    };
    let address = service.peer.local_addr().unwrap();
    assert_eq!((peer.ip, peer.port), (address.ip(), address.port()));
    use nix::sys::socket::{getsockopt, sockopt::ReceiveTimestampns};
    assert_eq!(getsockopt(&service.ours, ReceiveTimestampns), Ok(false));
    assert_eq!(service.read(), "hello");
    let _ = &mut service;
}

#[test]
fn denied_peers_lose_their_own_datagrams_only() {
    let mut rules = open_rules();
    rules.access.deny = vec!["127.0.0.2/32".parse().unwrap()];
    let mut service = Datagrams::new(rules);
    let denied = UdpSocket::bind("127.0.0.2:0").unwrap();
    let to = service.ours.local_addr().unwrap();
    for round in 0..60 {
        denied.send_to(b"denied", to).unwrap();
        if round % 20 == 0 {
            service.send("mine");
        }
    }
    for _ in 0..3 {
        assert_eq!(service.serve(1), ["mine"]);
    }
    service.helper.hears_nothing();
}

#[test]
fn a_spent_rate_leaves_the_queue_alone() {
    let mut rules = open_rules();
    rules.rate = Some(Rate {
        count: 10,
        per: Duration::from_secs(1),
        burst: 1,
    });
    let mut service = Datagrams::new(rules);
    for text in ["1", "2", "3"] {
        service.send(text);
    }
    let began = Instant::now();
    for text in ["1", "2", "3"] {
        assert_eq!(service.serve(1), [text]);
    }
    assert!(began.elapsed() >= Duration::from_millis(190));
}

#[test]
fn a_failed_start_drops_one_datagram() {
    let mut service = Datagrams::new(open_rules());
    service.send("1");
    service.send("2");
    let (connection, _) = service.helper.hear_start();
    let failed = Notice::Failed {
        connection,
        step: Step::Exec,
        errno: 2,
    };
    service.helper.tell(&failed, None);
    assert_eq!(service.serve(1), ["2"]);
}

#[test]
fn unix_datagrams_are_served_like_others() {
    let mut rules = open_rules();
    rules.wait = true;
    rules.access.allow = Some(Vec::new());
    let (ours, peer) = UnixDatagram::pair().unwrap();
    let mut helper = Helper::serving(rules, ours.try_clone().unwrap(), true);
    for _ in 0..3 {
        peer.send(b"same").unwrap();
    }
    for _ in 0..3 {
        let (connection, _) = helper.hear_start();
        let instance = helper.started(connection);
        ours.recv(&mut [0; 8]).unwrap();
        helper.exited(instance);
    }
    helper.hears_nothing();
    assert!(!helper.log().contains("dropped"));
}
