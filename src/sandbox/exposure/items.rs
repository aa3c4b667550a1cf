//! What is looked at, how much it weighs, and how bad each answer is.
//!
//! Weights are relative: what gives the whole host away weighs 1000 to 2500,
//! what only tells something or only helps, 100 to 500.
#![forbid(unsafe_code)]

use super::{Item, places};
use crate::table::capability::Capability;
use crate::table::isolation::{FAMILIES, Family, Isolation, Mechanism, SystemCalls, word_of};
use crate::table::{Exec, Identity};

/// Whether a mechanism is in force.
pub(super) type Has<'a> = &'a dyn Fn(Mechanism) -> bool;

/// Badness and reason; nobody reads the reason of a 0.
pub(super) type Found = (u32, String);

pub(super) fn found(badness: u32, reason: &str) -> Found {
    (badness, reason.to_owned())
}

pub(super) fn item(what: &'static str, weight: u32, (badness, reason): Found) -> Item {
    Item {
        what,
        weight,
        badness: badness.min(10),
        reason,
    }
}

pub(super) fn all(exec: &Exec, has: Has) -> Vec<Item> {
    let mut items = who(exec, has);
    items.extend(capabilities(exec, has));
    items.extend(places::files(&exec.isolation, has));
    items.extend(places::surroundings(exec, has));
    items.extend(kernel(&exec.isolation, has));
    items.extend(limits(exec, has));
    items
}

fn who(exec: &Exec, has: Has) -> Vec<Item> {
    let user = match &exec.user {
        None => found(
            6,
            "runs as the user who starts usherd, whose files are open to it",
        ),
        Some(user) if user.uid == 0 => found(10, "runs as root"),
        Some(user) if user.user == "nobody" => found(
            7,
            "runs as nobody, who may have files and processes of other services",
        ),
        Some(_) => found(0, ""),
    };
    let groups = match &exec.user {
        Some(user) => groups(user),
        None => found(5, "has the groups of the user who starts usherd"),
    };
    let privileges = match has(Mechanism::NoNewPrivs) {
        true => found(0, ""),
        false => found(10, "set-uid programs give it other rights"),
    };
    vec![
        item("user", 2000, user),
        item("groups", 300, groups),
        item("no_new_privs", 1000, privileges),
    ]
}

fn groups(user: &Identity) -> Found {
    let more: Vec<u32> = user
        .groups
        .iter()
        .copied()
        .filter(|g| *g != user.gid)
        .collect();
    match (more.contains(&0), more.len()) {
        (true, _) => found(10, "is in root's group"),
        (false, 0) => found(0, ""),
        (false, 1) => found(3, "is in 1 more group"),
        (false, count) => (5, format!("is in {count} more groups")),
    }
}

/// Capabilities that give about the same away: weight and names.
const KINDS: [(u32, &[&str]); 12] = [
    (1500, &["sys_admin"]),
    (1500, &["setuid", "setgid", "setpcap", "setfcap"]),
    (1500, &["sys_ptrace"]),
    (
        1000,
        &[
            "dac_override",
            "dac_read_search",
            "chown",
            "fowner",
            "fsetid",
        ],
    ),
    (1000, &["sys_module", "sys_rawio", "sys_boot"]),
    (1000, &["bpf", "perfmon"]),
    (800, &["net_admin", "net_raw"]),
    (500, &["sys_time", "mknod", "syslog", "sys_tty_config"]),
    (
        500,
        &[
            "mac_override",
            "mac_admin",
            "audit_control",
            "audit_write",
            "audit_read",
        ],
    ),
    (
        300,
        &[
            "kill",
            "ipc_owner",
            "ipc_lock",
            "sys_chroot",
            "checkpoint_restore",
        ],
    ),
    (200, &["net_bind_service", "net_broadcast"]),
    (
        200,
        &[
            "sys_nice",
            "sys_resource",
            "sys_pacct",
            "lease",
            "linux_immutable",
            "wake_alarm",
            "block_suspend",
        ],
    ),
];

