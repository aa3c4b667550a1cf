//! What a child does to itself on the way to its server, from the label to
//! the exec, in the order that [`Step`] gives reasons for.
//!
//! The ordinary child takes these steps in the helper's memory, that of a
//! session ([`super::session`]) in its own. For the first one's sake: no
//! allocation, no logging, nothing that can panic, only system calls.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::Step;
use super::plan::ExecPlan;
use crate::sys::exec::LateEnvp;
use crate::sys::raw::{self, Errno};
use crate::sys::schedule::{self, BriefSlice, SHORTEST_SLICE};
use crate::table::Activation;

/// Listeners live from this number on, so that none of them sits where
/// another one of the same service is to be placed.
pub const FIRST_LISTENER: i32 = 64;

#[allow(
    clippy::cast_possible_wrap,
    reason = "a small constant whose type differs between libcs"
)]
const NOFILE: i32 = libc::RLIMIT_NOFILE as i32;

/// The way into a sandbox, by numbers of descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub keeper: i32,
    /// `CLONE_NEW*` of what the keeper has of its own.
    pub namespaces: i32,
    pub landlock: Option<i32>,
    pub users: Option<i32>,
}

impl Entry {
    #[must_use]
    pub fn has(&self, namespace: i32) -> bool {
        self.namespaces & namespace != 0
    }

    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        let others = self.landlock.into_iter().chain(self.users);
        std::iter::once(self.keeper).chain(others)
    }
}

/// Everything that the steps need. Descriptors are numbers of the child's own table.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    pub plan: &'a ExecPlan,
    pub entry: Option<&'a Entry>,
    pub null: i32,
    /// `None`: the socket itself.
    pub stderr: Option<i32>,
    pub sockets: &'a [i32],
    /// Where a parked child hears of its request.
    pub channel: Option<i32>,
    /// Where it runs then, a bit for each; empty for where it is, as in a crowd.
    pub cpus: &'a [u64],
    pub envp: &'a LateEnvp,
    /// What to execute instead of the plan's program, which may be out of reach.
    pub program: Option<i32>,
}

type Failed = (Step, Errno);

