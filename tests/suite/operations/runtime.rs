//! The process that an operation gets, and those who ask for it.

use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use usherd::control::client::{Client, ClientError};

use super::{Asker, asking, failed, order, run};
use crate::common::process::{children, descriptors, is_alive, kill};
use crate::common::*;
use crate::control::{admin, cat, change, refused};
use crate::tests;

tests![
    a_process_holds_what_the_catalogue_gives_it_and_no_more,
    a_program_is_given_its_arguments_whole,
    orders_reach_their_process_whatever_their_number,
    who_may_ask_is_settled_by_the_catalogue,
    a_service_finds_the_socket_and_only_what_its_list_has,
    a_service_without_a_list_sees_no_socket,
    a_process_that_takes_too_long_is_ended_with_its_tree,
    a_caller_that_leaves_ends_what_it_asked_for,
    what_is_worse_left_half_done_goes_on_without_its_caller,
    one_that_crashes_or_hangs_harms_no_other,
    no_more_than_the_catalogue_says_run_at_once,
    a_rate_is_kept_for_each_caller,
    who_may_can_be_asked_beforehand,
    an_ordinary_users_usherd_does_what_takes_no_root,
    requests_are_in_the_audit_log_without_secrets,
    an_upgrade_waits_until_no_operation_runs,
    the_end_of_the_helper_is_the_end_of_its_operations,
    a_reload_changes_the_catalogue,
];

/// Operations of this test, beside the table.
pub fn catalogue(dir: &Dir, text: &str) {
    fs::create_dir_all(dir.file("operations.d")).unwrap();
    dir.write("operations.d/test.toml", text);
}

const STATUS: &str = r#"
[operation."test.status"]
description = "What its process is"
result = "output"
exec = ["/bin/cat", "/proc/self/status"]
user = "daemon"
services = true
"#;

fn start(dir: &Dir, operations: &str, services: &str) -> Daemon {
    catalogue(dir, operations);
    Daemon::start(dir, services)
}

fn output(result: &Value) -> String {
    result["output"].as_str().unwrap().to_owned()
}

fn a_process_holds_what_the_catalogue_gives_it_and_no_more() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = format!(
        "{STATUS}\n[operation.\"test.root\"]\ndescription = \"The same with a right\"\nresult = \"output\"\n\
         exec = [\"/bin/cat\", \"/proc/self/status\"]\n\
         isolation = {{ preset = \"strict\", user_namespace = \"off\", capabilities = [\"net_admin\"] }}\n\
         [operation.\"test.links\"]\ndescription = \"What it has open, and sees\"\nresult = \"output\"\n\
         exec = [\"/bin/ls\", \"-l\", \"/proc/self/fd\", \"/home\", \"/root\"]\n"
    );
    let _daemon = start(&dir, &operations, &cat(port, ""));
    let of = |name: &str| output(&run(&dir, name, &json!({})).unwrap());
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let plain = of("test.status");
    assert!(field(&plain, "Uid").starts_with("1\t1\t1"), "{plain}");
    for (name, value) in [
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(field(&plain, name), value, "{plain}");
    }
    let root = of("test.root");
    assert!(field(&root, "Uid").starts_with("0\t0\t0"), "{root}");
    assert_eq!(field(&root, "CapEff"), "0000000000001000", "net_admin");
    assert_eq!(field(&root, "CapBnd"), "0000000000001000");
    assert_eq!(field(&root, "Seccomp"), "2");
    let (_, why) = failed(run(&dir, "test.links", &json!({})));
    assert!(!why.contains("socket:"), "a program has no link: {why}");
}

