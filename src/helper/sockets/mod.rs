//! The listening sockets: bound by the helper, shared with the front, kept
//! over a reload as long as their address is wanted.

pub mod bind;
pub mod group;
mod handed;
pub mod holder;
pub mod inherited;
pub mod listener;
pub mod options;
pub mod registry;
pub mod rpcbind;
mod shared;
pub mod unix;
