//! Every server in a cgroup of its own: what is in it ends with it, what it
//! leaves is seen to, and who asks from it is known.
//!
//! Limits need controllers of version 2; `tests/vm/cgroups.sh` proves them on a
//! host that has all.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::control::{change, socket};
use crate::operations::run;
use crate::operations::runtime::catalogue;
use crate::tests;

tests![
    each_server_is_in_a_cgroup_of_its_own,
    a_cgroup_serves_one_instance_after_the_other,
    what_left_session_and_parents_ends_with_its_server,
    what_a_server_leaves_behind_goes_on_until_it_ends,
    what_a_stopped_server_leaves_behind_ends_after_a_while,
    nothing_is_left_when_the_daemon_ends,
    servers_outlive_a_daemon_that_dies,
    who_asks_from_a_cgroup_is_its_service,
    a_root_of_an_isolated_server_is_none_to_the_daemon,
    a_service_without_a_cgroup_is_in_that_of_the_daemon,
    a_limit_that_cannot_be_kept_is_told_and_each_process_gets_its_share,
    an_operation_has_limits_of_its_own,
    too_much_memory_is_told_as_such,
];

/// Where cgroups of version 2 are mounted, or the test is skipped.
fn mounted() -> PathBuf {
    needs_root();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(line) = line else {
        skip("needs cgroups of version 2");
    };
    line.split(' ').nth(4).unwrap().into()
}

/// The same, with this daemon having the right to make any.
fn needs_cgroups(daemon: &Daemon) -> PathBuf {
    let mounted = mounted();
    if let Some(line) = daemon
        .log
        .text()
        .lines()
        .find(|line| line.contains("get no cgroups of their own"))
    {
        skip(line);
    }
    mounted
}

/// A process's cgroup, as /proc tells it.
fn cgroup_of(pid: Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.unwrap_or_default().to_owned()
}

fn exists(mounted: &std::path::Path, cgroup: &str) -> bool {
    mounted.join(cgroup.trim_start_matches('/')).exists()
}

/// Daemons side by side may have the same cgroup one after the other, so no two
/// tests have a service of the same name.
fn cat(port: u16, more: &str) -> String {
    format!(
        "[service.cat-{port}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\nisolation = \"none\"\n{more}\n"
    )
}

fn echoes(peer: &mut Peer, line: &str) {
    peer.send(line);
    assert_eq!(peer.read_line(), line);
}

/// A server that says the number of a process which has left its session and
/// lost its parents, and goes on as long as its peer does. `action` is the server's on TERM.
fn leaves_one(port: u16, action: &str, more: &str) -> String {
    let python = needs("python3", "python3");
    format!(
        r#"
[service.daemon-{port}]
listen = "tcp:127.0.0.1:{port}"
isolation = "none"
exec = ["{}", "-c", '''
import os, signal, sys
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for fd in 0, 1, 2:
            os.close(fd)
        os.write(w, str(os.getpid()).encode())
        os.close(w)
        signal.pause()
    os._exit(0)
os.close(w)
os.wait()
signal.signal(signal.SIGTERM, signal.{action})
print(os.read(r, 99).decode(), flush=True)
sys.stdin.readline()
''']
{more}
"#,
        python.display()
    )
}

fn left_by(peer: &mut Peer) -> Pid {
    peer.read_line().trim().parse().expect("a number")
}

fn wait_gone(pid: Pid) {
    until("the end of what was left", SOON, || {
        (!process::is_alive(pid)).then_some(())
    });
}

fn each_server_is_in_a_cgroup_of_its_own() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    needs_cgroups(&daemon);
    let mut peers = [Peer::tcp(port), Peer::tcp(port)];
    peers.iter_mut().for_each(|peer| echoes(peer, "hold\n"));
    let servers = daemon.wait_servers(2);
    let theirs: Vec<String> = servers.iter().map(|pid| cgroup_of(*pid)).collect();
    for path in &theirs {
        assert!(path.contains(&format!("/servers/s-cat-{port}/i")), "{path}");
    }
    assert_ne!(theirs[0], theirs[1]);
    for pid in [daemon.pid, daemon.front()] {
        assert!(!cgroup_of(pid).contains("/servers/"), "{}", cgroup_of(pid));
    }
}

fn a_cgroup_serves_one_instance_after_the_other() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mounted = needs_cgroups(&daemon);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut peer = Peer::tcp(port);
        echoes(&mut peer, "hold\n");
        seen.push(cgroup_of(daemon.wait_servers(1)[0]));
        peer.finish();
        daemon.wait_servers(0);
        daemon
            .log
            .wait_count(seen.len(), &["exited", "service=cat-"]);
    }
    // One waits, parked in the next one, while another serves.
    let different: std::collections::HashSet<&String> = seen.iter().collect();
    assert!(different.len() <= 2, "{seen:?}");
    // Without the service there is no use for it.
    assert!(daemon.reload(&dir, &cat(free_port(), "")));
    until("no cgroup of the service", SOON, || {
        (!exists(&mounted, &seen[0])).then_some(())
    });
}

