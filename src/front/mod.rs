//! The unprivileged process: the only one that reads a byte from a peer.

pub mod builtin;
pub mod conversation;
pub mod forward;
pub mod plan;
pub mod tcpmux;
pub fn run(_: impl Iterator<Item = std::ffi::OsString>) -> crate::error::Exit {
    crate::error::Exit::Ok
}
