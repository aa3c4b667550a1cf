//! Freeze, Thaw, GetRunning, GetResources and SetResources. What needs the
//! controllers of cgroups is proved by tests/vm/cgroups.sh.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use usherd::control::client::Client;

use crate::common::*;
use crate::control::{ADMIN, admin, change, refused};
use crate::tests;

tests![
    frozen_servers_stand_still_and_new_ones_wait,
    servers_without_a_cgroup_are_stopped_one_by_one,
    what_was_frozen_goes_on_when_the_caller_leaves,
    nobody_freezes_what_another_has_frozen,
    a_frozen_service_can_be_stopped_and_the_caller_learns_of_it,
    a_drain_outlasts_a_thaw,
    running_instances_are_told_apart_by_their_start,
    limits_without_controllers_are_refused_with_the_remedy,
    nobody_gets_more_than_the_table_gives,
];

const QUIET: Duration = Duration::from_millis(100);

fn lines(port: u16, more: &str) -> String {
    format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", \"cat; true\"]\n{more}\n"
    )
}

fn call(client: &mut Client, method: &str, parameters: Value) -> Value {
    client
        .call(&format!("{ADMIN}.{method}"), &parameters)
        .unwrap()
}

fn cat() -> Value {
    json!({ "service": "cat" })
}

fn held(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    peer
}

fn stand_still(more: &str) {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &lines(port, more));
    let mut peers = [held(port), held(port)];
    let mut caller = admin(&dir);
    let frozen = call(&mut caller, "Freeze", cat());
    assert_eq!(frozen, json!({ "instances": 2 }));
    peers.iter_mut().for_each(|peer| {
        peer.send("y\n");
    });
    let mut late = Peer::tcp(port);
    late.send("late\n");
    assert!(peers[0].hears_nothing_for(QUIET));
    assert!(late.hears_nothing_for(QUIET));
    assert_eq!(daemon.log.count(&["started"]), 2);
    let thawed = call(&mut caller, "Thaw", cat());
    assert_eq!(thawed, json!({ "was_frozen": true }));
    for peer in &mut peers {
        assert_eq!(peer.read_line(), "y\n");
    }
    assert_eq!(late.read_line(), "late\n");
    let again = call(&mut caller, "Thaw", cat());
    assert_eq!(again, json!({ "was_frozen": false }));
}

fn frozen_servers_stand_still_and_new_ones_wait() {
    stand_still("");
}

fn servers_without_a_cgroup_are_stopped_one_by_one() {
    stand_still("isolation = { preset = \"none\", cgroup = \"off\" }");
}

fn what_was_frozen_goes_on_when_the_caller_leaves() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &lines(port, ""));
    let mut peer = held(port);
    // `change` hangs up.
    change(&dir, "Freeze", &cat()).unwrap();
    peer.send("y\n");
    assert_eq!(peer.read_line(), "y\n");
    let mut late = Peer::tcp(port);
    late.send("z\n");
    assert_eq!(late.read_line(), "z\n");
}

fn nobody_freezes_what_another_has_frozen() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &lines(port, ""));
    let mut peer = held(port);
    let mut caller = admin(&dir);
    call(&mut caller, "Freeze", cat());
    for method in ["Freeze", "Thaw"] {
        let (name, _) = refused(change(&dir, method, &cat()));
        assert_eq!(name, format!("{ADMIN}.Busy"));
    }
    peer.send("y\n");
    assert!(peer.hears_nothing_for(QUIET));
    call(&mut caller, "Thaw", cat());
    assert_eq!(peer.read_line(), "y\n");
    call(&mut caller, "Freeze", cat());
}

fn a_frozen_service_can_be_stopped_and_the_caller_learns_of_it() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &lines(port, ""));
    let _peer = held(port);
    let mut caller = admin(&dir);
    call(&mut caller, "Freeze", cat());
    let stopped = change(&dir, "Stop", &cat()).unwrap();
    assert_eq!(stopped, json!({ "stopped": 1 }));
    daemon.wait_servers(0);
    let thawed = call(&mut caller, "Thaw", cat());
    assert_eq!(thawed, json!({ "was_frozen": false }));
}

fn a_drain_outlasts_a_thaw() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &lines(port, ""));
    let mut peer = held(port);
    let mut caller = admin(&dir);
    call(&mut caller, "Freeze", cat());
    change(&dir, "Drain", &cat()).unwrap();
    call(&mut caller, "Thaw", cat());
    peer.send("y\n");
    assert_eq!(peer.read_line(), "y\n");
    let mut late = Peer::tcp(port);
    late.send("z\n");
    assert!(late.hears_nothing_for(QUIET));
    // Told while frozen, and in force when thawed.
    call(&mut caller, "Freeze", cat());
    change(&dir, "Start", &cat()).unwrap();
    assert!(late.hears_nothing_for(QUIET));
    call(&mut caller, "Thaw", cat());
    assert_eq!(late.read_line(), "z\n");
}

fn running_instances_are_told_apart_by_their_start() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &lines(port, ""));
    let _peers = [held(port), held(port)];
    let shown = change(&dir, "GetRunning", &cat()).unwrap();
    let all = shown["instances"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for one in all {
        assert_eq!(one["service"], "cat");
        let pid = one["pid"].as_i64().unwrap();
        assert!(
            daemon
                .servers()
                .iter()
                .any(|server| i64::from(*server) == pid)
        );
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = rest.split_whitespace().nth(19).unwrap().parse().unwrap();
        assert_eq!(one["started_us"].as_u64().unwrap(), ticks * 10_000);
    }
    assert_ne!(all[0]["id"], all[1]["id"]);
    assert_eq!(change(&dir, "GetRunning", &json!({})).unwrap(), shown);
    let (name, _) = refused(change(&dir, "GetRunning", &json!({ "service": "x" })));
    assert_eq!(name, format!("{ADMIN}.NoSuchService"));
}

fn limits_without_controllers_are_refused_with_the_remedy() {
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &lines(port, ""));
    let shown = change(&dir, "GetResources", &cat()).unwrap();
    let missing = &shown["resources"][0]["missing"];
    let asked = json!({ "service": "cat", "memory": 1 << 30 });
    let done = change(&dir, "SetResources", &asked);
    if done.is_ok() {
        skip("needs a host without the memory controller of cgroups, version 2");
    }
    let (name, why) = refused(done);
    assert_eq!(name, format!("{ADMIN}.Unavailable"));
    assert!(!why["remedy"].as_str().unwrap().is_empty(), "{why:?}");
    if !missing.is_null() {
        assert_eq!(missing["reason"], why["reason"]);
    }
}

fn nobody_gets_more_than_the_table_gives() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "resources = { memory = \"64M\", tasks = 100 }";
    let _daemon = Daemon::start(&dir, &lines(port, more));
    let set = |key: &str, value: u64| {
        let asked = json!({ "service": "cat", key: value });
        refused(change(&dir, "SetResources", &asked))
    };
    let (name, why) = set("memory", 65 << 20);
    assert_eq!(name, format!("{ADMIN}.BeyondTable"));
    assert!(why["reason"].as_str().unwrap().contains("64M"), "{why:?}");
    assert_eq!(set("tasks", 101).0, format!("{ADMIN}.BeyondTable"));
    assert_eq!(set("tasks", 0).0, "org.varlink.service.InvalidParameter");
    let nothing = refused(change(&dir, "SetResources", &cat()));
    assert_eq!(nothing.0, format!("{ADMIN}.Failed"));
    let shown = change(&dir, "GetResources", &cat()).unwrap();
    assert_eq!(shown["resources"][0]["most"]["memory"], 64 << 20);
}