fn capabilities(exec: &Exec, has: Has) -> Vec<Item> {
    let kept = match &exec.isolation.capabilities {
        Some(kept) if has(Mechanism::CapabilityBounds) => Some(kept),
        _ => None,
    };
    // How it comes by those that it may have.
    let (badness, verb, rest) = match kept {
        Some(_) => (10, "keeps", ""),
        None if is_root(exec) => (10, "has", ", as root"),
        None if !has(Mechanism::NoNewPrivs) => (5, "may get", " by a set-uid program"),
        None => (0, "", ""),
    };
    let holds = |name: &&str| match kept {
        Some(kept) => Capability::named(name).is_some_and(|one| kept.contains(&one)),
        None => true,
    };
    let kinds = KINDS.into_iter().map(|(weight, names)| {
        let held: Vec<&str> = names.iter().copied().filter(holds).collect();
        let found = match held.as_slice() {
            [] => found(0, ""),
            [one] => (badness, format!("{verb} capability {one}{rest}")),
            [one, ..] => (
                badness,
                format!("{verb} capability {one} and its like{rest}"),
            ),
        };
        item("capability", weight, found)
    });
    kinds.collect()
}

pub(super) fn is_root(exec: &Exec) -> bool {
    exec.user.as_ref().is_some_and(|user| user.uid == 0)
}

/// What it may ask of the kernel.
fn kernel(isolation: &Isolation, has: Has) -> Vec<Item> {
    let seccomp = has(Mechanism::Seccomp);
    let calls = match isolation.system_calls {
        _ if !seccomp => found(10, "may make every system call"),
        SystemCalls::DenyList => found(4, "may make all system calls but the dangerous ones"),
        SystemCalls::AllowList => found(0, ""),
    };
    let count = u32::try_from(isolation.allow_calls.len()).unwrap_or(10);
    let allowed = match isolation.allow_calls.first() {
        Some(first) if seccomp => (
            count.saturating_mul(2),
            format!(
                "is allowed more system calls: {first}{}",
                if count > 1 { ", ..." } else { "" }
            ),
        ),
        _ => found(0, ""),
    };
    let unless = |mechanism, badness, reason: &str| match has(mechanism) {
        true => found(0, ""),
        false => found(badness, reason),
    };
    let labelled = isolation.apparmor.is_some() || isolation.selinux.is_some();
    vec![
        item("system_calls", 2500, calls),
        item("allow_calls", 400, allowed),
        item("address_families", 800, families(isolation, seccomp)),
        item(
            "landlock",
            600,
            unless(Mechanism::Landlock, 10, "only mounts keep it from writing"),
        ),
        item(
            "memory_deny_write_execute",
            400,
            unless(
                Mechanism::MemoryDenyWriteExecute,
                10,
                "may run code that it writes itself",
            ),
        ),
        item(
            "keyring",
            200,
            unless(Mechanism::Keyring, 10, "shares a keyring with usherd"),
        ),
        item(
            "apparmor",
            200,
            match labelled {
                true => found(0, ""),
                false => found(10, "no profile or context of its own"),
            },
        ),
    ]
}

fn families(isolation: &Isolation, seccomp: bool) -> Found {
    let Some(families) = isolation.address_families.as_ref().filter(|_| seccomp) else {
        return found(10, "may make sockets of every family");
    };
    let worth = |family: &Family| match family {
        Family::Packet => 9,
        Family::Netlink => 5,
        Family::Vsock => 3,
        Family::Inet | Family::Inet6 => 1,
        Family::Unix => 0,
    };
    let worst = families.iter().max_by_key(|family| worth(family));
    match worst {
        Some(family) if worth(family) > 0 => (
            worth(family),
            format!("may make {} sockets", word_of(&FAMILIES, *family)),
        ),
        _ => found(0, ""),
    }
}

/// What it can take from others by using it up.
fn limits(exec: &Exec, has: Has) -> Vec<Item> {
    let cgroup = has(Mechanism::Cgroup);
    let bounded = |name: &str| exec.limits.iter().any(|limit| limit.name == name);
    let memory = match cgroup && exec.resources.memory.is_some() {
        true => found(0, ""),
        false if bounded("as") || bounded("data") => {
            found(5, "may use up memory with many processes")
        }
        false => found(10, "may use up the host's memory"),
    };
    let tasks = match cgroup && exec.resources.tasks.is_some() {
        true => found(0, ""),
        false if bounded("nproc") => found(4, "may use up the processes of its user"),
        false => found(10, "may use up the host's processes"),
    };
    let spared = match exec.oom_score {
        Some(score) if score < 0 => found(10, "others are killed first when memory runs out"),
        _ => found(0, ""),
    };
    let umask = match exec.umask & 0o022 {
        0o022 => found(0, ""),
        _ => found(10, "its files can be written by others"),
    };
    vec![
        item("resources.memory", 300, memory),
        item("resources.tasks", 300, tasks),
        item("oom_score", 100, spared),
        item("umask", 100, umask),
    ]
}
