//! Real sockets on loopback: who gets a datagram, over reloads.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::sys::socket::{MsgFlags, recv};

use super::*;
use crate::demux::{Content, Rule};
use crate::sys::bpf::{RETURN, plain};
use crate::sys::socket::{attach_reuseport_program, set_filter};
use crate::table::{Host, Source, load};

/// Services by their letters; a letter is the service's number too.
struct Table {
    registry: Registry,
    host: &'static str,
    /// Where peers send to.
    to: &'static str,
    port: u16,
}

fn id(name: char) -> ServiceId {
    ServiceId(name.into())
}

/// A port that is free on all addresses.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port()
}

impl Table {
    fn new() -> Self {
        Self {
            registry: Registry::default(),
            host: "127.0.0.1",
            to: "127.0.0.1",
            port: free_port(),
        }
    }

    /// Takes datagrams that begin with its letter; a capital one has no `match`.
    fn service(&self, name: char) -> Service {
        let text = format!(
            "[service.{name}]\nlisten = \"udp4:{}:{}\"\nbuiltin = \"echo\"\n",
            self.host, self.port
        );
        let source = Source::Text {
            name: "test",
            text: &text,
        };
        let mut service = load(source, &Host::probe())
            .unwrap()
            .table
            .services
            .remove(0);
        if name.is_lowercase() {
            service.routing.rules.push(Rule {
                content: vec![Content::Prefix(vec![name.to_string().into_bytes()])],
                ..Rule::default()
            });
        }
        service
    }

    fn prepare(&self, names: &str) -> Prepared {
        let services: Vec<_> = names.chars().map(|c| (id(c), self.service(c))).collect();
        let services: Vec<_> = services.iter().map(|(id, s)| (*id, s)).collect();
        let prepared = self.registry.prepare(&services, Instant::now());
        assert!(prepared.troubles.is_empty(), "{:?}", prepared.troubles);
        prepared
    }

    fn reload(&mut self, names: &str) {
        let prepared = self.prepare(names);
        self.registry.commit(prepared);
    }

    /// What a server holds while it runs.
    fn held(&self, name: char) -> OwnedFd {
        let mut all = self.registry.iter();
        let listener = all.find(|listener| listener.service == id(name)).unwrap();
        listener.share().unwrap().unwrap()
    }

    fn send(&self, payload: &str) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_broadcast(true).unwrap();
        peer.send_to(payload.as_bytes(), (self.to, self.port))
            .unwrap();
    }

    /// The services that get a datagram, from several ports in turn.
    fn gets(&self, payload: &str) -> String {
        let mut who = String::new();
        for _ in 0..4 {
            self.send(payload);
            for (listener, bound) in self.registry.bound() {
                if take(bound.socket.as_fd()) {
                    who.extend(char::from_u32(listener.service.0));
                }
            }
        }
        // The same each time: once is enough to say.
        let once = who.len() / 4;
        assert_eq!(who, who[..once].repeat(4), "{payload}");
        who.truncate(once);
        who
    }

    /// Each service gets its own, nobody what no rule takes.
    fn works(&self, names: &str) {
        for name in names.chars() {
            assert_eq!(self.gets(&format!("{name}...")), name.to_string());
        }
        assert_eq!(self.gets("0"), "");
        assert_eq!(self.gets(""), "");
    }
}

/// Takes a datagram if there is one: loopback delivers before send returns.
fn take(socket: std::os::fd::BorrowedFd) -> bool {
    recv(socket.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT).is_ok()
}

#[test]
fn one_service_without_match_has_no_group() {
    let mut table = Table::new();
    table.reload("A");
    assert!(table.registry.groups.is_empty());
    assert_eq!(table.gets("anything"), "A");
    table.reload("A");
    assert_eq!(table.gets("anything"), "A");
}

#[test]
fn each_service_gets_its_own_datagrams() {
    let mut table = Table::new();
    table.reload("abc");
    table.works("abc");
    table.reload("aZb");
    assert_eq!(table.gets("a"), "a");
    assert_eq!(table.gets("b"), "b");
    assert_eq!(table.gets("c"), "Z", "no other service takes it");
}

#[test]
fn a_service_with_match_alone_gets_only_that() {
    let mut table = Table::new();
    table.reload("a");
    table.works("a");
}

#[test]
fn places_are_right_over_reloads_while_a_server_holds_a_socket() {
    let mut table = Table::new();
    table.reload("abc");
    let (kept, server) = (table.held('c'), table.held('b'));
    table.send("c waits in the queue");
    table.send("b waits too");
    table.reload("acd");
    assert!(take(kept.as_fd()), "the socket stays, and what is in it");
    assert!(take(server.as_fd()));
    table.works("acd");
    assert_eq!(table.gets("b"), "");
    assert!(!take(server.as_fd()), "one that has left is deaf");
    drop(server);
    table.works("acd");
    // Back with a new socket, in another order of the table.
    table.reload("dbca");
    table.works("abcd");
    table.reload("b");
    table.works("b");
    table.reload("Bd");
    assert_eq!(table.gets("b"), "B");
    assert_eq!(table.gets("d"), "d");
}

#[test]
fn an_abandoned_reload_changes_nothing() {
    let mut table = Table::new();
    table.reload("ab");
    let prepared = table.prepare("bxyz");
    table.works("ab");
    table.registry.abandon(prepared);
    table.works("ab");
    assert_eq!(table.gets("x"), "");
    table.reload("abd");
    table.works("abd");
}

