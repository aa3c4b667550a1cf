//! What the helper tells the front about the table: all it needs to admit and
//! route requests, nothing about programs, users or paths.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::ids::{ListenerId, ServiceId};
use crate::table::{Builtin, Forward, LogSettings, Routing, Rules, Undecided};

/// One generation of the table, as JSON in a sealed memfd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Counts the fronts of this daemon: high part of every connection id.
    pub epoch: u32,
    /// Fronts so far, but for those that made room for the next.
    pub fronts: u32,
    pub log: LogSettings,
    pub undecided: Undecided,
    pub services: Vec<ServicePlan>,
    pub listeners: Vec<ListenerPlan>,
    /// Services behind a `tcpmux` builtin.
    pub tcpmux: Vec<MuxPlan>,
    pub disabled: Vec<Disabled>,
    pub helper_pid: i32,
    /// Milliseconds since the daemon started.
    pub uptime: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicePlan {
    pub id: ServiceId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub serve: ServePlan,
    pub rules: Rules,
    pub routing: Routing,
    /// Why the helper starts no server of it, whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ServePlan {
    /// The helper knows which program.
    Exec,
    Builtin(Builtin),
    Forward(Forward),
}

/// A service that the table switches off, to be shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disabled {
    pub name: String,
    pub description: Option<String>,
    /// Why, where the table does not switch it off by a word.
    pub reason: Option<String>,
    /// As in `ServicePlan::serve`, by name.
    pub serves: String,
    pub listen: Vec<String>,
}

/// A listener that exists or will: its descriptor follows in a frame of its
/// own, later if the address is not there yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerPlan {
    pub id: ListenerId,
    /// Who may be asked for here, in table order; several where `match` tells them apart.
    pub services: Vec<ServiceId>,
    /// As in the table: `tcp:7`.
    pub label: String,
    pub datagram: bool,
    /// Its address is there: the descriptor follows without delay.
    pub bound: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MuxPlan {
    /// Matched without regard to case.
    pub name: String,
    /// usherd sends the `+` line (RFC 1078), not the server.
    pub greet: bool,
    pub service: ServiceId,
}
