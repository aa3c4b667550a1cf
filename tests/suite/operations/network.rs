//! `network.address.*`, `sysctl.*`, `driver.*`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::runtime::catalogue;
use super::wire::{SERVER, Wire, done};
use super::{failed, run, run_dry};
use crate::common::*;
use crate::control::refused;
use crate::tests;

tests![
    addresses_come_and_go,
    settings_are_changed_if_the_operator_has_listed_them,
    modules_are_loaded_and_unloaded,
];

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
    let all = done(run(&dir, "driver.list", &json!({})));
    assert!(all.to_string().contains("\"dummy\""), "{all}");
    done(of("driver.unload", "dummy"));
    assert!(!loaded());
    assert_eq!(failed(of("driver.unload", "dummy")).0, "not_found");
    assert_eq!(failed(of("driver.load", "usherd_none")).0, "not_found");
}