/// A process is given its link on 3 and its orders on 4, and usherd may have either at one
/// of these numbers.
fn orders_reach_their_process_whatever_their_number() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    catalogue(&dir, STATUS);
    // What is said to be ready takes the number, and gives it back.
    let through = format!("exec \"$0\" \"$@\" --ready-fd 3 3>{}", dir.file("ready"));
    let setup = Setup::new(&dir, &cat(port, ""));
    let daemon = setup.through(&["/bin/sh", "-c", &through]).start();
    let descriptor = || fs::read_link(format!("/proc/{}/fd/3", daemon.pid)).ok();
    let nothing = || descriptor().is_none().then_some(());
    until("nothing has the number", SOON, nothing);
    let first = admin(&dir);
    until("a caller has it", SOON, descriptor);
    let mut second = admin(&dir);
    let call = json!({ "operation": "test.status" });
    let mut ask = || second.call::<Value>("org.usherd.Admin.Run", &call);
    assert!(ask().is_ok());
    drop(first);
    until("nothing has it again", SOON, nothing);
    let said = ask();
    assert!(said.is_ok(), "{said:?}");
}

fn a_program_is_given_its_arguments_whole() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = r#"
[operation."test.say"]
description = "Says it"
result = "output"
exec = ["/usr/bin/printf", "<%s>", "{words}", "{more}", "--end"]
[operation."test.say".parameters]
words = { type = "string", pattern = "[ -~]*", list = true, description = "What" }
more = { type = "string", pattern = "[a-z ]*", optional = true, description = "More" }
"#;
    let _daemon = start(&dir, operations, &cat(port, ""));
    let said = |parameters: Value| output(&run(&dir, "test.say", &parameters).unwrap());
    let words = json!({ "words": ["a b", "$(id)", "c;d"] });
    assert_eq!(said(words), "<a b><$(id)><c;d><--end>");
    let more = json!({ "words": ["x"], "more": "y z" });
    assert_eq!(said(more), "<x><y z><--end>");
}

fn who_may_ask_is_settled_by_the_catalogue() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = format!(
        "{STATUS}\noperators = {{ users = [\"games\"], groups = [\"mail\"] }}\n\
         [operation.\"test.other\"]\ndescription = \"Nobody's\"\nresult = \"output\"\nexec = [\"/bin/true\"]\n"
    );
    let _daemon = start(&dir, &operations, &cat(port, ""));
    set_mode(dir.path(), 0o755);
    let (games, mail, nobody, other) = (5, 8, 65534, 61_000);
    for (uid, gid, may) in [
        (games, other, true),
        (other, mail, true),
        (nobody, other, false),
    ] {
        let mut asker = Asker::start(&dir, uid, gid);
        let said = asker.order("run test.status");
        assert_eq!(said["result"].is_object(), may, "{uid}: {said}");
        let said = asker.order("run test.other");
        let error = if may {
            "NotPermitted"
        } else {
            "PermissionDenied"
        };
        assert_eq!(said["error"], error, "{uid}: {said}");
        // A right to ask is no right to change.
        let said = asker.order("call Stop {\"service\":\"cat\"}");
        assert_eq!(said["error"], "PermissionDenied", "{uid}: {said}");
    }
}

fn a_service_finds_the_socket_and_only_what_its_list_has() {
    needs_root();
    for preset in ["none", "standard", "strict"] {
        let (dir, port) = (Dir::new(), free_port());
        let services = asking(
            &dir,
            "mail",
            port,
            preset,
            "admin = [\"test.status\"]\nuser = \"mail\"",
        );
        let _daemon = start(&dir, STATUS, &services);
        let mut server = Peer::tcp(port);
        let said = order(&mut server, "who");
        let path = said["socket"].as_str().unwrap();
        let is_usual = path == "/run/usherd/admin.sock";
        assert_eq!(is_usual, preset != "none", "{preset}: {said}");
        let said = order(&mut server, "run test.status");
        assert!(said["result"].is_object(), "{preset}: {said}");
        let said = order(&mut server, "run report.host");
        assert_eq!(said["error"], "NotPermitted", "{preset}: {said}");
        let why = said["parameters"]["reason"].as_str().unwrap();
        assert!(why.contains("`admin` list"), "{why}");
        for method in ["Stop {\"service\":\"mail\"}", "Reload {}", "GetBans {}"] {
            let said = order(&mut server, &format!("call {method}"));
            assert_eq!(
                said["error"], "PermissionDenied",
                "{preset}: {method}: {said}"
            );
        }
    }
}

