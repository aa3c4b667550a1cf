//! Who closes a session of PAM: a process that waits for the end of the
//! server, as systemd's `(sd-pam)` does, and ends soon after it.
//!
//! It has nothing of the server's but its number: not the connection, which a
//! peer would wait for the end of; not its process group, session, parentage
//! and cgroup, by which a server and all that it started are signalled. It was
//! made before the server entered its sandbox, so it is on the host, where the session was opened.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, close, getpid, setsid};

use super::{Orders, Report, tell};
use crate::sandbox::plan::ExecPlan;
use crate::sys::pam::Pam;
use crate::sys::process::{exit_at_once, fork_alone, pidfd_open};
use crate::sys::raw;

/// Gives `pam` to a new process. It stands when this returns; or else the session is closed.
pub fn leave_behind(mut pam: Pam, orders: &Orders<ExecPlan>, link: &OwnedFd) -> Result<(), String> {
    let forked = pidfd_open(getpid().as_raw()).and_then(|server| {
        let Some(between) = fork_alone()? else {
            return Ok(Some(server));
        };
        match waitpid(Pid::from_raw(between), None)? {
            WaitStatus::Exited(_, 0) => Ok(None),
            _ => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    });
    match forked {
        Ok(None) => {
            pam.forget();
            Ok(())
        }
        Ok(Some(server)) => step_aside(pam, &server, orders, link),
        Err(err) => {
            let _ = pam.close_session();
            let _ = pam.delete_credentials();
            Err(err.to_string())
        }
    }
}

/// The process between: its child belongs to nobody, and is where nobody looks for it.
fn step_aside(pam: Pam, server: &OwnedFd, orders: &Orders<ExecPlan>, link: &OwnedFd) -> ! {
    let _ = setsid();
    if let Some(cgroup) = orders.beside {
        // Where that fails it ends with whatever is killed as a whole.
        let _ = raw::enter_cgroup(cgroup);
    }
    match fork_alone() {
        Ok(None) => {
            close_at_the_end(pam, server, orders, link);
            exit_at_once(0)
        }
        Ok(Some(_)) => exit_at_once(0),
        Err(_) => exit_at_once(1),
    }
}

fn close_at_the_end(mut pam: Pam, server: &OwnedFd, orders: &Orders<ExecPlan>, link: &OwnedFd) {
    let _ = prctl::set_name(c"usherd-session");
    for stdio in 0..3 {
        let _ = raw::place(orders.null, stdio);
    }
    // What modules have opened stays; all of ours goes but the link.
    for number in orders.descriptors() {
        let _ = close(number);
    }
    let mut end = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    while poll(&mut end, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let closed = pam.close_session();
    let deleted = pam.delete_credentials();
    drop(pam);
    if let Err(why) = closed.and(deleted) {
        tell(link.as_fd(), &Report::NotClosed(why));
    }
}
