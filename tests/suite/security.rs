//! What can be seen of isolation: `doctor`, scores, and what a running server is really in.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::daemon::USHERD;
use crate::common::*;
use crate::control::{change, refused, socket};
use crate::tests;

tests![
    doctor_says_the_same_as_text_and_as_json,
    doctor_is_for_ordinary_users_too,
    a_table_that_leaves_too_much_open_fails_the_check,
    a_server_without_isolation_is_seen_to_have_none,
    what_standard_requires_is_in_force,
    what_no_server_runs_for_is_told_all_the_same,
    who_may_look_may_ask_for_isolation_and_nothing_else,
];

/// What usherd prints and how it ends, and that it complains of nothing.
fn says(mut command: Command) -> (String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    (String::from_utf8_lossy(&stdout).into_owned(), status.code())
}

fn usherd(words: &[&str]) -> Command {
    let mut command = Command::new(USHERD);
    command.args(words);
    command
}

/// The answer and the exit code go together, whatever this host has.
fn agrees(document: &Value, code: Option<i32>) {
    let lacks = document["standard_lacks"].as_array().unwrap();
    assert_eq!(code, Some(i32::from(!lacks.is_empty())), "{document}");
}

fn doctor_says_the_same_as_text_and_as_json() {
    let (text, code) = says(usherd(&["doctor"]));
    let (json, again) = says(usherd(&["doctor", "--json"]));
    let document: Value = serde_json::from_str(&json).unwrap();
    agrees(&document, code);
    assert_eq!(code, again);
    let role = if as_root() { "root" } else { "user" };
    let features = document[role].as_object().unwrap();
    assert_eq!(document["root"].is_object(), as_root());
    assert!(document["user"].is_object());
    for (name, found) in features {
        let works = found["works"].as_bool().unwrap();
        assert!(works || found["remedy"].is_string(), "{name}: {found}");
        assert_ne!(found["reason"], "no answer within 2 s", "{name}");
    }
    // Each remedy is in the text, and each of the text's is in here.
    let remedies = text
        .lines()
        .filter(|line| line.starts_with("  do  "))
        .count();
    let all_work = [&document["root"], &document["user"]]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten()
        .all(|(_, found)| found["works"] == true);
    assert_eq!(remedies == 0, all_work, "{text}");
    let last = text.lines().last().unwrap();
    assert_eq!(
        last.starts_with("everything is there"),
        code == Some(0),
        "{text}"
    );
    assert!(features["no_new_privs"]["works"] == true, "{document}");
}

