//! Who a caller is, and how far its rights go.
#![forbid(unsafe_code)]

use crate::ids::ServiceId;

/// What the kernel says of a caller, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    pub pid: i32,
    pub sees: Sees,
}

/// How far a caller's rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    Everything,
    /// All that there is to look at; it changes nothing.
    Looks,
    /// It is a server of this service.
    Service(ServiceId),
    /// What the catalogue lets its user and groups ask for.
    Asks,
    /// It carries out the operation with this number, and sees what that one may.
    Operation(u32),
    Nothing,
}

/// For the log: a call that was denied, and how many before it were not told.
#[must_use]
pub fn denied_text(who: Who, socket: &str, held_back: u64) -> String {
    let Who { uid, pid, .. } = who;
    let before = match held_back {
        0 => String::new(),
        count => format!(", and {count} before"),
    };
    format!("a call on {socket} was denied: uid {uid} (pid {pid}){before}")
}
