//! `firewall.*`, `network.address.*`, `sysctl.*`, `driver.*`: on a network of the test's
//! own, with real packets.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use usherd::control::client::ClientError;

use super::runtime::catalogue;
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
    addresses_come_and_go,
    settings_are_changed_if_the_operator_has_listed_them,
    modules_are_loaded_and_unloaded,
];

/// Two network namespaces with a wire between them: usherd is on one, a client on the other.
struct Wire {
    ours: String,
    theirs: String,
}

const SERVER: &str = "10.231.7.1";
const CLIENT: &str = "10.231.7.2";
const SERVER6: &str = "2001:db8:231::1";
const CLIENT6: &str = "2001:db8:231::2";

fn ip(words: &[&str]) -> bool {
    let ran = Command::new("ip")
        .args(words)
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success())
}

impl Wire {
    fn new() -> Self {
        needs_root();
        let _ = needs("ip", "iproute2");
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("ush{}x{number}", std::process::id());
        let wire = Self {
            ours: format!("{name}s"),
            theirs: format!("{name}c"),
        };
        let (ours, theirs) = (&*wire.ours, &*wire.theirs);
        if !ip(&["netns", "add", ours]) || !ip(&["netns", "add", theirs]) {
            skip("needs network namespaces");
        }
        let peer = ["peer", "name", "wire", "netns", theirs];
        let link = ["-n", ours, "link", "add", "wire", "type", "veth"];
        if !ip(&[&link[..], &peer].concat()) {
            skip("needs veth");
        }
        for (space, v4, v6) in [(ours, SERVER, SERVER6), (theirs, CLIENT, CLIENT6)] {
            let dev = ["dev", "wire"];
            let (v4, v6) = (format!("{v4}/24"), format!("{v6}/64"));
            assert!(ip(&["-n", space, "link", "set", "lo", "up"]));
            assert!(ip(&[&["-n", space, "addr", "add", &v4][..], &dev].concat()));
            assert!(ip(
                &[&["-n", space, "addr", "add", &v6, "nodad"][..], &dev].concat()
            ));
            assert!(ip(&["-n", space, "link", "set", "wire", "up"]));
        }
        wire
    }

    /// usherd on our end; `port` echoes, on all addresses.
    fn daemon(&self, dir: &Dir, port: u16) -> Daemon {
        let services = format!("[service.cat]\nlisten = \"tcp:{port}\"\nexec = [\"/bin/cat\"]\n");
        let through = ["ip", "netns", "exec", &self.ours];
        Setup::new(dir, &services).through(&through).start()
    }

    /// What happens to a client's connection.
    fn connect(&self, to: &str, port: u16) -> io::Result<TcpStream> {
        self.from(&self.theirs, to, port)
    }

