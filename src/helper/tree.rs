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
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    group: i32,
    pub session: i32,
    zombie: bool,
    stopped: bool,
}

impl Process {
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.zombie
    }
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

/// All processes as they were at one moment. Reading /proc takes long where
/// many run, so those who look for many servers look once.
#[derive(Debug)]
pub struct Snapshot {
    processes: Vec<Process>,
    /// By pid, group and session: the places of those that have it.
    having: HashMap<i32, Vec<usize>>,
    children: HashMap<i32, Vec<usize>>,
}

impl Snapshot {
    #[must_use]
    pub fn take() -> Self {
        Self::of(processes())
    }

    fn of(processes: Vec<Process>) -> Self {
        let mut having: HashMap<i32, Vec<usize>> = HashMap::new();
        let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
        for (at, process) in processes.iter().enumerate() {
            children.entry(process.parent).or_default().push(at);
            for id in HashSet::from([process.pid, process.group, process.session]) {
                having.entry(id).or_default().push(at);
            }
        }
        Self {
            processes,
            having,
            children,
        }
    }

    /// Everything that belongs to the server `root` now, itself included while it lives.
    #[must_use]
    pub fn members(&self, root: i32) -> Vec<Member> {
        hold(self.select(root))
    }

    /// Of these, those that are not stopped.
    #[must_use]
    pub fn running(&self, root: i32) -> Vec<Member> {
        let is_stopped = |pid: &i32| {
            let found = self.processes.iter().find(|process| process.pid == *pid);
            found.is_some_and(|process| process.stopped)
        };
        let mut pids = self.select(root);
        pids.retain(|pid| !is_stopped(pid));
        hold(pids)
    }

    /// What the server `root`, which has been reaped, left behind.
    #[must_use]
    pub fn leftovers(&self, root: i32) -> Vec<Member> {
        if self.is_reused(root) {
            return Vec::new();
        }
        self.members(root)
    }

    /// The kernel gives a number out again only when no process, group and
    /// session has it any more: a process with the number of one that was
    /// reaped is somebody else's, and so is all that goes by it.
    fn is_reused(&self, gone: i32) -> bool {
        self.processes.iter().any(|process| process.pid == gone)
    }

    fn select(&self, root: i32) -> Vec<i32> {
        let mut found: HashSet<usize> = self
            .having
            .get(&root)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let mut look: Vec<usize> = found.iter().copied().collect();
        while let Some(at) = look.pop() {
            let pid = self.processes[at].pid;
            for child in self.children.get(&pid).into_iter().flatten() {
                if found.insert(*child) {
                    look.push(*child);
                }
            }
        }
        let found = found.into_iter().map(|at| &self.processes[at]);
        found.filter(|p| !p.zombie).map(|p| p.pid).collect()
    }
}

fn hold(pids: Vec<i32>) -> Vec<Member> {
    let held = pids
        .into_iter()
        .map(|pid| pidfd_open(pid).ok().map(|pidfd| Member { pid, pidfd }));
    held.flatten().collect()
}

/// Kills the trees of `living` servers until nothing of them is left to kill.
pub fn kill_all(living: &[i32]) {
    kill_found(living, Snapshot::members);
}

/// Kills what the servers `gone` left behind: what was seen of it, and what
/// that has started since.
pub fn kill_leftovers(gone: &[i32], seen: &[Member]) {
    seen.iter().for_each(|member| member.signal(libc::SIGKILL));
    kill_found(gone, Snapshot::leftovers);
}

fn kill_found(roots: &[i32], find: impl Fn(&Snapshot, i32) -> Vec<Member>) {
    for _ in 0..ROUNDS {
        let now = Snapshot::take();
        let mut left = false;
        for root in roots {
            let found = find(&now, *root);
            found.iter().for_each(|member| member.signal(libc::SIGKILL));
            left |= !found.is_empty();
        }
        if !left {
            return;
        }
    }
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
#[must_use]
pub fn parse(stat: &[u8]) -> Option<Process> {
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
        stopped: matches!(state, "T" | "t"),
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
            stopped: false,
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
        let mut found = Snapshot::of(all.to_vec()).select(10);
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
    }

    #[test]
    fn a_number_given_out_again_is_not_what_a_server_left_behind() {
        let left = [process(1, 0, 1), process(13, 1, 10)];
        assert!(!Snapshot::of(left.to_vec()).is_reused(10));
        let reused = [process(1, 0, 1), process(10, 1, 10), process(11, 10, 10)];
        assert!(Snapshot::of(reused.to_vec()).is_reused(10));
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
                zombie: false,
                stopped: false
            })
        );
    }
}
