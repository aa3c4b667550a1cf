//! The keeper of a sandbox: builds it from a [`Blueprint`], then stays in it as
//! its first process, so that there is something to enter.
//!
//! It is our own executable, started by the helper and told what to build over
//! a socket pair; it never sees a byte of a peer. When the sandbox stands it
//! gives up every right it had, and has two things left to do: to reap the
//! orphans that servers leave to it, and to end when the helper has closed its
//! end of the pair and no other process is left in the sandbox. So servers
//! outlive a helper that dies.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signalfd::SignalFd;
use serde::{Deserialize, Serialize};

use crate::error::Exit;
use crate::sandbox::blueprint::Blueprint;
use crate::sys::front_calls::drop_capability_bounds;
use crate::sys::link;

pub(in crate::sandbox) mod build;
mod devices;
pub mod known;
mod minimal;
mod networks;
pub mod place;
mod rest;
mod scratch;
mod template;
mod tree;
mod users;

/// What a keeper tells the helper, one JSON packet each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The keeper proper, as the helper's own namespace numbers it.
    Born(i32),
    /// It stands. Descriptors come with it, in this order, where they are announced.
    Ready {
        landlock: bool,
        users: bool,
        files: Vec<known::KnownFile>,
    },
    Failed(Failure),
}

/// Why there is no sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// "mount a new /proc", "show /srv/x".
    pub what: String,
    pub errno: i32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let err = io::Error::from_raw_os_error(self.errno);
        write!(f, "unable to {}: {err}", self.what)?;
        match self.what.starts_with("show ") && self.errno == libc::ENOENT {
            true => f.write_str("; it has to be there first"),
            false => Ok(()),
        }
    }
}

/// Says what was being done when `result` went wrong.
pub(in crate::sandbox) fn to<T, E: Into<io::Error>>(
    what: impl fmt::Display,
    result: Result<T, E>,
) -> Result<T, Failure> {
    result.map_err(|err| Failure {
        what: what.to_string(),
        errno: err.into().raw_os_error().unwrap_or(libc::EIO),
    })
}

/// The longest report.
pub const MAX_REPORT: usize = 8192;

/// The life of a keeper; `link` is its end of the pair.
#[must_use]
pub fn run(link: OwnedFd) -> Exit {
    match receive(link.as_fd()) {
        Ok(blueprint) if blueprint.template => template::serve(&blueprint, link),
        Ok(blueprint) => keep(&blueprint, None, &link),
        Err(failure) => {
            report(link.as_fd(), &Report::Failed(failure), &[]);
            Exit::System
        }
    }
}

/// Builds one sandbox and stays in it, with nothing but the link.
fn keep(blueprint: &Blueprint, common: Option<build::Common>, link: &OwnedFd) -> Exit {
    match stand_up(blueprint, common.as_ref(), link.as_fd()) {
        Ok(None) => Exit::Ok,
        Ok(Some((built, children))) => {
            let fds: Vec<BorrowedFd<'_>> = built.descriptors().collect();
            report(link.as_fd(), &built.ready(), &fds);
            drop((built, common));
            rest::rest(link.as_fd(), &children)
        }
        Err(failure) => {
            report(link.as_fd(), &Report::Failed(failure), &[]);
            Exit::System
        }
    }
}

/// `None` in the process that stays outside. Whoever comes in finds a keeper without any right.
fn stand_up(
    blueprint: &Blueprint,
    common: Option<&build::Common>,
    link: BorrowedFd<'_>,
) -> Result<Option<(build::Built, SignalFd)>, Failure> {
    // Who comes from a template is in its namespaces already, and has no bounds to drop.
    if common.is_none() {
        if !build::separate(blueprint, link)? {
            return Ok(None);
        }
        // Without the right to do so there are none to lose.
        let _ = drop_capability_bounds();
    }
    let built = build::furnish(blueprint, common)?;
    // Who is not root needs to look at a process to enter its namespaces.
    let hidden = blueprint.own_user.is_none();
    let children = to("give up the rights of a keeper", rest::give_up(hidden))?;
    Ok(Some((built, children)))
}

/// The blueprint, which the helper sends as a sealed file.
fn receive(link: BorrowedFd<'_>) -> Result<Blueprint, Failure> {
    rest::wait_for(link);
    let mut buffer = [0; 16];
    let packet = to("hear what to build", link::receive(link, &mut buffer))?;
    let file = packet.descriptors.into_iter().next();
    let file = file.ok_or(io::Error::from_raw_os_error(libc::EPROTO));
    let file = to("hear what to build", file)?;
    // The helper's place in it, which is ours too, is the end.
    let mut file = std::fs::File::from(file);
    to("hear what to build", io::Seek::rewind(&mut file))?;
    let read = serde_json::from_reader(io::BufReader::new(file));
    to("understand what to build", read.map_err(io::Error::from))
}

fn report(link: BorrowedFd<'_>, report: &Report, fds: &[BorrowedFd<'_>]) {
    let Ok(mut text) = serde_json::to_vec(report) else {
        return;
    };
    text.truncate(MAX_REPORT);
    // The helper that does not hear of it gives us up.
    let _ = link::send(link, &text, fds);
}
