//! The remote end of a request, as it appears in rules and in the log.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use crate::helper::wire;

/// IPv4-mapped addresses are IPv4 from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Inet { ip: IpAddr, port: u16 },
    Vsock { cid: u32, port: u32 },
    Unix,
}

impl Peer {
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Inet { ip, .. } => Some(*ip),
            Peer::Vsock { .. } | Peer::Unix => None,
        }
    }

    /// As it is told to the helper.
    #[must_use]
    pub fn on_wire(&self) -> Option<wire::Peer> {
        match *self {
            Peer::Inet { ip, port } => Some(wire::Peer { ip, port }),
            Peer::Vsock { .. } | Peer::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Inet {
            ip: address.ip().to_canonical(),
            port: address.port(),
        }
    }
}

impl From<&SockAddr> for Peer {
    fn from(address: &SockAddr) -> Self {
        match (address.as_socket(), address.as_vsock_address()) {
            (Some(inet), _) => inet.into(),
            (None, Some((cid, port))) => Peer::Vsock { cid, port },
            (None, None) => Peer::Unix,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            // Of an instance that an earlier front or usherd began the helper knows no port.
            Peer::Inet { ip, port: 0 } => ip.fmt(f),
            Peer::Inet { ip, port } => SocketAddr::new(ip, port).fmt(f),
            Peer::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Peer::Unix => f.write_str("unix"),
        }
    }
}