fn a_service_without_a_list_sees_no_socket() {
    needs_root();
    for preset in ["standard", "strict"] {
        let (dir, port) = (Dir::new(), free_port());
        let one = asking(&dir, "mail", port, preset, "user = \"mail\"");
        // Another one has a list, so the folder is there.
        let two = asking(
            &dir,
            "other",
            free_port(),
            preset,
            "admin = [\"test.status\"]\nuser = \"games\"",
        );
        let _daemon = start(&dir, STATUS, &format!("{one}{two}"));
        let mut server = Peer::tcp(port);
        let program = super::program(&dir);
        assert!(!program.is_empty());
        let said = order(&mut server, "run test.status");
        let failed = said["failed"].as_str().unwrap_or_default();
        assert!(failed.contains("unable to connect"), "{preset}: {said}");
    }
}

const HANG: &str = r#"
[operation."test.hang"]
description = "Takes for ever, in two processes"
result = "nothing"
exec = ["/bin/sh", "-c", "sleep 1000003 & echo; wait"]
time_limit = "1h"
concurrency = 8
"#;

/// The processes of [`HANG`] that are there.
fn hanging() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\x001000003\0")
    };
    pids.filter(is_it).collect()
}

/// Asks for [`HANG`]: who waits for it, and the process.
fn one_that_hangs(dir: &Dir) -> (Client, i32) {
    let before = hanging();
    let mut client = admin(dir);
    let asked = json!({ "operation": "test.hang", "parameters": {} });
    client.watch("org.usherd.Admin.Run", &asked).unwrap();
    let new = || hanging().into_iter().find(|pid| !before.contains(pid));
    let pid = until("the operation", SOON, new);
    (client, pid)
}

fn a_process_that_takes_too_long_is_ended_with_its_tree() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = HANG.replace("\"1h\"", "\"500ms\"");
    for pids in ["require", "off"] {
        let isolation = format!(
            "isolation = {{ preset = \"strict\", user_namespace = \"off\", pid_namespace = \"{pids}\", proc = \"{}\" }}",
            if pids == "off" { "host" } else { "own" }
        );
        let before = hanging();
        let _daemon = start(&dir, &format!("{operations}{isolation}\n"), &cat(port, ""));
        let (kind, why) = failed(run(&dir, "test.hang", &json!({})));
        assert_eq!(kind, "failed");
        assert!(why.contains("time_limit, 500ms"), "{why}");
        until("the end of the tree", SOON, || {
            hanging()
                .iter()
                .all(|pid| before.contains(pid))
                .then_some(())
        });
    }
}

fn a_caller_that_leaves_ends_what_it_asked_for() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, HANG, &cat(port, ""));
    let (client, pid) = one_that_hangs(&dir);
    drop(client);
    until("the end of the operation", SOON, || {
        (!is_alive(pid)).then_some(())
    });
    daemon.log.wait_for("whoever asked for it has left");
}

fn what_is_worse_left_half_done_goes_on_without_its_caller() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let open = dir.open_folder("marks");
    let pipe = format!("{open}/pipe");
    nix::unistd::mkfifo(
        pipe.as_str(),
        nix::sys::stat::Mode::from_bits_truncate(0o666),
    )
    .unwrap();
    let operations = format!(
        r#"
[operation."test.finish"]
description = "Waits for a word"
result = "nothing"
exec = ["/bin/sh", "-c", "read word < {pipe}; echo $word > {open}/done"]
on_leave = "finish"
isolation = {{ writable = ["{open}"] }}
"#
    );
    let daemon = start(&dir, &operations, &cat(port, ""));
    let mut client = admin(&dir);
    let asked = json!({ "operation": "test.finish", "parameters": {} });
    client.watch("org.usherd.Admin.Run", &asked).unwrap();
    let log = format!("{}/audit/audit.log", dir.file("state"));
    let entries = || fs::read_to_string(&log).unwrap_or_default();
    // Whoever opens a pipe waits for the other end: it is at work then.
    let mut word = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let before = descriptors(daemon.pid).len();
    drop(client);
    until("the caller to be missed", SOON, || {
        (descriptors(daemon.pid).len() < before).then_some(())
    });
    word.write_all(b"well\n").unwrap();
    drop(word);
    until("its end", SOON, || {
        let word = fs::read_to_string(format!("{open}/done")).ok()?;
        (word == "well\n").then_some(())
    });
    until("its result", SOON, || {
        entries().contains("\"result\":\"ok\"").then_some(())
    });
}