impl Steps<'_> {
    /// Returns only if one of them failed.
    pub fn take(&self) -> Result<Infallible, Failed> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        let plan = self.plan;
        if let Some(label) = &plan.cage.label {
            raw::write_to(&label.file, label.text.as_bytes()).map_err(at(Step::Label))?;
        }
        if plan.cage.cgroup_namespace {
            raw::unshare(libc::CLONE_NEWCGROUP).map_err(at(Step::CgroupNamespace))?;
        }
        if let Some(entry) = self.entry {
            // The one of pids is entered by being born into it; all of them, if a
            // go-between was needed.
            let others = entry.namespaces & !libc::CLONE_NEWPID;
            if others != 0 && !entry.has(libc::CLONE_NEWUSER) {
                raw::enter(entry.keeper, others).map_err(at(Step::Namespaces))?;
            }
        }
        // After a session of PAM its modules' limits stand, but for those of the table.
        if plan.session.as_ref().is_none_or(|plan| plan.pam.is_none()) {
            self.restore_files().map_err(at(Step::Limits))?;
        }
        for limit in &plan.limits {
            raw::set_limit(limit.resource, limit.soft, limit.hard).map_err(at(Step::Limits))?;
        }
        self.set_priorities().map_err(at(Step::Priority))?;
        self.close_cage()?;
        match self.channel {
            None => self.place_descriptors().map_err(at(Step::Descriptors))?,
            Some(channel) => self.await_request(channel).map_err(at(Step::Descriptors))?,
        }
        self.become_user().map_err(at(Step::Credentials))?;
        raw::set_umask(plan.umask);
        raw::change_directory(&plan.dir).map_err(at(Step::Directory))?;
        let Some(envp) = self.envp.take_in_child() else {
            return Err((Step::Exec, libc::EFAULT));
        };
        envp.fill_listen_pid();
        let errno = match self.program {
            Some(program) => raw::exec_descriptor(program, &plan.argv, envp),
            None => raw::exec(&plan.program, &plan.argv, envp),
        };
        Err((Step::Exec, errno))
    }

    /// What usherd raised for itself.
    pub fn restore_files(&self) -> Result<(), Errno> {
        let (soft, hard) = self.plan.inherited_files;
        raw::set_limit(NOFILE, soft, hard)
    }

    /// What the child can never undo. While it is root: without no_new_privs
    /// nobody else may, and a parked child must not be one that its service's
    /// user can stop or kill.
    fn close_cage(&self) -> Result<(), Failed> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        let cage = &self.plan.cage;
        if let Some(users) = self.entry.and_then(|entry| entry.users) {
            raw::enter(users, libc::CLONE_NEWUSER).map_err(at(Step::UserNamespace))?;
        }
        if let Some(keep) = cage.capabilities {
            raw::drop_bounds(keep).map_err(at(Step::Capabilities))?;
        }
        if cage.keyring {
            raw::new_session_keyring().map_err(at(Step::Keyring))?;
        }
        if cage.no_new_privs {
            raw::forbid_new_privileges().map_err(at(Step::NoNewPrivs))?;
        }
        if let Some(landlock) = self.entry.and_then(|entry| entry.landlock) {
            raw::restrict_self(landlock).map_err(at(Step::Landlock))?;
        }
        if let Some(filter) = &cage.filter {
            raw::set_filter(filter).map_err(at(Step::Seccomp))?;
        }
        Ok(())
    }

    /// Lets go of everything that is the helper's, listeners and connections
    /// above all, and waits. Who waited for nothing ends.
    fn await_request(&self, channel: i32) -> Result<(), Errno> {
        const CHANNEL: i32 = 3;
        // For ps(1) and killall(1), which would take it for the helper.
        raw::set_name(c"usherd-parked");
        raw::place(self.null, 0)?;
        raw::place(self.stderr.unwrap_or(self.null), 1)?;
        raw::place(self.stderr.unwrap_or(self.null), 2)?;
        raw::place(channel, CHANNEL)?;
        raw::close_from(CHANNEL + 1)?;
        // All of this was on the helper's CPU, which has nothing to do while a server
        // begins; whose plan has CPUs of its own is on those since then.
        if self.plan.cage.cpus.is_empty() {
            go_home(self.cpus)?;
        }
        // In a crowd there is no order of who goes first.
        let is_calm = !self.cpus.is_empty();
        let brief = is_calm.then(|| BriefSlice::take(SHORTEST_SLICE));
        let socket = raw::receive_descriptor(CHANNEL)?;
        brief.map_or(Ok(()), BriefSlice::give_back)?;
        match self.plan.activation {
            Activation::Inetd => {
                raw::place(socket, 0)?;
                raw::place(socket, 1)?;
                if self.stderr.is_none() {
                    raw::place(socket, 2)?;
                }
                raw::close_on_exec_from(CHANNEL)
            }
            Activation::ListenFds => {
                raw::place(socket, CHANNEL)?;
                raw::close_on_exec_from(CHANNEL + 1)
            }
        }
    }

    fn set_priorities(&self) -> Result<(), Errno> {
        if let Some(nice) = self.plan.nice {
            schedule::set_nice(nice)?;
        }
        if !self.plan.cage.cpus.is_empty() {
            schedule::set_affinity(&self.plan.cage.cpus)?;
        }
        if let Some(priority) = self.plan.cage.io_priority {
            schedule::set_io_priority(priority)?;
        }
        Ok(())
    }

    /// What the server may keep goes with it over the change of user and the exec.
    fn become_user(&self) -> Result<(), Errno> {
        let Some(who) = &self.plan.credentials else {
            return match self.plan.cage.capabilities {
                Some(keep) if self.entry.is_some() => raw::set_capabilities(keep),
                _ => Ok(()),
            };
        };
        let Some(keep) = self.plan.cage.capabilities else {
            return raw::become_user(who.uid, who.gid, &who.groups);
        };
        if keep != 0 {
            raw::keep_capabilities()?;
        }
        raw::become_user(who.uid, who.gid, &who.groups)?;
        raw::set_capabilities(keep)
    }

    /// The helper keeps 0, 1 and 2 open all its life, so no socket ever has one
    /// of these numbers and nothing is overwritten before it is copied.
    fn place_descriptors(&self) -> Result<(), Errno> {
        match (self.plan.activation, self.sockets) {
            (Activation::Inetd, [socket, ..]) => {
                raw::place(*socket, 0)?;
                raw::place(*socket, 1)?;
                raw::place(self.stderr.unwrap_or(*socket), 2)?;
                raw::close_on_exec_from(3)
            }
            (Activation::Inetd, []) => Err(libc::EBADF),
            (Activation::ListenFds, sockets) => {
                let stderr = self.stderr.unwrap_or(self.null);
                raw::place(self.null, 0)?;
                raw::place(stderr, 1)?;
                raw::place(stderr, 2)?;
                place_from_three(sockets)
            }
        }
    }
}

/// Leaves the CPU of the helper.
pub fn go_home(cpus: &[u64]) -> Result<(), Errno> {
    if cpus.is_empty() {
        return Ok(());
    }
    match schedule::set_affinity(cpus) {
        // Not one of them is left in our cpuset: the kernel has moved us already.
        Err(libc::EINVAL) => Ok(()),
        other => other,
    }
}

/// Puts `sockets` on 3, 4, ... A single one may come from anywhere, several
/// are listeners and lie above all targets.
fn place_from_three(sockets: &[i32]) -> Result<(), Errno> {
    raw::close_on_exec_from(3)?;
    for (target, socket) in (3..).zip(sockets) {
        if target >= FIRST_LISTENER {
            return Err(libc::EMFILE);
        }
        if (3..target).contains(socket) {
            return Err(libc::EBADF); // one before it is there now
        }
        raw::place(*socket, target)?;
    }
    Ok(())
}
