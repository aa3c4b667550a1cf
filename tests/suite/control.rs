//! The control sockets: what operators see and change.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use usherd::control::client::{Client, ClientError};
use usherd::control::types::{
    EventKind, GetDaemon, GetInstances, GetServices, GetStatistics, Instance, Reload, Service,
    State, WatchEvents, What,
};

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::tests;

tests![
    the_python_package_lists_describes_and_calls_both_sockets,
    services_are_shown_with_their_state,
    instances_are_shown_with_what_they_use,
    a_drained_service_lets_clients_wait_and_running_servers_finish,
    a_drained_service_that_refuses_says_so,
    stop_answers_when_the_last_server_has_ended,
    a_wait_server_is_started_without_a_request,
    a_reload_is_shown_before_it_is_done,
    a_wrong_table_is_refused_with_all_its_complaints,
    an_address_that_is_taken_refuses_the_reload,
    reloads_at_once_each_get_their_own_answer,
    who_leaves_before_the_answer_changes_nothing,
    enable_and_disable_change_one_word_of_the_file,
    what_cannot_be_put_in_force_is_put_back,
    a_new_front_knows_what_is_held_and_who_is_banned,
    an_instance_is_ended_or_signalled,
    events_are_told_as_they_happen,
    who_reads_events_too_slowly_is_told_what_he_lost,
    a_draining_daemon_takes_no_orders,
];

pub const STATUS: &str = "org.usherd.Status";
pub const ADMIN: &str = "org.usherd.Admin";

pub fn socket(dir: &Dir, name: &str) -> PathBuf {
    PathBuf::from(dir.file("run")).join(name)
}

pub fn status(dir: &Dir) -> Client {
    Client::connect(&socket(dir, "status.sock")).unwrap()
}

pub fn admin(dir: &Dir) -> Client {
    Client::connect(&socket(dir, "admin.sock")).unwrap()
}

/// Calls a method of `org.usherd.Admin` on a connection of its own.
pub fn change(dir: &Dir, method: &str, parameters: &Value) -> Result<Value, ClientError> {
    admin(dir).call(&format!("{ADMIN}.{method}"), parameters)
}

