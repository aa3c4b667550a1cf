//! A server that runs as root, without capabilities: what the presets promise
//! has to hold for it too, though it owns what belongs to root.

use super::{Case, PRESETS, Service, Stage, all_come_to, presets};
use crate::common::*;
use crate::tests;

tests![
    root_without_capabilities_changes_nothing,
    root_without_capabilities_writes_nowhere_else,
    root_without_capabilities_reads_no_secrets,
    who_is_about_to_start_shows_nothing_of_usherd,
];

fn stage() -> Stage {
    needs_root();
    Stage::new(&presets("", "user = \"root\"\n"))
}

fn root_without_capabilities_changes_nothing() {
    let stage = stage();
    let any = "=|EPERM|ENOSYS|EINVAL|EBADF|ENOENT|EFAULT|EBUSY|ENOTBLK";
    let refused = "EPERM|EROFS|EACCES|ENOENT";
    let attempts = [
        "sys mount text:none text:/nowhere text:tmpfs 0 0",
        "sys unshare 0x10000000",
        "sys unshare 0x00020000",
        "sys setns 0 0",
        "sys bpf 0 room:64 64",
        "sys mknodat -100 text:/tmp/escape-node 0x6180 0x0700",
        "sys socket 17 3 768",
        "sys chroot text:/nowhere",
        "sys openat -100 text:/proc/sys/kernel/core_pattern 1",
        "sys openat -100 text:/proc/sys/kernel/modprobe 1",
        "sys openat -100 text:/proc/sys/vm/drop_caches 1",
        "sys openat -100 text:/sys/kernel/uevent_helper 1",
        "sys openat -100 text:/sys/fs/cgroup/cgroup.procs 1",
        "sys openat -100 text:/proc/self/mem 2",
        "sys openat -100 text:/proc/1/oom_score_adj 1",
        "sys openat -100 text:/dev/mem 0",
        "sys openat -100 text:/dev/kmsg 1",
        "sys openat -100 text:/dev/loop0 0",
        "sys openat -100 text:/usr/bin/id 1",
        "sys fchmodat -100 text:/usr/bin/id 0x9ed",
        "sys fchownat -100 text:/usr/bin/id 1 1 0",
        "sys linkat -100 text:/etc/passwd -100 text:/etc/passwd.escape 0",
        "list /proc/1/root",
        "link /proc/1/fd/3",
        "sys openat -100 text:/proc/1/fd/1 1",
        "sys openat -100 text:/proc/1/mem 0",
        "link /proc/1/exe",
    ];
    let family = "EPERM|EROFS|EACCES|ENOENT|EAFNOSUPPORT";
    let wanted = |attempt: &str| match attempt.contains("socket") {
        true => [any, family, family],
        false => [any, refused, refused],
    };
    // Not one of them under `none`, where they would succeed.
    for preset in &PRESETS[1..] {
        let mut instance = stage.instance(preset);
        for attempt in attempts {
            let said = instance.tries(attempt);
            let allowed = wanted(attempt)[1];
            assert!(
                allowed.split('|').any(|errno| errno == said),
                "{preset}: {attempt}: {said}"
            );
        }
    }
    stage.end();
}

fn root_without_capabilities_writes_nowhere_else() {
    let stage = stage();
    for preset in &PRESETS[1..] {
        let found = stage.instance(preset).gets("writable");
        let mut found: Vec<&str> = found.split(' ').collect();
        // The way to the attacker's program was made in there.
        found.retain(|path| !path.starts_with("/tmp/"));
        assert_eq!(found, ["/dev/shm", "/tmp", "/var/tmp"], "{preset}");
    }
    stage.end();
}

fn root_without_capabilities_reads_no_secrets() {
    let stage = stage();
    let cases: [Case<'_>; 4] = [
        (
            "sys openat -100 text:/etc/shadow 0",
            ["=", "EACCES", "ENOENT"],
        ),
        ("list /root", ["=", "= ", "ENOENT"]),
        ("list /boot", ["=|ENOENT", "= |ENOENT", "ENOENT"]),
        ("sockets", ["=", "=", "= "]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

/// Landlock forbids the signals; kernels without it do not.
fn who_is_about_to_start_shows_nothing_of_usherd() {
    needs_root();
    let service = Service {
        name: "standard",
        preset: "standard",
        refined: "landlock = \"off\"",
        keys: "user = \"root\"\ninstances = 200\n",
    };
    let stage = Stage::new(&[service]);
    let mut instance = stage.instance("standard");
    instance.gets("sys getpid");
    instance.0.send("trap\n");
    for _ in 0..60 {
        stage.instance("standard").gets("sys getpid");
    }
    assert_eq!(instance.0.read_line(), "= nothing\n");
    stage.end();
}
