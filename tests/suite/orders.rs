//! Orders of operators that cross: with one another, with a front that dies.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use usherd::control::client::{Client, ClientError};
use usherd::control::types::State;

use crate::common::peer::ask;
use crate::common::*;
use crate::control::{admin, cat, change, refused, service};
use crate::tests;

tests![
    what_a_front_died_of_taking_the_next_one_takes,
    a_front_that_takes_no_orders_is_replaced,
    two_switches_at_once_are_each_done_or_undone,
    a_service_that_comes_back_is_not_held,
    enabling_what_the_table_has_enabled_ends_a_hold,
    unreadable_bans_are_put_aside_and_a_pipe_is_not_waited_for,
];

/// Calls a method without waiting for its reply.
fn call(dir: &Dir, method: &str, parameters: &Value) -> Client {
    let mut client = admin(dir);
    let method = format!("org.usherd.Admin.{method}");
    client.watch(&method, parameters).unwrap();
    client
}

fn answer(client: &mut Client) -> Result<Value, ClientError> {
    client.next_reply().map(|(value, _)| value)
}

/// Waits until the daemon has read so many calls of `method`, while its front is stopped.
fn read_by_now(daemon: &Daemon, count: usize, method: &str) {
    let method = format!("method={method}");
    daemon.log.wait_count(count, &["admin call taken", &method]);
}

fn what_a_front_died_of_taking_the_next_one_takes() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    change(&dir, "Ban", &json!({ "prefix": "127.0.0.1" })).unwrap();
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    let mut calls = [
        call(&dir, "Unban", &json!({ "prefix": "127.0.0.1" })),
        call(&dir, "Start", &json!({ "service": "cat" })),
    ];
    read_by_now(&daemon, 1, "Unban");
    read_by_now(&daemon, 1, "Start");
    process::kill(front, Signal::SIGKILL);
    for call in &mut calls {
        answer(call).unwrap();
    }
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn a_front_that_takes_no_orders_is_replaced() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    // Within the patience of a client, and the server ends whatever the front does.
    let stopped = change(&dir, "Stop", &json!({ "service": "cat" })).unwrap();
    assert_eq!(stopped, json!({ "stopped": 1 }));
    daemon.log.wait_for("the front does not do what it is told");
    assert_ne!(daemon.front(), front);
    assert_eq!(service(&dir, "cat").state, State::Held);
}

fn two_switches_at_once_are_each_done_or_undone() {
    let (dir, port, free) = (Dir::new(), free_port(), free_port());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().port();
    let off = |name: &str, port: u16| {
        format!(
            "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\nenabled = false\n"
        )
    };
    let table = cat(port, "") + &off("late", at) + &off("soon", free);
    let daemon = Daemon::start(&dir, &table);
    let before = fs::read_to_string(&daemon.config).unwrap();
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    let mut reload = call(&dir, "Reload", &json!({}));
    read_by_now(&daemon, 1, "Reload");
    let mut late = call(&dir, "Enable", &json!({ "service": "late" }));
    read_by_now(&daemon, 1, "Enable");
    let mut soon = call(&dir, "Enable", &json!({ "service": "soon" }));
    read_by_now(&daemon, 2, "Enable");
    process::kill(front, Signal::SIGCONT);
    answer(&mut reload).unwrap();
    let (name, _) = refused(answer(&mut late));
    assert_eq!(name, "org.usherd.Admin.CannotBind");
    answer(&mut soon).unwrap();
    assert_eq!(ask(free, "x\n"), "x\n");
    let wanted = before.replace(
        &off("soon", free),
        &off("soon", free).replace("false", "true"),
    );
    assert_eq!(fs::read_to_string(&daemon.config).unwrap(), wanted);
}

fn a_service_that_comes_back_is_not_held() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let echo = format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{other}\"\nbuiltin = \"echo\"\n");
    let daemon = Daemon::start(&dir, &(cat(port, "") + &echo));
    let with = fs::read_to_string(&daemon.config).unwrap();
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    fs::write(&daemon.config, daemon::table(&dir, &echo)).unwrap();
    change(&dir, "Reload", &json!({})).unwrap();
    fs::write(&daemon.config, with).unwrap();
    change(&dir, "Reload", &json!({})).unwrap();
    assert_eq!(service(&dir, "cat").state, State::Serving);
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn enabling_what_the_table_has_enabled_ends_a_hold() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "enabled = true"));
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    // Switched off in the file only; in force it is on, and held.
    let table = fs::read_to_string(&daemon.config).unwrap();
    let off = table.replace("enabled = true", "enabled = false");
    fs::write(&daemon.config, off).unwrap();
    change(&dir, "Enable", &json!({ "service": "cat" })).unwrap();
    assert_eq!(fs::read_to_string(&daemon.config).unwrap(), table);
    assert_eq!(service(&dir, "cat").state, State::Serving);
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn unreadable_bans_are_put_aside_and_a_pipe_is_not_waited_for() {
    let (dir, port) = (Dir::new(), free_port());
    let state = dir.file("state");
    fs::create_dir_all(&state).unwrap();
    let file = std::path::PathBuf::from(state).join("bans.json");
    let table = daemon::table(&dir, &cat(port, ""));
    let setup = Setup::raw(&dir, &table);
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let daemon = setup.start();
    daemon.log.wait_for("it is no file; nobody is banned");
    change(&dir, "Ban", &json!({ "prefix": "192.0.2.1" })).unwrap();
    assert!(fs::metadata(&file).unwrap().is_file());
    drop(daemon);
    fs::write(&file, "{\"bans\": [").unwrap();
    let daemon = Setup::raw(&dir, &table).start();
    daemon
        .log
        .wait_for("nobody is banned; what was there is in");
    change(&dir, "Ban", &json!({ "prefix": "192.0.2.1" })).unwrap();
    let aside = file.with_file_name("bans.json.unreadable");
    assert_eq!(fs::read_to_string(aside).unwrap(), "{\"bans\": [");
}