fn one_that_crashes_or_hangs_harms_no_other() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = format!(
        "{STATUS}{HANG}\n[operation.\"test.crash\"]\ndescription = \"Crashes\"\nresult = \"nothing\"\n\
         exec = [\"/bin/sh\", \"-c\", \"kill -SEGV $$\"]\n\
         [operation.\"test.flood\"]\ndescription = \"Says too much\"\nresult = \"nothing\"\nexec = [\"/usr/bin/yes\"]\n\
         [operation.\"test.status-7\"]\n"
    );
    let operations = operations.replace("[operation.\"test.status-7\"]\n", "");
    let daemon = start(&dir, &operations, &cat(port, ""));
    let mut hangs = admin(&dir);
    let asked = json!({ "operation": "test.hang", "parameters": {} });
    hangs.watch("org.usherd.Admin.Run", &asked).unwrap();
    let (_, why) = failed(run(&dir, "test.crash", &json!({})));
    assert!(why.contains("/bin/sh failed"), "{why}");
    let (_, why) = failed(run(&dir, "test.flood", &json!({})));
    assert!(why.contains("output_limit"), "{why}");
    assert!(run(&dir, "test.status", &json!({})).is_ok());
    assert_eq!(crate::common::peer::ask(port, "still\n"), "still\n");
    assert!(daemon.is_running());
}

fn no_more_than_the_catalogue_says_run_at_once() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let open = dir.open_folder("marks");
    let operations = format!(
        r#"
[operation."test.count"]
description = "Says how many of it there are"
result = "output"
exec = ["/bin/sh", "-c", "mkdir {open}/$$ && ls {open} | wc -l && rmdir {open}/$$"]
concurrency = 2
isolation = {{ preset = "strict", user_namespace = "off", pid_namespace = "off", proc = "host", writable = ["{open}"] }}
"#
    );
    let _daemon = start(&dir, &operations, &cat(port, ""));
    let asked = json!({ "operation": "test.count", "parameters": {} });
    let mut clients: Vec<_> = (0..24).map(|_| admin(&dir)).collect();
    for client in &mut clients {
        client.watch("org.usherd.Admin.Run", &asked).unwrap();
    }
    for client in &mut clients {
        let (reply, _): (Value, bool) = client.next_reply().unwrap();
        let count: u32 = output(&reply["result"]).trim().parse().unwrap();
        assert!((1..=2).contains(&count), "{count} at once");
    }
}

fn a_rate_is_kept_for_each_caller() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let services = asking(
        &dir,
        "mail",
        port,
        "standard",
        "admin = [\"test.status\"]\nuser = \"mail\"",
    );
    let _daemon = start(&dir, &format!("{STATUS}rate = \"2/d\"\n"), &services);
    let ask = || run(&dir, "test.status", &json!({}));
    assert!(ask().is_ok() && ask().is_ok());
    let (name, parameters) = refused(ask());
    assert!(name.ends_with(".TooManyOperations"), "{name}");
    assert!(parameters["reason"].as_str().unwrap().contains("rate"));
    let mut server = Peer::tcp(port);
    let said = order(&mut server, "run test.status");
    assert!(said["result"].is_object(), "another caller: {said}");
}

