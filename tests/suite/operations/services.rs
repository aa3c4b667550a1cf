//! `service.*`, `instance.*`, `stats.*`, `report.*`, `resource.*`, `license.*`, `config.*` and
//! `audit.*`: operations about usherd and its services.

use std::fs;

use serde_json::{Value, json};

use super::{Asker, asking, failed, order, run, run_dry};
use crate::common::peer::ask;
use crate::common::*;
use crate::control::{cat, refused};
use crate::tests;

tests![
    services_are_stopped_started_and_restarted,
    an_instance_is_signalled_and_a_service_signals_its_own_alone,
    statistics_and_reports_are_told,
    resources_are_told_and_bounded_by_the_table,
    a_seat_is_bound_to_the_life_of_an_instance,
    a_key_is_set_in_the_file_and_what_is_wrong_is_not_written,
    an_operator_reads_the_audit_log_and_a_service_its_own_requests,
];

fn held(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    peer
}

fn services_are_stopped_started_and_restarted() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let of = json!({ "service": "cat" });
    let _peer = held(port);
    let stopped = run(&dir, "service.stop", &of).unwrap();
    assert_eq!(stopped, json!({ "service": "cat", "stopped": 1 }));
    assert!(daemon.servers().is_empty());
    run(&dir, "service.start", &of).unwrap();
    let _peer = held(port);
    let again = run(&dir, "service.restart", &of).unwrap();
    assert_eq!(again["stopped"], 1);
    assert_eq!(ask(port, "y\n"), "y\n");
    run(&dir, "service.drain", &of).unwrap();
    run(&dir, "service.start", &of).unwrap();
    run(&dir, "service.disable", &of).unwrap();
    assert!(Peer::try_tcp(port).is_err());
    run(&dir, "service.enable", &of).unwrap();
    assert_eq!(ask(port, "y\n"), "y\n");
    let (name, _) = refused(run(&dir, "service.stop", &json!({ "service": "x" })));
    assert!(name.ends_with(".WrongParameter"), "{name}");
}

fn an_instance_is_signalled_and_a_service_signals_its_own_alone() {
    needs_root();
    let (dir, ports) = (Dir::new(), [free_port(), free_port()]);
    let table = cat(ports[0], "")
        + &asking(
            &dir,
            "asker",
            ports[1],
            "standard",
            "admin = [\"instance.signal\"]",
        );
    let daemon = Daemon::start(&dir, &table);
    let _peer = held(ports[0]);
    let running = crate::control::change(&dir, "GetRunning", &json!({ "service": "cat" })).unwrap();
    let id = running["instances"][0]["id"].as_u64().unwrap();
    let mut asker = Peer::tcp(ports[1]);
    let refused = order(
        &mut asker,
        &format!("run instance.signal {{\"instance\":{id},\"signal\":\"KILL\"}}"),
    );
    assert!(refused["error"].is_string(), "{refused}");
    run(
        &dir,
        "instance.signal",
        &json!({ "instance": id, "signal": "KILL" }),
    )
    .unwrap();
    daemon
        .log
        .wait_after(0, &["killed", "service=cat", "signal=9"]);
}

fn statistics_and_reports_are_told() {
    needs_root();
    let (dir, ports) = (Dir::new(), [free_port(), free_port()]);
    let table = cat(ports[0], "")
        + &asking(
            &dir,
            "asker",
            ports[1],
            "standard",
            "admin = [\"stats.read\"]",
        );
    let _daemon = Daemon::start(&dir, &table);
    let _peer = held(ports[0]);
    let counted = run(&dir, "stats.read", &json!({ "service": "cat" })).unwrap();
    assert_eq!(counted["total"]["accepted"], 1, "{counted}");
    assert_eq!(counted["services"][0]["running"], 1);
    let mut asker = Peer::tcp(ports[1]);
    let own = order(&mut asker, "run stats.read {}");
    assert_eq!(own["result"]["services"][0]["name"], "asker", "{own}");
    let host = run(&dir, "report.host", &json!({})).unwrap();
    let name = nix::unistd::gethostname().unwrap();
    assert_eq!(host["host"], name.to_str().unwrap());
    assert!(host["memory"]["total"].as_u64().unwrap() > 0, "{host}");
    assert!(host["uptime_s"].as_u64().unwrap() > 0);
    assert_eq!(host["load"].as_array().unwrap().len(), 3);
    let disks = host["file_systems"].as_array().unwrap();
    assert!(!disks.is_empty(), "{host}");
    assert!(disks.iter().all(|one| one["type"] != "tmpfs"), "{host}");
    let services = run(&dir, "report.services", &json!({})).unwrap();
    assert_eq!(services["states"]["serving"], 2, "{services} on {name:?}");
    assert_eq!(services["busiest"].as_array().unwrap().len(), 2);
}

