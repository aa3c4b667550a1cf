//! `firewall.*`: on a network of the test's own, with real packets.

use std::fs;
use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::runtime::catalogue;
use super::wire::{CLIENT, CLIENT6, SERVER, SERVER6, Wire, done};
use super::{asking, failed, run, run_dry};
use crate::common::*;
use crate::control::refused;
use crate::tests;

tests![
    who_is_banned_is_dropped_until_the_ban_ends: 120,
    bans_have_an_end_and_those_that_overlap_are_settled,
    a_closed_port_is_open_for_exceptions_alone: 120,
    whoever_is_kept_is_never_banned,
    a_firewall_is_changed_by_many_at_once: 120,
    a_service_lifts_its_own_bans_alone,
    a_full_table_is_told_and_changed_and_no_service_fills_it: 120,
];

fn who_is_banned_is_dropped_until_the_ban_ends() {
    let _ = needs("nft", "nftables");
    let (dir, port) = (Dir::new(), 4007);
    let wire = Wire::new();
    let _daemon = wire.daemon(&dir, port);
    for (server, client, network) in [
        (SERVER, CLIENT, "10.231.7.0/24"),
        (SERVER6, CLIENT6, "2001:db8:231::/48"),
    ] {
        wire.is_served(server, port);
        for prefix in [client, network] {
            let held = wire.connect(server, port).unwrap();
            let ban = json!({ "prefix": prefix, "reason": "guesses passwords" });
            let would = done(run_dry(&dir, "firewall.ban", &ban));
            assert!(would["input"].is_array(), "{would}");
            wire.is_served(server, port);
            done(run(&dir, "firewall.ban", &ban));
            wire.is_dropped(server, port);
            // What is established, too: nothing comes back.
            let mut held = held;
            held.set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            io::Write::write_all(&mut held, b"x").unwrap();
            let heard = io::Read::read(&mut held, &mut [0; 8]).map_err(|err| err.kind());
            assert_eq!(heard, Err(io::ErrorKind::WouldBlock));
            // The machine itself is not.
            assert!(wire.from(&wire.ours, server, port).is_ok());
            let listed = done(run(&dir, "firewall.list", &json!({})));
            let wanted = json!([{ "prefix": prefix, "seconds_left": null, "by": "uid 0", "reason": "guesses passwords" }]);
            assert_eq!(listed["bans"], wanted);
            done(run(&dir, "firewall.unban", &json!({ "prefix": prefix })));
            wire.is_served(server, port);
        }
        // By itself, too.
        done(run(
            &dir,
            "firewall.ban",
            &json!({ "prefix": client, "for": "2s" }),
        ));
        wire.is_dropped(server, port);
        wire.is_served(server, port);
        let (kind, _) = failed(run(&dir, "firewall.unban", &json!({ "prefix": client })));
        assert_eq!(kind, "not_found");
    }
    assert!(wire.rules().contains("table inet usherd"));
}

