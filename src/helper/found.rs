//! What the kernel says of a request: whose it is, and where it came in.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockAddr, SockRef, Type};

use crate::helper::policy;
use crate::helper::sockets::bind::Bound;
use crate::helper::told::Proxied;
use crate::helper::wire::{Peer, Refusal};
use crate::sandbox::facts::Ends;

/// What was found out about a request, from the kernel.
#[derive(Debug)]
pub struct Found {
    pub ends: Ends,
    pub ip: Option<IpAddr>,
    /// For the log.
    pub peer: String,
    /// Who connected, where that is a proxy that brings somebody.
    pub proxy: Option<SocketAddr>,
}

impl Found {
    /// The request is whose a trusted proxy says it is.
    pub fn brought(self, proxied: Option<&Proxied>) -> Self {
        let Some(proxied) = proxied else {
            return self;
        };
        let proxy = match self.ends {
            Ends::Inet { peer, .. } => peer,
            Ends::Unix { .. } | Ends::Vsock { .. } | Ends::None => None,
        };
        let brought = match proxied.ends {
            Some((from, to)) => inet(false, Some(from), to),
            None => self,
        };
        Self { proxy, ..brought }
    }
}

/// Asks the kernel about a connection that the front sent. It must be one,
/// of the listener's kind, and have come in there.
pub fn look_at(fd: &OwnedFd, bound: &Bound) -> Result<Found, Refusal> {
    let socket = SockRef::from(fd);
    let kind = socket.r#type().map_err(|_| Refusal::WrongDescriptor)?;
    let local = socket.local_addr().map_err(|_| Refusal::WrongDescriptor)?;
    if kind != bound.kind
        || kind == Type::DGRAM
        || getsockopt(fd, sockopt::AcceptConn).unwrap_or(true)
        || !policy::came_in_at(&local, &bound.local)
    {
        return Err(Refusal::WrongDescriptor);
    }
    let peer = socket.peer_addr().map_err(|_| Refusal::PeerGone)?;
    Ok(match (local.as_socket(), peer.as_socket()) {
        (Some(local), Some(peer)) => inet(false, Some(peer), local),
        _ => other(fd, &peer, bound),
    })
}

pub fn waiting_at(bound: &Bound, peer: Option<Peer>) -> Found {
    let peer = peer.map(|peer| SocketAddr::new(peer.ip, peer.port));
    match bound.local.as_socket() {
        Some(local) => inet(bound.kind == Type::DGRAM, peer, local),
        None => Found {
            ends: local_only(bound),
            ip: None,
            peer: "-".into(),
            proxy: None,
        },
    }
}

fn inet(datagram: bool, peer: Option<SocketAddr>, local: SocketAddr) -> Found {
    let canonical = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    Found {
        ends: Ends::Inet {
            datagram,
            peer: canonical,
            local,
        },
        ip: canonical.map(|peer| peer.ip()),
        peer: canonical.map_or_else(|| "-".into(), |peer| peer.to_string()),
        proxy: None,
    }
}

fn other(fd: &OwnedFd, peer: &SockAddr, bound: &Bound) -> Found {
    if let Some((cid, port)) = peer.as_vsock_address() {
        let local_port = bound.local.as_vsock_address().map_or(0, |(_, port)| port);
        let ends = Ends::Vsock {
            peer: Some((cid, port)),
            local_port,
        };
        return Found {
            ends,
            ip: None,
            peer: format!("vsock:{cid}:{port}"),
            proxy: None,
        };
    }
    let credentials = getsockopt(fd, sockopt::PeerCredentials)
        .ok()
        .map(|who| (who.uid(), who.gid(), who.pid()));
    let peer = credentials.map_or_else(
        || "-".into(),
        |(uid, _, pid)| format!("uid:{uid}/pid:{pid}"),
    );
    Found {
        ends: Ends::Unix {
            path: unix_name(bound),
            credentials,
        },
        ip: None,
        peer,
        proxy: None,
    }
}

fn local_only(bound: &Bound) -> Ends {
    match bound.domain {
        Domain::UNIX => Ends::Unix {
            path: unix_name(bound),
            credentials: None,
        },
        Domain::VSOCK => {
            let local_port = bound.local.as_vsock_address().map_or(0, |(_, port)| port);
            Ends::Vsock {
                peer: None,
                local_port,
            }
        }
        _ => Ends::None,
    }
}

fn unix_name(bound: &Bound) -> String {
    if let Some(path) = bound.local.as_pathname() {
        return path.display().to_string();
    }
    let name = bound.local.as_abstract_namespace().unwrap_or_default();
    format!("@{}", String::from_utf8_lossy(name))
}
