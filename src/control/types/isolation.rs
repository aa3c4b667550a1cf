//! `GetIsolation`: the types of its reply, as `org.usherd.Admin.varlink` has them.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::Key;

/// A service's isolation: what was asked for, what is in force, what is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolation {
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    pub settings: Vec<Key>,
    pub mechanisms: Vec<Mechanism>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<SeenInstance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanism {
    pub name: String,
    pub level: Level,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Off,
    Prefer,
    Require,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub reason: String,
    pub remedy: String,
}

/// An instance that was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInstance {
    pub id: u64,
    pub pid: i32,
    pub facts: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    pub score: f64,
    pub grade: String,
    pub reasons: Vec<ExposureReason>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExposureReason {
    pub key: String,
    pub adds: f64,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetIsolation {
    pub isolation: Isolation,
}