fn bans_have_an_end_and_those_that_overlap_are_settled() {
    let _ = needs("nft", "nftables");
    let (dir, wire) = (Dir::new(), Wire::new());
    let _daemon = wire.daemon(&dir, 4007);
    let ban = |prefix: &str, length: &str| {
        run(
            &dir,
            "firewall.ban",
            &json!({ "prefix": prefix, "for": length }),
        )
    };
    let left = |prefix: &str| {
        let listed = done(run(&dir, "firewall.list", &json!({})));
        let mut bans = listed["bans"].as_array().unwrap().iter();
        let found = bans.find(|ban| ban["prefix"] == json!(prefix));
        found.map(|ban| ban["seconds_left"].as_u64().unwrap())
    };
    assert_eq!(left("192.0.2.0/24"), None);
    done(ban("192.0.2.0/24", "1h"));
    assert!((3500..=3600).contains(&left("192.0.2.0/24").unwrap()));
    let covered = done(ban("192.0.2.64/26", "10m"));
    assert_eq!(covered["covered_by"], json!("192.0.2.0/24"));
    assert_eq!(failed(ban("192.0.2.64/26", "2h")).0, "exists");
    done(ban("192.0.0.0/16", "2h"));
    assert_eq!(left("192.0.2.0/24"), None);
    assert!(left("192.0.0.0/16").unwrap() > 7000);
    // The same again is for its new time.
    done(ban("192.0.0.0/16", "1m"));
    assert!(left("192.0.0.0/16").unwrap() <= 60);
    let unbanned = failed(run(
        &dir,
        "firewall.unban",
        &json!({ "prefix": "192.0.2.1" }),
    ));
    assert_eq!(
        unbanned,
        (
            "not_found".into(),
            "192.0.2.1 is not banned; 192.0.0.0/16 is".into()
        )
    );
    for odd in ["127.0.0.1", "0.0.0.0/0", "10.0.0.0/7", "::1", "fe80::1"] {
        assert_eq!(
            failed(run(&dir, "firewall.ban", &json!({ "prefix": odd }))).0,
            "forbidden",
            "{odd}"
        );
    }
    let (error, _) = refused(run(
        &dir,
        "firewall.ban",
        &json!({ "prefix": "192.0.2.1; drop" }),
    ));
    assert!(error.ends_with(".WrongParameter"), "{error}");
}

fn a_closed_port_is_open_for_exceptions_alone() {
    let _ = needs("nft", "nftables");
    let (dir, port) = (Dir::new(), 4007);
    let wire = Wire::new();
    let _daemon = wire.daemon(&dir, port);
    for (server, client) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
        wire.is_served(server, port);
        let gate = |more: Value| {
            let mut gate = json!({ "port": port });
            gate.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            gate
        };
        let close = |more: Value| run(&dir, "firewall.close", &gate(more));
        let open = |more: Value| run(&dir, "firewall.open", &gate(more));
        let mut held = wire.connect(server, port).unwrap();
        done(close(json!({})));
        wire.is_dropped(server, port);
        // Who is in stays in.
        io::Write::write_all(&mut held, b"x").unwrap();
        assert_eq!(io::Read::read(&mut held, &mut [0; 8]).unwrap(), 1);
        done(open(json!({ "from": client, "for": "1h" })));
        wire.is_served(server, port);
        let listed = done(run(&dir, "firewall.list", &json!({})));
        assert_eq!(listed["open"][0]["from"], json!(client));
        assert!(listed["open"][0]["seconds_left"].as_u64().unwrap() > 3500);
        let closed =
            json!([{ "port": port, "protocol": "tcp", "seconds_left": null, "by": "uid 0" }]);
        assert_eq!(listed["closed"], closed);
        done(close(json!({ "from": client })));
        wire.is_dropped(server, port);
        assert_eq!(failed(close(json!({ "from": client }))).0, "not_found");
        // For everybody, and not for long.
        done(open(json!({ "for": "2s" })));
        wire.is_served(server, port);
        until("the exception ends", SOON, || {
            wire.connect(server, port).err()
        });
        done(open(json!({ "from": client })));
        done(close(json!({ "for": "1h" })));
        wire.is_dropped(server, port);
        done(open(json!({})));
        wire.is_served(server, port);
        let listed = done(run(&dir, "firewall.list", &json!({})));
        let none = json!({ "bans": 0, "closed": 0, "open": 0 });
        assert_eq!(
            listed,
            json!({ "bans": [], "closed": [], "open": [], "entries": none })
        );
    }
}

fn whoever_is_kept_is_never_banned() {
    let _ = needs("nft", "nftables");
    let (dir, wire) = (Dir::new(), Wire::new());
    catalogue(
        &dir,
        "[operation.\"firewall.ban\"]\nenv = { KEEP = \"10.231.7.0/28 2001:db8:231::/48\" }\n",
    );
    let _daemon = wire.daemon(&dir, 4007);
    for kept in [CLIENT, "10.231.0.0/16", CLIENT6] {
        let (kind, reason) = failed(run(&dir, "firewall.ban", &json!({ "prefix": kept })));
        assert_eq!(kind, "forbidden", "{reason}");
        assert!(reason.contains("KEEP has"), "{reason}");
    }
    done(run(
        &dir,
        "firewall.ban",
        &json!({ "prefix": "10.231.7.200" }),
    ));
    wire.is_served(SERVER, 4007);
}

