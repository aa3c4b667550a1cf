//! One usherd after the other, in processes of their own: what a service
//! manager with a descriptor store keeps, and what a usherd finds of the one before.
//!
//! The manager here is a script that does what systemd does with the store
//! (sd_notify(3)); `tests/vm/upgrade.sh` says the same with systemd itself.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use crate::common::*;
use crate::programs::DATAGRAM_LOOP;
use crate::shared_port::*;
use crate::tests;
use crate::upgrade::{Load, cat, echo, first_instance, held, own_program, until_undecided};
use crate::usherctl::says;

tests![
    two_hundred_connections_a_second_lose_none_over_ten_restarts,
    a_restart_finds_running_servers_again,
    a_usherd_that_was_killed_is_followed_by_one_that_knows_all,
    a_restart_takes_the_undecided_along,
    a_restart_leaves_sockets_where_they_are,
    what_is_held_is_held_after_a_restart,
    who_waits_at_a_server_of_the_last_usherd_gets_the_next,
    nothing_is_left_in_the_store_in_the_end,
    an_upgrade_and_a_restart_may_follow_each_other,
    without_a_store_servers_go_on_all_the_same,
    s6_hears_that_usherd_is_ready,
    the_watchdog_hears_that_usherd_is_well,
    as_the_first_process_it_reaps_orphans_and_hears_signals,
];

/// `manager.py NOTIFY_SOCKET USHERD ARGUMENTS...`: SIGUSR2 is `systemctl restart`,
/// SIGTERM is `systemctl stop`; a usherd that ends otherwise is started again.
const MANAGER: &str = r#"#!/usr/bin/python3
import fcntl, os, select, signal, socket, sys, time

path, words = sys.argv[1], sys.argv[2:]
wanted = []
for number in (signal.SIGUSR2, signal.SIGTERM):
    signal.signal(number, lambda number, frame: wanted.append(number))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
store = []

def say(what):
    sys.stderr.write("manager: " + what + "\n")

def start():
    pid = os.fork()
    if pid:
        say("started %d" % pid)
        return pid
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 500) for _, fd in store]
    for at, fd in enumerate(high):
        os.dup2(fd, 3 + at)
    os.closerange(3 + len(high), 900)
    env = dict(os.environ, NOTIFY_SOCKET=path, FDSTORE="100", WATCHDOG_USEC="200000", WATCHDOG_PID=str(os.getpid()))
    if store:
        names = ":".join(name for name, _ in store)
        env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(store)), LISTEN_FDNAMES=names)
    os.execve(words[0], words, env)

def same(one, other):
    one, other = os.fstat(one), os.fstat(other)
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

def hear():
    while select.select([notify], [], [], 0)[0]:
        text, fds, _, _ = socket.recv_fds(notify, 65536, 100)
        said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
        name = said.get("FDNAME", "stored")
        if "WATCHDOG" in said:
            say("watchdog")
        if "FDSTOREREMOVE" in said:
            for item in [item for item in store if item[0] == name]:
                os.close(item[1])
                store.remove(item)
        for fd in fds:
            if "FDSTORE" in said and not any(same(fd, old) for _, old in store):
                store.append((name, fd))
            else:
                os.close(fd)

child = start()
stopping = False
while True:
    select.select([notify], [], [], 0.02)
    hear()
    for number in wanted[:]:
        wanted.remove(number)
        stopping |= number == signal.SIGTERM
        os.kill(child, signal.SIGTERM if stopping else signal.SIGUSR1)
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        hear()
        if stopping:
            say("%d left in the store" % len(store))
            sys.exit(os.waitstatus_to_exitcode(status))
        child = start()
"#;

/// A daemon under a manager; its `pid` is the manager's.
fn managed(dir: &Dir, services: &str) -> Daemon {
    let _ = needs("python3", "python3");
    let manager = dir.script("manager", MANAGER);
    let socket = dir.file("notify");
    Setup::new(dir, services)
        .program(&own_program(dir))
        .through(&[&manager, &socket])
        .start()
}

fn restart(daemon: &Daemon) {
    let mark = daemon.log.mark();
    daemon.signal(Signal::SIGUSR2);
    daemon.log.wait_after(mark, &["ready: "]);
}

/// The usherd that the manager started last.
fn usherd(daemon: &Daemon) -> Pid {
    let text = daemon.log.text();
    let started = text.lines().rev();
    let mut pids = started.filter_map(|line| line.strip_prefix("manager: started "));
    pids.next().unwrap().parse().unwrap()
}

fn crash(daemon: &Daemon) {
    let mark = daemon.log.mark();
    process::kill(usherd(daemon), Signal::SIGKILL);
    daemon.log.wait_after(mark, &["ready: "]);
}