/// Both are deaf to TERM, so it is the end of the grace that ends them.
fn what_left_session_and_parents_ends_with_its_server() {
    let (dir, port) = (Dir::new(), free_port());
    let table = leaves_one(port, "SIG_IGN", "stop = { grace = \"100ms\" }");
    let daemon = Daemon::start(&dir, &table);
    needs_cgroups(&daemon);
    let mut peer = Peer::tcp(port);
    let left = left_by(&mut peer);
    assert!(process::is_alive(left));
    stop(&dir, port);
    wait_gone(left);
    daemon.log.wait_for("did not stop in its grace");
}

/// The server does as it is told, what it left does not.
fn what_a_stopped_server_leaves_behind_ends_after_a_while() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &leaves_one(port, "SIG_DFL", ""));
    let mounted = needs_cgroups(&daemon);
    let mut peer = Peer::tcp(port);
    let left = left_by(&mut peer);
    let path = cgroup_of(left);
    stop(&dir, port);
    wait_gone(left);
    assert_eq!(daemon.log.count(&["did not stop in its grace"]), 0);
    until("no cgroup", SOON, || {
        (!exists(&mounted, &path)).then_some(())
    });
    // Newer kernels kill what is cloned into one that was killed.
    let name = format!("daemon-{port}");
    change(&dir, "Start", &json!({ "service": name })).unwrap();
    let mut peer = Peer::tcp(port);
    let other = left_by(&mut peer);
    assert_ne!(cgroup_of(other), path);
    process::kill(other, Signal::SIGKILL);
}

fn stop(dir: &Dir, port: u16) {
    let service = json!({ "service": format!("daemon-{port}") });
    let stopped = change(dir, "Stop", &service).unwrap();
    assert_eq!(stopped, json!({ "stopped": 1 }));
}

fn what_a_server_leaves_behind_goes_on_until_it_ends() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &leaves_one(port, "SIG_DFL", ""));
    let mounted = needs_cgroups(&daemon);
    let mut peer = Peer::tcp(port);
    let left = left_by(&mut peer);
    let path = cgroup_of(left);
    peer.finish();
    daemon.log.wait_for("exited");
    // Another instance gets another cgroup.
    let mut second = Peer::tcp(port);
    let other = left_by(&mut second);
    assert_ne!(cgroup_of(other), path);
    assert!(process::is_alive(left));
    assert!(daemon.reload(&dir, &cat(free_port(), "")));
    process::kill(left, Signal::SIGKILL);
    process::kill(other, Signal::SIGKILL);
    second.finish();
    until("no cgroup of the service", SOON, || {
        (!exists(&mounted, path.rsplit_once('/').unwrap().0)).then_some(())
    });
}

fn nothing_is_left_when_the_daemon_ends() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mounted = needs_cgroups(&daemon);
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "hold\n");
    let path = cgroup_of(daemon.wait_servers(1)[0]);
    let service = path.rsplit_once('/').unwrap().0;
    assert!(exists(&mounted, service));
    peer.finish();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(!exists(&mounted, service), "{service}");
}

fn servers_outlive_a_daemon_that_dies() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    needs_cgroups(&daemon);
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "before\n");
    let server = daemon.wait_servers(1)[0];
    let path = cgroup_of(server);
    daemon.signal(Signal::SIGKILL);
    assert!(daemon.wait_end(SOON).is_some());
    let second = Dir::new();
    let next = Daemon::start(&second, &cat(free_port(), ""));
    echoes(&mut peer, "after\n");
    assert_eq!(cgroup_of(server), path);
    drop(next);
    echoes(&mut peer, "and after the next\n");
    peer.finish();
    wait_gone(server);
}

/// A service whose server asks, from a process that nothing but its cgroup ties to it.
fn asks(dir: &Dir, port: u16, more: &str) -> String {
    let python = needs("python3", "python3");
    format!(
        r#"
[service.asks]
listen = "tcp:127.0.0.1:{port}"
exec = ["{}", "-c", '''
import json, os, socket, sys
def ask(path, method):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(json.dumps({{"method": "org.usherd." + method, "parameters": {{}}}}).encode() + b"\0")
    return json.loads(b"".join(iter(lambda: s.recv(1), b"\0")))
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    parent = os.getpid()
    if os.fork() == 0:
        os.setsid()
        while os.getppid() == parent:
            pass
        status, admin = sys.argv[1:]
        print(json.dumps([ask(status, "Status.GetServices"), ask(admin, "Admin.GetBans")]), flush=True)
        os.write(w, b"x")
    os._exit(0)
os.close(w)
os.wait()
os.read(r, 1)
''', "{}", "{}"]
{more}
[service.other]
listen = "tcp:127.0.0.1:{}"
builtin = "echo"
"#,
        python.display(),
        socket(dir, "status.sock").display(),
        socket(dir, "admin.sock").display(),
        free_port(),
    )
}