#[test]
fn a_reload_that_the_front_has_heard_of_leaves_the_places() {
    let mut table = Table::new();
    table.reload("ab");
    let prepared = table.prepare("axy");
    let copies: Vec<_> = prepared
        .new_ones()
        .map(|new| new.share().unwrap())
        .collect();
    table.registry.withdraw(prepared);
    table.works("ab");
    table.reload("abd");
    table.works("abd");
    drop(copies);
    table.works("abd");
    table.reload("abde");
    table.works("abde");
}

#[test]
fn a_single_service_keeps_its_socket_when_others_come() {
    let mut table = Table::new();
    table.reload("A");
    let server = table.held('A');
    let prepared = table.prepare("Ab");
    assert_eq!(table.gets("b"), "A", "not in force yet");
    table.registry.abandon(prepared);
    assert_eq!(table.gets("b"), "A");
    table.send("still there");
    table.reload("Ab");
    assert!(take(server.as_fd()));
    assert_eq!(table.gets("a"), "A");
    assert_eq!(table.gets("b"), "b");
    table.reload("b");
    assert_eq!(table.gets("a"), "");
    assert_eq!(table.gets("b"), "b");
    drop(server);
    table.works("b");
}

#[test]
fn a_single_service_that_leaves_gives_its_address_to_a_group() {
    let mut table = Table::new();
    table.reload("A");
    let server = table.held('A');
    table.reload("bc");
    table.works("bc");
    drop(server);
    table.works("bc");
}

#[test]
fn an_address_that_nobody_wants_is_free_again() {
    let mut table = Table::new();
    table.reload("ab");
    table.reload("");
    assert!(table.registry.groups.is_empty());
    drop(UdpSocket::bind((table.host, table.port)).unwrap());
    table.reload("A");
    assert!(table.registry.groups.is_empty());
    assert_eq!(table.gets("b"), "A");
}

#[test]
fn a_strangers_group_is_not_joined() {
    let mut table = Table::new();
    table.reload("ab");
    let other = Table {
        registry: Registry::default(),
        ..table
    };
    let services = [(id('a'), other.service('a'))];
    let services: Vec<_> = services.iter().map(|(id, s)| (*id, s)).collect();
    let prepared = other.registry.prepare(&services, Instant::now());
    assert!(matches!(prepared.troubles[0].error, BindError::Taken(_)));
}

#[test]
fn broadcasts_reach_only_those_whose_rules_take_them() {
    let mut table = Table::new();
    (table.host, table.to) = ("0.0.0.0", "127.255.255.255");
    table.reload("abZ");
    assert_eq!(table.gets("a"), "a");
    assert_eq!(table.gets("b"), "b");
    assert_eq!(table.gets("c"), "Z");
    table.reload("ab");
    table.works("ab");
}

#[test]
fn what_a_server_did_to_its_socket_is_undone() {
    let mut table = Table::new();
    table.reload("ab");
    let server = table.held('a');
    set_filter(server.as_fd(), &[]).unwrap();
    attach_reuseport_program(server.as_fd(), &[plain(RETURN, 1)]).unwrap();
    assert_eq!(table.gets("b"), "a");
    let listener = table.registry.iter().next().unwrap();
    table.registry.guard(listener.id);
    table.works("ab");
}

/// A server that connects its socket and ends.
fn connect(table: &Table, name: char) {
    let socket = UdpSocket::from(table.held(name));
    socket.connect("127.0.0.1:9").unwrap();
}

fn a_connected_socket_is_replaced(host: &'static str) {
    let mut table = Table::new();
    table.host = host;
    table.reload("abcd");
    let listener = |table: &Table, name| {
        let mut all = table.registry.iter();
        all.find(|l| l.service == id(name)).unwrap().id
    };
    assert!(!table.registry.put_aside(listener(&table, 'b'), None));
    // The newest one first: the kernel looks at it first too.
    for (name, others) in [('d', "abc"), ('d', "abc"), ('b', "acd"), ('a', "bcd")] {
        connect(&table, name);
        let front = table.held(name);
        assert!(table.registry.put_aside(listener(&table, name), None));
        assert!(table.registry.lacks_sockets());
        table.works(others);
        assert_eq!(table.gets(&name.to_string()), "");
        table.reload("abcd");
        assert!(!table.registry.lacks_sockets());
        table.works("abcd");
        drop(front);
        table.works("abcd");
    }
    // While another table is prepared already.
    let mut prepared = table.prepare("abcde");
    connect(&table, 'c');
    assert!(
        table
            .registry
            .put_aside(listener(&table, 'c'), Some(&mut prepared))
    );
    table.works("abd");
    table.registry.commit(prepared);
    table.works("abde");
    table.reload("abcde");
    table.works("abcde");
}

#[test]
fn a_connected_socket_is_replaced_at_one_address() {
    a_connected_socket_is_replaced("127.0.0.1");
}

#[test]
fn a_connected_socket_is_replaced_at_every_address() {
    a_connected_socket_is_replaced("0.0.0.0");
}

#[test]
fn kinds_that_no_program_can_tell_apart_are_named() {
    let table = Table::new();
    let mut service = table.service('a');
    service.routing.rules[0].content = vec![Content::Regex(vec!["a".into()])];
    let prepared = table
        .registry
        .prepare(&[(id('a'), &service)], Instant::now());
    let said = prepared.troubles[0].to_string();
    assert!(said.contains("match: regex needs a loop"), "{said}");
}
