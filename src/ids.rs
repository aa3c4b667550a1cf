//! The names that front and helper use for things: small numbers that the
//! helper gave out, never descriptors, pids or table positions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A service, by name, for the life of the daemon: a reload keeps the number
/// of a service that stays and never gives a removed one's to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

/// A bound socket, for the life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId(pub u32);

/// One started server. Given out by the helper; never a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

/// One request (connection, or the datagram that woke a server), in logs and
/// in a server's environment as `EPOCH-COUNT`: the epoch counts the fronts of
/// this daemon, so an id is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    const COUNT_BITS: u32 = 40;

    /// The `count`th request of the `epoch`th front.
    #[must_use]
    pub fn new(epoch: u32, count: u64) -> Self {
        Self(u64::from(epoch) << Self::COUNT_BITS | count & ((1 << Self::COUNT_BITS) - 1))
    }

    /// Whether the helper gave it out, for an operator: fronts count from 1.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.0 >> Self::COUNT_BITS == 0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0 & ((1 << Self::COUNT_BITS) - 1);
        write!(f, "{}-{count}", self.0 >> Self::COUNT_BITS)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
