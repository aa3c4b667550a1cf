//! The cgroup of one instance: what is in it, what it uses, and its end.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::dir::{Dir, number_of};
use super::limits::{Controller, Controllers};
use crate::sys::process::{pidfd_open, pidfd_signal};

/// How often a cgroup that keeps growing is looked at again, where the kernel
/// does not kill it as a whole.
const ROUNDS: usize = 8;
/// Cgroups that a server made below its own are followed so deep.
const DEEPEST: u32 = 8;

/// A cgroup that holds one instance, or none yet.
#[derive(Debug)]
pub struct Leaf {
    pub(super) dir: Dir,
    /// Of its directory in that of the service.
    pub(super) name: String,
    number: u64,
    /// The name of the service.
    pub service: Rc<str>,
    /// What is in it has less rights than its user, be that root.
    pub isolated: bool,
    /// It serves no other instance: something in it was killed by who knows
    /// whom. What is cloned into a cgroup that was ever killed as a whole is
    /// killed at birth (Linux 6.14 and on), and nothing tells which ones were.
    pub(super) spent: bool,
    /// What those that were in it before have used.
    before: Totals,
    counted: Controllers,
}

/// What an instance uses, all its processes together. `None`: not counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_micros: u64,
    pub memory: Option<u64>,
    /// The most at once, of all that have been in this cgroup (from Linux 5.19 on).
    pub memory_peak: Option<u64>,
    pub tasks: u64,
    /// Octets from and to disks.
    pub read: Option<u64>,
    pub written: Option<u64>,
}

/// What the kernel counts up and never down.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    cpu_micros: u64,
    oom_kills: u64,
    read: u64,
    written: u64,
}

impl Leaf {
    /// `counted`: what there are files for.
    pub(super) fn new(dir: Dir, name: String, service: Rc<str>, counted: Controllers) -> Self {
        if counted.has(Controller::Memory) {
            // All of it dies together: half a server serves nobody.
            let _ = dir.write("memory.oom.group", "1");
        }
        Self {
            number: dir.stat().map_or(0, |stat| stat.st_ino),
            dir,
            name,
            service,
            isolated: true,
            spent: false,
            before: Totals::default(),
            counted,
        }
    }

    /// Of its directory in that of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of its directory: no other cgroup has had it since the boot.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether it is the one of this name, of this service.
    #[must_use]
    pub fn is(&self, service: &str, name: &str) -> bool {
        *self.service == *service && self.name == name
    }

    /// Whether any process is in it, or below it.
    pub fn is_populated(&self) -> io::Result<bool> {
        let events = self.dir.read("cgroup.events")?;
        Ok(number_of(&events, "populated") != Some(0))
    }

    /// Whether a process is in it itself.
    #[must_use]
    pub fn has(&self, pid: i32) -> bool {
        self.dir.processes().is_ok_and(|pids| pids.contains(&pid))
    }

