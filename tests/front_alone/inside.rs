//! What the front serves by itself, and what it reads from servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use usherd::front::plan::{ListenerPlan, MuxPlan, ServePlan, ServicePlan};
use usherd::helper::wire::Notice;
use usherd::ids::{ListenerId, ServiceId};
use usherd::table::{Builtin, Rules};

use super::helper::{Helper, LISTENER, SERVICE, empty_plan, open_rules};

/// A front with a built-in service on a listener of ours, and with the service
/// `target` behind tcpmux.
fn serving(kind: Builtin, rules: Rules, target: Rules) -> (Helper, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = empty_plan();
    let service = |id, name: &str, serve, rules| ServicePlan {
        id: ServiceId(id),
        description: None,
        blocked: None,
        name: name.to_owned(),
        serve,
        rules,
        routing: usherd::table::Routing::default(),
    };
    plan.services = vec![
        service(1, "inside", ServePlan::Builtin(kind), rules),
        service(2, "target", ServePlan::Exec, target),
    ];
    plan.listeners.push(ListenerPlan {
        id: LISTENER,
        services: vec![SERVICE],
        label: "tcp:1".to_owned(),
        datagram: false,
        bound: true,
    });
    plan.tcpmux.push(MuxPlan {
        name: "target".to_owned(),
        greet: true,
        service: ServiceId(2),
    });
    let helper = Helper::start(None);
    helper.send_plan(&plan);
    helper.give(LISTENER, listener.try_clone().unwrap().into());
    (helper, listener)
}

fn connect(listener: &TcpListener) -> TcpStream {
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    peer
}

fn read_all(mut peer: TcpStream) -> String {
    let mut text = String::new();
    let _ = peer.read_to_string(&mut text);
    text
}

#[test]
fn an_idle_conversation_ends_and_a_busy_one_does_not() {
    let mut rules = open_rules();
    rules.idle_timeout = Some(Duration::from_millis(300));
    let (_helper, listener) = serving(Builtin::Echo, rules, open_rules());
    let mut busy = connect(&listener);
    let mut idle = connect(&listener);
    let began = Instant::now();
    // A byte of the busy one whenever the idle one has not ended for a while.
    let pause = Some(Duration::from_millis(100));
    idle.set_read_timeout(pause).unwrap();
    loop {
        busy.write_all(b"x").unwrap();
        busy.read_exact(&mut [0; 1]).unwrap();
        match idle.read(&mut [0; 1]) {
            Ok(count) => break assert_eq!(count, 0),
            Err(err) => assert_eq!(err.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it does not end");
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    busy.write_all(b"x").unwrap();
    busy.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(read_all(busy), "");
}

#[test]
fn a_conversation_ends_at_its_byte_limit_and_frees_its_place() {
    let mut rules = open_rules();
    rules.instances = 1;
    rules.max_bytes = Some(10_000);
    let (_helper, listener) = serving(Builtin::Chargen, rules, open_rules());
    for _ in 0..3 {
        assert!(!read_all(connect(&listener)).is_empty());
    }
}

#[test]
fn a_service_behind_tcpmux_is_asked_for_with_its_own_rules() {
    let mut target = open_rules();
    target.instances = 1;
    let (helper, listener) = serving(Builtin::Tcpmux, open_rules(), target);
    let mut first = connect(&listener);
    first.write_all(b"TARGET\r\nfirst bytes").unwrap();
    let (_, socket) = helper.hear_start();
    let mut line = [0; 5];
    first.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"+Go\r\n");
    let mut server = TcpStream::from(socket.unwrap());
    let mut bytes = [0; 11];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"first bytes");
    let mut second = connect(&listener);
    second.write_all(b"target\n").unwrap();
    assert_eq!(read_all(second), "-Service not available\r\n");
    helper.hears_nothing();
}

#[test]
fn a_service_behind_tcpmux_denies_its_own_strangers() {
    let mut target = open_rules();
    target.access.deny = vec!["127.0.0.0/8".parse().unwrap()];
    let (helper, listener) = serving(Builtin::Tcpmux, open_rules(), target);
    let mut peer = connect(&listener);
    peer.write_all(b"target\r\n").unwrap();
    assert_eq!(read_all(peer), "-Service not available\r\n");
    helper.hears_nothing();
}

#[test]
fn draining_waits_for_a_conversation_that_goes_on() {
    let (mut helper, listener) = serving(Builtin::Echo, open_rules(), open_rules());
    let mut peer = connect(&listener);
    peer.write_all(b"x").unwrap();
    peer.read_exact(&mut [0; 1]).unwrap();
    helper.tell(&Notice::Drain, None);
    peer.write_all(b"y").unwrap();
    peer.read_exact(&mut [0; 1]).unwrap();
    drop(peer);
    assert_eq!(helper.exit_code(), Some(0));
}

#[test]
fn lines_on_stderr_are_logged_and_cleaned() {
    let (helper, _listener) = serving(Builtin::Echo, open_rules(), open_rules());
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let service = ServiceId(2);
    helper.tell(&Notice::Stderr { service }, Some(reader));
    nix::unistd::write(&writer, b"one\ntwo \x1b[31m\nno end").unwrap();
    helper.wait_for_log("one");
    helper.wait_for_log("two \\u{1b}[31m");
    helper.wait_for_log("no end");
}

#[test]
fn a_server_of_all_listeners_silences_all_of_them() {
    let mut rules = open_rules();
    (rules.wait, rules.whole) = (true, true);
    let listeners: Vec<_> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let mut plan = empty_plan();
    plan.services.push(ServicePlan {
        id: SERVICE,
        description: None,
        blocked: None,
        name: "whole".to_owned(),
        serve: ServePlan::Exec,
        rules,
        routing: usherd::table::Routing::default(),
    });
    for id in 1..=2 {
        plan.listeners.push(ListenerPlan {
            id: ListenerId(id),
            services: vec![SERVICE],
            label: format!("tcp:{id}"),
            datagram: false,
            bound: true,
        });
    }
    let mut helper = Helper::start(None);
    helper.send_plan(&plan);
    for (listener, id) in listeners.iter().zip(1..) {
        helper.give(ListenerId(id), listener.try_clone().unwrap().into());
    }
    let _first = connect(&listeners[0]);
    let (connection, _) = helper.hear_start();
    let instance = helper.started(connection);
    let _second = connect(&listeners[1]);
    helper.hears_nothing();
    listeners[0].accept().unwrap();
    helper.exited(instance);
    helper.hear_start();
    helper.hears_nothing();
}
