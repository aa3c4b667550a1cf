//! The privileged process.

pub mod wire;
