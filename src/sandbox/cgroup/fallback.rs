//! What setrlimit(2) can do of `resources` where no cgroup does.
//!
//! Its limits are of other things: of one process, or of a user on the whole
//! host. So only that is taken over which cannot hurt a service that would stay
//! within its `resources`, or hardly:
//!
//! - `memory` as RLIMIT_DATA: no process may have more than all may. It counts
//!   what a process has mapped to write to, touched or not. RLIMIT_AS would count
//!   shared libraries and what runtimes only reserve, too.
//! - `tasks` as RLIMIT_NPROC, but only with a user that is the service's alone:
//!   every process of the user counts, and the kernel does not even execute the
//!   server where there are too many.
#![forbid(unsafe_code)]

use super::limits::{Controller, Controllers};
use crate::table::isolation::Mechanism;
use crate::table::{Exec, Limit};

/// The limits to set beside those that the table names; it has the last word.
#[must_use]
pub fn limits(exec: &Exec, enforced: Controllers) -> Vec<Limit> {
    let enforced = match exec.isolation.wants(Mechanism::Cgroup) {
        true => enforced,
        false => Controllers::default(),
    };
    let is_set = |resource: i32| exec.limits.iter().any(|limit| limit.resource == resource);
    let mut limits = Vec::new();
    if let Some(octets) = exec.resources.memory
        && !enforced.has(Controller::Memory)
        && !is_set(DATA)
        && !is_set(AS)
    {
        limits.push(both("data", DATA, octets));
    }
    if let Some(tasks) = exec.resources.tasks
        && !enforced.has(Controller::Pids)
        && !is_set(NPROC)
        && exec.user.as_ref().is_some_and(|user| user.dynamic)
    {
        limits.push(both("nproc", NPROC, u64::from(tasks)));
    }
    limits
}

fn both(name: &'static str, resource: i32, value: u64) -> Limit {
    Limit {
        name,
        resource,
        soft: value,
        hard: value,
    }
}

#[allow(
    clippy::cast_possible_wrap,
    reason = "small constants whose type differs between libcs"
)]
const DATA: i32 = libc::RLIMIT_DATA as i32;
#[allow(clippy::cast_possible_wrap, reason = "as above")]
const AS: i32 = libc::RLIMIT_AS as i32;
#[allow(clippy::cast_possible_wrap, reason = "as above")]
const NPROC: i32 = libc::RLIMIT_NPROC as i32;
