//! What a keeper does when its sandbox stands: nothing, without any right.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Exit;
use crate::sys::front_calls::drop_capabilities;
use crate::sys::process;

/// How often a keeper that is not needed any more looks whether it is alone,
/// in milliseconds: not every process in the sandbox is its child.
const LOOK: u16 = 1000;

/// Until `fd` has something to read, or its other end is gone.
pub fn wait_for(fd: BorrowedFd<'_>) {
    let mut one = [PollFd::new(fd, PollFlags::POLLIN)];
    while poll(&mut one, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
}

/// `hidden`: nobody but root may look at this process. Returns where the ends
/// of children are told.
pub fn give_up(hidden: bool) -> io::Result<SignalFd> {
    prctl::set_name(c"usherd-keeper")?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let children = SignalFd::with_flags(&mask, flags)?;
    drop_capabilities()?;
    prctl::set_no_new_privs()?;
    if hidden {
        prctl::set_dumpable(false)?;
    }
    Ok(children)
}

pub fn rest(link: BorrowedFd<'_>, children: &SignalFd) -> Exit {
    let mut needed = true;
    loop {
        let child = PollFd::new(children.as_fd(), PollFlags::POLLIN);
        // What the helper may still say is not for us; only the end of the link is.
        let helper = PollFd::new(link, PollFlags::empty());
        let timeout = if needed {
            PollTimeout::NONE
        } else {
            PollTimeout::from(LOOK)
        };
        let _ = poll(&mut [child, helper][..if needed { 2 } else { 1 }], timeout);
        while let Ok(Some(_)) = children.read_signal() {}
        while process::reap().is_some() {}
        needed &= !is_closed(link);
        if !needed && process::is_alone() {
            return Exit::Ok;
        }
    }
}

fn is_closed(link: BorrowedFd<'_>) -> bool {
    let mut one = [PollFd::new(link, PollFlags::empty())];
    poll(&mut one, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
