//! Attempts to use up what all share.

use super::{PRESETS, Stage, all_come_to, presets};
use crate::common::*;
use crate::tests;

tests![
    a_private_tmp_is_full_before_the_host_is,
    limits_hold_inside_as_well,
    many_strict_instances_leave_others_alone: 120,
];

fn a_private_tmp_is_full_before_the_host_is() {
    let stage = Stage::new(&presets("tmp_size = \"2M\"", ""));
    let full = "= 1 MiB ENOSPC|= 2 MiB ENOSPC";
    let cases = [
        ("fill /tmp", ["=", full, full]),
        ("fill /var/tmp", ["=|EACCES", full, full]),
        ("fill /dev/shm", ["=|ENOENT", full, full]),
    ];
    all_come_to(&stage, &cases);
    stage.end();
}

fn limits_hold_inside_as_well() {
    // A user of its own: processes of all others of the same user count.
    let user = if as_root() {
        "user = \"dynamic\"\n"
    } else {
        ""
    };
    let limits = format!("limits = {{ as = \"256M\", nproc = 40 }}\n{user}");
    let stage = Stage::new(&presets("", &limits));
    for preset in &PRESETS[1..] {
        let mut instance = stage.instance(preset);
        if as_root() {
            // Of an ordinary user all processes count, wherever they run.
            assert!(instance.gets("forks 100").ends_with("EAGAIN"), "{preset}");
        }
        let said = instance.gets("eat 512");
        assert!(said.starts_with("signal"), "{preset}: {said}");
    }
    stage.end();
}

fn many_strict_instances_leave_others_alone() {
    let stage = Stage::new(&presets("", "instances = 40\n"));
    let mut all: Vec<_> = (0..40).map(|_| stage.instance("strict")).collect();
    stage.neighbour_answers();
    for instance in &mut all {
        instance.gets("sys getpid");
    }
    stage.neighbour_answers();
    stage.instance("standard").gets("sys getpid");
    drop(all);
    stage.end();
}
