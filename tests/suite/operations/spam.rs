//! `spam.*`, lists in `allow` and `deny`, and `security.report`.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::json;

use super::runtime::catalogue;
use super::{asking, failed, order, run, run_dry};
use crate::common::peer::ask;
use crate::common::*;
use crate::control::{cat, refused};
use crate::tests;

tests![
    who_is_blocked_is_kept_out_without_a_restart_and_let_in_again,
    a_list_that_lets_in_lets_in_its_members_alone,
    a_list_is_read_at_the_start_and_after_a_line_of_it_ends,
    a_long_list_is_in_force_at_once,
    a_list_in_a_table_is_checked,
    a_block_list_is_asked_by_a_server_without_a_network,
    a_sender_is_told_to_come_again,
    what_could_be_replaced_is_reported,
];

fn serves(port: u16) -> bool {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    peer.read_line() == "x\n"
}

fn who_is_blocked_is_kept_out_without_a_restart_and_let_in_again() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &cat(port, "deny = [\"list:spam\"]\nisolation = \"strict\""),
    );
    assert!(serves(port));
    // What stands ready for servers stays: only who may come in is another.
    let ready = || {
        let all = process::children(daemon.pid).into_iter();
        let is_one = |pid: &Pid| {
            let name = process::status(*pid, "Name");
            name.is_some_and(|name| name == "usherd-template")
        };
        all.filter(is_one).collect::<Vec<_>>()
    };
    let templates = until("what stands ready", SOON, || {
        Some(ready()).filter(|found| !found.is_empty())
    });
    let mut before = Peer::tcp(port);
    before.send("x\n");
    assert_eq!(before.read_line(), "x\n");
    let whom = json!({ "list": "spam", "prefix": "127.0.0.0/8" });
    let would = run_dry(&dir, "spam.block", &whom).unwrap();
    assert_eq!(would["entries"], 1, "{would}");
    assert!(serves(port));
    let done = run(&dir, "spam.block", &whom).unwrap();
    assert_eq!(done["entries"], 1, "{done}");
    assert!(!serves(port));
    assert_eq!(ready(), templates);
    before.send("y\n");
    assert_eq!(before.read_line(), "y\n");
    let listed = run(&dir, "spam.list", &json!({ "list": "spam" })).unwrap();
    assert_eq!(listed["prefixes"][0]["prefix"], "127.0.0.0/8");
    run(&dir, "spam.unlist", &whom).unwrap();
    assert!(serves(port));
    assert_eq!(failed(run(&dir, "spam.unlist", &whom)).0, "not_found");
    // The operator has allowed certain lists only.
    let other = json!({ "list": "other", "prefix": "127.0.0.0/8" });
    let (name, _) = refused(run(&dir, "spam.block", &other));
    assert!(name.ends_with(".WrongParameter"), "{name}");
}

fn a_list_that_lets_in_lets_in_its_members_alone() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, "allow = [\"list:known\"]"));
    assert!(!serves(port), "nobody is on it");
    run(
        &dir,
        "spam.allow",
        &json!({ "list": "known", "prefix": "127.0.0.1" }),
    )
    .unwrap();
    assert!(serves(port));
}

fn a_list_is_read_at_the_start_and_after_a_line_of_it_ends() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    fs::create_dir_all(dir.file("state/lists")).unwrap();
    let soon = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 2;
    dir.write("state/lists/spam", format!("# by hand\n127.0.0.1 {soon}\n"));
    let _daemon = Daemon::start(&dir, &cat(port, "deny = [\"list:spam\"]"));
    assert!(!serves(port));
    until("the line to end", SOON * 2, || serves(port).then_some(()));
}

fn a_long_list_is_in_force_at_once() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    fs::create_dir_all(dir.file("state/lists")).unwrap();
    let lines: String = (0..50_000u32)
        .map(|n| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255))
        .collect();
    dir.write("state/lists/spam", lines);
    let _daemon = Daemon::start(&dir, &cat(port, "deny = [\"list:spam\"]"));
    assert_eq!(ask(port, "x\n"), "x\n");
    let whom = json!({ "list": "spam", "prefix": "127.0.0.1" });
    assert_eq!(run(&dir, "spam.block", &whom).unwrap()["entries"], 50_001);
    assert!(!serves(port));
}