fn requests_are_in_the_audit_log_without_secrets() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = r#"
[operation."test.secret"]
description = "Takes a secret"
result = "nothing"
exec = ["/bin/true"]
services = true
[operation."test.secret".parameters]
name = { type = "string", pattern = "[a-z]*", description = "No secret" }
word = { type = "string", secret = true, description = "A secret" }
"#;
    let services = asking(
        &dir,
        "mail",
        port,
        "standard",
        "admin = [\"test.secret\"]\nuser = \"mail\"",
    );
    let daemon = start(&dir, operations, &services);
    let mut server = Peer::tcp(port);
    let said = order(
        &mut server,
        "run test.secret {\"name\":\"ada\",\"word\":\"hunter2\"}",
    );
    assert!(said["result"].is_object(), "{said}");
    // Of slips as of denials only so many are written in a minute, but neither for the other.
    for _ in 0..12 {
        let said = order(&mut server, "run test.secret {\"nme\":\"ada\"}");
        assert_eq!(said["error"], "WrongParameter", "{said}");
    }
    order(&mut server, "run report.host");
    daemon.log.wait_for("operation test.secret not taken up: ");
    let log = fs::read_to_string(format!("{}/audit/audit.log", dir.file("state"))).unwrap();
    assert!(!log.contains("hunter2"), "{log}");
    let entries: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let asked = entries
        .iter()
        .find(|entry| entry["kind"] == "asked")
        .unwrap();
    assert_eq!(asked["operation"], "test.secret");
    assert_eq!(asked["parameters"]["name"], "ada");
    assert_eq!(
        (&asked["service"], &asked["uid"]),
        (&json!("mail"), &json!(8))
    );
    assert!(asked["instance"].is_u64(), "{asked}");
    assert_eq!(asked["rule"], "admin of service \"mail\"");
    let done = entries
        .iter()
        .find(|entry| entry["of"] == asked["n"])
        .unwrap();
    assert_eq!(done["result"], "ok");
    let denied: Vec<_> = entries
        .iter()
        .filter(|entry| entry["kind"] == "denied")
        .map(|entry| entry["operation"].as_str().unwrap())
        .collect();
    assert_eq!(denied[..10], ["test.secret"; 10]);
    assert_eq!(denied[10..], ["report.host"]);
}

fn an_upgrade_waits_until_no_operation_runs() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = start(&dir, HANG, &cat(port, ""));
    let (client, pid) = one_that_hangs(&dir);
    let (name, parameters) = refused(change(&dir, "Upgrade", &json!({})));
    assert!(name.ends_with(".UpgradeRefused"), "{name}");
    assert!(parameters["reason"].as_str().unwrap().contains("test.hang"));
    drop(client);
    until("the end of the operation", SOON, || {
        (!is_alive(pid)).then_some(())
    });
}

fn the_end_of_the_helper_is_the_end_of_its_operations() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, HANG, &cat(port, ""));
    let (_client, pid) = one_that_hangs(&dir);
    let started = children(daemon.pid);
    assert!(!started.is_empty());
    kill(daemon.pid, Signal::SIGKILL);
    until("the end of the operation", SOON, || {
        (!is_alive(pid)).then_some(())
    });
}

fn a_reload_changes_the_catalogue() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = start(&dir, STATUS, &cat(port, ""));
    assert!(run(&dir, "test.status", &json!({})).is_ok());
    catalogue(&dir, &STATUS.replace("test.status", "test.other"));
    assert!(daemon.reload_as_it_is());
    let (name, _) = refused(run(&dir, "test.status", &json!({})));
    assert!(name.ends_with(".NoSuchOperation"), "{name}");
    assert!(run(&dir, "test.other", &json!({})).is_ok());
    // A catalogue that is wrong is refused as a table is, and the old one stays.
    catalogue(&dir, &STATUS.replace("services = true", "servces = true"));
    let (name, parameters) = refused(change(&dir, "Reload", &json!({})));
    assert!(name.ends_with(".TableWrong"), "{name}");
    let complaints = parameters["complaints"].to_string();
    assert!(
        complaints.contains("operations.d/test.toml:") && complaints.contains("servces"),
        "{complaints}"
    );
    assert!(run(&dir, "test.other", &json!({})).is_ok());
}

