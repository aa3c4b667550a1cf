//! `listen`: the forms of an address a service can be reached at.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use parse::{is_interface_name, listen, unix_name};

mod parse;

/// One entry of `listen`, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inet {
    pub transport: Transport,
    pub family: Family,
    /// `None`: every address of the family.
    pub addr: Option<IpAddr>,
    /// Zone of a link-local IPv6 address: `[fe80::1%eth0]`.
    pub zone: Option<String>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// `tcp:`, `udp:`: both families where no address is given.
    Any,
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnixKind {
    Stream,
    Datagram,
    Seqpacket,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl Listen {
    /// Whether TCP options make sense on its socket.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        match self {
            Listen::Inet(Inet { transport, .. }) | Listen::Rpc { transport, .. } => {
                *transport == Transport::Tcp
            }
            Listen::Inherited { .. } => true,
            Listen::Unix { .. } | Listen::Vsock { .. } | Listen::Tcpmux { .. } => false,
        }
    }

    /// Whether nobody from another host can get here, whatever the network is like.
    #[must_use]
    pub fn stays_on_this_host(&self) -> bool {
        match self {
            Listen::Unix { .. } => true,
            Listen::Inet(inet) => inet
                .addr
                .is_some_and(|addr| addr.to_canonical().is_loopback()),
            Listen::Vsock { .. }
            | Listen::Tcpmux { .. }
            | Listen::Rpc { .. }
            | Listen::Inherited { .. } => false,
        }
    }

    /// Whether peers have an IP address, so that `allow` and `deny` can judge them.
    #[must_use]
    pub fn has_ip_peers(&self) -> bool {
        !matches!(self, Listen::Unix { .. } | Listen::Vsock { .. })
    }
}

/// As the table has it: what is shown can be read again.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Inet(inet) => inet.fmt(f),
            Listen::Unix { kind, name } => write!(f, "{}:{name}", kind.scheme()),
            Listen::Vsock { cid: None, port } => write!(f, "vsock:{port}"),
            Listen::Vsock {
                cid: Some(cid),
                port,
            } => write!(f, "vsock:{cid}:{port}"),
            Listen::Tcpmux { name, greet } => {
                write!(f, "tcpmux:{}{name}", if *greet { "+" } else { "" })
            }
            Listen::Rpc {
                transport,
                program,
                first,
                last,
            } => {
                write!(f, "rpc-{transport}:{program}/{first}")?;
                if first == last {
                    Ok(())
                } else {
                    write!(f, "-{last}")
                }
            }
            Listen::Inherited { name } => write!(f, "fd:{name}"),
        }
    }
}

impl fmt::Display for Inet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Any => "",
            Family::V4 => "4",
            Family::V6 => "6",
        };
        write!(f, "{}{family}:", self.transport)?;
        match (self.addr, &self.zone) {
            (None, _) => {}
            (Some(IpAddr::V6(v6)), Some(zone)) => write!(f, "[{v6}%{zone}]:")?,
            (Some(IpAddr::V6(v6)), None) => write!(f, "[{v6}]:")?,
            (Some(IpAddr::V4(v4)), _) => write!(f, "{v4}:")?,
        }
        write!(f, "{}", self.port)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        })
    }
}

impl UnixKind {
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            UnixKind::Stream => "unix",
            UnixKind::Datagram => "unix-dgram",
            UnixKind::Seqpacket => "unix-seqpacket",
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => write!(f, "{}", path.display()),
            UnixName::Abstract(name) => write!(f, "@{name}"),
        }
    }
}
