//! The end of the daemon and of its two processes.

use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty;
use nix::sys::signal::Signal;

use crate::common::peer::ask;
use crate::common::*;
use crate::programs::DATAGRAM_LOOP;
use crate::tests;

tests![
    term_lets_a_running_server_finish,
    term_closes_the_listeners_at_once,
    a_second_term_ends_running_servers,
    an_interrupt_from_the_terminal_ends_the_daemon,
    an_idle_daemon_ends_at_once_with_code_0,
    a_killed_front_is_replaced_and_nothing_else_changes,
    what_a_front_asked_for_before_it_died_is_served,
    a_hundred_servers_end_together: 60,
    a_front_killed_again_and_again_is_replaced_each_time,
    connections_wait_while_the_front_is_replaced,
    a_datagram_server_survives_the_front_and_keeps_its_socket,
    a_killed_helper_takes_the_front_with_it,
    the_front_has_no_rights,
    a_server_that_ignores_its_signal_is_killed_after_the_grace,
    a_terminal_that_closes_ends_the_daemon,
];

fn cat(port: u16, more: &str) -> String {
    format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn echoes(peer: &mut Peer, line: &str) {
    peer.send(line);
    assert_eq!(peer.read_line(), line);
}

fn term_lets_a_running_server_finish() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "before\n");
    daemon.signal(Signal::SIGTERM);
    until("a closed port", SOON, || {
        Peer::try_tcp(port).is_err().then_some(())
    });
    echoes(&mut peer, "while draining\n");
    assert!(
        daemon.is_running(),
        "the daemon did not wait for its server"
    );
    peer.finish();
    assert_eq!(peer.read_all(), b"");
    assert_eq!(daemon.exit_code(), Some(0));
}

fn term_closes_the_listeners_at_once() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "hold\n");
    daemon.signal(Signal::SIGTERM);
    until("no listener", SOON, || {
        process::listeners(port).is_empty().then_some(())
    });
    assert!(daemon.is_running());
}

fn a_second_term_ends_running_servers() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut peer = Peer::tcp(port);
    echoes(&mut peer, "hold\n");
    let servers = daemon.wait_servers(1);
    daemon.signal(Signal::SIGTERM);
    until("a closed port", SOON, || {
        Peer::try_tcp(port).is_err().then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert!(
        daemon.wait_end(SOON).is_some(),
        "still running after the second SIGTERM"
    );
    assert_eq!(peer.read_all(), b"");
    assert!(!process::is_alive(servers[0]));
}

fn an_interrupt_from_the_terminal_ends_the_daemon() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let front = daemon.front();
    // Ctrl-C reaches the whole foreground group: helper and front.
    process::kill(front, Signal::SIGINT);
    daemon.signal(Signal::SIGINT);
    assert!(
        daemon.wait_end(SOON).is_some(),
        "still running after SIGINT"
    );
    assert!(!process::is_alive(front));
    assert!(Peer::try_tcp(port).is_err());
}

fn an_idle_daemon_ends_at_once_with_code_0() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    assert_eq!(ask(port, "x"), "x");
    let front = daemon.front();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(!process::is_alive(front), "the front is still there");
}

fn a_killed_front_is_replaced_and_nothing_else_changes() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "instances = 2\non_full = \"queue\"\n"));
    let mut held = Peer::tcp(port);
    echoes(&mut held, "before\n");
    let (listeners, old) = (process::listeners(port), daemon.front());
    process::kill(old, Signal::SIGKILL);
    let killed = Instant::now();
    let mut next = Peer::tcp(port);
    echoes(&mut next, "after\n");
    println!(
        "    the next connection was answered {:?} after the kill",
        killed.elapsed()
    );
    assert_ne!(daemon.front(), old);
    assert_eq!(
        process::listeners(port),
        listeners,
        "the listener is another one"
    );
    echoes(&mut held, "undisturbed\n");
    // The new front knows of the old instance: two are running, two may.
    let mut third = Peer::tcp(port);
    third.send("third\n");
    assert!(
        third.hears_nothing_for(Duration::from_millis(300)),
        "the old instance is not counted"
    );
    held.finish();
    assert_eq!(
        third.read_line(),
        "third\n",
        "the end of the old instance is not counted"
    );
}

fn what_a_front_asked_for_before_it_died_is_served() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "log = [\"accept\"]"));
    let front = daemon.front();
    process::kill(daemon.pid, Signal::SIGSTOP);
    let mut peer = Peer::tcp(port);
    daemon.log.wait_for("accepted");
    // The line comes just before the request: wait for the end of that turn.
    until("a front that sleeps", SOON, || {
        (process::state(front) == Some('S')).then_some(())
    });
    process::kill(front, Signal::SIGKILL);
    process::kill(daemon.pid, Signal::SIGCONT);
    echoes(&mut peer, "not lost\n");
}