/// The error and its parameters.
pub fn refused(outcome: Result<Value, ClientError>) -> (String, Map<String, Value>) {
    match outcome {
        Err(ClientError::Refused(name, parameters)) => (name, parameters),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn service(dir: &Dir, name: &str) -> Service {
    let asked = json!({ "service": name });
    let reply: GetServices = status(dir)
        .call(&format!("{STATUS}.GetServices"), &asked)
        .unwrap();
    reply.services.into_iter().next().unwrap()
}

fn instances(dir: &Dir) -> Vec<Instance> {
    let method = format!("{STATUS}.GetInstances");
    let reply: GetInstances = status(dir).call(&method, &json!({})).unwrap();
    reply.instances
}

pub fn cat(port: u16, more: &str) -> String {
    format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn held(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    peer
}

fn the_python_package_lists_describes_and_calls_both_sockets() {
    let python = needs("python3", "python3");
    let has_it = Command::new(&python)
        .args(["-c", "import varlink"])
        .output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        skip("needs the Python package varlink (pip install varlink)");
    }
    let (dir, port) = (Dir::new(), free_port());
    let _daemon = Daemon::start(&dir, &cat(port, ""));
    let script = dir.write(
        "ask.py",
        r#"
import sys, varlink
def ask(path, name, *calls):
    with varlink.Client(address="unix:" + path) as client:
        interfaces = client.get_interfaces()
        assert interfaces == ["org.varlink.service", name], interfaces
        for interface in interfaces:
            assert client.get_interface(interface).get_description()
        with client.open(name) as opened:
            for method, parameters in calls:
                print(method, getattr(opened, method)(**parameters))
            try:
                opened.NoSuchMethod()
                sys.exit("a method that is not there was called")
            except (varlink.VarlinkError, varlink.error.MethodNotFound, AttributeError):
                pass
of = {"service": "cat"}
ask(sys.argv[1], "org.usherd.Status", ("GetDaemon", {}), ("GetServices", {}),
    ("GetInstances", of), ("GetStatistics", of), ("GetMetrics", {}), ("WatchEvents", {"backlog": 9}))
ask(sys.argv[2], "org.usherd.Admin", ("Describe", of), ("GetIsolation", of), ("Drain", of), ("Start", of), ("Stop", of),
    ("Start", of), ("Disable", of), ("Enable", of), ("Reload", {"check_only": True}), ("Reload", {}),
    ("Ban", {"prefix": "192.0.2.0/24", "for_s": 60, "reason": "test"}), ("GetBans", {}),
    ("Unban", {"prefix": "192.0.2.0/24"}))
print("all done")
"#,
    );
    // Disabling the only service would be refused.
    let table = fs::read_to_string(dir.file("usherd.toml")).unwrap();
    let other = format!(
        "{table}\n[service.other]\nlisten = \"tcp:127.0.0.1:{}\"\nbuiltin = \"echo\"\n",
        free_port()
    );
    fs::write(dir.file("usherd.toml"), other).unwrap();
    change(&dir, "Reload", &json!({})).unwrap();
    let output = Command::new(&python)
        .arg(script)
        .args([socket(&dir, "status.sock"), socket(&dir, "admin.sock")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("all done\n"), "{said}{erred}");
}

fn services_are_shown_with_their_state() {
    let (dir, port, off) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "{}description = \"copies\"\ninstances = 1\n\n[service.off]\nlisten = \"tcp:{off}\"\nbuiltin = \"echo\"\nenabled = false\n",
        cat(port, "")
    );
    let _daemon = Daemon::start(&dir, &table);
    let shown = service(&dir, "cat");
    assert_eq!(shown.state, State::Serving);
    assert_eq!(shown.description.as_deref(), Some("copies"));
    assert_eq!((shown.running, shown.instances), (0, 1));
    assert_eq!(shown.listeners[0].address, format!("tcp:127.0.0.1:{port}"));
    assert!(shown.listeners[0].bound);
    let peer = held(port);
    let shown = service(&dir, "cat");
    assert_eq!((shown.state, shown.running), (State::Full, 1));
    assert_eq!(shown.reason.as_deref(), Some("too many instances"));
    drop(peer);
    let ended = until("an exit", SOON, || service(&dir, "cat").last_exit);
    assert_eq!((ended.status, ended.signal), (Some(0), None));
    assert_eq!(service(&dir, "off").state, State::Disabled);
    let call = status(&dir).call::<Value>(
        &format!("{STATUS}.GetServices"),
        &json!({ "service": "nobody's" }),
    );
    let (name, parameters) = refused(call);
    assert_eq!(name, format!("{STATUS}.NoSuchService"));
    assert_eq!(parameters["service"], "nobody's");
}

fn instances_are_shown_with_what_they_use() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let peer = held(port);
    let shown = instances(&dir);
    assert_eq!(shown.len(), 1);
    let server = daemon.wait_servers(1)[0];
    assert_eq!((shown[0].service.as_str(), shown[0].pid), ("cat", server));
    assert!(shown[0].memory.is_some_and(|octets| octets > 0));
    assert!(shown[0].cpu_us.is_some());
    let from = format!("127.0.0.1:{}", peer.local_port());
    assert_eq!(shown[0].peer.as_deref(), Some(from.as_str()));
    daemon
        .log
        .wait_for(&format!("conn={}", shown[0].connection));
}

fn a_drained_service_lets_clients_wait_and_running_servers_finish() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut running = held(port);
    let drained = change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    assert_eq!(drained, json!({ "running": 1 }));
    assert_eq!(service(&dir, "cat").state, State::Held);
    let mut waiting = Peer::tcp(port);
    waiting.send("y\n");
    running.send("z\n");
    assert_eq!(running.read_line(), "z\n");
    drop(running);
    daemon.wait_servers(0);
    // Over a reload too.
    change(&dir, "Reload", &json!({})).unwrap();
    assert_eq!(service(&dir, "cat").state, State::Held);
    assert!(waiting.hears_nothing_for(std::time::Duration::from_millis(50)));
    change(&dir, "Start", &json!({ "service": "cat" })).unwrap();
    assert_eq!(waiting.read_line(), "y\n");
}