    /// Kills everything in it and below it, whatever forks meanwhile. Its
    /// server then ends by SIGKILL, which makes it [`Self::spend`].
    pub fn kill(&self) -> io::Result<()> {
        match self.dir.write("cgroup.kill", "1") {
            // Before Linux 5.14.
            Err(err) if err.kind() == io::ErrorKind::NotFound => self.kill_each(),
            done => done,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for _ in 0..ROUNDS {
            if self.signal(libc::SIGKILL)?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Stops everything in it where it is, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.dir
            .write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Signals every process in it and below it. Returns their numbers.
    pub fn signal(&self, signal: i32) -> io::Result<Vec<i32>> {
        let members = self.members()?;
        for (pid, pidfd) in &members {
            if let Err(err) = pidfd_signal(pidfd.as_fd(), signal)
                && err.raw_os_error() != Some(libc::ESRCH)
            {
                log::warn!(pid = *pid; "unable to signal: {err}");
            }
        }
        Ok(members.into_iter().map(|(pid, _)| pid).collect())
    }

    /// A number may go to a stranger between the reading and the opening. One
    /// that is in the cgroup before and after is that of a member, or what was
    /// opened is gone.
    fn members(&self) -> io::Result<Vec<(i32, OwnedFd)>> {
        let mut pids = Vec::new();
        collect(&self.dir, DEEPEST, &mut pids)?;
        let open = |pid| Some((pid, pidfd_open(pid).ok()?));
        let mut members: Vec<(i32, OwnedFd)> = pids.into_iter().filter_map(open).collect();
        let mut still = Vec::new();
        collect(&self.dir, DEEPEST, &mut still)?;
        members.retain(|(pid, _)| still.contains(pid));
        Ok(members)
    }

    pub fn usage(&self) -> io::Result<Usage> {
        let cpu = self.dir.read("cpu.stat")?;
        let number = |file| self.dir.read(file).ok()?.trim().parse::<u64>().ok();
        let io = self.all_io();
        let tasks = match number("pids.current") {
            Some(tasks) => tasks,
            None => self.dir.processes()?.len() as u64,
        };
        let before = &self.before;
        Ok(Usage {
            cpu_micros: since(number_of(&cpu, "usage_usec"), before.cpu_micros),
            memory: number("memory.current"),
            memory_peak: number("memory.peak"),
            tasks,
            read: io.map(|(read, _)| since(Some(read), before.read)),
            written: io.map(|(_, written)| since(Some(written), before.written)),
        })
    }

    /// Processes of the instance that the kernel killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        since(self.all_oom_kills(), self.before.oom_kills)
    }

    fn all_io(&self) -> Option<(u64, u64)> {
        let counted = self.counted.has(Controller::Io);
        let text = counted.then(|| self.dir.read("io.stat").ok())??;
        Some(io_totals(&text))
    }

    fn all_oom_kills(&self) -> Option<u64> {
        if !self.counted.has(Controller::Memory) {
            return None;
        }
        number_of(&self.dir.read("memory.events").ok()?, "oom_kill")
    }

    /// It is not to be used again.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Makes it as good as new for the next instance of the same service: the
    /// counts begin anew. `false` if it is not.
    pub(super) fn renew(&mut self) -> bool {
        if self.spent {
            return false;
        }
        let counted = self.dir.read("cpu.stat");
        let (read, written) = self.all_io().unwrap_or_default();
        self.before = Totals {
            cpu_micros: counted.map_or(0, |text| number_of(&text, "usage_usec").unwrap_or(0)),
            oom_kills: self.all_oom_kills().unwrap_or(0),
            read,
            written,
        };
        !self.is_divided()
    }

    /// Whether a server of root has made cgroups below it: a directory has a
    /// link more for each one in it.
    pub(super) fn is_divided(&self) -> bool {
        self.dir.stat().is_ok_and(|stat| stat.st_nlink > 2)
    }
}

impl AsFd for Leaf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn collect(dir: &Dir, deepest: u32, into: &mut Vec<i32>) -> io::Result<()> {
    into.extend(dir.processes()?);
    if deepest == 0 {
        return Ok(());
    }
    for name in dir.children()? {
        // One that is gone meanwhile holds nobody.
        if let Ok(below) = dir.child(&name) {
            let _ = collect(&below, deepest - 1, into);
        }
    }
    Ok(())
}

fn since(now: Option<u64>, before: u64) -> u64 {
    now.unwrap_or(0).saturating_sub(before)
}

/// Octets read and written, over all devices: lines of `8:0 rbytes=1 wbytes=2 ...`.
fn io_totals(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        let numbers = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        numbers.sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_of_all_devices_are_added() {
        let text = "8:0 rbytes=10 wbytes=1 rios=9 wios=9 dbytes=0 dios=0\n253:0 rbytes=5 wbytes=2\n8:16 \n";
        assert_eq!(io_totals(text), (15, 3));
        assert_eq!(number_of("oom 1\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(number_of("oom_kill 3\noom 1\n", "oom"), Some(1));
    }
}
