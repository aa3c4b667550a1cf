//! Who serves what: starts that were asked for and servers that run.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::front::wait::SlotKey;
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
}

#[derive(Debug, Default)]
pub struct Instances {
    asked: HashMap<ConnectionId, Work>,
    running: HashMap<InstanceId, Running>,
}

/// A server that the helper has cloned.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub work: Work,
    /// It never became what the table names; only its end is still to come.
    pub failed: bool,
    /// Unknown of those that an earlier front asked for.
    connection: Option<ConnectionId>,
}

impl Instances {
    /// Nothing runs and nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.running.is_empty()
    }

    /// A start was asked for.
    pub fn ask(&mut self, connection: ConnectionId, work: Work) {
        self.asked.insert(connection, work);
    }

    /// The helper answered that a start came to nothing.
    pub fn give_up(&mut self, connection: ConnectionId) -> Option<Work> {
        self.asked.remove(&connection)
    }

    pub fn started(&mut self, connection: ConnectionId, instance: InstanceId) {
        if let Some(work) = self.asked.remove(&connection) {
            let running = Running {
                work,
                failed: false,
                connection: Some(connection),
            };
            self.running.insert(instance, running);
        }
    }

    /// A start failed after the helper said that it was started. Rare enough to search for.
    pub fn mark_failed(&mut self, connection: ConnectionId) {
        let mut running = self.running.values_mut();
        if let Some(running) = running.find(|running| running.connection == Some(connection)) {
            running.failed = true;
        }
    }

    /// An earlier front asked for this one.
    pub fn adopt(&mut self, instance: InstanceId, work: Work) {
        let running = Running {
            work,
            failed: false,
            connection: None,
        };
        self.running.insert(instance, running);
    }

    pub fn exited(&mut self, instance: InstanceId) -> Option<Running> {
        self.running.remove(&instance)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Work> {
        let running = self.running.values().map(|running| &running.work);
        self.asked.values().chain(running)
    }
}
