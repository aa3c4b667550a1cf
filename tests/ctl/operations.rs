//! The catalogue, requests from the command line, and what shells complete of it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use usherd::control::message::{CallError, Reply};

use crate::fake::{Ended, Fake, run};

fn catalogue() -> Value {
    let parameter = |name: &str, kind: &str, more: Value| {
        let mut one = json!({
            "name": name, "type": kind, "description": format!("the {name}"), "list": false,
            "optional": true, "secret": false, "lines": false,
        });
        one.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one
    };
    let operation = |name: &str, more: Value| {
        let mut one = json!({
            "name": name, "description": format!("does {name}"), "result": "", "parameters": [],
            "operators": [], "services": [], "needs": [], "dry_run": false, "may": true,
        });
        one.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one
    };
    json!({"operations": [
        operation("auth.check", json!({
            "services": ["mail"], "may": false,
            "parameters": [
                parameter("user", "user", json!({"optional": false})),
                parameter("password", "string", json!({"optional": false, "secret": true})),
            ],
        })),
        operation("backup.create", json!({
            "description": "writes a copy\u{1b}[2J",
            "result": "id, size",
            "operators": ["user backup"], "services": ["mail", "web"], "dry_run": true,
            "needs": ["user root", "capabilities dac_override", "at most 10m"],
            "parameters": [
                parameter("service", "service", json!({"optional": false, "limits": "for a service its own"})),
                parameter("level", "integer", json!({"default": "3", "limits": "1 to 19"})),
                parameter("skip", "string", json!({"list": true})),
            ],
        })),
        operation("driver.load", json!({"unavailable": "this host has no user \"x\""})),
    ]})
}

fn daemon() -> Fake {
    let fake = Fake::start();
    fake.says("Admin.GetOperations", catalogue());
    fake.says("Admin.Run", json!({"result": {"id": 7, "size": "1M"}}));
    fake
}

