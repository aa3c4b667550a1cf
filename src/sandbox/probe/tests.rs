#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::table::isolation::Preset;

/// All works, but what `failing` says.
fn told(failing: &[&str]) -> io::Result<String> {
    let mut text = String::new();
    for feature in Feature::ALL {
        let name = feature.name();
        let line = failing
            .iter()
            .find(|line| line.split(' ').next() == Some(name));
        match line {
            Some(line) => text += &format!("{line}\n"),
            None => text += &format!("{name} works 0\n"),
        }
    }
    Ok(text)
}

fn root(failing: &[&str]) -> Probe {
    let mut probe = Probe::of(Role::Root, Host::default(), &told(failing));
    probe.set_cgroup(Ok("version 2".into()));
    probe
}

#[test]
fn where_all_works_nothing_is_missing() {
    let probe = root(&[]);
    for mechanism in Mechanism::ALL {
        assert_eq!(probe.missing(mechanism), None, "{mechanism:?}");
    }
    for (_, preset) in Preset::ALL {
        assert!(probe.lacks(&Isolation::preset(preset)).is_empty());
    }
}

#[test]
fn a_mechanism_is_missing_if_a_part_of_it_is() {
    for (line, mechanism) in [
        ("tmpfs fails 19 tmpfs", Mechanism::MountNamespace),
        (
            "read_only_tree fails 38 mount_setattr",
            Mechanism::MountNamespace,
        ),
        (
            "pid_namespace fails 22 pid namespace",
            Mechanism::PidNamespace,
        ),
        ("landlock fails 95 landlock", Mechanism::Landlock),
        ("keyring fails 38 keyctl", Mechanism::Keyring),
    ] {
        let probe = root(&[line]);
        for other in Mechanism::ALL {
            assert_eq!(probe.missing(other).is_some(), other == mechanism, "{line}");
        }
    }
}

#[test]
fn what_only_a_setting_needs_is_missing_for_that_setting() {
    let probe = root(&["proc fails 1 mounting", "loopback fails 1 SIOCSIFFLAGS"]);
    assert_eq!(probe.missing(Mechanism::MountNamespace), None);
    let mut isolation = Isolation::preset(Preset::Standard);
    let lacking = |isolation: &Isolation| -> Vec<Mechanism> {
        let lacks = probe.lacks(isolation);
        lacks.iter().map(|lack| lack.mechanism).collect()
    };
    assert_eq!(lacking(&isolation), [Mechanism::MountNamespace]);
    isolation.proc = Proc::None;
    assert_eq!(lacking(&isolation), []);
    isolation.network = Network::Loopback;
    assert_eq!(lacking(&isolation), [Mechanism::NetworkNamespace]);
}

#[test]
fn silence_is_a_failure() {
    let probe = Probe::of(Role::Root, Host::default(), &Ok(String::new()));
    let missing = probe.missing(Mechanism::Seccomp).unwrap();
    assert_eq!(missing.reason, "no answer within 2 s");
    let probe = Probe::of(
        Role::Root,
        Host::default(),
        &Ok("tmpfs works 0\nended".into()),
    );
    let missing = probe.missing(Mechanism::Seccomp).unwrap();
    assert!(missing.reason.contains("killed"), "{missing:?}");
    assert_eq!(probe.lack(Feature::Tmpfs), None);
    let none = Err(io::Error::from_raw_os_error(libc::ENOENT));
    let probe = Probe::of(Role::Root, Host::default(), &none);
    let missing = probe.missing(Mechanism::Seccomp).unwrap();
    assert!(
        missing.reason.starts_with("unable to run the trials"),
        "{missing:?}"
    );
}

