//! `listen`: the forms of an address a service can be reached at.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// One entry of `listen`, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// `tcp:`, `tcp4:`, `tcp6:`, `udp:`, `udp4:`, `udp6:`.
    Inet(Inet),
    /// `unix:`, `unix-dgram:`, `unix-seqpacket:`.
    Unix { kind: UnixKind, name: UnixName },
    /// `vsock:PORT` or `vsock:CID:PORT`; `None` is any context id.
    Vsock { cid: Option<u32>, port: u32 },
    /// `tcpmux:NAME`: the server answers the `+` itself; `tcpmux:+NAME`: usherd does (RFC 1078).
    Tcpmux { name: String, greet: bool },
    /// `rpc-tcp:`, `rpc-udp:` + name or number + `/` + version or range; the port is the kernel's choice.
    Rpc {
        transport: Transport,
        program: u32,
        first: u32,
        last: u32,
    },
    /// `fd:NAME`: a descriptor inherited under this name in `LISTEN_FDNAMES`.
    Inherited { name: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inet {
    pub transport: Transport,
    pub family: Family,
    /// `None`: every address of the family.
    pub addr: Option<IpAddr>,
    /// Zone of a link-local IPv6 address: `[fe80::1%eth0]`.
    pub zone: Option<String>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `tcp:`, `udp:`: both families where no address is given.
    Any,
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnixKind {
    Stream,
    Datagram,
    Seqpacket,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// Absolute.
    Path(PathBuf),
    /// Without the leading NUL; `@NAME` in the table.
    Abstract(String),
}

impl Listen {
    /// Whether requests come one datagram at a time. `None` for `fd:`, where
    /// only the descriptor can tell.
    #[must_use]
    pub fn is_datagram(&self) -> Option<bool> {
        match self {
            Listen::Inet(Inet { transport, .. }) | Listen::Rpc { transport, .. } => {
                Some(*transport == Transport::Udp)
            }
            Listen::Unix { kind, .. } => Some(*kind == UnixKind::Datagram),
            Listen::Vsock { .. } | Listen::Tcpmux { .. } => Some(false),
            Listen::Inherited { .. } => None,
        }
    }
}

impl Inet {
    /// The address to bind for IPv4, for IPv6 (dual-stack if `Family::Any` and no address).
    #[must_use]
    pub fn bind_addr(&self) -> IpAddr {
        self.addr.unwrap_or(match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Any | Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        })
    }

    /// Whether one IPv6 socket takes IPv4 peers too.
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.family == Family::Any && self.addr.is_none()
    }
}
