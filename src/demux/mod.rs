//! Which service a request is for: rules, verdicts, one file per protocol.
//!
//! Pure: bytes and facts in, a verdict out. No clock, no descriptor, and no
//! allocation before a request is decided.
#![forbid(unsafe_code)]

pub mod datagram;
pub mod dns;
pub mod http;
pub mod index;
#[cfg(test)]
mod laws;
pub mod look;
pub mod names;
pub mod overlap;
pub mod plan;
pub mod protocol;
pub mod proxy;
pub mod rank;
pub mod regex;
pub mod rule;
pub mod socks;
pub mod tls;
pub mod verdict;
pub mod weight;

pub use rule::{Address, Content, Ending, Protocol, Rule};
pub use verdict::Verdict;

/// As many bytes of a request are ever looked at: 16 KiB of the protocol's own,
/// and the record headers around them.
pub const LIMIT: usize = 16 * 1024 + 512;