fn resources_are_told_and_bounded_by_the_table() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, "resources = { memory = \"64M\" }"));
    let told = run(&dir, "resource.get", &json!({ "service": "cat" })).unwrap();
    assert_eq!(told["resources"][0]["most"]["memory"], 64 << 20);
    let (kind, why) = failed(run(
        &dir,
        "resource.set",
        &json!({ "service": "cat", "memory": "65M" }),
    ));
    assert_eq!(kind, "forbidden");
    assert!(why.contains("64M"), "{why}");
    if !told["resources"][0]["missing"].is_null() {
        let asked = json!({ "service": "cat", "memory": "32M" });
        assert_eq!(failed(run(&dir, "resource.set", &asked)).0, "unavailable");
    }
}

fn a_seat_is_bound_to_the_life_of_an_instance() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    fs::create_dir_all(dir.file("state/licenses")).unwrap();
    dir.write("state/licenses/numbers.toml", "cad = 2\n");
    let admin = "admin = [\"license.acquire\", \"license.release\", \"license.status\"]";
    let daemon = Daemon::start(&dir, &asking(&dir, "cad", port, "standard", admin));
    let mut peers = [Peer::tcp(port), Peer::tcp(port), Peer::tcp(port)];
    let acquire = "run license.acquire {\"name\":\"cad\"}";
    for peer in &mut peers[..2] {
        let got = order(peer, acquire);
        assert_eq!(got["result"]["seats"], 1, "{got}");
    }
    // Where nobody may write, as in a dry run, it can be told all the same.
    let first = json!({ "name": "cad", "instance": 1 });
    let would = run_dry(&dir, "license.release", &first).unwrap();
    assert_eq!(would["seats"], 1, "{would}");
    let full = order(&mut peers[2], acquire);
    assert!(full.to_string().contains("busy"), "{full}");
    // One ends without a word.
    let [first, _second, mut third] = peers;
    drop(first);
    daemon.log.wait_after(0, &["exited", "service=cad"]);
    let got = order(&mut third, acquire);
    assert_eq!(got["result"]["free"], 0, "{got}");
    let told = run(&dir, "license.status", &json!({})).unwrap();
    assert_eq!(told["licenses"][0]["taken"], 2, "{told}");
    let given = order(&mut third, "run license.release {\"name\":\"cad\"}");
    assert_eq!(given["result"]["seats"], 1, "{given}");
}

fn a_key_is_set_in_the_file_and_what_is_wrong_is_not_written() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &cat(port, "instances = 7   # as many as we can bear\n"),
    );
    let before = fs::read_to_string(&daemon.config).unwrap();
    let set = |key: &str, value: &str| {
        run(
            &dir,
            "config.set",
            &json!({ "service": "cat", "key": key, "value": value }),
        )
    };
    let done = set("instances", "9").unwrap();
    assert_eq!(done["changes"][0]["keys"], json!(["instances"]), "{done}");
    let after = fs::read_to_string(&daemon.config).unwrap();
    assert_eq!(after, before.replace("instances = 7 ", "instances = 9 "));
    let told = run(
        &dir,
        "config.get",
        &json!({ "service": "cat", "key": "instances" }),
    )
    .unwrap();
    assert_eq!(told["values"], json!({ "instances": "9" }));
    for bad in ["0", "\"many\"", "[", "1\nuser = 2"] {
        let refused = set("instances", bad);
        if bad == "0" {
            let (kind, reason) = failed(refused);
            assert_eq!(kind, "table_wrong");
            assert!(
                reason.contains("instances = 0 ") && reason.contains("\n1 complaint; "),
                "{reason}"
            );
        } else {
            assert!(refused.is_err(), "{bad:?}");
        }
        assert_eq!(
            fs::read_to_string(&daemon.config).unwrap(),
            after,
            "{bad:?}"
        );
    }
    for forbidden in ["user", "exec", "isolation", "admin"] {
        let (name, _) = refused(set(forbidden, "\"root\""));
        assert!(name.ends_with(".WrongParameter"), "{name}");
    }
    let away = json!({ "service": "cat", "key": "instances" });
    run(&dir, "config.set", &away).unwrap();
    let told = run(&dir, "config.get", &away).unwrap();
    assert_eq!(told["values"], json!({ "instances": "100" }));
    assert_eq!(ask(port, "y\n"), "y\n");
}

fn an_operator_reads_the_audit_log_and_a_service_its_own_requests() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let table = asking(
        &dir,
        "asker",
        port,
        "standard",
        "admin = [\"audit.query\", \"report.host\"]",
    );
    let _daemon = Daemon::start(&dir, &table);
    run(&dir, "report.host", &json!({})).unwrap();
    let mut asker = Peer::tcp(port);
    order(&mut asker, "run report.host {}");
    let own = order(&mut asker, "run audit.query {}");
    let all: Vec<&Value> = own["result"]["requests"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(all.len(), 2, "{own}");
    assert_eq!(
        (&all[0]["service"], &all[0]["result"]),
        (&json!("asker"), &json!("ok"))
    );
    let verdict = run(&dir, "audit.verify", &json!({})).unwrap();
    assert_eq!(verdict["intact"], true, "{verdict}");
    let mut stranger = Asker::start(&dir, 65534, 65534);
    let refused = stranger.order("run audit.verify {}");
    assert!(refused["error"].is_string(), "{refused}");
}
