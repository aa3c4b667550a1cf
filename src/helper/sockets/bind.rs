//! One entry of `listen` becomes one bound socket.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::options::{self, BadOption};
use super::unix::{self, PathError, SocketFile};
use crate::demux::datagram::Inexpressible;
use crate::helper::filter;
use crate::sandbox::launch::FIRST_LISTENER;
use crate::sys::socket::set_filter;
use crate::table::SocketOptions;
use crate::table::address::{Family, Inet, Listen, Transport, UnixKind, UnixName};

/// listen(2); with the 10 of old daemons a second peer is lost as soon as ten wait.
const DEFAULT_BACKLOG: u32 = 1024;

/// A socket that is bound and, unless it takes datagrams, listens.
#[derive(Debug)]
pub struct Bound {
    pub socket: Socket,
    /// Where: what getsockname(2) said.
    pub local: SockAddr,
    pub domain: Domain,
    pub kind: Type,
    pub file: Option<SocketFile>,
}

/// Why a socket could not be bound.
#[derive(Debug)]
pub enum BindError {
    /// The address (or its interface) does not exist on this host, yet.
    NotThere(io::Error),
    /// Somebody else has it.
    Taken(io::Error),
    Option(BadOption),
    Path(PathError),
    /// Datagrams cannot be told apart as the rules want it.
    Rules(Inexpressible),
    /// `socket`, `bind`, `listen`, ...
    Call(&'static str, io::Error),
}

impl BindError {
    /// Whether waiting may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, BindError::NotThere(_))
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::NotThere(err) => write!(f, "{err}"),
            BindError::Taken(err) => write!(f, "{err}"),
            BindError::Option(bad) => write!(f, "socket.{}: {}", bad.name, bad.error),
            BindError::Path(PathError::NotASocket) => {
                f.write_str("a file that is no socket is there; remove it or choose another path")
            }
            BindError::Path(PathError::InUse) => f.write_str("another process serves this path"),
            BindError::Path(PathError::Io(what, err)) => write!(f, "{what}: {err}"),
            BindError::Rules(why) => write!(f, "match: {why}"),
            BindError::Call(what, err) => write!(f, "{what}: {err}"),
        }
    }
}

/// Whether the port may have another socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Alone,
    /// Next to one that still holds it and is about to go (both get `SO_REUSEPORT`).
    Beside,
    /// As one of a group of datagram sockets; it hears nothing yet.
    Member,
}

/// Binds `listen`.
pub fn bind(listen: &Listen, want: &SocketOptions, sharing: Sharing) -> Result<Bound, BindError> {
    match listen {
        Listen::Inet(inet) => bind_inet(inet, want, sharing),
        Listen::Unix { kind, name } => bind_unix(*kind, name, want),
        Listen::Vsock { cid, port } => bind_vsock(cid.unwrap_or(libc::VMADDR_CID_ANY), *port, want),
        Listen::Rpc { transport, .. } => {
            let family = Family::Any;
            let inet = Inet {
                transport: *transport,
                family,
                addr: None,
                zone: None,
                port: 0,
            };
            bind_inet(&inet, want, Sharing::Alone)
        }
        Listen::Tcpmux { .. } | Listen::Inherited { .. } => {
            unreachable!("neither has a socket of its own to bind")
        }
    }
}

/// Takes over a socket that is bound already.
pub fn adopt(fd: &OwnedFd, want: &SocketOptions) -> Result<Bound, BindError> {
    let socket = raise(Socket::from(fd.try_clone().map_err(call("dup"))?))?;
    let local = socket.local_addr().map_err(call("getsockname"))?;
    let kind = socket.r#type().map_err(call("getsockopt"))?;
    let domain = socket.domain().map_err(call("getsockopt"))?;
    options::adjustable(&socket, domain, want).map_err(BindError::Option)?;
    socket
        .set_nonblocking(kind != Type::DGRAM)
        .map_err(call("fcntl"))?;
    Ok(Bound {
        socket,
        local,
        domain,
        kind,
        file: None,
    })
}

