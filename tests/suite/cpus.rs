//! `daemon.cpus`: where helper and front run, and that nobody else is bound to it.

use std::fs;

use nix::sys::signal::Signal;

use crate::common::peer::hear;
use crate::common::*;
use crate::escape::PRESETS;
use crate::tests;
use crate::upgrade::own_program;
use crate::usherctl::says;

tests![
    helper_and_front_share_a_cpu_and_what_they_start_has_all: 120,
    a_service_has_the_cpus_of_its_own: 120,
    an_upgrade_does_not_narrow_the_cpus_of_servers,
    a_reload_moves_both,
    servers_get_no_more_than_usherd_was_started_with,
    a_list_is_for_both_and_a_bad_one_is_told,
    a_crowd_gets_more_than_one_cpu,
    usherd_runs_at_once_and_servers_as_ever: 120,
];

const ALL: &str = "all";

/// As /proc shows it: `0-3`.
fn cpus(pid: Pid) -> String {
    process::status(pid, "Cpus_allowed_list").unwrap_or_default()
}

/// The CPUs of this test, by number. Skips it if there is one only.
fn own_cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let all = 0..nix::sched::CpuSet::count();
    let own: Vec<usize> = all.filter(|cpu| set.is_set(*cpu).unwrap()).collect();
    if own.len() < 2 {
        skip("needs two CPUs");
    }
    own
}

fn is_one(cpus: &str) -> bool {
    cpus.parse::<usize>().is_ok()
}

/// A whole table with this in its `[daemon]`.
fn table_with(dir: &Dir, wanted: &str, services: &str) -> String {
    let head = format!("[daemon]\ncpus = \"{wanted}\"\n");
    daemon::table(dir, services).replacen("[daemon]\n", &head, 1)
}

fn cat(name: &str, port: u16, keys: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{keys}\n")
}

/// A peer, and the CPUs of its server, which is a cat.
fn served(daemon: &Daemon, port: u16) -> (Peer, String) {
    let mut peer = Peer::tcp(port);
    peer.send("x\n");
    assert_eq!(peer.read_line(), "x\n");
    let of_cat = || {
        process::descendants(daemon.pid)
            .into_iter()
            .find(|pid| process::argv0(*pid) == "cat")
    };
    let pid = until("a server", SOON, of_cat);
    (peer, cpus(pid))
}

/// Skips the test if this host cannot isolate as asked.
fn needs_isolation(daemon: &Daemon) {
    let text = daemon.log.text();
    if let Some(line) = text.lines().find(|line| line.contains("blocked: ")) {
        skip(line);
    }
}

fn is_parked(pid: Pid) -> bool {
    process::status(pid, "Name").is_some_and(|name| name == "usherd-parked")
}

fn helper_and_front_share_a_cpu_and_what_they_start_has_all() {
    own_cpus();
    let all = cpus(process::this());
    for preset in PRESETS {
        // The second one by way of a process with memory of its own.
        for more in ["", "oom_score = 500"] {
            let (dir, port) = (Dir::new(), free_port());
            let keys = format!("isolation = \"{preset}\"\n{more}");
            let daemon = Daemon::start(&dir, &cat("s", port, &keys));
            needs_isolation(&daemon);
            let front = daemon.front();
            assert!(is_one(&cpus(daemon.pid)), "{}", cpus(daemon.pid));
            assert_eq!(cpus(front), cpus(daemon.pid));
            let (peer, first) = served(&daemon, port);
            assert_eq!(first, all, "{preset}, {more}");
            drop(peer);
            daemon.wait_servers(0);
            let is_parked_for = as_root() && more.is_empty();
            if is_parked_for {
                until("a parked child", SOON, || {
                    process::descendants(daemon.pid)
                        .into_iter()
                        .find(|pid| is_parked(*pid))
                });
            }
            let mut others = process::descendants(daemon.pid);
            others.retain(|pid| *pid != front && process::is_alive(*pid));
            for pid in others {
                // A child is parked on our CPU, and leaves it then.
                until(&format!("{preset}: all CPUs of {pid}"), SOON, || {
                    (cpus(pid) == all || !process::is_alive(pid)).then_some(())
                });
            }
            let (_peer, second) = served(&daemon, port);
            assert_eq!(second, all, "{preset}, {more}, the second one");
        }
    }
}

fn a_service_has_the_cpus_of_its_own() {
    for cpu in own_cpus() {
        for preset in PRESETS {
            let (dir, port) = (Dir::new(), free_port());
            let keys = format!("isolation = \"{preset}\"\ncpus = \"{cpu}\"");
            let daemon = Daemon::start(&dir, &cat("s", port, &keys));
            needs_isolation(&daemon);
            assert_eq!(served(&daemon, port).1, cpu.to_string(), "{preset}");
        }
    }
}

fn an_upgrade_does_not_narrow_the_cpus_of_servers() {
    own_cpus();
    let (dir, port) = (Dir::new(), free_port());
    let program = own_program(&dir);
    let daemon = Setup::new(&dir, &cat("s", port, ""))
        .program(&program)
        .start();
    for _ in 0..2 {
        assert!(says(&dir, "upgrade").contains("has taken over"));
        assert!(is_one(&cpus(daemon.pid)));
        assert_eq!(cpus(daemon.front()), cpus(daemon.pid));
        assert_eq!(served(&daemon, port).1, cpus(process::this()));
        daemon.wait_servers(0);
    }
}