fn a_drained_service_that_refuses_says_so() {
    let (dir, port) = (Dir::new(), free_port());
    let more = "on_full = \"refuse\"\nbanner = { refused = \"later\\n\" }";
    let _daemon = Daemon::start(&dir, &cat(port, more));
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    assert_eq!(hear(port), "later\n");
    change(&dir, "Start", &json!({ "service": "cat" })).unwrap();
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn stop_answers_when_the_last_server_has_ended() {
    let (dir, port) = (Dir::new(), free_port());
    // Deaf to the stop signal, so that the grace has to pass.
    let script = dir.script(
        "deaf",
        "#!/bin/sh\ntrap '' TERM\necho here\nwhile :; do read x || exit; done\n",
    );
    let table = format!(
        "[service.deaf]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\nstop = {{ grace = \"300ms\" }}\n"
    );
    let daemon = Daemon::start(&dir, &table);
    let mut peers = [Peer::tcp(port), Peer::tcp(port)];
    peers
        .iter_mut()
        .for_each(|peer| assert_eq!(peer.read_line(), "here\n"));
    let stopped = change(&dir, "Stop", &json!({ "service": "deaf" })).unwrap();
    assert_eq!(stopped, json!({ "stopped": 2 }));
    assert!(daemon.servers().is_empty());
    assert_eq!(service(&dir, "deaf").state, State::Held);
    assert_eq!(
        change(&dir, "Stop", &json!({ "service": "deaf" })).unwrap(),
        json!({ "stopped": 0 })
    );
}

fn a_wait_server_is_started_without_a_request() {
    let (dir, port) = (Dir::new(), free_port());
    let table = format!(
        "[service.idle]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"/bin/sleep\", \"1000\"]\n"
    );
    let daemon = Daemon::start(&dir, &table);
    let started = change(&dir, "Start", &json!({ "service": "idle" })).unwrap();
    let shown = until("one instance", SOON, || {
        Some(instances(&dir)).filter(|shown| shown.len() == 1)
    });
    assert_eq!(started, json!({ "instance": shown[0].id }));
    assert_eq!(shown[0].pid, daemon.wait_servers(1)[0]);
    let (name, _) = refused(change(&dir, "Start", &json!({ "service": "idle" })));
    assert_eq!(name, format!("{ADMIN}.NotStartable"));
    // A datagram starts no second one: the socket is the server's.
    UdpPeer::new(port).send("x");
    let stop = || change(&dir, "Stop", &json!({ "service": "idle" })).unwrap();
    assert_eq!(stop(), json!({ "stopped": 1 }));
    // Nor does one that waits while the service takes none.
    let again = change(&dir, "Start", &json!({ "service": "idle" })).unwrap();
    assert!(again["instance"].is_u64(), "{again}");
    assert_eq!(stop(), json!({ "stopped": 1 }));
    let method = format!("{STATUS}.GetStatistics");
    let asked = json!({ "service": "idle" });
    let figures: GetStatistics = status(&dir).call(&method, &asked).unwrap();
    assert!(figures.total.failed.is_empty(), "{figures:?}");
}

fn a_reload_is_shown_before_it_is_done() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let new = format!(
        "{}instances = 7\n[service.new]\nlisten = \"tcp:127.0.0.1:{other}\"\nbuiltin = \"echo\"\n",
        cat(port, "")
    );
    fs::write(&daemon.config, daemon::table(&dir, &new)).unwrap();
    let shown: Reload = admin(&dir)
        .call(&format!("{ADMIN}.Reload"), &json!({ "check_only": true }))
        .unwrap();
    assert_eq!(shown.changes.len(), 2, "{shown:?}");
    assert_eq!(shown.changes[0].keys, ["instances"]);
    assert_eq!(shown.changes[1].what, What::Added);
    assert!(Peer::try_tcp(other).is_err(), "nothing is in force yet");
    fs::write(
        &daemon.config,
        daemon::table(&dir, &cat(port, "instances = 8")),
    )
    .unwrap();
    let (name, _) = refused(change(&dir, "Reload", &json!({ "token": shown.token })));
    assert_eq!(name, format!("{ADMIN}.TableChanged"));
    fs::write(&daemon.config, daemon::table(&dir, &new)).unwrap();
    let done = change(&dir, "Reload", &json!({ "token": shown.token })).unwrap();
    assert_eq!(done["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!(ask(other, "at once\n"), "at once\n");
}

fn a_wrong_table_is_refused_with_all_its_complaints() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let table = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, format!("{table}\ninstancs = 7\nrate = 5\n")).unwrap();
    for asked in [json!({}), json!({ "check_only": true })] {
        let (name, parameters) = refused(change(&dir, "Reload", &asked));
        assert_eq!(name, format!("{ADMIN}.TableWrong"));
        let complaints = parameters["complaints"].as_array().unwrap();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].as_str().unwrap().contains("instances"));
    }
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn an_address_that_is_taken_refuses_the_reload() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|at| (at.port(), taken)).unwrap();
    let more = format!(
        "[service.b]\nlisten = \"tcp:127.0.0.1:{}\"\nbuiltin = \"echo\"\n",
        taken.0
    );
    fs::write(
        &daemon.config,
        daemon::table(&dir, &(cat(port, "") + &more)),
    )
    .unwrap();
    let (name, parameters) = refused(change(&dir, "Reload", &json!({})));
    assert_eq!(name, format!("{ADMIN}.CannotBind"));
    assert!(
        parameters["troubles"][0]
            .as_str()
            .unwrap()
            .contains(&taken.0.to_string())
    );
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn reloads_at_once_each_get_their_own_answer() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    fs::write(
        &daemon.config,
        daemon::table(&dir, &cat(port, "instances = 9")),
    )
    .unwrap();
    let mut callers: Vec<Client> = (0..8).map(|_| admin(&dir)).collect();
    for caller in &mut callers {
        caller
            .watch(&format!("{ADMIN}.Reload"), &json!({}))
            .unwrap();
    }
    daemon.signal(Signal::SIGHUP);
    let answers = callers
        .iter_mut()
        .map(|caller| caller.next_reply::<Reload>().unwrap().0);
    let changes: usize = answers.map(|answer| answer.changes.len()).sum();
    assert!(
        changes <= 1,
        "what one reload has changed, no other changes again"
    );
    assert_eq!(service(&dir, "cat").instances, 9);
}

