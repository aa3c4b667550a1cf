//! The unprivileged process: the only one that reads a byte from a peer.

pub mod conversation;
pub mod plan;
