//! `report.*`: what this host is and how it does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use super::statistics::{ask, connect, shown};
use super::{Outcome, Request, Usherd, to};

/// Services named in each list.
const MOST: usize = 10;
/// File systems of the kernel's own, and those in memory: a sandbox has some of its own, in
/// the places of the host's.
const UNREAL: [&str; 22] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// Kernel, load, memory, uptime, file systems.
pub fn report(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let names = to("ask for the kernel's name", uname())?;
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let load = to("read /proc/loadavg", fs::read_to_string("/proc/loadavg"))?;
    let load: Vec<f64> = load
        .split_whitespace()
        .take(3)
        .filter_map(|word| word.parse().ok())
        .collect();
    let memory = to("read /proc/meminfo", fs::read_to_string("/proc/meminfo"))?;
    let uptime = to("read /proc/uptime", fs::read_to_string("/proc/uptime"))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    Ok(json!({
        // In a sandbox it has no name.
        "host": request.places.host,
        "kernel": text(names.release()),
        "machine": text(names.machine()),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "load": load,
        "memory": memory_of(&memory),
        "uptime_s": uptime.split(['.', ' ']).next().and_then(|word| word.parse::<u64>().ok()),
        "file_systems": file_systems(&mounts),
    }))
}

/// Services by what they are doing, the busiest, and those that fail.
pub fn services(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let mut link = connect(request)?;
    let daemon = ask(&mut link, "GetDaemon", None)?;
    let all = shown(&ask(&mut link, "GetServices", None)?);
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for service in &all {
        *states
            .entry(service["state"].as_str().unwrap_or("?"))
            .or_default() += 1;
    }
    Ok(json!({
        "daemon": daemon["daemon"],
        "services": all.len(),
        "states": states,
        "busiest": most(&all, "accepted"),
        "running": most(&all, "running"),
        "refusing": most(&all, "refused"),
        "failing": most(&all, "failed"),
    }))
}

/// Those with the most of `key`, if any.
fn most<'a>(all: &'a [Value], key: &str) -> Vec<&'a Value> {
    let count = |service: &&Value| service[key].as_u64().unwrap_or(0);
    let mut found: Vec<&Value> = all.iter().filter(|one| count(one) > 0).collect();
    found.sort_by_key(|one| std::cmp::Reverse(count(one)));
    found.truncate(MOST);
    found
}

/// Octets; /proc/meminfo counts in KiB.
fn memory_of(text: &str) -> Value {
    let octets = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    json!({
        "total": octets("MemTotal"),
        "available": octets("MemAvailable"),
        "swap_total": octets("SwapTotal"),
        "swap_free": octets("SwapFree"),
    })
}

#[allow(
    clippy::useless_conversion,
    reason = "the kernel's numbers have half the size on 32-bit machines"
)]
fn file_systems(mounts: &str) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(at), Some(kind)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if UNREAL.contains(&kind) || !seen.insert((source.to_owned(), kind.to_owned())) {
            continue;
        }
        // proc_mounts(5) writes blanks in octal.
        let path = at.replace("\\040", " ");
        let Ok(about) = statvfs(Path::new(&path)) else {
            continue;
        };
        let block = about.fragment_size();
        found.push(json!({
            "at": path,
            "type": kind,
            "size": u64::from(about.blocks()) * u64::from(block),
            "available": u64::from(about.blocks_available()) * u64::from(block),
            "files": u64::from(about.files()),
            "files_free": u64::from(about.files_free()),
        }));
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_octets() {
        let memory = memory_of("MemTotal:       16 kB\nMemAvailable:    8 kB\nSwapTotal: 0 kB\n");
        let expected =
            json!({ "total": 16384, "available": 8192, "swap_total": 0, "swap_free": null });
        assert_eq!(memory, expected);
    }

    #[test]
    fn a_file_system_is_told_once_and_the_kernels_own_not_at_all() {
        let root = fs::read_to_string("/proc/self/mounts").unwrap();
        let told = file_systems(&root);
        assert!(
            told.iter()
                .all(|one| !UNREAL.contains(&one["type"].as_str().unwrap()))
        );
        let twice = file_systems("a / ext4 rw 0 0\na /tmp ext4 rw 0 0\nproc /proc proc rw 0 0\n");
        assert_eq!(twice.len(), 1);
        assert_eq!(twice[0]["at"], "/");
    }

    #[test]
    fn the_busiest_come_first_and_the_idle_not_at_all() {
        let all = [
            json!({ "accepted": 1 }),
            json!({ "accepted": 0 }),
            json!({ "accepted": 7 }),
        ];
        assert_eq!(most(&all, "accepted"), [&all[2], &all[0]]);
    }
}