fn who_leaves_before_the_answer_changes_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let peer = held(port);
    for method in ["Reload", "Stop", "Drain", "Start"] {
        let mut caller = admin(&dir);
        let asked = if method == "Reload" {
            json!({})
        } else {
            json!({ "service": "cat" })
        };
        caller.watch(&format!("{ADMIN}.{method}"), &asked).unwrap();
        drop(caller);
    }
    // All of them are carried out, in whatever order, and the next caller is answered.
    daemon.log.wait_count(4, &["admin call taken"]);
    change(&dir, "Start", &json!({ "service": "cat" })).unwrap();
    drop(peer);
    daemon.wait_servers(0);
    assert_eq!(ask(port, "x\n"), "x\n");
}

fn enable_and_disable_change_one_word_of_the_file() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "# the copies\n{}\n[service.echo] # stays\nlisten = \"tcp:127.0.0.1:{other}\"\nbuiltin = \"echo\"\n",
        cat(port, "enabled = true # for now")
    );
    let daemon = Daemon::start(&dir, &table);
    let before = fs::read_to_string(&daemon.config).unwrap();
    change(&dir, "Disable", &json!({ "service": "cat" })).unwrap();
    assert_eq!(service(&dir, "cat").state, State::Disabled);
    assert!(Peer::try_tcp(port).is_err(), "it is still listened on");
    let after = fs::read_to_string(&daemon.config).unwrap();
    assert_eq!(after, before.replace("enabled = true", "enabled = false"));
    // A service that is off cannot be drained, but it is known.
    let (name, _) = refused(change(&dir, "Drain", &json!({ "service": "cat" })));
    assert_eq!(name, format!("{ADMIN}.NotEnabled"));
    change(&dir, "Disable", &json!({ "service": "cat" })).unwrap();
    change(&dir, "Enable", &json!({ "service": "cat" })).unwrap();
    assert_eq!(fs::read_to_string(&daemon.config).unwrap(), before);
    assert_eq!(ask(port, "x\n"), "x\n");
    // Enabling ends a drain, and needs no change of the file.
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    change(&dir, "Enable", &json!({ "service": "cat" })).unwrap();
    assert_eq!(ask(port, "x\n"), "x\n");
    let (name, _) = refused(change(&dir, "Enable", &json!({ "service": "dog" })));
    assert_eq!(name, format!("{ADMIN}.NoSuchService"));
}

