//! What /proc says about processes and sockets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

/// A process id.
pub type Pid = i32;

#[must_use]
pub fn this() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// Sends a signal; a process that has gone already is none of ours to mourn.
pub fn kill(pid: Pid, signal: Signal) {
    assert!(pid > 1, "no test signals process {pid}");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// One line of /proc/PID/stat, the fields after the name: see proc(5).
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The process's state letter; `None` if there is no such process.
#[must_use]
pub fn state(pid: Pid) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Whether the process exists and is no zombie.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// User and system time so far, in clock ticks (a hundred a second).
#[must_use]
pub fn cpu_ticks(pid: Pid) -> u64 {
    let of = |fields: &[String]| Some(number(fields.get(11)?) + number(fields.get(12)?));
    stat(pid).and_then(|fields| of(&fields)).unwrap_or(0)
}

/// Direct children, zombies among them, oldest first.
#[must_use]
pub fn children(parent: Pid) -> Vec<Pid> {
    let mut found: Vec<(u64, Pid)> = all()
        .filter_map(|pid| {
            let fields = stat(pid)?;
            let is_child = fields.get(1)?.parse() == Ok(parent);
            is_child.then(|| (number(&fields[19]), pid))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, pid)| pid).collect()
}

/// All descendants that are alive.
#[must_use]
pub fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = children(ancestor);
    while let Some(pid) = open.pop() {
        open.extend(children(pid));
        if is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

fn all() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .expect("unable to read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The first word of a process's command line.
#[must_use]
pub fn argv0(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

/// A line of /proc/PID/status, without its name.
#[must_use]
pub fn status(pid: Pid, name: &str) -> Option<String> {
    field(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        name,
    )
}

/// The value of `Name:` in the text of a status file.
#[must_use]
pub fn field(status: &str, name: &str) -> Option<String> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// The descriptors of a process and what they point at.
#[must_use]
pub fn descriptors(pid: Pid) -> BTreeMap<i32, String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, target.display().to_string()))
        })
        .collect()
}

/// The inodes of sockets that listen on a TCP port of any address.
#[must_use]
pub fn listeners(port: u16) -> Vec<u64> {
    sockets(&["tcp", "tcp6"], port, Some("0A"))
}

/// The inodes of UDP sockets bound to a port.
#[must_use]
pub fn udp_sockets(port: u16) -> Vec<u64> {
    sockets(&["udp", "udp6"], port, None)
}

fn sockets(tables: &[&str], port: u16, state: Option<&str>) -> Vec<u64> {
    let suffix = format!(":{port:04X}");
    let mut found = Vec::new();
    for table in tables {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_here = fields.get(1).is_some_and(|local| local.ends_with(&suffix));
            let fits = state.is_none_or(|state| fields.get(3) == Some(&state));
            if is_here && fits {
                found.extend(fields.get(9).map(|inode| number(inode)));
            }
        }
    }
    found.sort_unstable();
    found
}

/// The uid that owns a process.
#[must_use]
pub fn owner(pid: Pid) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