fn who_may_can_be_asked_beforehand() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let operations = format!(
        "{STATUS}\n[operation.\"test.say\"]\ndescription = \"Says it\"\nresult = \"output\"\n\
         exec = [\"/bin/echo\", \"{{word}}\"]\nservices = true\noperators = {{ users = [\"games\"] }}\n\
         [operation.\"test.say\".parameters]\n\
         word = {{ type = \"string\", pattern = \"[a-z]+\", description = \"A word\" }}\n"
    );
    let list = "admin = [\"permission.check\", { operation = \"test.say\", with = { word = \"m*\" } }]\nuser = \"mail\"";
    let _daemon = start(
        &dir,
        &operations,
        &asking(&dir, "mail", port, "strict", list),
    );
    let may = |parameters: Value| {
        let result = run(&dir, "permission.check", &parameters).unwrap();
        (
            result["may"].as_bool().unwrap(),
            result["reason"].as_str().unwrap().to_owned(),
        )
    };
    for (who, expected) in [
        (json!({ "service": "mail" }), true),
        (json!({ "user": "games" }), true),
        (json!({ "user": "root" }), true),
        (json!({ "user": "nobody" }), false),
        (
            json!({ "service": "mail", "parameters": "{\"word\":\"mumbles\"}" }),
            true,
        ),
        (
            json!({ "service": "mail", "parameters": "{\"word\":\"dad\"}" }),
            false,
        ),
        (
            json!({ "user": "games", "parameters": "{\"word\":\"dad\"}" }),
            true,
        ),
        (
            json!({ "user": "games", "parameters": "{\"word\":\"7\"}" }),
            false,
        ),
    ] {
        let mut asked = who.clone();
        asked["operation"] = json!("test.say");
        let (answer, why) = may(asked);
        assert_eq!(answer, expected, "{who}: {why}");
    }
    // Secrets of the other operation may be among its parameters.
    let log = fs::read_to_string(dir.file("state/audit/audit.log")).unwrap();
    assert!(log.contains("\"parameters\":\"***\""), "{log}");
    assert!(!log.contains("mumbles"), "{log}");
    let (answer, why) = may(json!({ "operation": "test.status", "service": "mail" }));
    assert!(!answer && why.contains("`admin` list"), "{why}");
    let (kind, _) = failed(run(
        &dir,
        "permission.check",
        &json!({ "operation": "test.say" }),
    ));
    assert_eq!(kind, "invalid");
    let unknown = json!({ "operation": "test.sy", "user": "root" });
    assert_eq!(
        failed(run(&dir, "permission.check", &unknown)),
        (
            "not_found".into(),
            "no operation \"test.sy\"; `usherctl ops` shows those there are".into()
        )
    );
    // A server asks about itself, and about nobody else.
    let mut server = Peer::tcp(port);
    let said = order(
        &mut server,
        "run permission.check {\"operation\":\"test.say\"}",
    );
    assert_eq!(said["result"]["may"], true, "{said}");
}

fn an_ordinary_users_usherd_does_what_takes_no_root() {
    if as_root() {
        skip("is for an ordinary user");
    }
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, ""));
    let outcome = run(&dir, "report.host", &json!({}));
    if let Err(ClientError::Refused(_, parameters)) = &outcome
        && parameters["kind"] == "unavailable"
    {
        skip("needs user namespaces");
    }
    assert!(outcome.unwrap()["kernel"].is_string());
    let (kind, why) = failed(run(&dir, "user.create", &json!({ "name": "usherd-none" })));
    assert_eq!(kind, "unavailable");
    assert!(why.contains("chown"), "{why}");
}