fn two_hundred_connections_a_second_lose_none_over_ten_restarts() {
    let (dir, direct, shared, front) = (Dir::new(), free_port(), free_port(), free_port());
    let services = [
        cat(direct, "direct", ""),
        cat(shared, "one", "match = { prefix = \"a line\" }"),
        cat(shared, "other", "match = { prefix = \"another\" }"),
        echo(front),
    ];
    let daemon = managed(&dir, &services.concat());
    let load = Load::start(&[direct, shared, front], 200);
    for _ in 0..10 {
        restart(&daemon);
    }
    let outcomes = load.stop();
    let served = outcomes.get("served").copied().unwrap_or(0);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert!(served > 20, "{served} connections are no load");
}

/// One place, and it is taken.
fn one_running(dir: &Dir, port: u16) -> (Daemon, Peer, String) {
    let daemon = managed(
        dir,
        &cat(port, "cat", "instances = 1\non_full = \"refuse\""),
    );
    let peer = held(port);
    (daemon, peer, says(dir, "instances --json"))
}

/// The helper knows of an end, and writes it down, before the front does.
fn place_free(port: u16) -> Peer {
    until("a free place", SOON, || {
        let mut peer = Peer::tcp(port);
        peer.send("x\n");
        (peer.read_line() == "x\n").then_some(peer)
    })
}

fn still_running(dir: &Dir, port: u16, peer: &mut Peer, before: &str) {
    let after = says(dir, "instances --json");
    for key in ["id", "pid"] {
        assert_eq!(first_instance(&after, key), first_instance(before, key));
    }
    assert_eq!(Peer::tcp(port).read_text(), "", "there is one place only");
    peer.send("on\n");
    assert_eq!(peer.read_line(), "on\n");
}

fn a_restart_finds_running_servers_again() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, mut peer, before) = one_running(&dir, port);
    for _ in 0..2 {
        restart(&daemon);
        still_running(&dir, port, &mut peer, &before);
    }
    let mark = daemon.log.mark();
    assert_eq!(peer.finish().read_text(), "");
    let ended = daemon.log.wait_after(mark, &["ended", "service=cat"]);
    assert!(ended.contains("conn=1-1"), "{ended}");
    // The place is free, and the next one is ended by an operator after one more restart.
    let mut next = place_free(port);
    restart(&daemon);
    let id = first_instance(&says(&dir, "instances --json"), "id");
    assert!(id > first_instance(&before, "id"));
    says(&dir, &format!("kill {id}"));
    assert_eq!(next.read_text(), "");
    daemon.log.wait_count(2, &["ended", "service=cat"]);
}

fn a_usherd_that_was_killed_is_followed_by_one_that_knows_all() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, mut peer, before) = one_running(&dir, port);
    for _ in 0..2 {
        crash(&daemon);
        still_running(&dir, port, &mut peer, &before);
    }
    assert_eq!(peer.finish().read_text(), "");
    daemon.log.wait_for("ended");
    drop(place_free(port));
}

fn a_restart_takes_the_undecided_along() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let shared = table(
        port,
        &[
            ("a", "{ prefix = \"what a\" }"),
            ("b", "{ prefix = \"what b\" }"),
        ],
    );
    let daemon = managed(&dir, &[shared, echo(other)].concat());
    let (mut half, mut talking) = (Peer::tcp(port), held(other));
    half.send("what ");
    until_undecided(&dir, 1);
    restart(&daemon);
    half.send("b?");
    assert_eq!(server(half.finish()), "b");
    assert_eq!(half.read_text(), "what b?");
    // The front that was is done when its last client is.
    talking.send("on\n");
    assert_eq!(talking.read_line(), "on\n");
    assert_eq!(talking.finish().read_text(), "");
}

fn a_restart_leaves_sockets_where_they_are() {
    let (dir, port) = (Dir::new(), free_port());
    let script = |name: &str| {
        let says = DATAGRAM_LOOP.replace("\"$bytes from $$\"", &format!("\"{name} got $bytes\""));
        let path = dir.script(name, &says);
        format!(
            "[service.{name}]\nlisten = \"udp:127.0.0.1:{port}\"\nmatch = {{ prefix = \"{name}\" }}\nexec = [\"{path}\"]\n"
        )
    };
    let path = dir.file("socket");
    let unix = format!("[service.unix]\nlisten = \"unix:{path}\"\nexec = [\"/bin/cat\"]\n");
    let daemon = managed(&dir, &[script("one"), script("two"), unix].concat());
    let inode = || fs::metadata(&path).unwrap().ino();
    let (before, sockets) = (inode(), process::udp_sockets(port));
    for number in 0..3 {
        restart(&daemon);
        let peer = UdpPeer::new(port);
        for name in ["one", "two"] {
            let question = format!("{name} {number}");
            assert_eq!(peer.ask(&question), format!("{name} got {question}"));
        }
    }
    assert_eq!(inode(), before);
    assert_eq!(process::udp_sockets(port), sockets);
}