fn with_stdin(fake: &Fake, words: &[&str], stdin: &str) -> Ended {
    let mut command = fake.command(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    to.write_all(stdin.as_bytes()).unwrap();
    drop(to);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_catalogue_is_a_table() {
    daemon().run(&["ops"]).said(
        "OPERATION      YOU       FOR                                     DESCRIPTION\n\
         auth.check     may not   service mail                            does auth.check\n\
         backup.create  may       user backup, service mail, service web  writes a copy\\x1b[2J\n\
         driver.load    not here                                          does driver.load\n",
    );
    let (document, code) = daemon().json(&["ops"]);
    assert_eq!((code, document), (0, catalogue()));
}

#[test]
fn an_operation_has_a_page() {
    daemon().run(&["ops", "backup.create"]).said(
        "backup.create: writes a copy\\x1b[2J\n\
         \x20 result     id, size\n\
         \x20 you        may ask for it\n\
         \x20 operators  root, usherd's own user, daemon.admin_group, user backup\n\
         \x20 services   mail, web\n\
         \x20 dry run    it can tell what it would do: --dry-run\n\
         \x20 needs      user root\n\
         \x20            capabilities dac_override\n\
         \x20            at most 10m\n\
         \n\
         parameters\n\
         NAME     TYPE         GIVEN        LIMITS                 DESCRIPTION\n\
         service  service      always       for a service its own  the service\n\
         level    integer      or 3         1 to 19                the level\n\
         skip     string list  if you like                         the skip\n",
    );
    let (document, _) = daemon().json(&["ops", "driver.load"]);
    assert_eq!(document, catalogue()["operations"][2]);
}

#[test]
fn an_unknown_operation_is_told_with_the_nearest() {
    let fake = daemon();
    for words in [&["ops", "backup.crate"][..], &["run", "backup.crate"]] {
        fake.run(words).failed(
            64,
            "usherctl: no operation \"backup.crate\"; `usherctl ops` shows those there are; \
             did you mean \"backup.create\"?\n",
        );
    }
    assert!(fake.asked("Admin.Run").is_empty());
    let (document, code) = fake.json(&["ops", "zzz"]);
    assert_eq!(code, 64);
    assert_eq!(document["error"], "org.usherd.Admin.NoSuchOperation");
}

#[test]
fn values_go_by_the_types_of_the_catalogue() {
    let fake = daemon();
    let words = [
        "run",
        "backup.create",
        "service=mail",
        "level=5",
        "skip=a b",
        "skip=c=d",
    ];
    fake.run(&words).said("id: 7\nsize: 1M\n");
    fake.run(&["run", "backup.create", "--dry-run", "service=mail"])
        .said("this is what it would do; nothing was done\nid: 7\nsize: 1M\n");
    assert_eq!(
        fake.asked("Admin.Run"),
        [
            json!({"operation": "backup.create", "parameters":
                {"service": "mail", "level": 5, "skip": ["a b", "c=d"]}}),
            json!({"operation": "backup.create", "parameters": {"service": "mail"}, "dry_run": true}),
        ]
    );
    let (document, code) = fake.json(&words);
    assert_eq!((code, document), (0, json!({"id": 7, "size": "1M"})));
}

#[test]
fn words_that_make_no_sense_never_reach_the_daemon() {
    let fake = daemon();
    for (word, said) in [
        ("service", "\"service\" is no parameter: write NAME=VALUE"),
        (
            "servce=mail",
            "backup.create has no parameter \"servce\": did you mean \"service\"?",
        ),
        ("level=much", "level wants a whole number"),
    ] {
        let ended = fake.run(&["run", "backup.create", word]);
        ended.failed(64, &format!("usherctl: {said}\n"));
    }
    let unreadable = fake.run(&["run", "backup.create", "skip=@/nowhere/at/all"]);
    assert_eq!(unreadable.code, 66, "{}", unreadable.err);
    assert!(fake.asked("Admin.Run").is_empty());
}

#[test]
fn a_secret_comes_from_stdin_or_a_file() {
    let fake = daemon();
    let file = fake.dir().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let from_file = format!("password=@{}", file.display());
    let words = ["run", "auth.check", "user=alice"];
    for (last, stdin) in [("password=-", "geheim\n"), (from_file.as_str(), "")] {
        let ended = with_stdin(&fake, &[&words[..], &[last]].concat(), stdin);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    }
    let ended = fake.run(&[&words[..], &["password=geheim"]].concat());
    assert_eq!(ended.code, 0);
    assert!(
        ended.err.contains("everybody can read password"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("geheim"));
    let sent = json!({"operation": "auth.check", "parameters":
        {"user": "alice", "password": "geheim"}});
    assert_eq!(fake.asked("Admin.Run"), [sent.clone(), sent.clone(), sent]);
}

#[test]
fn progress_is_told_on_stderr() {
    let fake = daemon();
    fake.does("Admin.Run", |call| {
        assert!(call.more);
        vec![
            Reply::Continues(json!({"progress": "12 of 40 files"})),
            Reply::Continues(json!({"progress": "all\u{1b}[2J"})),
            Reply::Last(json!({"result": {}})),
        ]
    });
    let ended = fake.run(&["run", "auth.check"]);
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (0, "done\n", "12 of 40 files\nall\\x1b[2J\n")
    );
}

#[test]
fn what_nobody_can_ask_for_here_is_told_before_it_is_asked_for() {
    let fake = daemon();
    fake.run(&["run", "driver.load"]).failed(
        1,
        "usherctl: driver.load cannot be asked for here: this host has no user \"x\"\n",
    );
    assert!(fake.asked("Admin.Run").is_empty());
}

#[test]
fn what_comes_to_nothing_says_why() {
    let fake = daemon();
    let of = json!({"operation": "driver.load", "reason": "no such module"});
    let with = |key: &str, value: &str| {
        let mut all = of.clone();
        all[key] = json!(value);
        all
    };
    for (error, parameters, code, said) in [
        (
            "OperationFailed",
            with("kind", "not_found"),
            1,
            "driver.load came to nothing: no such module",
        ),
        (
            "OperationFailed",
            with("kind", "invalid"),
            64,
            "driver.load came to nothing: no such module",
        ),
        (
            "WrongParameter",
            with("parameter", "name"),
            64,
            "driver.load does not take that name: no such module; \
             `usherctl ops driver.load` shows its parameters",
        ),
        (
            "WrongParameter",
            json!({
                "operation": "driver.load", "parameter": "name",
                "reason": usherd::admin::catalogue::request::MISSING,
            }),
            64,
            "driver.load needs name=..., which is missing; \
             `usherctl ops driver.load` shows its parameters",
        ),
        (
            "WrongParameter",
            with("parameter", "dry_run"),
            64,
            "driver.load was not tried: no such module",
        ),
        (
            "NotPermitted",
            of.clone(),
            77,
            "driver.load is not for you: no such module",
        ),
        (
            "TooManyOperations",
            of.clone(),
            1,
            "driver.load has to wait: no such module",
        ),
    ] {
        fake.refuses("Admin.Run", error, parameters);
        let ended = fake.run(&["run", "auth.check"]);
        ended.failed(code, &format!("usherctl: {said}\n"));
    }
    let complaints = "t.toml:1:2: bad\n1 | x\n  | ^\n1 complaint; the table in force stays";
    fake.refuses(
        "Admin.Run",
        "OperationFailed",
        json!({"operation": "config.set", "kind": "table_wrong", "reason": complaints}),
    );
    let ended = fake.run(&["run", "auth.check"]);
    ended.failed(78, &format!("{complaints}\n"));
    fake.does("Admin.Run", |_| {
        vec![Reply::Error(CallError::PermissionDenied)]
    });
    assert_eq!(fake.run(&["run", "auth.check"]).code, 77);
}

#[test]
fn a_daemon_that_knows_no_operations_is_an_old_one() {
    let ended = Fake::start().run(&["ops"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("of another version"), "{}", ended.err);
}

#[test]
fn shells_are_told_names() {
    let fake = daemon();
    fake.run(&["words"])
        .said("auth.check\nbackup.create\ndriver.load\n");
    fake.run(&["words", "backup.create"])
        .said("service=\nlevel=\nskip=\n");
}

/// `usherctl` in the shell's path, and this daemon's sockets.
fn shell(fake: &Fake, name: &str, script: &str) -> Option<String> {
    let usherctl = std::path::Path::new(env!("CARGO_BIN_EXE_usherctl"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(name);
    command
        .args(["-c", script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(
            "PATH",
            format!("{}:{path}", usherctl.parent().unwrap().display()),
        )
        .env("USHERD_RUNTIME_DIR", fake.dir());
    if let Err(err) = Command::new(name).arg("--version").output() {
        println!("skipped: {name}: {err}");
        return None;
    }
    let ended = run(command);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    Some(ended.out)
}

#[test]
fn bash_completes_operations_and_parameters() {
    let fake = daemon();
    let complete = |words: &str| {
        let script = format!(
            "source config/completions/usherctl.bash; compopt() {{ :; }}\n\
             COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _usherctl_asking usherctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
             echo \"${{COMPREPLY[@]}}\""
        );
        shell(&fake, "bash", &script)
    };
    let dir = fake.dir().display();
    for (words, expected) in [
        ("usherctl run ''", "auth.check backup.create driver.load"),
        ("usherctl ops ba", "backup.create"),
        ("usherctl run backup.create ''", "service= level= skip="),
        ("usherctl run backup.create service = mail le", "level="),
        ("usherctl run backup.create service = ma", ""),
        ("usherctl run backup.create service =", ""),
        ("usherctl run nosuch ''", ""),
        ("usherctl dra", "drain"),
        ("usherctl run --dr", "--dry-run"),
        (
            &format!("usherctl --runtime-dir {dir} run --dry-run ba"),
            "backup.create",
        ),
        (
            &format!("usherctl --runtime-dir = {dir} run au"),
            "auth.check",
        ),
        ("usherctl --runtime-dir /nowhere run au", ""),
    ] {
        if let Some(said) = complete(words) {
            assert_eq!(said.trim_end(), expected, "{words}");
        }
    }
    let wild = json!({"operations": [{
        "name": "$(touch /tmp/x)`id`", "description": "", "result": "", "parameters": [], "operators": [],
        "services": [], "needs": [], "dry_run": false, "may": true,
    }]});
    fake.says("Admin.GetOperations", wild);
    if let Some(said) = complete("usherctl run ''") {
        assert_eq!(said.trim_end(), "touch tmpxid");
    }
}

#[test]
fn fish_completes_operations_and_parameters() {
    let fake = daemon();
    for (line, expected) in [
        ("usherctl run ", "auth.check backup.create driver.load"),
        ("usherctl ops ba", "backup.create"),
        ("usherctl run backup.create l", "level="),
        ("usherctl run --dry-run backup.create s", "service= skip="),
    ] {
        let script = format!("source config/completions/usherctl.fish; complete -C '{line}'");
        let Some(said) = shell(&fake, "fish", &script) else {
            return;
        };
        let mut words: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        words.sort_unstable();
        assert_eq!(words.join(" "), expected, "{line}");
    }
}

#[test]
fn zsh_takes_the_script() {
    let fake = daemon();
    // What it does on a terminal is not tried; whether it reads is. `compinit` is not
    // called: root's would write, and replace whatever it is told to write to.
    let script = "compdef() { :; }; source config/completions/_usherctl; \
                  whence -w _usherctl_operations _usherctl_parameters";
    if let Some(said) = shell(&fake, "zsh", script) {
        assert_eq!(
            said,
            "_usherctl_operations: function\n_usherctl_parameters: function\n"
        );
    }
}
