//! A keeper that makes keepers: where every instance has a sandbox of its own,
//! what these have in common is built once, and each begins as a copy of it.
//!
//! It keeps its rights, and no server ever enters anything that it is in. The
//! helper sends it one end of a pair for each sandbox that it wants.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use super::{Report, build, keep, report, rest};
use crate::error::Exit;
use crate::sandbox::blueprint::Blueprint;
use crate::sys::{link, process};

pub fn serve(blueprint: &Blueprint, link: OwnedFd) -> Exit {
    let _ = nix::sys::prctl::set_name(c"usherd-template");
    let common = build::Common::make(blueprint);
    loop {
        rest::wait_for(link.as_fd());
        let mut buffer = [0; 16];
        let Ok(packet) = link::receive(link.as_fd(), &mut buffer) else {
            return Exit::System;
        };
        while process::reap().is_some() {}
        let Some(theirs) = packet.descriptors.into_iter().next() else {
            // The helper has closed its end.
            return Exit::Ok;
        };
        let common = match &common {
            Ok(common) => common,
            Err(failure) => {
                report(theirs.as_fd(), &Report::Failed(failure.clone()), &[]);
                // What is wrong may be put right until the next request.
                return Exit::System;
            }
        };
        match process::fork_alone() {
            Ok(None) => {
                drop(link);
                return keep(blueprint, Some(common), &theirs);
            }
            Ok(Some(_)) => {}
            Err(err) => {
                let failure = super::Failure {
                    what: "make a process for a sandbox".to_owned(),
                    errno: err.raw_os_error().unwrap_or(libc::EIO),
                };
                report(theirs.as_fd(), &Report::Failed(failure), &[]);
            }
        }
    }
}
