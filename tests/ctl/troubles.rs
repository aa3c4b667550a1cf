//! What goes wrong: no daemon, no rights, no such thing; and the exit codes.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::fake::{Fake, run, usherctl};

#[test]
fn no_daemon_is_told_with_the_path_that_was_tried() {
    let fake = Fake::bare();
    let path = fake.dir().join("status.sock").display().to_string();
    let hint = "its runtime directory is given by --runtime-dir DIR or USHERD_RUNTIME_DIR";
    fake.run(&["status"]).failed(
        69,
        &format!(
            "usherctl: usherd is not running, or elsewhere: unable to connect to {path}: \
             No such file or directory (os error 2)\n{hint}\n"
        ),
    );
    drop(UnixListener::bind(&path).unwrap());
    fake.run(&["status"]).failed(
        69,
        &format!(
            "usherctl: usherd is not running, or elsewhere: unable to connect to {path}: \
             Connection refused (os error 111)\n{hint}\n"
        ),
    );
    let (document, code) = fake.json(&["bans"]);
    assert_eq!(
        (code, &document["exit"], &document["error"]),
        (69, &json!(69), &json!(null))
    );
}

#[test]
fn the_option_comes_before_the_environment() {
    let (one, other) = (Fake::start(), Fake::bare());
    let mut command = other.command(&["list", "--runtime-dir"]);
    command.arg(one.dir());
    assert_eq!(run(command).code, 0);
}

#[test]
fn a_users_own_daemon_comes_first() {
    let fake = Fake::bare();
    let own = fake.dir().join("usherd");
    std::fs::create_dir(&own).unwrap();
    let mut command = usherctl(&["list"]);
    command.env("XDG_RUNTIME_DIR", fake.dir());
    let ended = run(command);
    // The host's own may be running.
    if ended.code == 69 {
        assert!(
            ended.err.contains("/run/usherd/status.sock"),
            "{}",
            ended.err
        );
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(
            ended.err.contains(own.to_str().unwrap()),
            !root,
            "{}",
            ended.err
        );
    }
}

#[test]
fn who_may_not_is_told_who_may() {
    let fake = Fake::start();
    fake.refuses("Admin.Stop", "PermissionDenied", json!({}));
    let socket = |name: &str| fake.dir().join(name).display().to_string();
    let text = |name, group| {
        let others = match name {
            "admin.sock" => {
                "; whom the catalogue names in `operators` of an operation gets in for `ops` and \
                 `run` alone"
            }
            _ => "",
        };
        format!(
            "usherctl: not permitted: {} is for root, the user that usherd runs as, and the \
             group that `daemon.{group}` in the table names; servers that usherd runs, and logins \
             through them, do not count as members{others}\n",
            socket(name)
        )
    };
    fake.run(&["stop", "git"])
        .failed(77, &text("admin.sock", "admin_group"));
    // No claim about a log that cannot even be found.
    fake.refuses("Admin.Describe", "PermissionDenied", json!({}));
    let ended = fake.run(&["audit", "query"]);
    assert_eq!(ended.code, 77, "{}", ended.err);
    assert!(
        ended
            .err
            .contains("not permitted: the audit log of the usherd that runs")
    );
    fake.refuses("Status.GetServices", "PermissionDenied", json!({}));
    fake.run(&["list"])
        .failed(77, &text("status.sock", "status_group"));
    if !nix::unistd::geteuid().is_root() {
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(socket("admin.sock"), closed).unwrap();
        fake.run(&["stop", "git"])
            .failed(77, &text("admin.sock", "admin_group"));
        assert_eq!(fake.run(&["show", "git"]).code, 77);
    }
}

#[test]
fn a_mistyped_service_is_guessed() {
    let fake = Fake::start();
    for (words, method) in [
        (["drain", "gti"], "Admin.Drain"),
        (["instances", "gti"], "Status.GetInstances"),
        (["stats", "gti"], "Status.GetStatistics"),
    ] {
        fake.refuses(method, "NoSuchService", json!({"service": "gti"}));
        fake.run(&words).failed(
            1,
            "usherctl: no service \"gti\"; `usherctl list` shows those there are; \
             did you mean \"git\"?\n",
        );
    }
    let (document, code) = fake.json(&["drain", "gti"]);
    assert_eq!(code, 1);
    assert_eq!(document["error"], "org.usherd.Admin.NoSuchService");
    assert_eq!(document["parameters"], json!({"service": "gti"}));
}

#[test]
fn typed_errors_are_sentences() {
    let fake = Fake::start();
    for (error, parameters, text) in [
        (
            "NoFile",
            json!({}),
            "the table in force came from no file, so there is none to write to; start usherd \
             with --config FILE",
        ),
        (
            "CannotEdit",
            json!({"file": "/etc/t.toml", "reason": "it is a symbolic link\n"}),
            "unable to edit /etc/t.toml: it is a symbolic link\\n; nothing was changed",
        ),
        (
            "NotStartable",
            json!({"service": "git", "reason": "each request starts a server of its own"}),
            "git cannot be started by itself: each request starts a server of its own",
        ),
        (
            "StartFailed",
            json!({"service": "git", "reason": "exec: No such file"}),
            "unable to start git: exec: No such file; `usherctl log git` may say more",
        ),
        (
            "UpgradeRefused",
            json!({"reason": "the new program will not take over:\nt.toml:1:1: \u{1b}no"}),
            "not upgraded, and everything is as it was: the new program will not take over:\n\
             t.toml:1:1: \\x1bno",
        ),
        (
            "Draining",
            json!({}),
            "usherd is ending and changes nothing any more",
        ),
        (
            "Failed",
            json!({"reason": "disk full"}),
            "it could not be done and everything is as it was: disk full",
        ),
        (
            "InvalidParameter",
            json!({"parameter": "service"}),
            "usherd does not take the value given for service",
        ),
        (
            "MethodNotFound",
            json!({"method": "x"}),
            "this usherd cannot do that: it is of another version than usherctl, 0.1.0",
        ),
    ] {
        fake.refuses("Admin.Start", error, parameters);
        fake.run(&["start", "git"])
            .failed(1, &format!("usherctl: {text}\n"));
    }
}

#[test]
fn a_daemon_that_makes_no_sense_is_not_available() {
    let fake = Fake::start();
    fake.does("Status.GetServices", |_| Vec::new());
    let ended = fake.run(&["list"]);
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("closed the connection"), "{}", ended.err);
    fake.says("Status.GetServices", json!({"services": 7}));
    let ended = fake.run(&["list"]);
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("makes no sense"), "{}", ended.err);
}

#[test]
fn a_senseless_command_line_is_64() {
    for words in [
        &["nonsense"][..],
        &[],
        &["show"],
        &["log", "-n", "x"],
        &["status", "--nope"],
    ] {
        let ended = run(usherctl(words));
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{words:?}");
    }
    assert_eq!(run(usherctl(&["--help"])).code, 0);
    assert_eq!(run(usherctl(&["--version"])).out, "usherctl 0.1.0\n");
}

#[test]
fn help_has_every_exit_code() {
    let help = run(usherctl(&["--help"])).out;
    let codes = help.split("Exit codes:\n").nth(1).unwrap();
    let numbers: Vec<&str> = codes
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.parse::<u8>().is_ok())
        .collect();
    assert_eq!(
        numbers,
        ["0", "1", "64", "66", "69", "71", "77", "78", "130"]
    );
}

#[test]
fn a_full_disk_does_not_pass_for_success() {
    let fake = Fake::start();
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    let mut command = fake.command(&["list"]);
    let ended = command.stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(71));
}
