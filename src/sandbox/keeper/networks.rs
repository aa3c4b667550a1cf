//! Network namespaces in which there is nothing, each for one sandbox at a time.
//!
//! The kernel takes long to make one, longer to take it down, and does one after the other
//! whatever the number of CPUs. One in which nobody could change anything
//! ([`Blueprint::network_again`](crate::sandbox::blueprint::Blueprint::network_again)) is as good
//! as new when the last process of its sandbox is gone: all that was in it was sockets.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

use super::{Failure, to};

/// Those of more sandboxes at once are not used again.
const MOST: usize = 32;

pub struct Networks {
    /// /proc/self/ns, which the tree of the sandboxes may not have.
    own: OwnedFd,
    free: Vec<OwnedFd>,
    /// Each with the first process of its sandbox: the kernel ends all others before it.
    used: Vec<(OwnedFd, OwnedFd)>,
}

impl Networks {
    pub fn new() -> Result<Self, Failure> {
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let own = open("/proc/self/ns", how, Mode::empty());
        Ok(Self {
            own: to("find network namespaces", own)?,
            free: Vec::new(),
            used: Vec::new(),
        })
    }

    /// Puts this process, and so the children it makes next, into one that is nobody's.
    pub fn enter(&mut self) -> Result<OwnedFd, Failure> {
        if self.free.is_empty() {
            self.collect();
        }
        if let Some(network) = self.free.pop() {
            let entered = setns(&network, CloneFlags::CLONE_NEWNET);
            to("enter a network namespace", entered)?;
            return Ok(network);
        }
        let made = unshare(CloneFlags::CLONE_NEWNET);
        to("make a network namespace", made)?;
        let how = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let network = openat(&self.own, "net", how, Mode::empty());
        to("open a network namespace", network)
    }

    /// It belongs to the sandbox whose first process is `keeper` now.
    pub fn give(&mut self, network: OwnedFd, keeper: OwnedFd) {
        if self.used.len() + self.free.len() < MOST {
            self.used.push((network, keeper));
        }
    }

    /// Takes back what nobody is in any more.
    fn collect(&mut self) {
        let mut ends: Vec<PollFd<'_>> = self
            .used
            .iter()
            .map(|(_, keeper)| PollFd::new(keeper.as_fd(), PollFlags::POLLIN))
            .collect();
        if !poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
            return;
        }
        let has_ended: Vec<bool> = ends.iter().map(|end| end.any().unwrap_or(false)).collect();
        let mut has_ended = has_ended.into_iter();
        let (ended, used) = std::mem::take(&mut self.used)
            .into_iter()
            .partition::<Vec<_>, _>(|_| has_ended.next().unwrap_or(false));
        self.used = used;
        self.free
            .extend(ended.into_iter().map(|(network, _)| network));
    }
}
