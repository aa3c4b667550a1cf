//! What the operator reads: one event a line, and nothing a peer can forge.

use std::fs;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::tests;

tests![
    a_line_has_a_time_a_level_a_message_and_fields,
    starts_and_ends_name_service_and_peer,
    a_refusal_is_logged_with_its_reason,
    what_a_server_writes_cannot_forge_a_line,
    a_log_file_is_opened_again_after_a_reload,
    json_is_one_object_a_line,
    a_server_that_writes_without_end_holds_nobody_up,
    a_half_line_on_stderr_is_logged_when_the_server_ends,
    exit_code_and_signal_are_in_the_log,
    what_else_is_written_to_a_log_file_does_not_go_over_the_log,
];

fn shell(port: u16, command: &str, more: &str) -> String {
    format!(
        "[service.shell]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", '''{command}''']\n{more}\n"
    )
}

/// A whole table with `[daemon] log = ...`.
fn with_log(dir: &Dir, log: &str, services: &str) -> String {
    let entry = format!("[daemon]\nlog = {{ {log} }}\n");
    daemon::table(dir, services).replacen("[daemon]\n", &entry, 1)
}

fn a_line_has_a_time_a_level_a_message_and_fields() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &shell(port, "true", ""));
    assert_eq!(hear(port), "");
    let line = daemon.log.wait_after(0, &["service=shell"]);
    let mut words = line.split(' ');
    let time = words.next().expect("a time");
    assert!(time.contains('T') && time.starts_with("20"), "{line}");
    let level = words.find(|word| !word.is_empty()).expect("a level");
    assert!(
        ["error", "warn", "info", "debug"].contains(&level.to_lowercase().as_str()),
        "{line}"
    );
    assert!(words.any(|word| word.contains('=')), "{line}");
}

fn starts_and_ends_name_service_and_peer() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &shell(port, "exit 3", ""));
    let mut peer = Peer::tcp(port);
    let from = peer.local_port().to_string();
    assert_eq!(peer.read_text(), "");
    daemon
        .log
        .wait_after(0, &["service=shell", "127.0.0.1", &from]);
}

fn a_refusal_is_logged_with_its_reason() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &shell(port, "echo hi", "deny = [\"127.0.0.2/32\"]\n"));
    assert_eq!(Peer::tcp_from([127, 0, 0, 2], port).read_text(), "");
    daemon.log.wait_after(0, &["refused", "shell", "127.0.0.2"]);
}

fn what_a_server_writes_cannot_forge_a_line() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script(
        "rude",
        "#!/usr/bin/perl\nprint STDERR \"\\e[2Jclear\\r2026-01-01T00:00:00Z info forged=1\\n\\0\\xff end of it\\n\";\n",
    );
    let daemon = Daemon::start(
        &dir,
        &format!("[service.rude]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n"),
    );
    assert_eq!(hear(port), "");
    daemon.log.wait_after(0, &["end of it"]);
    let text = daemon.log.text();
    assert!(text.contains("clear"));
    let unwanted = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(unwanted), "a control character in the log");
    assert!(
        !text.lines().any(|line| line.starts_with("2026-01-01T")),
        "a forged line"
    );
}

fn a_log_file_is_opened_again_after_a_reload() {
    let (dir, port) = (Dir::new(), free_port());
    let folder = dir.open_folder("log");
    let path = format!("{folder}/usherd.log");
    let table = with_log(
        &dir,
        &format!("to = \"{path}\""),
        &shell(port, "echo hi", ""),
    );
    let daemon = Setup::raw(&dir, &table).begin();
    let has = |file: &str, word: &str| {
        fs::read_to_string(file)
            .is_ok_and(|text| text.contains(word))
            .then_some(())
    };
    until("a ready line in the file", SOON, || has(&path, "ready: "));
    assert_eq!(hear(port), "hi\n");
    let old = format!("{path}.1");
    fs::rename(&path, &old).expect("unable to rename the log");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    // The verdict may still be in the old one; what comes after it is in the new one.
    until("the verdict", SOON, || {
        has(&old, "reloaded").or_else(|| has(&path, "reloaded"))
    });
    assert_eq!(hear(port), "hi\n");
    until("the next event in the new file", SOON, || {
        has(&path, "service=shell")
    });
}

fn json_is_one_object_a_line() {
    let (dir, port) = (Dir::new(), free_port());
    let table = with_log(
        &dir,
        "format = \"json\"",
        &shell(port, "echo \\\"quoted >&2; exit 4", ""),
    );
    let daemon = Setup::raw(&dir, &table).start();
    assert_eq!(hear(port), "");
    daemon.log.wait_after(0, &["quoted"]);
    daemon.log.wait_after(0, &["exit"]);
    for line in daemon.log.text().lines() {
        let value: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(
            value.is_ok_and(|value| value.is_object()),
            "no JSON object: {line}"
        );
    }
}

fn a_server_that_writes_without_end_holds_nobody_up() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = shell(port, "yes complaint >&2", "")
        + &format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{other}\"\nexec = [\"/bin/cat\"]\n");
    let daemon = Daemon::start(&dir, &table);
    let loud = Peer::tcp(port);
    daemon.log.wait_for("complaint");
    for _ in 0..50 {
        assert_eq!(ask(other, "x"), "x");
    }
    drop(loud);
}

fn a_half_line_on_stderr_is_logged_when_the_server_ends() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &shell(port, "printf \"no newline\" >&2", ""));
    assert_eq!(hear(port), "");
    daemon.log.wait_after(0, &["no newline", "shell"]);
}

fn exit_code_and_signal_are_in_the_log() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &shell(port, "read how; eval \"$how\"", ""));
    assert_eq!(ask(port, "exit 42\n"), "");
    daemon.log.wait_after(0, &["service=shell", "status=42"]);
    assert_eq!(ask(port, "kill -SEGV $$\n"), "");
    daemon.log.wait_after(0, &["service=shell", "signal=11"]);
}

fn what_else_is_written_to_a_log_file_does_not_go_over_the_log() {
    let dir = Dir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its number").port();
    let service = format!("[service.x]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n");
    let config = dir.write("usherd.toml", daemon::table(&dir, &service));
    let log = dir.file("log");
    let script = "exec >\"$1\" 2>&1; echo before; \"$2\" --config \"$3\"; echo after $?";
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", script, "sh", &log, daemon::USHERD, &config])
        .status();
    assert!(status.expect("a shell").success());
    let said = std::fs::read_to_string(&log).expect("the log");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        (lines.first(), lines.last()),
        (Some(&"before"), Some(&"after 71"))
    );
    let told = lines.iter().any(|line| line.contains("unable to bind"));
    assert!(told, "{said}");
}