fn bind_inet(inet: &Inet, want: &SocketOptions, sharing: Sharing) -> Result<Bound, BindError> {
    let (kind, protocol) = match inet.transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let mut ip = inet.bind_addr();
    let made = Socket::new(Domain::for_address((ip, 0).into()), kind, Some(protocol));
    let socket = match made {
        // A host without IPv6: dual stack is IPv4 then.
        Err(err) if err.raw_os_error() == Some(libc::EAFNOSUPPORT) && inet.is_dual_stack() => {
            ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            Socket::new(Domain::IPV4, kind, Some(protocol))
        }
        made => made,
    };
    let socket = raise(socket.map_err(call("socket"))?)?;
    let domain = Domain::for_address((ip, 0).into());
    if domain == Domain::IPV6 {
        socket
            .set_only_v6(!inet.is_dual_stack())
            .map_err(call("IPV6_V6ONLY"))?;
    }
    if inet.transport == Transport::Tcp {
        // Not for UDP, where it would let two sockets share the port.
        socket
            .set_reuse_address(true)
            .map_err(call("SO_REUSEADDR"))?;
    }
    if sharing != Sharing::Alone {
        socket.set_reuse_port(true).map_err(call("SO_REUSEPORT"))?;
    }
    if sharing == Sharing::Member {
        set_filter(socket.as_fd(), &filter::nobody()).map_err(call("SO_ATTACH_FILTER"))?;
    }
    options::before_bind(&socket, domain, want).map_err(BindError::Option)?;
    let address = socket_address(inet, ip)?;
    let member = sharing == Sharing::Member;
    let reuse = |reuse| {
        socket
            .set_reuse_address(reuse)
            .map_err(call("SO_REUSEADDR"))
    };
    if member {
        // For the moment of bind(2): beside a former member that was put aside.
        reuse(true)?;
    }
    socket.bind(&address.into()).map_err(bind_failed)?;
    if member {
        reuse(false)?;
    }
    finish(socket, domain, kind, want, bind_failed)
}

fn socket_address(inet: &Inet, ip: IpAddr) -> Result<SocketAddr, BindError> {
    Ok(match (ip, &inet.zone) {
        (IpAddr::V6(v6), Some(zone)) => {
            let index =
                if_nametoindex(zone.as_str()).map_err(|err| BindError::NotThere(err.into()))?;
            SocketAddrV6::new(v6, inet.port, 0, index).into()
        }
        (ip, _) => SocketAddr::new(ip, inet.port),
    })
}

fn bind_failed(error: io::Error) -> BindError {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => BindError::NotThere(error),
        Some(libc::EADDRINUSE) => BindError::Taken(error),
        _ => BindError::Call("bind", error),
    }
}

fn bind_unix(kind: UnixKind, name: &UnixName, want: &SocketOptions) -> Result<Bound, BindError> {
    let kind = match kind {
        UnixKind::Stream => Type::STREAM,
        UnixKind::Datagram => Type::DGRAM,
        UnixKind::Seqpacket => Type::SEQPACKET,
    };
    let socket = raise(Socket::new(Domain::UNIX, kind, None).map_err(call("socket"))?)?;
    options::before_bind(&socket, Domain::UNIX, want).map_err(BindError::Option)?;
    let file = match name {
        UnixName::Path(path) => {
            Some(unix::bind_path(&socket, kind, path, want).map_err(BindError::Path)?)
        }
        UnixName::Abstract(name) => {
            let address = SockAddr::unix(format!("\0{name}")).map_err(call("name"))?;
            socket
                .bind(&address)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::EADDRINUSE) => BindError::Taken(error),
                    _ => BindError::Call("bind", error),
                })?;
            None
        }
    };
    let mut bound = finish(socket, Domain::UNIX, kind, want, |err| {
        BindError::Call("listen", err)
    })?;
    bound.file = file;
    Ok(bound)
}

fn bind_vsock(cid: u32, port: u32, want: &SocketOptions) -> Result<Bound, BindError> {
    let domain = Domain::VSOCK;
    let socket = raise(Socket::new(domain, Type::STREAM, None).map_err(call("socket"))?)?;
    options::before_bind(&socket, domain, want).map_err(BindError::Option)?;
    socket
        .bind(&SockAddr::vsock(cid, port))
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => BindError::NotThere(error),
            Some(libc::EADDRINUSE) => BindError::Taken(error),
            _ => BindError::Call("bind", error),
        })?;
    finish(socket, domain, Type::STREAM, want, |err| {
        BindError::Call("listen", err)
    })
}

/// Streams listen and never block the accepting side; datagram sockets stay
/// blocking, because a server may get them as they are.
fn finish(
    socket: Socket,
    domain: Domain,
    kind: Type,
    want: &SocketOptions,
    failed: impl FnOnce(io::Error) -> BindError,
) -> Result<Bound, BindError> {
    if kind != Type::DGRAM {
        listen(&socket, want).map_err(failed)?;
        socket.set_nonblocking(true).map_err(call("fcntl"))?;
    }
    let local = socket.local_addr().map_err(call("getsockname"))?;
    Ok(Bound {
        socket,
        local,
        domain,
        kind,
        file: None,
    })
}

/// listen(2), also to change the backlog of a socket that listens already.
pub fn listen(socket: &Socket, want: &SocketOptions) -> io::Result<()> {
    let backlog = want.backlog.unwrap_or(DEFAULT_BACKLOG);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// Moves a descriptor out of the numbers that servers get theirs on.
fn raise(socket: Socket) -> Result<Socket, BindError> {
    crate::sys::inherit::raise(&socket, FIRST_LISTENER).map_err(call("dup"))
}

fn call(what: &'static str) -> impl FnOnce(io::Error) -> BindError {
    move |err| BindError::Call(what, err)
}
