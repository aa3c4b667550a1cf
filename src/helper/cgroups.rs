//! Instances as cgroups: their limits put in force, their processes signalled
//! and killed together, what they leave behind seen to.
//!
//! An instance without a cgroup, and a server that left its own (PAM moves
//! logins into sessions of their own), is followed by [`tree`] instead.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::admin::catalogue::Operation;
use crate::helper::core::Helper;
use crate::helper::instances::{Instance, Phase};
use crate::helper::operations::CGROUP as OPERATIONS;
use crate::helper::services::Program;
use crate::helper::timers::Due;
use crate::helper::tree::{self, Member, Snapshot};
use crate::sandbox::Step;
use crate::sandbox::cgroup::{Cgroups, Leaf, State};
use crate::sandbox::launch::NotStarted;
use crate::table::isolation::{Level, Mechanism, Resources};
use crate::table::value::show_size;
use crate::table::{Exec, Serve, Table};

/// Between two looks at cgroups that are not empty yet; doubles up to the last.
const SWEEP_FIRST: Duration = Duration::from_millis(20);
const SWEEP_LAST: Duration = Duration::from_secs(10);

/// What a server that is gone left behind.
#[derive(Debug)]
pub enum Left {
    Cgroup(Leaf),
    Processes(Vec<Member>),
}

/// When cgroups are looked at again.
#[derive(Debug)]
pub struct Sweeps {
    is_due: bool,
    pause: Duration,
    known: usize,
}

impl Default for Sweeps {
    fn default() -> Self {
        Self {
            is_due: false,
            pause: SWEEP_FIRST,
            known: 0,
        }
    }
}

/// All processes, looked at once and only if somebody has no cgroup.
#[derive(Debug, Default)]
pub struct Processes(Option<Snapshot>);

impl Processes {
    fn snapshot(&mut self) -> &Snapshot {
        self.0.get_or_insert_with(Snapshot::take)
    }

    /// Sends an instance's stop signal to all of it.
    pub fn signal(&mut self, instance: &Instance) {
        let signal = instance.stop.signal;
        let reached = instance.leaf.as_ref().map(|leaf| leaf.signal(signal));
        match reached {
            Some(Ok(pids)) if pids.contains(&instance.pid) => {}
            _ => {
                let members = self.snapshot().members(instance.pid);
                members.iter().for_each(|member| member.signal(signal));
            }
        }
    }
}

/// Kills instances and all they started.
pub fn kill_all(instances: &[&Instance]) {
    let mut others = Vec::new();
    for instance in instances {
        let Some(leaf) = &instance.leaf else {
            others.push(instance.pid);
            continue;
        };
        let is_there = leaf.has(instance.pid);
        if let Err(err) = leaf.kill() {
            log::warn!(service = &*instance.name, pid = instance.pid; "unable to kill a cgroup: {err}");
        } else if is_there {
            continue;
        }
        others.push(instance.pid);
    }
    if !others.is_empty() {
        tree::kill_all(&others);
    }
}

/// Says at the start what is not to be had, once; louder if the table counts on it.
pub fn tell_state(state: &State, table: &Table) {
    let wanted = table.daemon.resources != Default::default()
        || confined(table).any(|(_, exec)| exec.resources != Default::default())
        || limited(table).next().is_some();
    let level = if wanted {
        log::Level::Warn
    } else {
        log::Level::Info
    };
    match state {
        State::Ready { lack: None, .. } => {}
        State::Ready {
            lack: Some(lack), ..
        } => log::log!(level, "cgroups: {lack}"),
        State::Degraded(lack) => {
            log::log!(level, "servers get no cgroups of their own: {lack}");
        }
    }
}

/// Services of the table whose servers get cgroups.
fn confined(table: &Table) -> impl Iterator<Item = (&str, &Exec)> {
    let enabled = table.services.iter().filter(|service| service.enabled);
    enabled.filter_map(|service| match &service.serve {
        Serve::Exec(exec) if exec.isolation.wants(Mechanism::Cgroup) => {
            Some((service.name.as_str(), &**exec))
        }
        _ => None,
    })
}

/// Operations of the catalogue that have limits of their own.
fn limited(table: &Table) -> impl Iterator<Item = &Operation> {
    let operations = table.catalogue.operations.iter();
    operations.filter(|one| one.exec.resources != Resources::default())
}

/// Tells the kernel of the limits of a table.
pub fn put_in_force(cgroups: &mut Cgroups, table: &Table) {
    if let Err(trouble) = cgroups.limit_all(&table.daemon.resources) {
        log::error!("{trouble}");
    }
    for lack in cgroups.unenforced(None) {
        log::warn!("daemon.resources are not in force: {lack}");
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, exec) in confined(table) {
        if let Err(trouble) = cgroups.prepare(&Rc::from(name), &exec.resources) {
            log::error!(service = name; "{trouble}");
        }
        for lack in cgroups.unenforced(Some(name)) {
            log::warn!(service = name; "resources are not in force: {lack}");
        }
        names.push(name);
    }
    for operation in limited(table) {
        for lack in cgroups.lacks(&operation.exec.resources) {
            log::warn!(
                "operation {}: resources are not in force: {lack}",
                operation.name
            );
        }
    }
    if let Err(trouble) = cgroups.prepare(&Rc::from(OPERATIONS), &Resources::default()) {
        log::error!("operations get no cgroups: {trouble}");
    }
    names.push(OPERATIONS);
    names.sort_unstable();
    cgroups.keep(|name| names.binary_search(&name).is_ok());
}

