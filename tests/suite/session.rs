//! `oom_score` and `pam`: what a server gets by way of a process with memory
//! of its own, and what is seen of that process: nothing.
//!
//! Services of PAM are the test's own, in a mount namespace of the daemon's. A
//! script that pam_exec(8) runs is the witness of what is opened and closed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::peer::{ask, hear};
use crate::common::*;
use crate::control::change;
use crate::escape::PRESETS;
use crate::tests;

tests![
    the_oom_score_is_the_servers_and_nobody_elses,
    a_server_is_spared_if_root_says_so,
    nothing_else_is_different_with_an_oom_score,
    listeners_and_pids_are_handed_over_as_ever,
    what_fails_behind_the_session_process_is_told,
    a_session_is_opened_before_the_server_and_closed_after_it: 120,
    the_session_is_the_hosts_and_the_server_is_in_its_sandbox,
    variables_of_pam_stand_below_those_of_the_table,
    groups_and_limits_of_pam_are_the_servers,
    who_is_refused_by_pam_gets_no_server,
    a_session_that_is_refused_is_told,
    a_slow_close_holds_nobody_up,
    a_session_is_closed_however_its_server_ends: 120,
    a_session_process_that_is_stopped_leaves_nothing_open,
];

/// The score of a process.
fn score(pid: Pid) -> i32 {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Skips the test if this host cannot isolate as asked.
fn needs_isolation(daemon: &Daemon) {
    let text = daemon.log.text();
    if let Some(line) = text.lines().find(|line| line.contains("blocked: ")) {
        skip(line);
    }
}

fn cat(name: &str, port: u16, keys: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{keys}\n")
}

/// A peer whose server runs.
fn served(port: u16) -> Peer {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    peer
}

/// The one that is a cat. (Who is not root cannot tell servers by their programs.)
fn one_server(daemon: &Daemon) -> Pid {
    until("a server", SOON, || {
        let all = process::descendants(daemon.pid);
        all.into_iter().find(|pid| process::argv0(*pid) == "cat")
    })
}

fn the_oom_score_is_the_servers_and_nobody_elses() {
    let dir = Dir::new();
    for preset in PRESETS {
        let port = free_port();
        let keys = format!("isolation = \"{preset}\"\noom_score = 777");
        let daemon = Daemon::start(&dir, &cat(preset, port, &keys));
        needs_isolation(&daemon);
        let before = score(daemon.pid);
        let peer = served(port);
        let server = one_server(&daemon);
        assert_eq!(score(server), 777, "{preset}");
        for own in process::descendants(daemon.pid) {
            assert!(own == server || score(own) == before, "{preset}");
        }
        assert_eq!(score(daemon.pid), before);
        let numbers: Vec<i32> = process::descriptors(server).into_keys().collect();
        assert_eq!(numbers, [0, 1, 2], "{preset}");
        drop(peer);
        daemon.log.wait_after(0, &["exited", "status=0"]);
    }
}

fn a_server_is_spared_if_root_says_so() {
    needs_root();
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat("cat", port, "oom_score = -321"));
    let mut peer = Peer::tcp(port);
    if peer.send("x\n").read_line().is_empty() {
        daemon.log.wait_after(0, &["unable to start", "oom score"]);
        skip("needs CAP_SYS_RESOURCE");
    }
    assert_eq!(score(one_server(&daemon)), -321);
}

