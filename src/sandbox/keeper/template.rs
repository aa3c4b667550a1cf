//! A keeper that makes keepers: where every instance has a sandbox of its own,
//! what these have in common is built once, and each begins as a copy of it.
//!
//! It keeps its rights, and no server ever enters anything that it is in. The
//! helper sends it one end of a pair for each sandbox that it wants, and is the
//! parent of the keepers that come of it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use super::networks::Networks;
use super::{Failure, Report, build, keep, report, rest, to};
use crate::error::Exit;
use crate::sandbox::blueprint::Blueprint;
use crate::sys::front_calls::drop_capability_bounds;
use crate::sys::{link, process, schedule};

pub fn serve(blueprint: &Blueprint, link: OwnedFd) -> Exit {
    let _ = nix::sys::prctl::set_name(c"usherd-template");
    // What is ordered now is for a later request: the server of this one goes first.
    let _ = schedule::make_way();
    let mut stock = lay_in(blueprint);
    let (common, theirs) = loop {
        rest::wait_for(link.as_fd());
        let mut buffer = [0; 16];
        let Ok(packet) = link::receive(link.as_fd(), &mut buffer) else {
            return Exit::System;
        };
        let Some(theirs) = packet.descriptors.into_iter().next() else {
            // The helper has closed its end.
            return Exit::Ok;
        };
        let (common, mut networks) = match stock {
            Ok(stock) => stock,
            Err(failure) => {
                report(theirs.as_fd(), &Report::Failed(failure), &[]);
                // What is wrong may be put right until the next request.
                return Exit::System;
            }
        };
        match make_keeper(blueprint, &mut networks) {
            Ok(None) => break (common, theirs),
            Ok(Some(keeper)) => report(theirs.as_fd(), &Report::Born(keeper), &[]),
            Err(failure) => report(theirs.as_fd(), &Report::Failed(failure), &[]),
        }
        stock = Ok((common, networks));
    };
    drop(link);
    keep(blueprint, Some(common), &theirs)
}

/// What all keepers share, and what they have one after the other.
fn lay_in(blueprint: &Blueprint) -> Result<(build::Common, Option<Networks>), Failure> {
    let networks = blueprint.network_again.then(Networks::new).transpose()?;
    let common = build::Common::make(blueprint)?;
    // They matter to who executes something, and nobody does here.
    let _ = drop_capability_bounds();
    Ok((common, networks))
}

/// `None` in the keeper.
fn make_keeper(
    blueprint: &Blueprint,
    networks: &mut Option<Networks>,
) -> Result<Option<i32>, Failure> {
    let mut namespaces = blueprint.namespaces();
    let network = networks.as_mut().map(Networks::enter).transpose()?;
    namespaces.set(
        CloneFlags::CLONE_NEWNET,
        network.is_none() && blueprint.network.is_some(),
    );
    let made = process::fork_apart(namespaces.bits());
    let Some(keeper) = to("make a process for a sandbox", made)? else {
        return Ok(None);
    };
    if let (Some(networks), Some(network)) = (networks, network) {
        networks.give(network, keeper.pidfd);
    }
    Ok(Some(keeper.pid))
}