/// The cgroup of one more instance. That of a service with limits may not be
/// missed: outside of it nothing would hold.
pub fn leaf_for(
    cgroups: &mut Cgroups,
    service: &Rc<str>,
    program: &Program,
) -> Result<Option<Leaf>, NotStarted> {
    let failed = |errno| NotStarted::new(Step::Cgroup, errno);
    if program.cgroup == Level::Off {
        return Ok(None);
    }
    match cgroups.leaf(service) {
        Ok(None) if program.cgroup == Level::Require => Err(failed(libc::EOPNOTSUPP)),
        Ok(mut leaf) => {
            let isolated = leaf.iter_mut().map(|leaf| &mut leaf.isolated);
            isolated.for_each(|isolated| *isolated = program.isolated);
            Ok(leaf)
        }
        Err(trouble) => {
            log::error!(service = &**service; "{trouble}");
            Err(failed(trouble.error.raw_os_error().unwrap_or(libc::EIO)))
        }
    }
}

impl Helper {
    /// Which memory was full when the kernel killed an instance, or a part of it.
    pub(super) fn out_of_memory(&self, instance: &Instance) -> Option<String> {
        let leaf = instance.leaf.as_ref()?;
        if leaf.oom_kills() == 0 {
            return None;
        }
        Some(match self.cgroups.full(&leaf.service) {
            Some((limit, false)) => format!("limit {}", show_size(limit)),
            Some((limit, true)) => format!("limit of all servers {}", show_size(limit)),
            None => "of the host, or of what usherd itself runs in".into(),
        })
    }

    /// Instances are gone, by SIGKILL or otherwise. What stopped ones started and left behind gets the
    /// rest of the grace; what the others left goes on.
    pub(super) fn end_leftovers(&mut self, ended: Vec<(Instance, bool)>, now: Instant) {
        let at = self.last_word(now);
        let mut processes = Processes::default();
        for (mut instance, was_killed) in ended {
            if let Some(leaf) = instance.leaf.as_mut().filter(|_| was_killed) {
                leaf.spend();
            }
            let was_stopped = instance.phase == Phase::Stopping;
            let left = match instance.leaf {
                Some(leaf) if was_stopped && leaf.is_populated().unwrap_or(true) => {
                    Left::Cgroup(leaf)
                }
                Some(leaf) => {
                    self.cgroups.retire(leaf);
                    continue;
                }
                None if was_stopped => {
                    Left::Processes(processes.snapshot().leftovers(instance.pid))
                }
                None => continue,
            };
            if !left.is_nothing() {
                self.leftovers.insert(instance.pid, left);
                self.timers.set(at, Due::KillLeftover(instance.pid));
            }
        }
        self.sweep_later(now);
    }

    pub(super) fn kill_leftovers(&mut self, pids: &[i32]) {
        let (mut gone, mut members) = (Vec::new(), Vec::new());
        for pid in pids {
            match self.leftovers.remove(pid) {
                Some(Left::Cgroup(mut leaf)) => {
                    leaf.spend();
                    if let Err(err) = leaf.kill() {
                        log::warn!(service = &*leaf.service; "unable to kill a cgroup: {err}");
                    }
                    self.cgroups.retire(leaf);
                }
                Some(Left::Processes(found)) => {
                    gone.push(*pid);
                    members.extend(found);
                }
                None => {}
            }
        }
        if !members.is_empty() {
            tree::kill_leftovers(&gone, &members);
        }
    }

    /// Sees to it that cgroups which are not empty yet are looked at again.
    pub(super) fn sweep_later(&mut self, now: Instant) {
        let lingering = self.cgroups.lingering().count();
        if lingering > self.sweeps.known {
            self.sweeps.pause = SWEEP_FIRST;
        }
        self.sweeps.known = lingering;
        if lingering > 0 && !self.sweeps.is_due {
            self.sweeps.is_due = true;
            self.timers.set(now + self.sweeps.pause, Due::Sweep);
            self.sweeps.pause = (self.sweeps.pause * 2).min(SWEEP_LAST);
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.sweeps.is_due = false;
        self.cgroups.sweep();
        self.sweep_later(now);
    }
}

impl Left {
    /// The cgroup, if it has one.
    #[must_use]
    pub fn leaf(&self) -> Option<&Leaf> {
        match self {
            Left::Cgroup(leaf) => Some(leaf),
            Left::Processes(_) => None,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Left::Processes(found) if found.is_empty())
    }
}