fn what_is_held_is_held_after_a_restart() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = managed(&dir, &cat(port, "cat", "on_full = \"refuse\""));
    says(&dir, "drain cat");
    restart(&daemon);
    assert_eq!(Peer::tcp(port).read_text(), "");
    crash(&daemon);
    assert_eq!(Peer::tcp(port).read_text(), "");
    says(&dir, "start cat");
    drop(held(port));
}

fn who_waits_at_a_server_of_the_last_usherd_gets_the_next() {
    let (dir, port) = (Dir::new(), free_port());
    let script = dir.script("loop", DATAGRAM_LOOP);
    let services =
        format!("[service.loop]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n");
    let daemon = managed(&dir, &services);
    let peer = UdpPeer::new(port);
    let who = |said: &str| said.rsplit(' ').next().unwrap().to_owned();
    let first = who(&peer.ask("one"));
    restart(&daemon);
    assert_eq!(who(&peer.ask("two")), first);
    // It ends by itself after three seconds; then the next one is started.
    daemon.log.wait_for("ended");
    assert_ne!(who(&peer.ask("three")), first);
}

fn nothing_is_left_in_the_store_in_the_end() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = managed(&dir, &cat(port, "cat", ""));
    restart(&daemon);
    drop(held(port));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    daemon.log.wait_for("manager: 0 left in the store");
    assert!(Peer::try_tcp(port).is_err());
}

fn an_upgrade_and_a_restart_may_follow_each_other() {
    let (dir, port) = (Dir::new(), free_port());
    let (daemon, mut peer, before) = one_running(&dir, port);
    for _ in 0..2 {
        says(&dir, "upgrade");
        still_running(&dir, port, &mut peer, &before);
        restart(&daemon);
        still_running(&dir, port, &mut peer, &before);
        crash(&daemon);
        still_running(&dir, port, &mut peer, &before);
    }
}

fn without_a_store_servers_go_on_all_the_same() {
    let (dir, port) = (Dir::new(), free_port());
    let services = cat(port, "cat", "instances = 1\non_full = \"refuse\"");
    let daemon = Daemon::start(&dir, &services);
    let mut peer = held(port);
    let before = says(&dir, "instances --json");
    daemon.signal(Signal::SIGUSR1);
    assert_eq!(daemon.exit_code(), Some(0));
    peer.send("on\n");
    assert_eq!(peer.read_line(), "on\n");
    let _next = Daemon::start(&dir, &services);
    still_running(&dir, port, &mut peer, &before);
}

fn s6_hears_that_usherd_is_ready() {
    let (dir, port) = (Dir::new(), free_port());
    let through = format!("exec \"$0\" \"$@\" --ready-fd 5 5>{}", dir.file("ready"));
    let _daemon = Setup::new(&dir, &cat(port, "cat", ""))
        .through(&["/bin/sh", "-c", &through])
        .start();
    until("the line end", SOON, || {
        (fs::read_to_string(dir.file("ready")).unwrap() == "\n").then_some(())
    });
    let output = std::process::Command::new(daemon::USHERD)
        .args(["--ready-fd", "77"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

fn the_watchdog_hears_that_usherd_is_well() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = managed(&dir, &cat(port, "cat", ""));
    daemon.log.wait_count(3, &["manager: watchdog"]);
}

fn as_the_first_process_it_reaps_orphans_and_hears_signals() {
    // A root that a user maps for himself may not leave his groups, and the front has to.
    needs_root();
    let unshare = needs("unshare", "util-linux");
    let unshare = unshare.to_str().unwrap();
    let words = [unshare, "--pid", "--fork", "--mount-proc", "--kill-child"];
    let can = std::process::Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        skip("needs the right to make a pid namespace");
    }
    let (dir, port) = (Dir::new(), free_port());
    // Its child outlives it, ends then, and is nobody's but the first process's.
    let script = dir.script(
        "orphan",
        "#!/bin/sh\nexec 3<&0\n(read line <&3; echo orphan) &\necho here\n",
    );
    let services = format!(
        "[service.orphan]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\nuser = \"root\"\nisolation = {{ preset = \"none\", cgroup = \"off\" }}\n"
    );
    let daemon = Setup::new(&dir, &services).through(&words).start();
    let usherd = process::children(daemon.pid)[0];
    for _ in 0..3 {
        let mut peer = Peer::tcp(port);
        assert_eq!(peer.read_line(), "here\n");
        peer.send("go\n");
        assert_eq!(peer.finish().read_text(), "orphan\n");
    }
    until("no zombies", SOON, || {
        let children = process::children(usherd);
        let dead = children.iter().filter(|&&pid| !process::is_alive(pid));
        (dead.count() == 0).then_some(())
    });
    process::kill(usherd, Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
}
