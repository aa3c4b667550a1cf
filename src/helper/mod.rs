//! The privileged process.

pub mod filter;
pub mod link;
pub mod sockets;
pub mod wire;
