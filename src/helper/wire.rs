//! Frames between front and helper: bytes only, no meaning.
//!
//! One SOCK_SEQPACKET packet from the front is one [`Request`], at most one
//! descriptor with it. A packet from the helper is one or more [`Notice`]s;
//! descriptors belong to a packet's only notice. All integers are little
//! endian, lengths are exact, and a byte too many or too few is a
//! [`ProtocolError`].
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

pub use crate::helper::notice::{MAX_EVENT, Notice};
use crate::helper::octets::{Bytes, put_ip, put_u32, put_u64};
pub use crate::helper::outcome::{Outcome, Usage};
use crate::helper::told::Told;
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};

/// The longest packet either side sends.
pub const MAX_PACKET: usize = 4096;
/// Descriptors in one packet; the kernel's own limit is 253 (unix(7), `SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 250;

/// What the front may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start `service` on the connection that comes with this packet.
    Start {
        connection: ConnectionId,
        service: ServiceId,
        listener: ListenerId,
        /// What the match found out, if it did.
        told: Option<Box<Told>>,
    },
    /// Start `service` on its own listener(s); `peer` sent the datagram that waits there.
    StartWait {
        connection: ConnectionId,
        service: ServiceId,
        listener: ListenerId,
        peer: Option<Peer>,
    },
    /// End an instance as the table's `stop` says.
    Stop { instance: InstanceId },
    /// Still here.
    Alive,
    /// The oldest [`Notice::Plan`], [`Notice::Drain`] or [`Notice::Retire`] not answered yet is in
    /// force here: whatever this front asked for before, it asked under the rules before.
    Taken,
    /// The log descriptor is broken (syslogd restarted): a new one, please.
    ReopenLog,
    /// Who is at the other end of this connection to the status socket?
    Identify { caller: u64 },
    /// What do the instances use?
    Measure,
    /// The next front is to look after the connection that comes with this
    /// packet: nobody serves it yet. `told`: what a proxy said before it.
    GiveBack {
        listener: ListenerId,
        told: Option<Box<Told>>,
    },
}

/// A datagram peer, as the front read it from the socket: for the log and the
/// environment only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub ip: IpAddr,
    pub port: u16,
}

/// Why the helper will not start a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownService,
    UnknownListener,
    WrongDescriptor,
    PeerGone,
    AddressDenied,
    TooManyInstances,
    TooManyInAll,
    Draining,
    /// A proxied peer from who is no proxy of this service, or none from who is.
    NotProxied,
    /// An operator keeps the peer out.
    Banned,
    /// An operator drained or stopped the service.
    Held,
    /// This host lacks what the isolation of the service requires.
    Blocked,
}

/// A packet that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    Truncated,
    TrailingBytes,
    UnknownKind(u8),
    BadValue(&'static str),
    /// An answer to nothing that was asked.
    Unasked,
    DescriptorCount {
        want: usize,
        got: usize,
    },
}

impl Request {
    /// How many descriptors must come with this request.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Request::Start { .. } | Request::Identify { .. } | Request::GiveBack { .. } => 1,
            Request::StartWait { .. }
            | Request::Stop { .. }
            | Request::Alive
            | Request::Taken
            | Request::Measure
            | Request::ReopenLog => 0,
        }
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Start {
                connection,
                service,
                listener,
                told,
            } => {
                out.push(1);
                put_u64(out, connection.0);
                put_u32(out, service.0);
                put_u32(out, listener.0);
                Told::put(told.as_deref(), out);
            }
            Request::StartWait {
                connection,
                service,
                listener,
                peer,
            } => {
                out.push(2);
                put_u64(out, connection.0);
                put_u32(out, service.0);
                put_u32(out, listener.0);
                put_ip(out, peer.map(|p| p.ip));
                out.extend_from_slice(&peer.map_or(0, |p| p.port).to_le_bytes());
            }
            Request::Stop { instance } => {
                out.push(3);
                put_u64(out, instance.0);
            }
            Request::Alive => out.push(4),
            Request::ReopenLog => out.push(5),
            Request::Taken => out.push(6),
            Request::Identify { caller } => {
                out.push(7);
                put_u64(out, *caller);
            }
            Request::Measure => out.push(8),
            Request::GiveBack { listener, told } => {
                out.push(9);
                put_u32(out, listener.0);
                Told::put(told.as_deref(), out);
            }
        }
    }

    /// Reads one whole packet that came with `descriptors` descriptors.
    pub fn decode(packet: &[u8], descriptors: usize) -> Result<Self, ProtocolError> {
        let mut bytes = Bytes(packet);
        let request = match bytes.u8()? {
            1 => Request::Start {
                connection: ConnectionId(bytes.u64()?),
                service: ServiceId(bytes.u32()?),
                listener: ListenerId(bytes.u32()?),
                told: Told::take(&mut bytes)?,
            },
            2 => {
                let (connection, service, listener) = (
                    ConnectionId(bytes.u64()?),
                    ServiceId(bytes.u32()?),
                    ListenerId(bytes.u32()?),
                );
                let (ip, port) = (bytes.ip()?, bytes.u16()?);
                Request::StartWait {
                    connection,
                    service,
                    listener,
                    peer: ip.map(|ip| Peer { ip, port }),
                }
            }
            3 => Request::Stop {
                instance: InstanceId(bytes.u64()?),
            },
            4 => Request::Alive,
            5 => Request::ReopenLog,
            6 => Request::Taken,
            7 => Request::Identify {
                caller: bytes.u64()?,
            },
            8 => Request::Measure,
            9 => Request::GiveBack {
                listener: ListenerId(bytes.u32()?),
                told: Told::take(&mut bytes)?,
            },
            kind => return Err(ProtocolError::UnknownKind(kind)),
        };
        if !bytes.0.is_empty() {
            return Err(ProtocolError::TrailingBytes);
        }
        let want = request.descriptors();
        if want != descriptors {
            return Err(ProtocolError::DescriptorCount {
                want,
                got: descriptors,
            });
        }
        Ok(request)
    }
}

impl Refusal {
    pub const ALL: [Refusal; 12] = [
        Refusal::UnknownService,
        Refusal::UnknownListener,
        Refusal::WrongDescriptor,
        Refusal::PeerGone,
        Refusal::AddressDenied,
        Refusal::TooManyInstances,
        Refusal::TooManyInAll,
        Refusal::Draining,
        Refusal::NotProxied,
        Refusal::Banned,
        Refusal::Held,
        Refusal::Blocked,
    ];

    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownService => "unknown service",
            Refusal::UnknownListener => "unknown listener",
            Refusal::WrongDescriptor => "wrong descriptor",
            Refusal::PeerGone => "peer gone",
            Refusal::AddressDenied => "address denied",
            Refusal::TooManyInstances => "too many instances",
            Refusal::TooManyInAll => "too many instances in all",
            Refusal::Draining => "draining",
            Refusal::Banned => "banned",
            Refusal::Held => "drained or stopped by an operator",
            Refusal::Blocked => "blocked: this host lacks what the service requires",
            Refusal::NotProxied => "proxied where it must not be, or not where it must",
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::Truncated => f.write_str("truncated packet"),
            ProtocolError::TrailingBytes => f.write_str("bytes after the end of a packet"),
            ProtocolError::UnknownKind(kind) => write!(f, "unknown kind of packet {kind}"),
            ProtocolError::Unasked => f.write_str("an answer to nothing"),
            ProtocolError::BadValue(what) => write!(f, "impossible {what}"),
            ProtocolError::DescriptorCount { want, got } => {
                write!(f, "{got} descriptors came with a packet that takes {want}")
            }
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
