//! `usherctl` itself against the real daemon; what it prints in each case is `tests/ctl`'s affair.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    every_command_works_on_a_running_daemon,
    a_blocked_service_says_why_until_a_reload_finds_what_it_lacked,
    operations_of_the_host_are_shown_and_asked_for,
];

pub fn usherctl(dir: &Dir, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usherctl"))
        .args(["--runtime-dir", &dir.file("run")])
        .args(words)
        .output()
        .unwrap()
}

/// What a command prints that ends with 0.
pub fn says(dir: &Dir, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let output = usherctl(dir, &words);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}: {erred}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const OPERATIONS: &str = r#"
[operation."site.say"]
description = "Says it"
exec = ["/bin/echo", "to={where}", "--", "{word}"]
dry_run_exec = ["/bin/echo", "would say", "--", "{word}"]

[operation."site.say".parameters]
where = { type = "choice", of = ["all", "one"], default = "all" }
word = { type = "string", list = true, pattern = "[a-z-]+" }
"#;

fn operations_of_the_host_are_shown_and_asked_for() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    std::fs::create_dir(dir.file("operations.d")).unwrap();
    dir.write("operations.d/site.toml", OPERATIONS);
    let service =
        format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n");
    let daemon = Daemon::start(&dir, &service);
    let listed = says(&dir, "ops");
    assert!(
        listed.contains("site.say ") && listed.contains("report.host "),
        "{listed}"
    );
    let page = says(&dir, "ops site.say");
    assert!(
        page.contains("runs /bin/echo to={where} -- {word}"),
        "{page}"
    );
    assert!(page.contains("one of all, one"), "{page}");
    let asked = "run site.say word=a word=-b";
    assert!(says(&dir, asked).contains("to=all -- a -b"));
    assert!(says(&dir, "run site.say word=a where=one").contains("to=one -- a"));
    assert!(says(&dir, "run site.say word=a --dry-run").contains("would say -- a"));
    let host: Value = serde_json::from_str(&says(&dir, "run report.host --json")).unwrap();
    assert!(host["kernel"].is_string(), "{host}");
    for (words, said) in [
        (
            &["run", "site.say"][..],
            "site.say needs word=..., which is missing",
        ),
        (&["run", "site.say", "word=A"], "does not match"),
        (&["run", "site.say", "word=a", "where=none"], "one of"),
        (&["run", "site.sy"], "did you mean \"site.say\"?"),
    ] {
        let output = usherctl(&dir, words);
        let erred = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{words:?}: {erred}");
        assert!(erred.contains(said), "{words:?}: {erred}");
    }
    // What is switched off is there all the same, and is no typing error.
    let off = "\n[operation.\"report.host\"]\nenabled = false\n";
    dir.write("operations.d/site.toml", format!("{OPERATIONS}{off}"));
    says(&dir, "reload --yes");
    assert!(says(&dir, "ops report.host").contains("switched off in the catalogue"));
    let output = usherctl(&dir, &["run", "report.host"]);
    let erred = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        erred.contains("cannot be asked for here: it is switched off"),
        "{erred}"
    );
    // A mistake there refuses the reload, and names the line.
    dir.write("operations.d/site.toml", OPERATIONS.replace("list", "lst"));
    let output = usherctl(&dir, &["reload", "--yes"]);
    let erred = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{erred}");
    assert!(erred.contains("operations.d/site.toml:9:"), "{erred}");
    assert!(says(&dir, asked).contains("to=all -- a -b"));
    dir.write(
        "operations.d/site.toml",
        OPERATIONS.replace("to={where}", "at={where}"),
    );
    assert!(says(&dir, "reload --yes").contains("[daemon]: operations"));
    assert!(says(&dir, asked).contains("at=all -- a -b"));
    drop(daemon);
}

fn every_command_works_on_a_running_daemon() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n\
         [service.echo]\nlisten = \"tcp:127.0.0.1:{other}\"\nbuiltin = \"echo\"\n"
    );
    let daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");

    let shown: Value = serde_json::from_str(&says(&dir, "status --json")).unwrap();
    assert!(shown.to_string().contains("\"cat\""), "{shown}");
    assert!(says(&dir, "list").contains(&format!("tcp:127.0.0.1:{port}")));
    assert!(says(&dir, "show cat").contains("exec = [\"/bin/cat\"]"));
    assert!(says(&dir, "show cat").contains("mount_namespace "));
    assert!(says(&dir, "security").contains("in usherd's front"));
    assert!(says(&dir, "security cat").starts_with("cat: exposure "));
    assert!(says(&dir, "stats cat").contains("accepted"));
    assert!(says(&dir, "stats --prometheus").contains("usherd_service_accepted_requests_total"));
    assert!(says(&dir, "log -n 9").contains("started service=cat"));
    assert!(says(&dir, "events --service cat --kind started -n 9 --json").contains("\"started\""));
    assert!(says(&dir, "reload --yes").contains("reloaded"));

    let running: Value = serde_json::from_str(&says(&dir, "instances --json")).unwrap();
    let id = running["instances"][0]["id"].to_string();
    says(&dir, &format!("kill {id} --signal KILL"));
    assert_eq!(peer.read_text(), "");
    daemon.wait_servers(0);
    assert_eq!(usherctl(&dir, &["kill", &id]).status.code(), Some(1));

    says(&dir, "drain cat");
    assert!(says(&dir, "status cat").contains("held"));
    says(&dir, "start cat");
    says(&dir, "stop cat");
    says(&dir, "start cat");
    assert_eq!(ask(port, "y\n"), "y\n");
    says(&dir, "disable echo");
    assert!(Peer::try_tcp(other).is_err(), "it is still listened on");
    for command in ["start", "drain", "stop"] {
        let output = usherctl(&dir, &[command, "echo"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "usherctl: echo is disabled; `usherctl enable echo` has it served\n",
            "{command}"
        );
    }
    says(&dir, "enable echo");
    assert_eq!(ask(other, "z\n"), "z\n");

    says(&dir, "ban 127.0.0.0/8 --for 1h --reason test");
    assert_eq!(ask(port, ""), "");
    assert!(says(&dir, "bans").contains("test"));
    says(&dir, "unban 127.0.0.0/8");
    assert_eq!(ask(port, "y\n"), "y\n");

    says(&dir, &format!("check --config {}", daemon.config));
    let config = format!("explain tcp:127.0.0.1:{port} --config {}", daemon.config);
    assert!(says(&dir, &config).contains("cat"));
    drop(daemon);
    assert_eq!(usherctl(&dir, &["status"]).status.code(), Some(69));
}

fn a_blocked_service_says_why_until_a_reload_finds_what_it_lacked() {
    let (dir, port) = (Dir::new(), free_port());
    let key = dir.file("key");
    let table = format!(
        "[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n\
         credentials = {{ key = \"{key}\" }}\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    assert_eq!(ask(port, "x\n"), "");
    let shown = says(&dir, "status");
    let why = format!("unable to read the credential {key}");
    assert!(shown.contains("blocked") && shown.contains(&why), "{shown}");
    std::fs::write(&key, "secret").unwrap();
    says(&dir, "reload --yes");
    let shown = says(&dir, "status");
    assert!(shown.contains("serving"), "{shown}");
}
