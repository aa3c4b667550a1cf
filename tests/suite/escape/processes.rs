//! Processes of the host, of other services and of other instances; the keeper;
//! what is inherited and what is left behind.

use nix::sys::signal::Signal;

use super::{Case, Instance, PRESETS, Stage, all_come_to, attackers, presets};
use crate::common::*;
use crate::tests;

tests![
    processes_of_others_are_not_reached,
    instances_of_a_strict_service_do_not_reach_each_other,
    a_signal_to_everybody_ends_at_the_sandbox,
    the_keeper_cannot_be_attacked,
    nothing_is_inherited_but_the_connection,
    a_strict_daemon_ends_with_its_instance,
    a_stopped_server_holds_nobody_up,
    a_core_stays_inside,
];

fn processes_of_others_are_not_reached() {
    let stage = Stage::plain();
    let helper = stage.daemon.pid;
    let other = stage.instance("none");
    let program = stage.dir.path().join("attacker");
    let other_pid = until("the other instance", SOON, || {
        attackers(&program).first().copied()
    });
    let front = if as_root() { "EPERM" } else { "= 0" };
    let open = if as_root() { "=|EPERM" } else { "=" };
    let attempts = [
        (format!("sys kill {helper} 0"), [front, "ESRCH", "ESRCH"]),
        (format!("sys kill {other_pid} 0"), ["= 0", "ESRCH", "ESRCH"]),
        (
            format!("sys kill -{other_pid} 0"),
            ["= 0", "ESRCH", "ESRCH"],
        ),
        (
            format!("sys tgkill {other_pid} {other_pid} 0"),
            ["= 0", "ESRCH", "ESRCH"],
        ),
        (
            format!("sys pidfd_open {other_pid} 0"),
            ["=", "ESRCH|EINVAL", "ESRCH|EINVAL"],
        ),
        (
            format!("sys pidfd_open {helper} 0"),
            [open, "ESRCH|EINVAL", "ESRCH|EINVAL"],
        ),
        (
            format!("cat /proc/{other_pid}/environ"),
            ["=", "ENOENT", "ENOENT"],
        ),
        (
            format!("sys openat -100 text:/proc/{other_pid}/mem 0"),
            ["=", "ENOENT", "ENOENT"],
        ),
        (
            format!("sys ptrace 0x4206 {other_pid} 0 0"),
            ["= 0", "EPERM", "EPERM"],
        ),
        (
            format!("sys prlimit64 {other_pid} 7 0 room:16"),
            ["= 0", "ESRCH", "ESRCH"],
        ),
        (
            format!("sys setpriority 0 {other_pid} 19"),
            ["= 0", "ESRCH", "ESRCH"],
        ),
    ];
    let cases: Vec<Case<'_>> = attempts.iter().map(|(a, wanted)| (&**a, *wanted)).collect();
    all_come_to(&stage, &cases);
    drop(other);
    stage.end();
}

/// What an instance reaches of a process that `other` has made known by its own view.
fn own_pid(instance: &mut Instance) -> String {
    instance.gets("sys getpid")
}

fn instances_of_a_strict_service_do_not_reach_each_other() {
    let stage = Stage::plain();
    // Instances of a standard service share a sandbox: the attempts are good ones.
    let (mut a, mut b) = (stage.instance("standard"), stage.instance("standard"));
    let (of_a, of_b) = (own_pid(&mut a), own_pid(&mut b));
    assert_ne!(of_a, of_b);
    // They see each other, but Landlock's domains keep them from signals where there are such.
    let reached = b.gets("reach").replace('!', "");
    assert!(reached.split(' ').any(|pid| pid == of_a), "{reached}");
    // But not even they look into each other: each is in a Landlock domain of its own.
    for file in ["mem", "environ", "fd", "root", "maps"] {
        let said = b.tries(&format!("sys openat -100 text:/proc/{of_a}/{file} 0"));
        assert!(
            ["EACCES", "EPERM", "ENOENT"].contains(&&*said),
            "{file}: {said}"
        );
    }
    a.gets("listen @escape");
    let (mut c, mut d) = (stage.instance("strict"), stage.instance("strict"));
    assert_eq!(own_pid(&mut c), own_pid(&mut d), "each begins anew");
    let reached = c.gets("reach");
    assert!(
        ["1", "1!"].contains(&&*reached),
        "others than the keeper: {reached}"
    );
    let own = own_pid(&mut c);
    assert_eq!(
        c.gets("list /proc")
            .split(' ')
            .filter(|n| n.parse::<u32>().is_ok())
            .count(),
        1 + usize::from(d.gets("list /proc").split(' ').any(|n| n == "1")),
        "{own}"
    );
    c.gets("sys openat -100 text:/tmp/left 0x41 0x1b6");
    assert_eq!(d.tries("cat /tmp/left"), "ENOENT");
    assert_eq!(
        c.gets("sys shmget 0x77 4096 0x380"),
        d.gets("sys shmget 0x77 4096 0x380"),
        "each has its own"
    );
    c.gets("listen @escape");
    assert_eq!(d.tries("connect @escape"), "ECONNREFUSED");
    drop((a, b, c, d));
    stage.end();
}