    fn from(&self, space: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        let space = File::open(Path::new("/run/netns").join(space)).unwrap();
        let to = SocketAddr::new(to.parse().unwrap(), port);
        // A thread of its own, for it stays there.
        let thread = thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect_timeout(&to, Duration::from_millis(700))
        });
        thread.join().unwrap()
    }

    fn is_served(&self, to: &str, port: u16) {
        let what = format!("{to} answers");
        until(&what, SOON, || self.connect(to, port).ok());
    }

    fn is_dropped(&self, to: &str, port: u16) {
        let outcome = self.connect(to, port);
        let kind = outcome.map_err(|err| err.kind());
        assert_eq!(kind.err(), Some(io::ErrorKind::TimedOut), "{to}");
    }

    fn rules(&self) -> String {
        let listed = Command::new("ip")
            .args(["netns", "exec", &self.ours, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for space in [&self.ours, &self.theirs] {
            ip(&["netns", "delete", space]);
        }
    }
}

fn done(outcome: Result<Value, ClientError>) -> Value {
    outcome.unwrap_or_else(|err| panic!("{err:?}"))
}

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
        assert_eq!(listed, json!({ "bans": [], "closed": [], "open": [] }));
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

fn a_service_lifts_its_own_bans_alone() {
    let _ = needs("nft", "nftables");
    let (dir, wire, port) = (Dir::new(), Wire::new(), 4008);
    let keys = "user = \"nobody\"\nadmin = [\"firewall.ban\", { operation = \"firewall.unban\", with = { prefix = \"192.0.2.*/32\" } }]";
    let services = asking(&dir, "mail", port, "standard", keys);
    let through = ["ip", "netns", "exec", &wire.ours];
    let _daemon = Setup::new(&dir, &services).through(&through).start();
    let mut server = wire.from(&wire.ours, "127.0.0.1", port).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let mut ask = |operation: &str, parameters: Value| {
        use io::{BufRead, Write};
        writeln!(server, "run {operation} {parameters}").unwrap();
        let mut said = String::new();
        io::BufReader::new(&server).read_line(&mut said).unwrap();
        serde_json::from_str::<Value>(&said).unwrap_or_else(|err| panic!("{err}: {said}"))
    };
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
    assert_eq!(ask("firewall.unban", of("192.0.2.1"))["error"], Value::Null);
    done(run(&dir, "firewall.unban", &of("192.0.2.2")));
}

fn addresses_come_and_go() {
    let (dir, wire) = (Dir::new(), Wire::new());
    let _daemon = wire.daemon(&dir, 4007);
    let address = |text: &str| json!({ "interface": "wire", "address": text });
    let added = done(run(&dir, "network.address.add", &address("10.231.7.9/24")));
    assert!(
        added["addresses"]
            .as_array()
            .unwrap()
            .contains(&json!("10.231.7.9/24")),
        "{added}"
    );
    wire.is_served("10.231.7.9", 4007);
    assert_eq!(
        failed(run(&dir, "network.address.add", &address("10.231.7.9/24"))).0,
        "exists"
    );
    done(run_dry(
        &dir,
        "network.address.remove",
        &address("10.231.7.9/24"),
    ));
    wire.is_served("10.231.7.9", 4007);
    done(run(
        &dir,
        "network.address.remove",
        &address("10.231.7.9/24"),
    ));
    let gone = failed(run(
        &dir,
        "network.address.remove",
        &address("10.231.7.9/24"),
    ));
    assert_eq!(
        gone,
        ("not_found".into(), "10.231.7.9/24 is not on wire".into())
    );
    let listed = done(run(
        &dir,
        "network.address.list",
        &json!({ "interface": "wire" }),
    ));
    let first = &listed["interfaces"][0]["addresses"];
    assert!(
        first
            .as_array()
            .unwrap()
            .contains(&json!(format!("{SERVER}/24"))),
        "{listed}"
    );
    let all = done(run(&dir, "network.address.list", &json!({})));
    assert_eq!(all["interfaces"].as_array().unwrap().len(), 2, "{all}");
    let none = json!({ "interface": "nonesuch" });
    assert_eq!(
        failed(run(&dir, "network.address.list", &none)).0,
        "not_found"
    );
}

fn settings_are_changed_if_the_operator_has_listed_them() {
    let (dir, wire) = (Dir::new(), Wire::new());
    catalogue(
        &dir,
        "[operation.\"sysctl.set\".parameters]\nname = { allow = [\"net.ipv4.conf.wire.*\", \"vm.swappiness\", \"kernel.printk\"] }\n",
    );
    let daemon = wire.daemon(&dir, 4007);
    let set =
        |name: &str, value: &str| run(&dir, "sysctl.set", &json!({ "name": name, "value": value }));
    let get = |name: &str| run(&dir, "sysctl.get", &json!({ "name": name }));
    // As the host of this daemon sees it.
    let seen = || {
        let path = format!(
            "/proc/{}/root/proc/sys/net/ipv4/conf/wire/log_martians",
            daemon.pid
        );
        let read = Command::new("ip")
            .args(["netns", "exec", &wire.ours, "cat", &path])
            .output();
        String::from_utf8(read.unwrap().stdout).unwrap()
    };
    let name = "net.ipv4.conf.wire.log_martians";
    let old = done(get(name))["value"].as_str().unwrap().to_owned();
    let new = if old == "0" { "1" } else { "0" };
    let tried = done(run_dry(
        &dir,
        "sysctl.set",
        &json!({ "name": name, "value": new }),
    ));
    assert_eq!((&tried["old"], seen().trim()), (&json!(old), &*old));
    let changed = done(set(name, new));
    assert_eq!(changed, json!({ "name": name, "old": old, "value": new }));
    assert_eq!(seen().trim(), new);
    // That of the whole host, to what it is.
    let swappiness = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let same = done(set("vm.swappiness", swappiness.trim()));
    assert_eq!(same["old"], json!(swappiness.trim()));
    let (kind, reason) = failed(set("vm.swappiness", "no number"));
    assert_eq!(kind, "failed", "{reason}");
    // Its server cannot write to those of the kernel itself, whoever lists one.
    let printk = fs::read_to_string("/proc/sys/kernel/printk").unwrap();
    let printk = printk.split_whitespace().collect::<Vec<_>>().join(" ");
    let (kind, reason) = failed(set("kernel.printk", &printk));
    assert_eq!(kind, "forbidden", "{reason}");
    for odd in [
        "vm.overcommit_memory",
        "kernel.core_pattern",
        "net.ipv4.conf.all.log_martians",
    ] {
        let (error, _) = refused(set(odd, "1"));
        assert!(error.ends_with(".WrongParameter"), "{odd}: {error}");
    }
    for odd in [
        "../../etc/passwd",
        "net/ipv4/ip_forward",
        "net.ipv4...x",
        "kernel.core_pattern",
    ] {
        assert!(get(odd).is_err(), "{odd}");
    }
    let (kind, _) = failed(get("net.ipv4.nonesuch"));
    assert_eq!(kind, "not_found");
    // Only root may read this one.
    assert_eq!(failed(get("net.ipv4.tcp_fastopen_key")).0, "forbidden");
}

fn modules_are_loaded_and_unloaded() {
    needs_root();
    let _ = needs("modprobe", "kmod");
    let dir = Dir::new();
    catalogue(
        &dir,
        "[operation.\"driver.load\".parameters]\nmodule = { allow = [\"dummy\", \"usherd_none\"] }\n\
         [operation.\"driver.unload\".parameters]\nmodule = { allow = [\"dummy\", \"usherd_none\"] }\n",
    );
    let _daemon = Daemon::start(&dir, &crate::control::cat(free_port(), ""));
    let of = |operation: &str, module: &str| run(&dir, operation, &json!({ "module": module }));
    let (error, _) = refused(of("driver.load", "vfat"));
    assert!(error.ends_with(".WrongParameter"), "{error}");
    if !Path::new("/proc/modules").exists() {
        assert_eq!(failed(of("driver.load", "dummy")).0, "unavailable");
        skip("needs a kernel with modules");
    }
    let loaded = || {
        fs::read_to_string("/proc/modules")
            .unwrap()
            .contains("dummy ")
    };
    if loaded() {
        skip("needs a host that does not use the module dummy");
    }
    let Ok(would) = run_dry(&dir, "driver.load", &json!({ "module": "dummy" })) else {
        skip("needs the modules of the kernel that runs");
    };
    assert!(
        would["would_run"][0].as_str().unwrap().contains("dummy.ko"),
        "{would}"
    );
    assert!(!loaded());
    let done_so = done(of("driver.load", "dummy"));
    assert_eq!(done_so["loaded"], json!(["dummy"]));
    assert!(loaded());
    done(of("driver.unload", "dummy"));
    assert!(!loaded());
    assert_eq!(failed(of("driver.unload", "dummy")).0, "not_found");
    assert_eq!(failed(of("driver.load", "usherd_none")).0, "not_found");
}