fn doctor_is_for_ordinary_users_too() {
    needs_root();
    let dir = Dir::new();
    // Where an ordinary user finds it.
    let program = format!("{}/usherd", dir.open_folder("bin"));
    copy_program(USHERD.as_ref(), program.as_ref());
    let mut command = Command::new(needs("setpriv", "util-linux"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", &program])
        .args(["doctor", "--json"]);
    let (json, code) = says(command);
    let document: Value = serde_json::from_str(&json).unwrap();
    agrees(&document, code);
    assert_eq!(document["root"], Value::Null);
    assert!(document["user"].get("switch_user").is_none());
    // What root finds out on behalf of users is what they find out themselves.
    let (json, _) = says(usherd(&["doctor", "--json"]));
    let by_root: Value = serde_json::from_str(&json).unwrap();
    for (name, found) in by_root["user"].as_object().unwrap() {
        assert_eq!(found["works"], document["user"][name]["works"], "{name}");
    }
}

fn a_table_that_leaves_too_much_open_fails_the_check() {
    let dir = Dir::new();
    let table = daemon::table(
        &dir,
        "[service.open]\nlisten = \"tcp:7\"\nexec = [\"/bin/cat\"]\nisolation = \"none\"\n\
         [service.shut]\nlisten = \"tcp:8\"\nexec = [\"/bin/cat\"]\nisolation = \"standard\"\n",
    );
    let file = dir.write("t.toml", table.replace("tcp:", "tcp:127.0.0.1:1707"));
    let output = usherd(&["check", "--exposure", "4.0", &file])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let erred = String::from_utf8_lossy(&output.stderr);
    assert_eq!(erred, "1 service is exposed more than 4.0\n");
    let (text, code) = says(usherd(&["check", "--exposure", "10", &file]));
    assert_eq!(code, Some(0));
    assert_eq!(text.lines().count(), 3, "{text}");
    let (text, code) = says(usherd(&["--config", &file, "check"]));
    assert!(code == Some(0) && text.contains("2 services"), "{text}");
}

fn isolation(dir: &Dir, service: &str) -> Value {
    let asked = json!({ "service": service });
    change(dir, "GetIsolation", &asked).unwrap()["isolation"].clone()
}

fn a_server_without_isolation_is_seen_to_have_none() {
    let (dir, port) = (Dir::new(), free_port());
    let table = format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n\
         isolation = \"none\"\noom_score = 500\nlimits = {{ nofile = 77 }}\n"
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(isolation(&dir, "cat").get("instance"), None);
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");

    let found = isolation(&dir, "cat");
    assert_eq!(found["preset"], "none");
    let [server] = daemon.wait_servers(1)[..] else {
        panic!("{found}")
    };
    assert_eq!(found["instance"]["pid"], server);
    for mechanism in found["mechanisms"].as_array().unwrap() {
        let name = mechanism["name"].as_str().unwrap();
        match name {
            // The tests may run in a sandbox themselves, which servers inherit.
            "cgroup" | "no_new_privs" | "seccomp" | "capability_bounds" => {}
            "landlock" | "memory_deny_write_execute" | "keyring" => {
                assert_eq!(mechanism.get("effective"), None, "{mechanism}");
            }
            _ => assert_eq!(mechanism["effective"], false, "{mechanism}"),
        }
    }
    let facts = found["instance"]["facts"].as_array().unwrap();
    let fact = |key: &str| {
        let mut facts = facts.iter();
        let fact = facts.find(|fact| fact["key"] == key);
        fact.map(|fact| fact["value"].as_str().unwrap().to_owned())
    };
    let uid = if as_root() {
        65534
    } else {
        nix::unistd::geteuid().as_raw()
    };
    assert_eq!(fact("uid"), Some(uid.to_string()));
    assert_eq!(fact("limits.nofile").as_deref(), Some("77"));
    assert_eq!(fact("capabilities").as_deref(), Some("none"));
    assert!(
        fact("oom_score").is_some() && fact("root").is_some(),
        "{found}"
    );
    assert!(
        found["exposure"]["score"].as_f64().unwrap() > 6.0,
        "{found}"
    );
}

fn what_standard_requires_is_in_force() {
    let (dir, port) = (Dir::new(), free_port());
    let table = format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\nisolation = \"standard\"\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    let found = isolation(&dir, "cat");
    for mechanism in found["mechanisms"].as_array().unwrap() {
        if mechanism["level"] == "require" {
            assert_eq!(mechanism["effective"], true, "{mechanism}");
        }
    }
}

fn what_no_server_runs_for_is_told_all_the_same() {
    let dir = Dir::new();
    let (port, other) = (free_port(), free_port());
    let table = format!(
        "[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n\
         [service.off]\nlisten = \"tcp:127.0.0.1:{other}\"\nexec = [\"/bin/cat\"]\nisolation = \"standard\"\nenabled = false\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    let echo = isolation(&dir, "echo");
    assert_eq!(
        echo,
        json!({"service": "echo", "settings": [], "mechanisms": []})
    );
    let off = isolation(&dir, "off");
    assert_eq!(off["preset"], "standard");
    let settings = off["settings"].as_array().unwrap();
    let network = settings.iter().find(|setting| setting["key"] == "network");
    assert_eq!(network.unwrap()["value"], "\"none\"");
    let (name, _) = refused(change(&dir, "GetIsolation", &json!({"service": "ecko"})));
    assert_eq!(name, "org.usherd.Admin.NoSuchService");
}

/// What the admin socket answers somebody else to each of `methods`.
fn ask_as(dir: &Dir, who: &[&str], methods: &[&str]) -> Vec<Value> {
    let script = dir.write(
        "ask.py",
        r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
for method in sys.argv[2:]:
    call = {"method": "org.usherd.Admin." + method, "parameters": {"service": "cat"}}
    s.sendall(json.dumps(call).encode() + b"\0")
    print(b"".join(iter(lambda: s.recv(1), b"\0")).decode())
"#,
    );
    let output = Command::new(needs("setpriv", "util-linux"))
        .args(who)
        .arg(needs("python3", "python3"))
        .arg(script)
        .arg(socket(dir, "admin.sock"))
        .args(methods)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn who_may_look_may_ask_for_isolation_and_nothing_else() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let service = format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\nisolation = \"standard\"\n"
    );
    let table = daemon::table(&dir, &service).replacen(
        "[daemon]\n",
        "[daemon]\nstatus_group = \"4321\"\n",
        1,
    );
    let daemon = Setup::raw(&dir, &table).start();
    let denied = "org.varlink.service.PermissionDenied";
    let methods = [
        "GetIsolation",
        "Drain",
        "Describe",
        "NoSuchMethod",
        "GetIsolation",
    ];
    let member = ["--reuid=65533", "--regid=65533", "--groups=4321"];
    let answers = ask_as(&dir, &member, &methods);
    assert_eq!(answers.len(), 5, "{answers:?}");
    for at in [0, 4] {
        let isolation = &answers[at]["parameters"]["isolation"];
        assert_eq!(isolation["preset"], "standard", "{answers:?}");
    }
    for answer in &answers[1..4] {
        assert_eq!(answer["error"], denied, "{answers:?}");
    }
    daemon
        .log
        .wait_for("a call on admin.sock was denied: uid 65533");
    let stranger = ["--reuid=65532", "--regid=65532", "--clear-groups"];
    let [refused] = &ask_as(&dir, &stranger, &["GetIsolation"])[..] else {
        panic!("no answer")
    };
    assert_eq!(refused["error"], denied);
}