fn a_signal_to_everybody_ends_at_the_sandbox() {
    let stage = Stage::plain();
    for preset in &PRESETS[1..] {
        let (mut other, mut one) = (stage.instance(preset), stage.instance(preset));
        let mut elsewhere = stage.instance(if *preset == "strict" {
            "standard"
        } else {
            "strict"
        });
        own_pid(&mut other);
        own_pid(&mut elsewhere);
        // SIGSTOP first: a stopped keeper would hold the helper up.
        for signal in [19, 9] {
            let said = one.tries(&format!("sys kill 1 {signal}"));
            assert!(["EPERM", "= 0"].contains(&&*said), "{said}");
        }
        let said = one.tries("sys kill -1 9");
        let survives = other.0.try_send("sys getpid\n") && !other.0.read_line().is_empty();
        if *preset == "strict" {
            assert!(survives, "another instance was reached; {said}");
        }
        own_pid(&mut elsewhere);
        // The sandbox is as good as before.
        own_pid(&mut stage.instance(preset));
    }
    stage.end();
}

fn the_keeper_cannot_be_attacked() {
    let stage = Stage::plain();
    let standard = "EACCES|EPERM|ENOENT";
    let attempts = [
        "sys openat -100 text:/proc/1/mem 0",
        "sys openat -100 text:/proc/1/environ 0",
        "sys openat -100 text:/proc/1/maps 0",
        "link /proc/1/fd/3",
        "list /proc/1/root",
        "link /proc/1/exe",
        "link /proc/1/ns/mnt",
        "sys ptrace 0x4206 1 0 0",
    ];
    let mut cases: Vec<Case<'_>> = attempts
        .iter()
        .map(|a| (*a, ["=|EACCES|EPERM", standard, standard]))
        .collect();
    if as_root() {
        // Only that one who is not root shares its user with the keeper.
        cases.push(("sys prlimit64 1 7 room:16 0", ["EPERM"; 3]));
        cases.push(("sys setpriority 0 1 19", ["EPERM"; 3]));
        cases.push((
            "sys sched_setaffinity 1 8 hex:0100000000000000",
            ["EPERM"; 3],
        ));
    }
    all_come_to(&stage, &cases);
    stage.end();
}

fn nothing_is_inherited_but_the_connection() {
    let stage = Stage::plain();
    for preset in PRESETS {
        assert_eq!(
            stage.instance(preset).gets("descriptors"),
            "0 1 2",
            "{preset}"
        );
    }
    stage.end();
    let stage = Stage::new(&presets("", "stderr = \"null\"\n"));
    for preset in PRESETS {
        assert_eq!(
            stage.instance(preset).gets("descriptors"),
            "0 1 2",
            "{preset}"
        );
    }
    stage.end();
}

fn a_strict_daemon_ends_with_its_instance() {
    let stage = Stage::plain();
    let program = stage.dir.path().join("attacker");
    let mut instance = stage.instance("strict");
    instance.gets("daemon");
    until("two attackers", SOON, || {
        (attackers(&program).len() == 2).then_some(())
    });
    drop(instance);
    until("the end of the daemon", SOON, || {
        attackers(&program).is_empty().then_some(())
    });
    stage.end();
}

fn a_stopped_server_holds_nobody_up() {
    let stage = Stage::plain();
    let mut others = Vec::new();
    for preset in PRESETS {
        let mut instance = stage.instance(preset);
        let program = stage.dir.path().join("attacker");
        own_pid(&mut instance);
        // The attacker stops itself; nothing that usherd does waits for it.
        instance.0.send("sys kill 0 19\n");
        until("a stopped server", SOON, || {
            let stopped = |pid: &Pid| process::state(*pid) == Some('T');
            attackers(&program).iter().any(stopped).then_some(())
        });
        own_pid(&mut stage.instance(preset));
        others.push(instance);
    }
    drop(others);
    stage.neighbour_answers();
    let program = stage.dir.path().join("attacker");
    for pid in attackers(&program) {
        process::kill(pid, Signal::SIGCONT);
    }
    stage.end();
}

fn a_core_stays_inside() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let stage = Stage::new(&presets("", "dir = \"/\"\nlimits = { core = \"1M\" }\n"));
    let ended = "= signal 6|= signal 6 with a core";
    all_come_to(&stage, &[("abort", [ended; 3])]);
    if !pattern.starts_with(['|', '/']) {
        assert_eq!(
            stage.instance("strict").gets("abort"),
            "signal 6",
            "/ is read-only"
        );
    }
    stage.end();
}