fn a_list_in_a_table_is_checked() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    assert!(!daemon.reload(&dir, &cat(port, "deny = [\"list:Not A Name\"]")));
    let waits = format!(
        "[service.w]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\ndeny = [\"list:spam\"]\n"
    );
    assert!(!daemon.reload(&dir, &waits));
    assert!(daemon.reload(&dir, &cat(port, "deny = [\"list:spam\", \"192.0.2.0/24\"]")));
    let shown = crate::control::change(&dir, "Describe", &json!({ "service": "cat" })).unwrap();
    let keys = shown["keys"].as_array().unwrap();
    let deny = keys.iter().find(|one| one["key"] == "deny").unwrap();
    assert_eq!(deny["value"], "[\"192.0.2.0/24\", \"list:spam\"]");
    // What is wrong in a list is told, and what changed because of one.
    fs::create_dir_all(dir.file("state/lists")).unwrap();
    dir.write("state/lists/spam", "192.0.2.7\n");
    let changed = crate::control::change(&dir, "Reload", &json!({})).unwrap();
    assert_eq!(changed["changes"][0]["keys"], json!(["deny"]), "{changed}");
    let path = dir.write("state/lists/spam", "192.0.2.7\nnonsense\n");
    let told = crate::control::change(&dir, "Reload", &json!({})).unwrap();
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&format!("{path}: line 2")), "{warning}");
    assert_eq!(told["changes"], json!([]));
}

fn a_block_list_is_asked_by_a_server_without_a_network() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    catalogue(
        &dir,
        &format!(
            "[operation.\"spam.check\".parameters]\nlist = {{ allow = [\"bl.example\"] }}\n\
             resolver = {{ allow = [\"{at}\"] }}\n"
        ),
    );
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = server.recv_from(&mut question) {
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            if answer[12..].starts_with(b"\x012\x010\x010\x03127") {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 2]);
            } else {
                answer[3] |= 3;
            }
            server.send_to(&answer, from).unwrap();
        }
    });
    let admin = "admin = [\"spam.check\"]";
    let _daemon = Daemon::start(&dir, &asking(&dir, "mail", port, "standard", admin));
    let mut mail = Peer::tcp(port);
    let mut listed = |address: &str, list: &str| {
        let parameters = json!({ "address": address, "list": list, "resolver": at.to_string() });
        order(&mut mail, &format!("run spam.check {parameters}"))
    };
    assert_eq!(
        listed("127.0.0.2", "bl.example")["result"]["codes"][0],
        "127.0.0.2"
    );
    assert_eq!(listed("127.0.0.1", "bl.example")["result"]["listed"], false);
    assert_eq!(
        listed("127.0.0.1", "evil.example")["error"],
        "WrongParameter"
    );
}

fn a_sender_is_told_to_come_again() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, ""));
    let mail = |delay: &str| {
        let asked = json!({ "address": "192.0.2.7", "sender": "a@example", "recipient": "b@example", "delay": delay });
        run(&dir, "spam.greylist", &asked).unwrap()
    };
    let first = mail("1h");
    assert_eq!(first["verdict"], "defer", "{first}");
    assert!(first["seconds"].as_u64().unwrap() > 3000);
    until("a second to pass", SOON, || {
        (mail("1s")["verdict"] == "pass").then_some(())
    });
    assert_eq!(mail("1h")["verdict"], "pass", "he is known");
}

fn what_could_be_replaced_is_reported() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", "#!/bin/sh\ncat\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    let table = format!(
        "[service.open]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\nuser = \"root\"\nisolation = \"none\"\n\
         admin = [\"config.set\"]\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    let report = run(&dir, "security.report", &json!({})).unwrap();
    assert_eq!(report["exposures"][0]["service"], "open", "{report}");
    let findings = report["findings"].as_array().unwrap();
    for word in ["everybody can write to it", "are root", "config.set"] {
        let told = |one: &serde_json::Value| one["what"].as_str().unwrap().contains(word);
        assert!(findings.iter().any(told), "{word}: {report}");
    }
}