fn a_hundred_servers_end_together() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(
        &dir,
        &cat(port, "instances = 200\nstop = { grace = \"1s\" }"),
    );
    let peers: Vec<_> = (0..100).map(|_| Peer::tcp(port)).collect();
    daemon.wait_servers(100);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code(), Some(0));
    assert_eq!(daemon.log.count(&["stopping service="]), 100);
    drop(peers);
}

fn a_front_killed_again_and_again_is_replaced_each_time() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    for nth in 0..5 {
        let front = daemon.front();
        process::kill(front, Signal::SIGKILL);
        assert_eq!(ask(port, nth.to_string()), nth.to_string());
        until("a new front", SOON, || {
            (daemon.front() != front).then_some(())
        });
    }
    assert!(daemon.is_running());
}

fn connections_wait_while_the_front_is_replaced() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let front = daemon.front();
    process::kill(front, Signal::SIGSTOP);
    // A stopped front accepts nothing: these are all in the backlog.
    let mut waiting: Vec<Peer> = (0..10).map(|_| Peer::tcp(port)).collect();
    process::kill(front, Signal::SIGKILL);
    for (nth, peer) in waiting.iter_mut().enumerate() {
        echoes(peer, &format!("{nth}\n"));
    }
}

fn a_datagram_server_survives_the_front_and_keeps_its_socket() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", DATAGRAM_LOOP);
    let daemon = Daemon::start(
        &dir,
        &format!("[service.dgram]\nlisten = \"udp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n"),
    );
    let pid = |answer: String| answer.rsplit(' ').next().map(str::to_owned);
    let before = pid(UdpPeer::new(port).ask("one"));
    let front = daemon.front();
    process::kill(front, Signal::SIGKILL);
    until("a new front", SOON, || {
        (daemon.front() != front).then_some(())
    });
    for _ in 0..10 {
        let after = pid(UdpPeer::new(port).ask("two"));
        assert_eq!(before, after, "a second server reads from the same socket");
    }
    assert_eq!(daemon.servers().len(), 1);
    daemon.wait_servers(0);
    assert_ne!(before, pid(UdpPeer::new(port).ask("three")));
}

fn a_killed_helper_takes_the_front_with_it() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let front = daemon.front();
    daemon.signal(Signal::SIGKILL);
    assert!(daemon.wait_end(SOON).is_some());
    until("the end of the front", SOON, || {
        (!process::is_alive(front)).then_some(())
    });
    assert!(
        process::listeners(port).is_empty(),
        "the port is still open"
    );
    assert!(Peer::try_tcp(port).is_err());
}

fn the_front_has_no_rights() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let front = daemon.front();
    let of = |name: &str| process::status(front, name).unwrap_or_default();
    assert_ne!(process::owner(front), Some(0), "the front runs as root");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(of(set).trim_start_matches('0'), "", "{set}: {}", of(set));
    }
    assert_eq!(of("NoNewPrivs"), "1");
    assert_eq!(of("Seccomp"), "2", "no seccomp filter");
    let groups = of("Groups");
    assert!(!groups.split(' ').any(|gid| gid == "0"), "{groups}");
    assert_eq!(process::owner(daemon.pid), Some(0));
}

fn a_server_that_ignores_its_signal_is_killed_after_the_grace() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script(
        "deaf",
        "#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do read line; done\n",
    );
    let daemon = Daemon::start(
        &dir,
        &format!(
            "[service.deaf]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n\
             max_runtime = \"300ms\"\nstop = {{ signal = \"TERM\", grace = \"300ms\" }}\n"
        ),
    );
    let mut peer = Peer::tcp(port);
    assert_eq!(peer.read_line(), "deaf\n");
    assert_eq!(peer.read_all(), b"");
    daemon.wait_servers(0);
}

fn a_terminal_that_closes_ends_the_daemon() {
    let dir = Dir::new();
    let port = free_port();
    let service = format!("[service.x]\nlisten = \"tcp:127.0.0.1:{port}\"\nbuiltin = \"echo\"\n");
    let config = dir.write("usherd.toml", daemon::table(&dir, &service));
    // Nobody else may hold the master, so close-on-exec from birth: no openpty(3).
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = pty::posix_openpt(flags).expect("a terminal");
    pty::grantpt(&master).expect("its owner");
    pty::unlockpt(&master).expect("its lock");
    let slave = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(pty::ptsname_r(&master).expect("its name"))
        .expect("its other end");
    let started = std::process::Command::new("setsid")
        .args(["--ctty", daemon::USHERD, "--config", &config])
        .stdin(slave)
        .stderr(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        skip("needs setsid(1)");
    };
    let log = std::io::BufReader::new(child.stderr.take().expect("its log"));
    let mut lines = std::io::BufRead::lines(log).map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("ready: ")));
    drop(master);
    assert!(lines.any(|line| line.contains("stopping")));
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}