/// What a server says of itself, but for what differs from one to the next. SigQ counts the signals
/// that wait for all processes of a user (proc_pid_status(5)), those of other tests too.
fn nothing_else_is_different_with_an_oom_score() {
    const LOOK: &str = "umask; pwd; id; ulimit -a; ls -l /proc/self/fd | sed 's/.* \\([0-9]*\\) -.*/\\1/;1d'; \
         grep -E '^(Cap|NoNew|Sig[BCIP]|Seccomp:|Groups)' /proc/self/status; env; nice; cat /proc/self/cgroup | sed 's,/i[0-9]*$,,'";
    let dir = Dir::new();
    for preset in PRESETS {
        let mut table = String::new();
        let ports = [free_port(), free_port()];
        for (port, extra) in ports.iter().zip(["", "oom_score = 900\n"]) {
            table += &format!(
                "[service.s{port}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/sh\", \"-c\", \"{}\"]\n\
                 umask = \"027\"\ndir = \"/usr\"\nlimits = {{ core = \"0\", nofile = 99 }}\nnice = 3\n\
                 env = {{ ODD = \"\\u0001 ü\" }}\nisolation = \"{preset}\"\n{extra}",
                LOOK.replace('\\', "\\\\").replace('"', "\\\""),
            );
        }
        let daemon = Daemon::start(&dir, &table);
        needs_isolation(&daemon);
        let [without, with] = ports.map(|port| {
            let changes = |line: &&str| {
                let own = port.to_string();
                !line.contains(&own)
                    && !["REMOTE_PORT", "TCPREMOTEPORT", "USHERD_CONNECTION"]
                        .iter()
                        .any(|name| line.starts_with(name))
            };
            let said = hear(port);
            assert!(said.contains("ODD=\u{1} ü"), "{preset}: {said}");
            let mut lines: Vec<String> = said.lines().filter(changes).map(str::to_owned).collect();
            lines.sort();
            lines
        });
        assert_eq!(without, with, "{preset}");
    }
}

fn listeners_and_pids_are_handed_over_as_ever() {
    let dir = Dir::new();
    let script = dir.script(
        "say",
        "#!/bin/sh\nexec >&3\ntest $$ = \"$LISTEN_PID\" && echo \"$LISTEN_FDS $LISTEN_FDNAMES\"\n",
    );
    let port = free_port();
    let daemon = Daemon::start(
        &dir,
        &format!(
            "[service.say]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{script}\"]\n\
             activation = \"listen-fds\"\noom_score = 500\n"
        ),
    );
    assert_eq!(hear(port), "1 connection\n");
    drop(daemon);
    // A server that owns its listeners.
    let script = dir.script(
        "own",
        "#!/usr/bin/python3\nimport os, socket\nassert os.environ['LISTEN_PID'] == str(os.getpid())\n\
         while True:\n    for n in (3, 4):\n        s = socket.socket(fileno=os.dup(n))\n        s.setblocking(False)\n        \
         try: c, _ = s.accept()\n        except BlockingIOError: continue\n        c.setblocking(True)\n        \
         c.sendall(b'from %d\\n' % n)\n        c.close()\n",
    );
    let _ = needs("python3", "python3");
    let (one, two) = (free_port(), free_port());
    let _daemon = Daemon::start(
        &dir,
        &format!(
            "[service.own]\nlisten = [\"tcp:127.0.0.1:{one}\", \"tcp:127.0.0.1:{two}\"]\nexec = [\"{script}\"]\n\
             activation = \"listen-fds\"\nwait = true\noom_score = 500\n"
        ),
    );
    assert_eq!([hear(one), hear(two)], ["from 3\n", "from 4\n"]);
}