fn a_firewall_is_changed_by_many_at_once() {
    let _ = needs("nft", "nftables");
    let (dir, wire) = (Dir::new(), Wire::new());
    let _daemon = wire.daemon(&dir, 4007);
    thread::scope(|scope| {
        for number in 1..=12 {
            let dir = &dir;
            scope.spawn(move || {
                done(run(
                    dir,
                    "firewall.ban",
                    &json!({ "prefix": format!("192.0.2.{number}") }),
                ))
            });
        }
    });
    let listed = done(run(&dir, "firewall.list", &json!({})));
    assert_eq!(listed["bans"].as_array().unwrap().len(), 12);
    assert_eq!(
        wire.rules().matches("@hosts4 drop").count(),
        1,
        "{}",
        wire.rules()
    );
}

/// Asks for an operation as the server behind `server`.
fn ask_by(server: &TcpStream, operation: &str, parameters: &Value) -> Value {
    let mut server = server;
    writeln!(server, "run {operation} {parameters}").unwrap();
    let mut said = String::new();
    io::BufReader::new(server).read_line(&mut said).unwrap();
    serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said}"))
}

fn a_full_table_is_told_and_changed_and_no_service_fills_it() {
    let nft = needs("nft", "nftables");
    let (dir, wire, port) = (Dir::new(), Wire::new(), 4008);
    let keys = "user = \"nobody\"\nadmin = [\"firewall.ban\", \"firewall.unban\"]";
    let services = asking(&dir, "mail", port, "standard", keys);
    let through = ["ip", "netns", "exec", &wire.ours];
    let _daemon = Setup::new(&dir, &services).through(&through).start();
    let server = wire.from(&wire.ours, "127.0.0.1", port).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let ban = |prefix: &str| json!({ "prefix": prefix, "for": "1h" });
    done(run(&dir, "firewall.ban", &ban("198.51.100.1")));
    // 10.0.0.0 and so on, as if they had been banned one by one.
    let fill = |numbers: std::ops::Range<u32>, by: &str| {
        let reason = "guesses passwords, and more than once a minute since yesterday at noon, too";
        let elements: Vec<String> = numbers
            .map(|number| {
                let addr = std::net::Ipv4Addr::from((10 << 24) + number);
                format!("{addr} timeout 1h comment \"{by}: {reason}\"")
            })
            .collect();
        let commands = dir.file("full.nft");
        let elements = elements.join(", ");
        let text = format!("add element inet usherd hosts4 {{ {elements} }}\n");
        fs::write(&commands, text).unwrap();
        let nft = nft.to_string_lossy();
        let words = ["netns", "exec", &wire.ours, &*nft, "-f", &commands];
        assert!(super::wire::ip(&words));
    };
    fill(0..8_191, "service mail");
    let last = ask_by(&server, "firewall.ban", &ban("192.0.2.1"));
    assert_eq!(last["error"], Value::Null, "{last}");
    let beyond = ask_by(&server, "firewall.ban", &ban("192.0.2.2"));
    assert_eq!(beyond["parameters"]["kind"], json!("forbidden"), "{beyond}");
    let reason = beyond["parameters"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("service mail has 8192"), "{reason}");
    // One of its own may get a new time, and one that it lifts makes room.
    for (operation, parameters) in [
        ("firewall.ban", ban("192.0.2.1")),
        ("firewall.unban", json!({ "prefix": "192.0.2.1" })),
        ("firewall.ban", ban("192.0.2.2")),
    ] {
        let said = ask_by(&server, operation, &parameters);
        assert_eq!(said["error"], Value::Null, "{said}");
    }
    // Others have all that is left.
    fill(8_191..65_533, "uid 0");
    done(run(&dir, "firewall.ban", &ban("198.51.100.2")));
    let (_, reason) = failed(run(&dir, "firewall.ban", &ban("198.51.100.3")));
    assert!(reason.starts_with("the table is full"), "{reason}");
    let listed = done(run(&dir, "firewall.list", &json!({})));
    assert_eq!(listed["bans"].as_array().unwrap().len(), 10_000);
    let entries = json!({ "bans": 65_536, "closed": 0, "open": 0 });
    assert_eq!(listed["entries"], entries);
    let rest = json!({ "offset": 65_530, "limit": 20_000 });
    let rest = done(run(&dir, "firewall.list", &rest));
    assert_eq!(rest["bans"].as_array().unwrap().len(), 6);
    done(run(
        &dir,
        "firewall.unban",
        &json!({ "prefix": "10.0.0.0" }),
    ));
    done(run(&dir, "firewall.ban", &ban("198.51.100.3")));
}