/// The names of the services it was shown, and the error of what it may not.
fn told(port: u16) -> (Vec<String>, Value) {
    let answers: Vec<Value> = serde_json::from_str(&hear(port)).unwrap();
    let services = answers[0]["parameters"]["services"].as_array().cloned();
    let names = services.unwrap_or_default();
    let names = names.iter().map(|s| s["name"].as_str().unwrap().to_owned());
    (names.collect(), answers[1]["error"].clone())
}

fn who_asks_from_a_cgroup_is_its_service() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &asks(&dir, port, "isolation = \"none\""));
    needs_cgroups(&daemon);
    let denied = json!("org.varlink.service.PermissionDenied");
    assert_eq!(told(port), (vec!["asks".to_owned()], denied));
}

fn a_root_of_an_isolated_server_is_none_to_the_daemon() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let root = |isolation: &str| {
        let more = format!("user = \"root\"\nisolation = {isolation}");
        asks(&dir, port, &more)
    };
    // Its own directories usherd hides even inside of what is visible, unless they are named.
    let seen = format!("{{ visible = [\"{}\"] }}", dir.file("run"));
    let daemon = Daemon::start(&dir, &root(&seen));
    needs_cgroups(&daemon);
    let denied = json!("org.varlink.service.PermissionDenied");
    assert_eq!(told(port), (vec!["asks".to_owned()], denied));
    // Without isolation root is root, wherever it is.
    assert!(daemon.reload(&dir, &root("\"none\"")));
    let (mut names, error) = told(port);
    names.sort_unstable();
    assert_eq!(
        (names, error),
        (vec!["asks".into(), "other".into()], Value::Null)
    );
}

fn a_service_without_a_cgroup_is_in_that_of_the_daemon() {
    let (dir, port) = (Dir::new(), free_port());
    let table = cat(port, "").replace("\"none\"", "{ preset = \"none\", cgroup = \"off\" }");
    let daemon = Daemon::start(&dir, &table);
    mounted();
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "hold\n");
    let server = daemon.wait_servers(1)[0];
    assert_eq!(cgroup_of(server), cgroup_of(daemon.pid));
}

/// Whether the root of all cgroups has a controller to hand on.
fn has_controller(mounted: &std::path::Path, name: &str) -> bool {
    let all = fs::read_to_string(mounted.join("cgroup.controllers")).unwrap_or_default();
    all.split_whitespace().any(|word| word == name)
}

fn a_limit_that_cannot_be_kept_is_told_and_each_process_gets_its_share() {
    let (dir, port) = (Dir::new(), free_port());
    if as_root() && has_controller(&mounted(), "memory") {
        skip("the limit can be kept here");
    }
    let table = format!(
        "[service.data]\nlisten = \"tcp:127.0.0.1:{port}\"\nisolation = \"none\"\n\
         exec = [\"/bin/cat\", \"/proc/self/limits\"]\nresources = {{ memory = \"64M\", tasks = 9 }}\n"
    );
    let daemon = Daemon::start(&dir, &table);
    let said = hear(port);
    let limit = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().map(str::to_owned)
    };
    assert_eq!(limit("Max data size"), Some((64 << 20).to_string()));
    // It would count all processes of the user, whosoever they are.
    assert_ne!(limit("Max processes"), Some("9".into()));
    let told = daemon
        .log
        .count(&["resources are not in force", "service=data"]);
    assert_eq!(told, 2);
}

fn an_operation_has_limits_of_its_own() {
    if !as_root() || has_controller(&mounted(), "memory") {
        skip(
            "needs root, and a host that cannot keep the limit: tests/vm/cgroups.sh is for the others",
        );
    }
    let dir = Dir::new();
    catalogue(
        &dir,
        "[operation.\"test.limits\"]\ndescription = \"Its limits\"\nresult = \"output\"\n\
         exec = [\"/bin/cat\", \"/proc/self/limits\"]\nresources = { memory = \"64M\" }\n",
    );
    let daemon = Daemon::start(&dir, "");
    let said = run(&dir, "test.limits", &json!({})).unwrap();
    let said = said["output"].as_str().unwrap();
    let line = said.lines().find(|line| line.starts_with("Max data size"));
    assert!(line.unwrap().contains(&(64 << 20).to_string()), "{said}");
    let told = ["operation test.limits: resources are not in force"];
    assert_eq!(daemon.log.count(&told), 1);
}

fn too_much_memory_is_told_as_such() {
    if !has_controller(&mounted(), "memory") {
        skip("needs the memory controller of cgroups version 2");
    }
    let (dir, port) = (Dir::new(), free_port());
    let python = needs("python3", "python3");
    let table = format!(
        "[service.bomb]\nlisten = \"tcp:127.0.0.1:{port}\"\nisolation = \"none\"\n\
         exec = [\"{}\", \"-c\", \"bytearray(300 << 20)\"]\nresources = {{ memory = \"64M\" }}\n",
        python.display()
    );
    let daemon = Daemon::start(&dir, &table);
    needs_cgroups(&daemon);
    assert_eq!(ask(port, ""), "");
    daemon
        .log
        .wait_for("killed by the kernel: out of memory (limit 64M)");
}