fn what_fails_behind_the_session_process_is_told() {
    let (dir, port, other) = (Dir::new(), free_port(), free_port());
    let table = format!(
        "[service.none]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/nonexistent/server\"]\noom_score = 500\n\
         [service.folder]\nlisten = \"tcp:127.0.0.1:{other}\"\nexec = [\"/bin/cat\"]\ndir = \"/nonexistent\"\noom_score = 500\n"
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(ask(port, ""), "");
    let words = ["unable to start /nonexistent/server: exec: No such file"];
    daemon.log.wait_after(0, &words);
    assert_eq!(ask(other, ""), "");
    let words = ["unable to start /bin/cat: directory /nonexistent: No such file"];
    daemon.log.wait_after(0, &words);
}

/// What sessions of a test go by.
struct House {
    dir: Dir,
}

/// The file of a PAM service that lets everybody in, and then does `more`.
fn lets_in(more: &str) -> String {
    format!(
        "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n{more}\n"
    )
}

impl House {
    /// With the file of its only PAM service, "door"; `DIR` in it is the test's folder.
    fn new(pam: &str) -> Self {
        needs_root();
        let _ = needs("unshare", "util-linux");
        let modules = ["lib", "lib64", "lib/*"].iter().any(|folder| {
            let found = glob::glob(&format!("/usr/{folder}/security/pam_exec.so"));
            found.is_ok_and(|mut found| found.next().is_some())
        });
        if !modules {
            skip("needs pam_exec.so (package libpam-modules)");
        }
        let dir = Dir::new();
        let pam = pam.replace("DIR", dir.path().to_str().unwrap());
        let folder = dir.open_folder("pam.d");
        dir.write("pam.d/door", pam);
        dir.write("pam.d/other", "auth required pam_deny.so\naccount required pam_deny.so\nsession required pam_deny.so\n");
        dir.script(
            "witness",
            "#!/bin/sh\ncd \"${0%/*}\"\necho \"$PAM_TYPE $PAM_USER $PAM_SERVICE $PAM_RHOST $PAM_TTY\" >>seen\n",
        );
        set_mode(Path::new(&folder), 0o755);
        Self { dir }
    }

    fn start(&self, table: &str) -> Daemon {
        let script = format!(
            "mount --bind {} /etc/pam.d && exec \"$@\"",
            self.dir.file("pam.d")
        );
        let words = ["unshare", "-m", "sh", "-c", &script, "sh"];
        let daemon = Setup::new(&self.dir, table).through(&words).start();
        needs_isolation(&daemon);
        daemon
    }

    /// What the witness has written so far.
    fn seen(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.file("seen")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Where modules wait for a line.
    fn fifo(&self) -> fs::File {
        let path = self.dir.file("fifo");
        nix::unistd::mkfifo(Path::new(&path), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).open(path).unwrap()
    }

    fn wait_seen(&self, count: usize) -> Vec<String> {
        until(&format!("{count} lines of the witness"), SOON, || {
            let seen = self.seen();
            (seen.len() >= count).then_some(seen)
        })
    }
}

const WITNESS: &str = "session required pam_exec.so DIR/witness";

/// Processes of a daemon that are neither its own nor servers.
fn closers(daemon: &Daemon) -> Vec<Pid> {
    let mut found = process::descendants(daemon.pid);
    found.retain(|pid| process::status(*pid, "Name").as_deref() == Some("usherd-session"));
    found
}

fn a_session_is_opened_before_the_server_and_closed_after_it() {
    let house = House::new(&lets_in(WITNESS));
    for preset in PRESETS {
        let port = free_port();
        let keys = format!("isolation = \"{preset}\"\npam = \"door\"\noom_score = 333");
        let daemon = house.start(&cat(preset, port, &keys));
        let peer = served(port);
        let opened = house.seen();
        assert_eq!(
            opened,
            [format!("open_session nobody door 127.0.0.1 {preset}")],
            "{:?}",
            daemon.log.text()
        );
        let server = one_server(&daemon);
        assert_eq!(score(server), 333);
        assert_eq!(process::owner(server), Some(65534));
        let numbers: Vec<i32> = process::descriptors(server).into_keys().collect();
        assert_eq!(numbers, [0, 1, 2], "{preset}");
        // It has let go of everything but its link; that may take it a moment.
        until("a closer that holds nothing of the server's", SOON, || {
            let [closer] = closers(&daemon)[..] else {
                return None;
            };
            let held = process::descriptors(closer);
            let sockets = held.values().filter(|to| to.starts_with("socket:"));
            let pipes = held.values().filter(|to| to.starts_with("pipe:"));
            (sockets.count() == 1 && pipes.count() == 0).then_some(())
        });
        drop(peer);
        let seen = house.wait_seen(2);
        assert_eq!(
            seen[1],
            format!("close_session nobody door 127.0.0.1 {preset}")
        );
        until("the end of the closer", SOON, || {
            closers(&daemon).is_empty().then_some(())
        });
        daemon.log.wait_after(0, &["exited", "status=0"]);
        fs::remove_file(house.dir.file("seen")).unwrap();
    }
}

/// A module sees what is hidden from its server.
fn the_session_is_the_hosts_and_the_server_is_in_its_sandbox() {
    let house = House::new(&lets_in(
        "session required pam_exec.so DIR/look\nsession required pam_loginuid.so",
    ));
    house.dir.script(
        "look",
        "#!/bin/sh\ncd \"${0%/*}\"\ntest -s /etc/shadow && test -w /proc/self/oom_score_adj && echo $PAM_TYPE >>seen\n",
    );
    let port = free_port();
    let table = format!(
        "[service.look]\nlisten = \"tcp:127.0.0.1:{port}\"\n\
         exec = [\"/bin/sh\", \"-c\", \"test -s /etc/shadow || echo hidden; ls /; grep NoNew /proc/self/status\"]\n\
         isolation = \"strict\"\npam = \"door\"\n"
    );
    let _daemon = house.start(&table);
    let said = hear(port);
    assert!(
        said.starts_with("hidden\n") && said.ends_with("\t1\n"),
        "{said}"
    );
    assert!(!said.contains("\nboot\n"), "{said}");
    assert_eq!(house.wait_seen(2), ["open_session", "close_session"]);
}

fn variables_of_pam_stand_below_those_of_the_table() {
    let house = House::new(&lets_in(
        "session required pam_env.so readenv=0 conffile=DIR/variables",
    ));
    house.dir.write(
        "variables",
        "NEW DEFAULT=pam\nPATH DEFAULT=/pam/bin\nHOME DEFAULT=/pam\nGIVEN DEFAULT=pam\nPROTO DEFAULT=pam\nSHELL DEFAULT=/pam/sh\n",
    );
    let port = free_port();
    let table = format!(
        "[service.env]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/usr/bin/env\"]\npam = \"door\"\n\
         env = {{ GIVEN = \"table\", SHELL = \"/table/sh\" }}\n"
    );
    let _daemon = house.start(&table);
    let said = hear(port);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.retain(|line| {
        let (name, _) = line.split_once('=').unwrap();
        ["NEW", "PATH", "HOME", "GIVEN", "PROTO", "SHELL", "USER"].contains(&name)
    });
    lines.sort_unstable();
    let wanted = [
        "GIVEN=table",
        "HOME=/pam",
        "NEW=pam",
        "PATH=/pam/bin",
        "PROTO=TCP",
        "SHELL=/table/sh",
        "USER=nobody",
    ];
    assert_eq!(lines, wanted, "{said}");
}

fn groups_and_limits_of_pam_are_the_servers() {
    let house = House::new(
        "auth required pam_permit.so\nauth required pam_group.so\naccount required pam_permit.so\n\
         session required pam_limits.so conf=DIR/limits\n",
    );
    house
        .dir
        .write("limits", "nobody - nofile 77\nnobody - core 5\n");
    let port = free_port();
    let table = format!(
        "[service.say]\nlisten = \"tcp:127.0.0.1:{port}\"\npam = \"door\"\nlimits = {{ core = \"0\" }}\n\
         exec = [\"/bin/sh\", \"-c\", \"ulimit -n; ulimit -c; id -G\"]\ngroups = [\"5\", \"65534\"]\n"
    );
    let _daemon = house.start(&table);
    assert_eq!(hear(port), "77\n0\n65534 5\n");
}

fn who_is_refused_by_pam_gets_no_server() {
    let house = House::new(&format!(
        "auth required pam_permit.so\naccount required pam_nologin.so file=DIR/closed successok\n\
         account required pam_permit.so\n{WITNESS}\n"
    ));
    house.dir.write("closed", "Gone fishing.\n");
    for preset in PRESETS {
        let port = free_port();
        let keys = format!("isolation = \"{preset}\"\npam = \"door\"\ninstances = 1");
        let daemon = house.start(&cat(preset, port, &keys));
        for nth in 1..=3 {
            assert_eq!(ask(port, ""), "");
            let words = ["unable to start /bin/cat: pam: the account is refused: "];
            daemon.log.wait_count(nth, &words);
        }
        assert_eq!(daemon.log.count(&["Gone fishing"]), 3, "{preset}");
        assert!(daemon.servers().is_empty() && closers(&daemon).is_empty());
    }
    assert!(house.seen().is_empty());
}

fn a_session_that_is_refused_is_told() {
    let house = House::new(&lets_in("session required pam_deny.so"));
    let (port, other) = (free_port(), free_port());
    let table = cat("cat", port, "pam = \"door\"") + &cat("lost", other, "pam = \"no-such-door\"");
    let daemon = house.start(&table);
    daemon
        .log
        .wait_for("there is no /etc/pam.d/no-such-door now");
    assert_eq!(ask(port, ""), "");
    let words = ["unable to start /bin/cat: pam: the session is refused: "];
    daemon.log.wait_after(0, &words);
    assert_eq!(ask(other, ""), "");
    let words = ["unable to start /bin/cat: pam: the account is refused: "];
    daemon.log.wait_after(0, &words);
}

/// A module that waits, at the end of a session, until somebody writes a line.
fn a_slow_close_holds_nobody_up() {
    let house = House::new(&lets_in("session required pam_exec.so DIR/slow"));
    house.dir.script(
        "slow",
        "#!/bin/sh\ncd \"${0%/*}\"\nif test $PAM_TYPE = close_session; then read line <fifo; fi\necho $PAM_TYPE >>seen\n",
    );
    let mut fifo = house.fifo();
    for preset in ["none", "strict"] {
        let port = free_port();
        let keys = format!("isolation = \"{preset}\"\npam = \"door\"\ninstances = 1");
        let daemon = house.start(&cat("cat", port, &keys));
        for nth in 1..=2 {
            let mut peer = served(port);
            // The end of what the server has is the end of the connection.
            assert_eq!(peer.finish().read_all(), b"");
            daemon.log.wait_count(nth, &["exited"]);
        }
        until("two closers", SOON, || {
            (closers(&daemon).len() == 2).then_some(())
        });
        let shown = change(&house.dir, "Describe", &json!({"service": "cat"}));
        assert!(!format!("{shown:?}").contains("\"pid\""), "{shown:?}");
        // Asked to end, the daemon waits for them.
        daemon.signal(Signal::SIGTERM);
        daemon.log.wait_for("stopping");
        assert_eq!(house.seen().len(), 2, "two were opened");
        // A line for each of them.
        fifo.write_all(b"\n\n").unwrap();
        assert_eq!(daemon.exit_code(), Some(0));
        let closed = |line: &&String| *line == "close_session";
        assert_eq!(house.seen().iter().filter(closed).count(), 2, "{preset}");
        fs::remove_file(house.dir.file("seen")).unwrap();
    }
}

fn a_session_is_closed_however_its_server_ends() {
    let house = House::new(&lets_in(WITNESS));
    for preset in PRESETS {
        let port = free_port();
        // One that heeds its stop signal, and one that does not.
        for trap in ["trap 'exit 0' TERM", "trap '' TERM"] {
            let table = format!(
                "[service.sh]\nlisten = \"tcp:127.0.0.1:{port}\"\nisolation = \"{preset}\"\npam = \"door\"\n\
                 exec = [\"/bin/sh\", \"-c\", \"{trap}; echo x; while :; do sleep 100 & wait; done\"]\n\
                 stop = {{ grace = \"100ms\" }}\n"
            );
            let daemon = house.start(&table);
            let mut peer = Peer::tcp(port);
            assert_eq!(peer.read_line(), "x\n");
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.exit_code(), Some(0), "{preset}, {trap}");
            let seen = house.seen();
            assert_eq!(seen.len(), 2, "{preset}, {trap}: {seen:?}");
            assert!(seen[1].starts_with("close_session "), "{seen:?}");
            fs::remove_file(house.dir.file("seen")).unwrap();
        }
    }
}

/// Its stop signal comes while modules are at work.
fn a_session_process_that_is_stopped_leaves_nothing_open() {
    let house = House::new(&lets_in("session required pam_exec.so DIR/slow"));
    house.dir.script(
        "slow",
        "#!/bin/sh\ncd \"${0%/*}\"\ntrap '' TERM\nif test $PAM_TYPE = open_session; then echo begun >>seen; read line <fifo; fi\necho $PAM_TYPE >>seen\n",
    );
    let mut fifo = house.fifo();
    let port = free_port();
    let daemon = house.start(&cat("cat", port, "pam = \"door\""));
    let mut peer = Peer::tcp(port);
    house.wait_seen(1);
    change(&house.dir, "Kill", &json!({"instance": 1})).unwrap();
    fifo.write_all(b"\n").unwrap();
    assert_eq!(peer.read_all(), b"");
    assert_eq!(house.wait_seen(3)[1..], ["open_session", "close_session"]);
    daemon.log.wait_after(0, &["killed", "signal=15"]);
    assert_eq!(daemon.log.count(&["unable to start"]), 0);
    until("the end of the closer", Duration::from_secs(5), || {
        closers(&daemon).is_empty().then_some(())
    });
}