fn a_service_lifts_its_own_bans_alone() {
    let _ = needs("nft", "nftables");
    let (dir, wire, port) = (Dir::new(), Wire::new(), 4008);
    let keys = "user = \"nobody\"\nadmin = [\"firewall.ban\", \"firewall.open\", { operation = \"firewall.unban\", with = { prefix = \"192.0.2.*/32\" } }]";
    let services = asking(&dir, "mail", port, "standard", keys);
    let through = ["ip", "netns", "exec", &wire.ours];
    let _daemon = Setup::new(&dir, &services).through(&through).start();
    let server = wire.from(&wire.ours, "127.0.0.1", port).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let ask = |operation: &str, parameters: Value| ask_by(&server, operation, &parameters);
    let of = |prefix: &str| json!({ "prefix": prefix });
    let banned = ask(
        "firewall.ban",
        json!({ "prefix": "192.0.2.1", "for": "1h", "reason": "spam" }),
    );
    assert_eq!(banned["result"]["seconds"], json!(3600), "{banned}");
    done(run(
        &dir,
        "firewall.ban",
        &json!({ "prefix": "192.0.2.2", "for": "1h" }),
    ));
    done(run(
        &dir,
        "firewall.ban",
        &json!({ "prefix": "198.51.100.1", "for": "1h" }),
    ));
    let listed = done(run(&dir, "firewall.list", &json!({})));
    let mut bans = listed["bans"].as_array().unwrap().iter();
    let its = bans
        .find(|ban| ban["prefix"] == json!("192.0.2.1"))
        .unwrap();
    assert_eq!(
        (&its["by"], &its["reason"]),
        (&json!("service mail"), &json!("spam"))
    );
    // Neither lifted nor shortened.
    let lifted = ask("firewall.unban", of("192.0.2.2"));
    assert_eq!(lifted["parameters"]["kind"], json!("forbidden"), "{lifted}");
    let shorter = ask(
        "firewall.ban",
        json!({ "prefix": "192.0.2.2", "for": "1s" }),
    );
    assert_eq!(
        shorter["result"]["covered_by"],
        json!("192.0.2.2"),
        "{shorter}"
    );
    let beyond = ask("firewall.unban", of("198.51.100.1"));
    assert!(
        beyond["error"].is_string(),
        "its list does not have it: {beyond}"
    );
    assert!(ask("firewall.list", json!({}))["error"].is_string());
    // Nor is half of the world let in where others closed.
    done(run(&dir, "firewall.close", &json!({ "port": 4009 })));
    for from in ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"] {
        let opened = ask("firewall.open", json!({ "port": 4009, "from": from }));
        assert_eq!(opened["parameters"]["kind"], json!("forbidden"), "{opened}");
    }
    let opened = ask(
        "firewall.open",
        json!({ "port": 4009, "from": "10.0.0.0/8" }),
    );
    assert_eq!(opened["error"], Value::Null, "{opened}");
    assert_eq!(ask("firewall.unban", of("192.0.2.1"))["error"], Value::Null);
    done(run(&dir, "firewall.unban", &of("192.0.2.2")));
}
