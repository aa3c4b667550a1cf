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
    running: HashMap<InstanceId, Work>,
}

impl Instances {
    /// A start was asked for.
    pub fn ask(&mut self, connection: ConnectionId, work: Work) {
        self.asked.insert(connection, work);
    }

    /// The helper answered that a start came to nothing.
    pub fn give_up(&mut self, connection: ConnectionId) -> Option<Work> {
        self.asked.remove(&connection)
    }

    pub fn started(&mut self, connection: ConnectionId, instance: InstanceId) -> Option<Work> {
        let work = self.asked.remove(&connection)?;
        self.running.insert(instance, work);
        Some(work)
    }

    /// An earlier front asked for this one.
    pub fn adopt(&mut self, instance: InstanceId, work: Work) {
        self.running.insert(instance, work);
    }

    #[must_use]
    pub fn is_running(&self, instance: InstanceId) -> bool {
        self.running.contains_key(&instance)
    }

    pub fn exited(&mut self, instance: InstanceId) -> Option<Work> {
        self.running.remove(&instance)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Work> {
        self.asked.values().chain(self.running.values())
    }
}