fn what_cannot_be_put_in_force_is_put_back() {
    let (dir, port) = (Dir::new(), free_port());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().port();
    let table = format!(
        "{}\n[service.late]\nlisten = \"tcp:127.0.0.1:{at}\"\nbuiltin = \"echo\"\nenabled = false\n",
        cat(port, "")
    );
    let daemon = Daemon::start(&dir, &table);
    let before = fs::read_to_string(&daemon.config).unwrap();
    let (name, _) = refused(change(&dir, "Enable", &json!({ "service": "late" })));
    assert_eq!(name, format!("{ADMIN}.CannotBind"));
    assert_eq!(fs::read_to_string(&daemon.config).unwrap(), before);
    drop(taken);
    change(&dir, "Enable", &json!({ "service": "late" })).unwrap();
    assert_eq!(ask(at, "x\n"), "x\n");
    // A table that is wrong for another reason is not touched.
    let wrong = before + "\nnonsense = 1\n";
    fs::write(&daemon.config, &wrong).unwrap();
    let (name, _) = refused(change(&dir, "Disable", &json!({ "service": "cat" })));
    assert_eq!(name, format!("{ADMIN}.TableWrong"));
    assert_eq!(fs::read_to_string(&daemon.config).unwrap(), wrong);
}

fn a_new_front_knows_what_is_held_and_who_is_banned() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = cat(port, "")
        + &format!("[service.echo]\nlisten = \"tcp:127.0.0.1:{other}\"\nbuiltin = \"echo\"\n");
    let daemon = Daemon::start(&dir, &table);
    change(&dir, "Drain", &json!({ "service": "cat" })).unwrap();
    change(&dir, "Ban", &json!({ "prefix": "127.0.0.0/8" })).unwrap();
    let front = daemon.front();
    process::kill(front, Signal::SIGKILL);
    until("another front", SOON, || {
        let method = format!("{STATUS}.GetDaemon");
        let told: GetDaemon = Client::connect(&socket(&dir, "status.sock"))
            .ok()?
            .call(&method, &json!({}))
            .ok()?;
        (told.daemon.fronts == 2).then_some(())
    });
    assert_eq!(service(&dir, "cat").state, State::Held);
    assert_eq!(ask(other, ""), "");
    change(&dir, "Unban", &json!({ "prefix": "127.0.0.0/8" })).unwrap();
    change(&dir, "Start", &json!({ "service": "cat" })).unwrap();
    assert_eq!(ask(port, "x\n"), "x\n");
    assert_eq!(ask(other, "y\n"), "y\n");
}

fn an_instance_is_ended_or_signalled() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script(
        "trap",
        "#!/bin/sh\ntrap 'echo hup' HUP\necho here\nwhile :; do read x; done\n",
    );
    let table =
        format!("[service.trap]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n");
    let daemon = Daemon::start(&dir, &table);
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.read_line(), "here\n");
    let id = instances(&dir)[0].id;
    change(&dir, "Kill", &json!({ "instance": id, "signal": "HUP" })).unwrap();
    assert_eq!(peer.read_line(), "hup\n");
    let (name, _) = refused(change(
        &dir,
        "Kill",
        &json!({ "instance": id, "signal": "LOUD" }),
    ));
    assert_eq!(name, "org.varlink.service.InvalidParameter");
    change(&dir, "Kill", &json!({ "instance": id, "signal": "KILL" })).unwrap();
    assert_eq!(peer.read_text(), "");
    daemon.wait_servers(0);
    let exit = until("its end is told", SOON, || service(&dir, "trap").last_exit);
    assert_eq!(exit.signal, Some(9));
    let (name, parameters) = refused(change(&dir, "Kill", &json!({ "instance": id })));
    assert_eq!(
        (name, &parameters["instance"]),
        (format!("{ADMIN}.NoSuchInstance"), &json!(id))
    );
}

