//! Who serves what: starts that were asked for and servers that run.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::front::peer::Peer;
use crate::front::wait::SlotKey;
use crate::helper::wire::Usage;
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};

/// One admitted request, from admission until its server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub service: ServiceId,
    pub listener: ListenerId,
    /// The source it counts for.
    pub ip: Option<IpAddr>,
    /// What its server was given, if not a connection.
    pub slot: Option<SlotKey>,
    /// Who asked.
    pub peer: Option<Peer>,
}

#[derive(Debug, Default)]
pub struct Instances {
    asked: HashMap<ConnectionId, Asked>,
    running: HashMap<InstanceId, Running>,
}

/// A start that the helper has not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    work: Work,
    at: Instant,
}

/// A server that the helper has cloned.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub work: Work,
    /// It never became what the table names; only its end is still to come.
    pub failed: bool,
    pub connection: ConnectionId,
    pub pid: i32,
    pub since: Instant,
    /// Microseconds of CPU and resident octets, as the helper last told.
    pub usage: Option<Usage>,
}

impl Instances {
    /// Nothing runs and nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.running.is_empty()
    }

    /// A start was asked for.
    pub fn ask(&mut self, connection: ConnectionId, work: Work, now: Instant) {
        self.asked.insert(connection, Asked { work, at: now });
    }

    /// The helper answered that a start came to nothing.
    pub fn give_up(&mut self, connection: ConnectionId) -> Option<Work> {
        self.asked.remove(&connection).map(|asked| asked.work)
    }

    /// The helper has cloned process `pid` for what was asked for; how long ago that was.
    pub fn started(
        &mut self,
        connection: ConnectionId,
        instance: InstanceId,
        pid: i32,
        now: Instant,
    ) -> Option<(Work, Duration)> {
        let asked = self.asked.remove(&connection)?;
        let running = Running {
            work: asked.work,
            failed: false,
            connection,
            pid,
            since: now,
            usage: None,
        };
        self.running.insert(instance, running);
        Some((asked.work, now.saturating_duration_since(asked.at)))
    }

    /// Takes note of what an instance uses.
    pub fn measure(&mut self, instance: InstanceId, usage: Usage) {
        if let Some(running) = self.running.get_mut(&instance) {
            running.usage = Some(usage);
        }
    }

    /// Servers that run.
    pub fn running(&self) -> impl Iterator<Item = (InstanceId, &Running)> {
        self.running.iter().map(|(id, running)| (*id, running))
    }

    #[must_use]
    pub fn runs_none(&self) -> bool {
        self.running.is_empty()
    }

    /// A start failed after the helper said that it was started. Rare enough to search for.
    pub fn mark_failed(&mut self, connection: ConnectionId) -> Option<Work> {
        let mut running = self.running.values_mut();
        let running = running.find(|running| running.connection == connection)?;
        running.failed = true;
        Some(running.work)
    }

    /// An earlier front asked for this one.
    pub fn adopt(&mut self, instance: InstanceId, running: Running) {
        self.running.insert(instance, running);
    }

    pub fn exited(&mut self, instance: InstanceId) -> Option<Running> {
        self.running.remove(&instance)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Work> {
        let running = self.running.values().map(|running| &running.work);
        let asked = self.asked.values().map(|asked| &asked.work);
        asked.chain(running)
    }
}
