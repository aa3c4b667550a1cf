//! A server and everything it started: found and signalled together.
//!
//! Without a cgroup nothing in the kernel ties them, so three things are
//! followed: the session (every server leads its own), the process group, and
//! parentage. usherd is a subreaper, so a child whose parent died is ours.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::process::{pidfd_open, pidfd_signal};

/// How often a tree that keeps growing is looked at again.
const ROUNDS: usize = 8;

/// A line of /proc/PID/stat, as far as it matters here (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    zombie: bool,
}

/// A process that a stop has to reach, whatever becomes of its number.
#[derive(Debug)]
pub struct Member {
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Member {
    /// Sends `signal`; a process that is gone already is no error.
    pub fn signal(&self, signal: i32) {
        if let Err(err) = pidfd_signal(self.pidfd.as_fd(), signal)
            && err.raw_os_error() != Some(libc::ESRCH)
        {
            log::warn!(pid = self.pid; "unable to signal: {err}");
        }
    }
}

/// Everything that belongs to the servers `roots` now, themselves included
/// while they live.
#[must_use]
pub fn members(roots: &HashSet<i32>) -> Vec<Member> {
    select(&processes(), roots)
        .into_iter()
        .filter_map(|pid| pidfd_open(pid).ok().map(|pidfd| Member { pid, pidfd }))
        .collect()
}

/// Kills the trees of `roots` and `others` until nothing of them is left to kill.
pub fn kill_all(roots: &HashSet<i32>, others: &[Member]) {
    others
        .iter()
        .for_each(|member| member.signal(libc::SIGKILL));
    for _ in 0..ROUNDS {
        let found = members(roots);
        if found.is_empty() {
            return;
        }
        found.iter().for_each(|member| member.signal(libc::SIGKILL));
    }
}

fn select(processes: &[Process], roots: &HashSet<i32>) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in processes {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found: HashSet<i32> = processes
        .iter()
        .filter(|p| {
            [p.pid, p.group, p.session]
                .iter()
                .any(|id| roots.contains(id))
        })
        .map(|p| p.pid)
        .collect();
    let mut look: Vec<i32> = found.iter().copied().collect();
    while let Some(pid) = look.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                look.push(*child);
            }
        }
    }
    let zombies: HashSet<i32> = processes
        .iter()
        .filter(|p| p.zombie)
        .map(|p| p.pid)
        .collect();
    found
        .into_iter()
        .filter(|pid| !zombies.contains(pid))
        .collect()
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| parse(&fs::read(entry.path().join("stat")).ok()?))
        .collect()
}

/// The name stands in parentheses and may hold anything, so the fields after
/// it are counted from the last one.
fn parse(stat: &[u8]) -> Option<Process> {
    let text = String::from_utf8_lossy(stat);
    let (pid, rest) = text.split_once(' ')?;
    let (_, rest) = rest.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: number()?,
        group: number()?,
        session: number()?,
        zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process {
            pid,
            parent,
            group: session,
            session,
            zombie: false,
        }
    }

    #[test]
    fn session_and_parentage_make_the_tree() {
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),
            process(11, 10, 10),
            process(12, 11, 12), // left the session, still a child
            process(13, 1, 10),  // orphan that stayed in the session
            process(20, 1, 20),
        ];
        let mut found = select(&all, &HashSet::from([10]));
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_skipped() {
        let found = parse(b"42 (a) S 9 9 (b) R 7 8 9 0 -1");
        assert_eq!(
            found,
            Some(Process {
                pid: 42,
                parent: 7,
                group: 8,
                session: 9,
                zombie: false
            })
        );
    }
}
