//! The servers that run: who they are, what they count against.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use crate::helper::handover::journal::Journal;
use crate::helper::sandbox::Sandbox;
use crate::helper::sessions::Session;
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};
use crate::sandbox::cgroup::Leaf;
use crate::table::{LogEvents, Stop};

/// One server from clone to reap.
#[derive(Debug)]
pub struct Instance {
    pub id: InstanceId,
    pub pid: i32,
    pub service: ServiceId,
    pub name: Rc<str>,
    pub connection: ConnectionId,
    pub listener: ListenerId,
    /// It owns its listener.
    pub wait: bool,
    /// Masked to the service's source prefix.
    pub source: Option<IpAddr>,
    pub peer: Option<IpAddr>,
    pub started: Instant,
    pub stop: Stop,
    pub log: LogEvents,
    pub phase: Phase,
    /// What it runs in, kept as long as it does.
    pub sandbox: Option<Rc<Sandbox>>,
    /// Nobody else runs in it.
    pub alone: bool,
    /// Its cgroup, where it has one.
    pub leaf: Option<Leaf>,
    /// It has less rights than its user, be that root.
    pub isolated: bool,
    /// It came, or is coming, by way of a session process.
    pub session: Option<Session>,
    /// It is no child of ours, and this tells of its end.
    pub adopted: Option<OwnedFd>,
}

impl Instance {
    /// Ends whatever is left in a sandbox that nobody else runs in; not yet, if
    /// somebody is in there who has to close a session after the server.
    pub fn end_sandbox(&self) {
        let alone = self.alone && self.session.is_none();
        if let Some(sandbox) = self.sandbox.as_ref().filter(|_| alone) {
            sandbox.kill();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// Told to stop; killed when its grace is over.
    Stopping,
}

/// All of them, with their counts.
#[derive(Debug)]
pub struct Instances {
    by_pid: HashMap<i32, Instance>,
    pids: HashMap<InstanceId, i32>,
    per_service: HashMap<ServiceId, u32>,
    per_source: HashMap<(ServiceId, IpAddr), u32>,
    taken: HashSet<ListenerId>,
    next: u64,
    /// For the next usherd.
    pub journal: Option<Journal>,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            by_pid: HashMap::new(),
            pids: HashMap::new(),
            per_service: HashMap::new(),
            per_source: HashMap::new(),
            taken: HashSet::new(),
            next: 1,
            journal: None,
        }
    }
}

impl Instances {
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    #[must_use]
    pub fn of_service(&self, service: ServiceId) -> u32 {
        self.per_service.get(&service).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn of_source(&self, service: ServiceId, source: IpAddr) -> u32 {
        self.per_source
            .get(&(service, source))
            .copied()
            .unwrap_or(0)
    }

    #[must_use]
    pub fn is_taken(&self, listener: ListenerId) -> bool {
        self.taken.contains(&listener)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.by_pid.values()
    }

    #[must_use]
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.by_pid.get(self.pids.get(&id)?)
    }

    pub fn find_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.by_pid.get_mut(self.pids.get(&id)?)
    }

    /// A number that no instance has had.
    pub fn next_id(&mut self) -> InstanceId {
        let id = InstanceId(self.next);
        self.next += 1;
        id
    }

    /// The number after the last one that was given out.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Numbers below are those of the usherd before this one.
    pub fn count_from(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Once a turn.
    pub fn flush_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }

    pub fn add(&mut self, instance: Instance) {
        *self.per_service.entry(instance.service).or_default() += 1;
        if let Some(source) = instance.source {
            *self
                .per_source
                .entry((instance.service, source))
                .or_default() += 1;
        }
        if instance.wait {
            self.taken.insert(instance.listener);
        }
        if let Some(journal) = &mut self.journal {
            journal.started(instance.state());
        }
        self.pids.insert(instance.id, instance.pid);
        self.by_pid.insert(instance.pid, instance);
    }

    /// Takes out the instance that was process `pid`.
    pub fn remove(&mut self, pid: i32) -> Option<Instance> {
        let instance = self.by_pid.remove(&pid)?;
        self.pids.remove(&instance.id);
        if let Some(journal) = &mut self.journal {
            journal.ended(instance.id);
        }
        decrease(&mut self.per_service, instance.service);
        if let Some(source) = instance.source {
            decrease(&mut self.per_source, (instance.service, source));
        }
        if instance.wait {
            self.taken.remove(&instance.listener);
        }
        Some(instance)
    }
}

fn decrease<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
