//! A sandbox that stands: the way into it, whether it is still what it was built for, and its end.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::sched::CloneFlags;

use crate::helper::handover::state::{Bag, Descriptors as Handed, SandboxState};
use crate::helper::reserve;
use crate::sandbox::blueprint::Blueprint;
use crate::sandbox::keeper::known::Known;
use crate::sandbox::launch::{Door, FIRST_LISTENER};
use crate::sys::inherit::raise_any;
use crate::sys::process::{pidfd_open, pidfd_signal};

/// One that stands. Dropping it tells its keeper to end when the last process
/// in it has.
#[derive(Debug)]
pub struct Sandbox {
    pub door: Door,
    keeper: i32,
    own_pids: bool,
    files: Rc<Known>,
    link: OwnedFd,
}

impl Sandbox {
    /// `own_pids`: whether its keeper is the first process of a pid namespace.
    #[must_use]
    pub fn new(door: Door, keeper: i32, own_pids: bool, files: Rc<Known>, link: OwnedFd) -> Self {
        Self {
            door,
            keeper,
            own_pids,
            files,
            link,
        }
    }

    /// Whether this process is its keeper.
    #[must_use]
    pub fn is_kept_by(&self, pid: i32) -> bool {
        self.keeper == pid
    }

    /// Whether what it shows and hides is what it was built for.
    #[must_use]
    pub fn is_current(&self, now: Instant) -> bool {
        self.files.are_same(now)
    }

    /// For the next usherd, which starts nobody in it.
    pub fn hand_over(&self, bag: &mut dyn Bag) -> io::Result<SandboxState> {
        Ok(SandboxState {
            keeper: self.keeper,
            pidfd: bag.put(self.door.keeper.as_fd())?,
            own_pids: self.own_pids,
            link: bag.put(self.link.as_fd())?,
        })
    }

    /// The reverse.
    #[must_use]
    pub fn taken_over(state: &SandboxState, descriptors: &mut Handed) -> Option<Self> {
        Some(Self {
            door: Door {
                keeper: descriptors.take(state.pidfd)?,
                namespaces: 0,
                landlock: None,
                users: None,
            },
            keeper: state.keeper,
            own_pids: state.own_pids,
            files: Rc::default(),
            link: descriptors.take(state.link)?,
        })
    }

    /// Ends every process in it; without a pid namespace, of its own only the keeper.
    pub fn kill(&self) {
        if self.own_pids
            && let Err(err) = pidfd_signal(self.door.keeper.as_fd(), libc::SIGKILL)
            && err.raw_os_error() != Some(libc::ESRCH)
        {
            log::warn!(pid = self.keeper; "unable to end a sandbox: {err}");
        }
    }
}

/// Which descriptors a keeper sends.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    pub landlock: bool,
    pub users: bool,
}

impl Announced {
    /// The way into what `keeper` has built, with the descriptors that it sent.
    pub fn open_door(
        self,
        keeper: i32,
        blueprint: &Blueprint,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Door> {
        let raise = |fd: BorrowedFd<'_>| {
            let raised = raise_any(fd, FIRST_LISTENER)?;
            match reserve::is_of_the_last(&raised) {
                true => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                false => Ok(raised),
            }
        };
        let mut descriptors = descriptors.into_iter();
        let mut next = |announced: bool| match announced {
            true => {
                let fd = descriptors.next();
                let fd = fd.ok_or(io::Error::from_raw_os_error(libc::EPROTO))?;
                raise(fd.as_fd()).map(Some)
            }
            false => Ok(None),
        };
        Ok(Door {
            landlock: next(self.landlock)?,
            users: next(self.users)?,
            keeper: raise(pidfd_open(keeper)?.as_fd())?,
            namespaces: namespaces(blueprint),
        })
    }
}

/// All that it has of its own.
fn namespaces(of: &Blueprint) -> i32 {
    let mut all = of.namespaces();
    all.set(CloneFlags::CLONE_NEWUSER, of.own_user.is_some());
    all.bits()
}