#[test]
fn remedies_say_who_forbids_it() {
    let plain = Host::default();
    let ubuntu = Host {
        apparmor_restricts: Some(1),
        ..Host::default()
    };
    let debian = Host {
        userns_clone: Some(0),
        ..Host::default()
    };
    let hardened = Host {
        userns_limit: Some(0),
        ..Host::default()
    };
    let weak = Host {
        capabilities: Some(0),
        ..Host::default()
    };
    let docker = Host {
        container: Some("docker".into()),
        ..Host::default()
    };
    let userns = "user_namespace fails 1 user namespace";
    let utsns = "uts_namespace fails 1 uts namespace";
    for (role, host, line, expected) in [
        (
            Role::User,
            &ubuntu,
            userns,
            "AppArmor profile with \"userns,\"",
        ),
        (
            Role::User,
            &debian,
            utsns,
            "kernel.unprivileged_userns_clone=1",
        ),
        (Role::Root, &hardened, userns, "user.max_user_namespaces="),
        (Role::Root, &ubuntu, utsns, "SystemCallFilter="),
        (
            Role::Root,
            &weak,
            utsns,
            "capability sys_admin: see CapabilityBoundingSet=",
        ),
        (
            Role::Root,
            &weak,
            "switch_user fails 1 setgroups",
            "capability setgid",
        ),
        (Role::User, &weak, utsns, "another sandbox"),
        (Role::Root, &docker, utsns, "docker"),
        (Role::User, &plain, utsns, "another sandbox"),
        (Role::User, &docker, "proc fails 1 mounting", "unmask /proc"),
        (Role::Root, &plain, "landlock fails 38 landlock", "5.13"),
        (
            Role::Root,
            &plain,
            "landlock fails 95 landlock",
            "lsm=landlock",
        ),
        (
            Role::Root,
            &plain,
            "uts_namespace fails 22 uts namespace",
            "CONFIG_UTS_NS",
        ),
        (
            Role::Root,
            &docker,
            "clone3 fails 38 clone3",
            "docker's seccomp profile",
        ),
        (
            Role::Root,
            &plain,
            "network_namespace fails 28 x",
            "sysctl user.max_net_namespaces",
        ),
        (
            Role::Root,
            &plain,
            "tree_namespace fails 22 open_tree",
            "7.0",
        ),
    ] {
        let probe = Probe::of(role, host.clone(), &told(&[line]));
        let feature = Line::parse(line).unwrap().feature;
        let missing = probe.lack(feature).unwrap();
        assert!(missing.remedy.contains(expected), "{line}: {missing:?}");
    }
}

#[test]
fn cgroups_are_judged_by_what_is_mounted() {
    const UNIFIED: &str = "\
24 31 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,favordynmods
25 31 0:23 / /proc rw - proc proc rw";
    let mut host = Host {
        cgroup2: host::find_cgroup2(UNIFIED),
        ..Host::default()
    };
    assert!(host.favours_dynamic_moves());
    let missing = host.cgroup().unwrap_err();
    assert!(
        missing.reason.ends_with("lacks memory and pids"),
        "{missing:?}"
    );
    if let Some(found) = &mut host.cgroup2 {
        found.controllers = ["cpu", "memory", "pids"].map(str::to_owned).into();
    }
    assert_eq!(host.cgroup().unwrap(), "version 2 on /sys/fs/cgroup");
    host.cgroup2 = None;
    assert!(host.cgroup().unwrap_err().reason.contains("version 2"));
    assert!(!host.favours_dynamic_moves());
}

#[test]
fn a_trial_that_hangs_is_not_waited_for() {
    let (pipe, hung) = io::pipe().unwrap();
    let mut told = &hung;
    io::Write::write_all(&mut told, b"landlock works 7\n").unwrap();
    let soon = Instant::now() + Duration::from_millis(20);
    let text = gather(pipe, soon).unwrap();
    assert_eq!(text, "landlock works 7\n");
    let probe = Probe::of(Role::Root, Host::default(), &Ok(text));
    assert_eq!(probe.landlock(), Some(7));
    let missing = probe.missing(Mechanism::Keyring).unwrap();
    assert!(missing.reason.starts_with("no answer"), "{missing:?}");
}

#[test]
fn trials_that_have_all_ended_are_not_waited_for() {
    let (pipe, mut told) = io::pipe().unwrap();
    io::Write::write_all(&mut told, b"landlock works 7\n").unwrap();
    drop(told);
    let text = gather(pipe, Instant::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(text, "landlock works 7\nended");
}
