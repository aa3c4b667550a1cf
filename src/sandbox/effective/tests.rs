#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::table::isolation::Preset;

const STATUS: &str = "\
Name:\ta:b
Uid:\t1\t1\t1\t1
Gid:\t2\t2\t2\t2
Groups:\t4 24 
NSpid:\t4711\t1
CapInh:\t0000000000000000
CapPrm:\t0000000000000400
CapEff:\t0000000000000400
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000400
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t2
";

const OURS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,mode=755
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:40 / /tmp rw - tmpfs tmpfs rw
";

const STANDARD: &str = "\
122 127 0:71 / /proc rw,nosuid - proc proc rw,hidepid=invisible
123 127 0:22 / /sys ro,relatime - sysfs sysfs rw
124 127 0:72 / /dev ro,nosuid - tmpfs tmpfs rw
127 1 254:0 / / ro,relatime - ext4 /dev/vda rw,discard
130 127 0:40 / /tmp rw - tmpfs tmpfs rw
131 130 0:73 / /tmp rw,nosuid - tmpfs tmpfs rw,size=65536k
132 127 0:74 / /home ro - tmpfs tmpfs ro
";

const STRICT: &str = "\
201 1 0:81 / / ro,nosuid - tmpfs tmpfs rw
202 201 254:0 /usr /usr ro,nosuid - ext4 /dev/vda rw
203 201 0:82 / /proc rw - proc proc rw,subset=pid
";

#[test]
fn status_is_read_by_its_names() {
    let status = parse::status(STATUS);
    assert_eq!(
        (status.uids.as_slice(), status.gids.len()),
        (&[1, 1, 1, 1][..], 4)
    );
    assert_eq!(status.groups, [4, 24]);
    assert_eq!(
        (status.no_new_privs, status.seccomp, status.filters),
        (Some(true), Some(2), Some(2))
    );
    assert_eq!(
        status_facts(&status),
        [
            ("uid", "1"),
            ("gid", "2"),
            ("groups", "4 24"),
            ("capabilities", "net_bind_service"),
            ("capabilities permitted", "net_bind_service"),
            ("capabilities inheritable", "none"),
            ("capabilities ambient", "net_bind_service"),
            ("capabilities bounding", "all"),
        ]
        .map(|(key, value)| (key, value.to_owned()))
    );
    assert_eq!(
        parse::status("garbage\nUid: x\nCapEff:\tzz\n"),
        Status::default()
    );
    assert_eq!(capabilities(0x1ff_feff_ffff), "all but sys_resource");
}

fn facts(text: &str) -> String {
    let facts = parse::mounts(text, OURS).facts();
    let shown: Vec<String> = facts
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    shown.join("; ")
}

#[test]
fn mounts_are_told_in_the_words_of_the_table() {
    for (text, shown) in [
        (
            OURS,
            "root host; tmp host; home as root; dev host; proc host; sys host",
        ),
        (
            STANDARD,
            "root read-only; tmp private; home hidden; dev its own; \
             proc its own, hidepid=invisible; sys read-only",
        ),
        (
            STRICT,
            "root its own, read-only; tmp none; home none; dev none; \
             proc its own, subset=pid; sys none",
        ),
    ] {
        assert_eq!(facts(text), shown);
    }
    assert_eq!(parse::mounts(STANDARD, OURS).summary(), "7 mounts");
    assert_eq!(parse::mounts("x\n1 2 3\n - \n", OURS), Mounts::default());
}

#[test]
fn limits_that_limit_nothing_are_left_out() {
    let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max core file size        0                    unlimited            bytes     
Max open files            1024                 1024                 files     
Max nice priority         0                    0                    
";
    let expected = [("limits.nofile", "1024"), ("limits.core", "0:unlimited")];
    assert_eq!(
        parse::limits(text),
        expected.map(|(key, value)| (key, value.to_owned()))
    );
    assert_eq!(parse::limit("max\n"), None);
    assert_eq!(parse::limit("max 100000\n"), None);
    assert_eq!(parse::limit("50000 100000\n").unwrap(), "50000 100000");
    assert_eq!(parse::limit(""), None);
}

#[test]
fn the_unified_cgroup_is_the_line_with_zero() {
    assert_eq!(
        parse::unified("9:name=systemd:/a\n0::/usherd/cat/7\n").unwrap(),
        "/usherd/cat/7"
    );
    assert_eq!(parse::unified("9:name=systemd:/a\n"), None);
    assert_eq!(parse::label("unconfined\n").unwrap(), "unconfined");
    assert_eq!(
        parse::label("system_u:r:t:s0\0").unwrap(),
        "system_u:r:t:s0"
    );
    assert_eq!(parse::label("\0"), None);
}

#[test]
fn limits_above_the_leaf_hold_too() {
    let dir = tempfile::tempdir().unwrap();
    let (service, leaf) = (dir.path().join("cat"), dir.path().join("cat/7"));
    fs::create_dir_all(&leaf).unwrap();
    fs::write(dir.path().join("memory.max"), "1").unwrap();
    fs::write(service.join("memory.max"), "1048576\n").unwrap();
    fs::write(leaf.join("memory.max"), "max\n").unwrap();
    fs::write(leaf.join("pids.max"), "8\n").unwrap();
    fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
    let expected = [("memory", "1048576"), ("tasks", "8")];
    assert_eq!(
        resources(&leaf, dir.path()),
        expected.map(|(key, value)| (key, value.to_owned()))
    );
}

#[test]
fn every_mechanism_has_a_verdict() {
    let asked = Isolation::preset(Preset::Standard);
    let seen = Seen {
        apart: [Some(true); NAMESPACES.len()],
        status: Some(parse::status(STATUS)),
        mounts: Some(parse::mounts(STANDARD, OURS)),
        cgroup: Some("/usherd/cat/7".into()),
        own_cgroup: Some(true),
        ..Seen::default()
    };
    for mechanism in Mechanism::ALL {
        let verdict = seen.verdict(mechanism, &asked);
        let expected = match mechanism {
            // Everything is left in the bounding set of the sample.
            Mechanism::CapabilityBounds => Some(false),
            Mechanism::Landlock | Mechanism::MemoryDenyWriteExecute | Mechanism::Keyring => None,
            _ => Some(true),
        };
        assert_eq!(verdict.in_force, expected, "{mechanism:?}");
        assert_eq!(Seen::default().verdict(mechanism, &asked).in_force, None);
    }
    let mut all = asked.clone();
    all.capabilities = Some(Capability::all().collect());
    assert_eq!(
        seen.verdict(Mechanism::CapabilityBounds, &all).in_force,
        Some(true)
    );
    let note = |mechanism| seen.verdict(mechanism, &asked).note.unwrap();
    assert_eq!(note(Mechanism::Seccomp), "2 filters");
    assert_eq!(note(Mechanism::MountNamespace), "7 mounts");
    assert_eq!(note(Mechanism::Cgroup), "/usherd/cat/7");
}

#[test]
fn a_process_is_not_apart_from_itself() {
    let seen = Seen::read(i32::try_from(std::process::id()).unwrap(), None);
    assert_eq!(seen.apart, [Some(false); NAMESPACES.len()]);
    assert!(seen.facts().iter().any(|(key, _)| *key == "uid"));
    let gone = Seen::read(i32::MAX, None);
    assert_eq!(
        gone,
        Seen {
            limits: Vec::new(),
            ..Seen::default()
        }
    );
}
