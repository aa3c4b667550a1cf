//! The network, where a server is not to have it.

use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::{Case, Instance, PRESETS, Service, Stage, all_come_to, presets};
use crate::common::*;
use crate::tests;

tests![
    the_network_of_the_host_is_not_reached,
    a_loopback_of_its_own_reaches_nobody_else,
    a_network_is_one_instances_at_a_time,
    special_sockets_cannot_be_had,
    the_socket_of_a_connection_is_of_no_other_use,
    sockets_with_a_hidden_path_are_not_reached,
];

fn the_network_of_the_host_is_not_reached() {
    let stage = Stage::plain();
    let host = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let name = format!("escape-{}", stage.port("none"));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let (of_host, of_usherd, of_name) = (
        format!("connect tcp:{}", host.local_addr().unwrap().port()),
        format!("connect tcp:{}", stage.port("none")),
        format!("connect @{name}"),
    );
    let cases: [Case<'_>; 3] = [
        (
            &of_host,
            ["= connected", "ENETUNREACH|EACCES", "EAFNOSUPPORT"],
        ),
        (
            &of_usherd,
            ["= connected", "ENETUNREACH|EACCES", "EAFNOSUPPORT"],
        ),
        (&of_name, ["= connected", "ECONNREFUSED", "ECONNREFUSED"]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

fn a_loopback_of_its_own_reaches_nobody_else() {
    let refined = "network = \"loopback\", address_families = [\"unix\", \"inet\"]";
    let stage = Stage::new(&presets(refined, ""));
    let host = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let of_host = format!("connect tcp:{}", host.local_addr().unwrap().port());
    let mut listening = Vec::new();
    for preset in &PRESETS[1..] {
        let mut instance = stage.instance(preset);
        // One that nothing on the host has: of those that the kernel picks there are many.
        let port = free_port();
        instance.gets(&format!("listen tcp:{port}"));
        assert_eq!(
            instance.gets(&format!("connect tcp:{port}")),
            "connected",
            "its own"
        );
        assert_eq!(instance.tries(&of_host), "ECONNREFUSED", "{preset}");
        assert!(Peer::try_tcp(port).is_err(), "seen from the host");
        listening.push(instance);
    }
    drop(listening);
    stage.end();
}

/// One in which nothing can be left is used again, whole.
fn a_network_is_one_instances_at_a_time() {
    needs_root();
    let again = Service {
        name: "again",
        preset: "strict",
        refined: "",
        keys: "",
    };
    let never = Service {
        name: "never",
        refined: "capabilities = [\"net_bind_service\"]",
        ..again
    };
    let stage = Stage::new(&[again, never]);
    let instance = |service| {
        let mut instance = stage.instance(service);
        let network = instance.gets("link /proc/self/ns/net");
        (instance, network)
    };
    // A name that the one before had too.
    let takes_the_name =
        |instance: &mut Instance| assert_eq!(instance.gets("listen @name"), "listening");

    let mut all: Vec<(Instance, String)> = (0..12).map(|_| instance("again")).collect();
    all.iter_mut()
        .for_each(|(instance, _)| takes_the_name(instance));
    let mut known: Vec<String> = all.iter().map(|(_, network)| network.clone()).collect();
    known.sort();
    known.dedup();
    assert_eq!(known.len(), all.len(), "some have the same");
    drop(all);
    until("a network that was used before", SOON, || {
        let (mut instance, network) = instance("again");
        takes_the_name(&mut instance);
        known.contains(&network).then_some(())
    });

    // With a right over the network it is made anew, but the kernel may give its number to others.
    let (one, mut two) = (instance("never"), instance("never"));
    assert_ne!(one.1, two.1);
    takes_the_name(&mut two.0);
    stage.end();
}

fn special_sockets_cannot_be_had() {
    let stage = Stage::plain();
    let denied = ["EPERM", "EPERM", "EAFNOSUPPORT"];
    let family = [
        "=|EPERM|EAFNOSUPPORT|EACCES|ESOCKTNOSUPPORT",
        "EAFNOSUPPORT",
        "EAFNOSUPPORT",
    ];
    let mut cases: Vec<Case<'_>> = vec![
        // AF_INET, SOCK_RAW, IPPROTO_ICMP and IPPROTO_RAW; AF_INET6.
        ("sys socket 2 3 1", denied),
        ("sys socket 2 3 255", denied),
        ("sys socket 10 3 58", denied),
    ];
    // Netlink, packets, keys, Bluetooth, ALSA of crypto, vsock, XDP, TIPC, CAN.
    let families = [
        "16 3 0", "17 3 768", "15 3 2", "31 3 0", "38 5 0", "40 1 0", "44 3 0", "30 5 0", "29 3 1",
    ];
    let attempts: Vec<String> = families.iter().map(|f| format!("sys socket {f}")).collect();
    cases.extend(attempts.iter().map(|attempt| (&**attempt, family)));
    // The number that the kernel sees has 32 bits.
    cases.push(("sys socket 0x100000010 3 0", family));
    all_come_to(&stage, &cases);
    stage.end();
}

fn the_socket_of_a_connection_is_of_no_other_use() {
    let stage = Stage::plain();
    for preset in PRESETS {
        for how in ["connect", "send", "listen"] {
            let host = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = host.local_addr().unwrap().port();
            let mark = stage.daemon.log.mark();
            stage
                .instance(preset)
                .0
                .send(format!("again {port} {how}\n"));
            let said = stage
                .daemon
                .log
                .wait_after(mark, &[&format!("{how} again: ")]);
            let succeeded = said.contains("again: =.");
            assert_eq!(succeeded, preset == "none", "{preset}: {said}");
            if succeeded && how != "listen" {
                let mut hello = String::new();
                host.accept().unwrap().0.read_to_string(&mut hello).unwrap();
                assert_eq!(hello, "hello");
            }
        }
    }
    stage.end();
}

fn sockets_with_a_hidden_path_are_not_reached() {
    let dir = Dir::new();
    let path = dir.file("socket");
    let shown = format!("visible = [\"{}\", \"{path}\"]", dir.file("attacker"));
    let _listener = UnixListener::bind(&path).unwrap();
    set_mode(std::path::Path::new(&path), 0o777);
    let mut services = presets("", "");
    services.push(Service {
        name: "shown",
        preset: "strict",
        refined: &shown,
        keys: "",
    });
    let stage = Stage::in_folder(dir, &services);
    let attempt = format!("connect {path}");
    all_come_to(&stage, &[(&*attempt, ["= connected", "ENOENT", "ENOENT"])]);
    assert_eq!(stage.instance("shown").tries(&attempt), "= connected");
    stage.end();
}
