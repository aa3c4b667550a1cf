//! What a server sees and reaches beside itself: files, processes, networks.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::Item;
use super::items::{Has, found, is_root, item};
use crate::table::Exec;
use crate::table::isolation::{Dev, Home, Isolation, Mechanism, Network, Proc, Root, Sys, Tmp};

/// What is seen of the host's files, and what may be changed.
pub(super) fn files(isolation: &Isolation, has: Has) -> Vec<Item> {
    let mounts = has(Mechanism::MountNamespace);
    let root = match isolation.root {
        Root::Host => found(10, "may write wherever its user may"),
        _ if !mounts || reaches(&isolation.writable, Path::new("/")) => {
            found(10, "may write wherever its user may")
        }
        Root::ReadOnly => found(3, "sees the host's files, read-only"),
        Root::Minimal => found(0, ""),
    };
    let writable = match isolation.writable.as_slice() {
        [] => found(0, ""),
        [one] => (2, format!("may write to {}", one.display())),
        [one, more @ ..] => (
            2 + u32::try_from(more.len()).unwrap_or(8),
            format!(
                "may write to {} and {} more places",
                one.display(),
                more.len()
            ),
        ),
    };
    let homes = ["/home", "/root", "/run/user"].map(Path::new);
    let opened = |places: &[PathBuf]| homes.iter().any(|home| reaches(places, home));
    let home = match isolation.home {
        Home::Host => found(10, "sees /home, and may write there as its user"),
        _ if !mounts => found(10, "sees /home, and may write there as its user"),
        _ if opened(&isolation.writable) => found(8, "may write to a part of /home"),
        Home::ReadOnly => found(5, "sees /home"),
        Home::Hidden if opened(&isolation.visible) => found(3, "sees a part of /home"),
        Home::Hidden => found(0, ""),
    };
    let tmp = match isolation.tmp {
        Tmp::Private if mounts => found(0, ""),
        Tmp::Private | Tmp::Host => found(10, "shares /tmp with the host"),
    };
    let dev = match isolation.dev {
        Dev::Host => found(10, "sees the host's devices"),
        _ if !mounts => found(10, "sees the host's devices"),
        Dev::Minimal => found(2, "may open terminals and write to the system's log"),
        Dev::Bare => found(0, ""),
    };
    let sys = match isolation.sys {
        Sys::Host => found(10, "sees /sys, and may write there as its user"),
        _ if !mounts => found(10, "sees /sys, and may write there as its user"),
        Sys::ReadOnly => found(4, "sees /sys: hardware and kernel"),
        Sys::None => found(0, ""),
    };
    vec![
        item("root", 1000, root),
        item("writable", 300, writable),
        item("home", 1000, home),
        item("tmp", 800, tmp),
        item("dev", 800, dev),
        item("sys", 500, sys),
    ]
}

/// Whether one of `places` is `path`, below it, or above it.
fn reaches(places: &[PathBuf], path: &Path) -> bool {
    let mut places = places.iter();
    match path.parent() {
        None => places.any(|place| place == path),
        Some(_) => places.any(|place| place.starts_with(path) || path.starts_with(place)),
    }
}

/// Processes, networks and names of others.
pub(super) fn surroundings(exec: &Exec, has: Has) -> Vec<Item> {
    let isolation = &exec.isolation;
    let unless = |mechanism, reason: &str| match has(mechanism) {
        true => found(0, ""),
        false => found(10, reason),
    };
    let proc = match isolation.proc {
        Proc::None if has(Mechanism::MountNamespace) => found(0, ""),
        _ if !has(Mechanism::MountNamespace) || !has(Mechanism::PidNamespace) => {
            found(10, "sees all processes in /proc")
        }
        Proc::Host => found(10, "sees all processes in /proc"),
        Proc::Own => found(3, "sees the kernel's settings in /proc"),
        Proc::Subset | Proc::None => found(0, ""),
    };
    let network = match isolation.network {
        _ if !has(Mechanism::NetworkNamespace) => found(10, "may reach the network"),
        Network::Host => found(10, "may reach the network"),
        Network::Loopback => found(1, "has a loopback of its own"),
        Network::None => found(0, ""),
    };
    let shared = match isolation.per_instance() {
        true => found(0, ""),
        false => found(10, "its instances see one another"),
    };
    vec![
        item("network", 2000, network),
        item("proc", 700, proc),
        item(
            "pid_namespace",
            1000,
            unless(
                Mechanism::PidNamespace,
                match is_root(exec) {
                    true => "may signal every process",
                    false => "may signal other processes of its user",
                },
            ),
        ),
        item(
            "ipc_namespace",
            400,
            unless(
                Mechanism::IpcNamespace,
                "shares System V IPC and message queues",
            ),
        ),
        item(
            "uts_namespace",
            100,
            unless(
                Mechanism::UtsNamespace,
                "sees and, as root, changes the host's name",
            ),
        ),
        item(
            "cgroup_namespace",
            200,
            unless(
                Mechanism::CgroupNamespace,
                "sees where in the cgroups it is",
            ),
        ),
        item(
            "user_namespace",
            600,
            unless(Mechanism::UserNamespace, "its user is the host's"),
        ),
        item("preset", 500, shared),
    ]
}
