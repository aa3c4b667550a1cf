//! The PROXY protocol, versions 1 and 2, as a receiver reads it (HAProxy's
//! `proxy-protocol.txt`).
//!
//! The caller knows that a header must be there, so there is no "no header"
//! here: the specification forbids to guess.
#![forbid(unsafe_code)]

mod crc32c;
#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
mod text;
mod version2;

use std::net::SocketAddr;

/// Octets of a header. Version 2 could announce 64 KiB; what senders put there (addresses,
/// names, a client certificate's subject) stays below 1 KiB, and an unread header takes
/// kernel memory of a connection that is not admitted yet.
pub const MAX_HEADER: usize = 4096;

/// How far the header has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Undecided with fewer octets than this, in all.
    Need(usize),
    /// Said at the first octet that cannot be, or at the end of what a checksum or a
    /// list of values covers.
    Malformed(&'static str),
    Complete(Box<Header>),
}

/// What a proxy says about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Octets to consume: this many and not one more.
    pub length: usize,
    /// 1 or 2.
    pub version: u8,
    /// Source and destination; `None` if the socket's own addresses count: a
    /// connection of the proxy itself (LOCAL), an unknown or a Unix one.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The host name the client asked for, most often its SNI. Printable ASCII, 255 octets
    /// at most; others are dropped, as in the two below.
    pub authority: Option<String>,
    /// 255 octets at most.
    pub alpn: Option<String>,
    /// 128 octets at most.
    pub unique_id: Option<Vec<u8>>,
}

/// A header that cannot be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Need(usize),
    Malformed(&'static str),
}

/// Reads the header that `bytes` begin with.
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    let read = match bytes.first() {
        None => Err(Fault::Need(1)),
        Some(&first) if first == text::START[0] => text::read(bytes),
        Some(_) => version2::read(bytes),
    };
    match read {
        Ok(header) => Read::Complete(Box::new(header)),
        Err(Fault::Need(k)) => Read::Need(k),
        Err(Fault::Malformed(reason)) => Read::Malformed(reason),
    }
}

/// Expects `fixed` at the start of `bytes`.
fn expect(bytes: &[u8], fixed: &[u8], reason: &'static str) -> Result<(), Fault> {
    let differs = bytes
        .iter()
        .zip(fixed)
        .any(|(octet, expected)| octet != expected);
    if differs {
        return Err(Fault::Malformed(reason));
    }
    if bytes.len() < fixed.len() {
        return Err(Fault::Need(bytes.len() + 1));
    }
    Ok(())
}
