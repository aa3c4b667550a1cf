//! A user namespace that servers enter last: only their own user and groups
//! exist in it, and what rights they gain by entering are worth nothing outside.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};

use super::{Failure, to};
use crate::sandbox::blueprint::Users;
use crate::sys::process;

/// Made by a child that does nothing else: who makes one is in it.
pub fn namespace(who: &Users, own_pids: bool) -> Result<OwnedFd, Failure> {
    let (its_end, our_end) = to("make a pipe", io::pipe())?;
    let (ready, says_ready) = to("make a pipe", io::pipe())?;
    let child = to("make a process for a user namespace", process::fork_alone())?;
    let Some(child) = child else {
        drop((our_end, ready));
        if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
            let _ = io::Write::write(&mut &says_ready, b"!");
        }
        drop(says_ready);
        // Until the other side is done with us.
        let _ = io::Read::read(&mut &its_end, &mut [0]);
        process::exit_at_once(0);
    };
    drop((its_end, says_ready));
    let made = io::Read::read(&mut &ready, &mut [0]).is_ok_and(|length| length == 1);
    let found = if made {
        map(child, who, own_pids)
    } else {
        to(
            "make a user namespace",
            Err(io::Error::from_raw_os_error(libc::EPERM)),
        )
    };
    drop(our_end);
    process::wait_for(child);
    found
}

fn map(child: i32, who: &Users, own_pids: bool) -> Result<OwnedFd, Failure> {
    // The child's number is that of our own pid namespace, the old /proc shows another.
    let scratch;
    let proc = if own_pids {
        scratch = to("look at processes", process::own_proc())?;
        format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&scratch)
        )
    } else {
        "/proc".to_owned()
    };
    let write = |file: &str, ids: &[u32]| {
        let mut map = String::new();
        for id in ids {
            let _ = writeln!(map, "{id} {id} 1");
        }
        fs::write(format!("{proc}/{child}/{file}"), map)
    };
    to(
        "map the user of a user namespace",
        write("uid_map", &[who.uid]),
    )?;
    to(
        "map the groups of a user namespace",
        write("gid_map", &who.gids),
    )?;
    let namespace = fs::File::open(format!("{proc}/{child}/ns/user"));
    to("open a user namespace", namespace).map(OwnedFd::from)
}