fn events_are_told_as_they_happen() {
    let (dir, port) = (Dir::new(), free_port());
    let table = format!(
        "[service.talks]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", \"echo to stderr >&2\"]\n"
    );
    let _daemon = Daemon::start(&dir, &table);
    let mut watcher = status(&dir);
    let kinds = json!({ "kinds": ["started", "stderr", "exited"] });
    watcher
        .watch(&format!("{STATUS}.WatchEvents"), &kinds)
        .unwrap();
    assert_eq!(hear(port), "");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (reply, more) = watcher.next_reply::<WatchEvents>().unwrap();
        assert!(more && reply.lost == 0);
        seen.extend(reply.events);
    }
    assert_eq!(
        seen[2].kind,
        EventKind::Exited,
        "what it said comes before its end"
    );
    seen.sort_by_key(|event| event.kind);
    let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::Started, EventKind::Exited, EventKind::Stderr]
    );
    assert!(
        seen.iter()
            .all(|event| event.service.as_deref() == Some("talks"))
    );
    assert_eq!(seen[2].text, "to stderr");
    assert_eq!(seen[0].connection, seen[1].connection);
    // The backlog, for those who come later.
    let asked = json!({ "service": "talks", "backlog": 1, "kinds": ["exited"] });
    let late: WatchEvents = status(&dir)
        .call(&format!("{STATUS}.WatchEvents"), &asked)
        .unwrap();
    assert_eq!(late.events, [seen[1].clone()]);
}

fn who_reads_events_too_slowly_is_told_what_he_lost() {
    const SERVICES: usize = 10;
    let dir = Dir::new();
    let line = "x".repeat(900);
    let script = dir.script(
        "floods",
        &format!("#!/bin/sh\nfor j in $(seq 180); do echo $j {line} >&2; done\n"),
    );
    let ports: Vec<u16> = (0..SERVICES).map(|_| free_port()).collect();
    let services = ports.iter().map(|port| {
        format!("[service.s{port}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n")
    });
    let _daemon = Daemon::start(&dir, &services.collect::<String>());
    let mut watcher = status(&dir);
    watcher
        .watch(&format!("{STATUS}.WatchEvents"), &json!({}))
        .unwrap();
    for port in &ports {
        assert_eq!(hear(*port), "");
    }
    for port in &ports {
        let name = format!("s{port}");
        until("its end is told", SOON, || service(&dir, &name).last_exit);
    }
    let (mut lost, mut seen, mut exits) = (0, 0, 0);
    while lost == 0 && exits < SERVICES {
        let (reply, _) = watcher.next_reply::<WatchEvents>().unwrap();
        lost += reply.lost;
        seen += reply.events.len();
        let ends = reply.events.iter();
        exits += ends.filter(|event| event.kind == EventKind::Exited).count();
    }
    assert!(lost > 0 && seen > 0, "{seen} seen, {lost} lost");
}

fn a_draining_daemon_takes_no_orders() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let peer = held(port);
    daemon.signal(Signal::SIGTERM);
    daemon.log.wait_for("stopping");
    let (name, _) = refused(change(&dir, "Reload", &json!({})));
    assert_eq!(name, format!("{ADMIN}.Draining"));
    let method = format!("{STATUS}.GetDaemon");
    until("it says so", SOON, || {
        let told: GetDaemon = status(&dir).call(&method, &json!({})).ok()?;
        told.daemon.draining.then_some(())
    });
    drop(peer);
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(!socket(&dir, "status.sock").exists());
    assert!(!socket(&dir, "admin.sock").exists());
}