fn a_reload_moves_both() {
    own_cpus();
    let all = cpus(process::this());
    let (dir, port) = (Dir::new(), free_port());
    let service = cat("s", port, "");
    let daemon = Setup::raw(&dir, &table_with(&dir, ALL, &service)).start();
    assert_eq!(
        (cpus(daemon.pid), cpus(daemon.front())),
        (all.clone(), all.clone())
    );
    for (wanted, is_bound) in [("one", true), (ALL, false)] {
        fs::write(&daemon.config, table_with(&dir, wanted, &service)).unwrap();
        assert!(daemon.reload_as_it_is());
        assert_eq!(served(&daemon, port).1, all, "{wanted}");
        daemon.wait_servers(0);
        for pid in [daemon.pid, daemon.front()] {
            assert_eq!(is_one(&cpus(pid)), is_bound, "{wanted}");
        }
    }
}

fn servers_get_no_more_than_usherd_was_started_with() {
    let last = own_cpus().pop().unwrap().to_string();
    if !std::path::Path::new("/usr/bin/taskset").exists() {
        skip("needs taskset (package util-linux)");
    }
    let (dir, port) = (Dir::new(), free_port());
    let setup = Setup::new(&dir, &cat("s", port, ""));
    let daemon = setup.through(&["/usr/bin/taskset", "-c", &last]).start();
    assert_eq!(cpus(daemon.pid), last);
    assert_eq!(served(&daemon, port).1, last);
}

fn a_list_is_for_both_and_a_bad_one_is_told() {
    let own = own_cpus();
    let all = cpus(process::this());
    let last = own.last().unwrap().to_string();
    let (dir, port) = (Dir::new(), free_port());
    let service = cat("s", port, "");
    let daemon = Setup::raw(&dir, &table_with(&dir, &last, &service)).start();
    assert_eq!(
        (cpus(daemon.pid), cpus(daemon.front())),
        (last.clone(), last)
    );
    assert_eq!(served(&daemon, port).1, all);
    daemon.wait_servers(0);
    // The last that can be named at all.
    if own.contains(&1023) {
        return;
    }
    fs::write(&daemon.config, table_with(&dir, "1023", &service)).unwrap();
    assert!(daemon.reload_as_it_is());
    daemon
        .log
        .wait_for("unable to run on the CPUs that daemon.cpus names");
    assert_eq!(served(&daemon, port).1, all);
    assert_eq!((cpus(daemon.pid), cpus(daemon.front())), (all.clone(), all));
}

/// Connections that nobody has accepted yet, as /proc/net/tcp counts them.
fn backlog(port: u16) -> u32 {
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    let listener = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "0A";
        is_ours.then(|| fields[4].rsplit(':').next().unwrap().to_owned())
    });
    u32::from_str_radix(&listener.unwrap(), 16).unwrap()
}

fn a_crowd_gets_more_than_one_cpu() {
    own_cpus();
    let all = cpus(process::this());
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat("s", port, ""));
    let front = daemon.front();
    assert!(is_one(&cpus(daemon.pid)));
    daemon.signal(Signal::SIGSTOP);
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::tcp(port)).collect();
    until("the front has asked for all", SOON, || {
        (backlog(port) == 0 && process::state(front) == Some('S')).then_some(())
    });
    daemon.signal(Signal::SIGCONT);
    for peer in &mut peers {
        peer.send("x\n");
        assert_eq!(peer.read_line(), "x\n");
    }
    // Servers may answer before the helper has ended the turn in which it started them.
    until("both may go everywhere", SOON, || {
        (cpus(daemon.pid) == all && cpus(front) == all).then_some(())
    });
    drop(peers);
    daemon.wait_servers(0);
    until("both are together again", SOON, || {
        let (_peer, of_server) = served(&daemon, port);
        assert_eq!(of_server, all);
        (is_one(&cpus(daemon.pid)) && cpus(front) == cpus(daemon.pid)).then_some(())
    });
}

/// chrt(1) shows what was asked for together with the short slice, and kernels before 6.12 have no
/// more of it than this.
fn usherd_runs_at_once_and_servers_as_ever() {
    const CHILDREN: &str = "SCHED_RESET_ON_FORK";
    own_cpus();
    let run = std::process::Command::new("chrt")
        .arg("-p")
        .arg("1")
        .output();
    if run.is_err() {
        skip("needs chrt");
    }
    for preset in PRESETS {
        let (dir, port) = (Dir::new(), free_port());
        let table = format!(
            "[service.s]\nlisten = \"tcp:127.0.0.1:{port}\"\nisolation = \"{preset}\"\n\
             exec = [\"/bin/sh\", \"-c\", \"chrt -p $$ | sed s/[0-9]*//g\"]\n"
        );
        let daemon = Daemon::start(&dir, &table);
        needs_isolation(&daemon);
        let of = |pid: Pid| {
            let out = std::process::Command::new("chrt")
                .arg("-p")
                .arg(pid.to_string())
                .output();
            String::from_utf8(out.unwrap().stdout).unwrap()
        };
        assert!(of(daemon.pid).contains(CHILDREN), "{}", of(daemon.pid));
        until("a front that runs at once", SOON, || {
            of(daemon.front()).contains(CHILDREN).then_some(())
        });
        let own: String = of(process::this())
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .collect();
        // By the long way, and parked.
        for _ in 0..3 {
            assert_eq!(hear(port), own, "{preset}");
            daemon.wait_servers(0);
        }
    }
}
