//! Socket options of the table, put on a socket: those that must be there
//! before bind(2), and those that a reload can change.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive};

use crate::sys::socket::set_option;
use crate::table::SocketOptions;

/// Linux's `IPV6_TRANSPARENT` (linux/in6.h), which libc does not name everywhere.
const IPV6_TRANSPARENT: i32 = 75;
const IPV6_FREEBIND: i32 = 78;

/// An option that the kernel refused, by its name in the table.
#[derive(Debug)]
pub struct BadOption {
    pub name: &'static str,
    pub error: io::Error,
}

fn refused(name: &'static str) -> impl FnOnce(io::Error) -> BadOption {
    move |error| BadOption { name, error }
}

/// What decides whether and where the socket can be bound.
pub fn before_bind(socket: &Socket, domain: Domain, want: &SocketOptions) -> Result<(), BadOption> {
    let fd = socket.as_fd();
    if want.freebind {
        let (level, name) = pick(domain, libc::IP_FREEBIND, IPV6_FREEBIND);
        set_option(fd, level, name, 1).map_err(refused("freebind"))?;
    }
    if want.transparent {
        let (level, name) = pick(domain, libc::IP_TRANSPARENT, IPV6_TRANSPARENT);
        set_option(fd, level, name, 1).map_err(refused("transparent"))?;
    }
    if let Some(device) = &want.device {
        socket
            .bind_device(Some(device.as_bytes()))
            .map_err(refused("device"))?;
    }
    adjustable(socket, domain, want)
}

/// Whether two sockets would be the same as far as [`before_bind`] decides.
#[must_use]
pub fn bind_alike(one: &SocketOptions, other: &SocketOptions) -> bool {
    let decides = |want: &SocketOptions| (want.freebind, want.transparent, want.device.clone());
    decides(one) == decides(other)
}

/// What can be set at any time; a reload calls this on sockets that stay.
pub fn adjustable(socket: &Socket, domain: Domain, want: &SocketOptions) -> Result<(), BadOption> {
    let fd = socket.as_fd();
    if let Some(mark) = want.mark {
        socket.set_mark(mark).map_err(refused("mark"))?;
    }
    if let Some(size) = want.receive_buffer {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        socket
            .set_recv_buffer_size(size)
            .map_err(refused("receive_buffer"))?;
    }
    if let Some(size) = want.send_buffer {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        socket
            .set_send_buffer_size(size)
            .map_err(refused("send_buffer"))?;
    }
    if let Some(dscp) = want.dscp {
        let value = i32::from(dscp) << 2;
        let (level, name) = pick(domain, libc::IP_TOS, libc::IPV6_TCLASS);
        set_option(fd, level, name, value).map_err(refused("dscp"))?;
        if domain == Domain::IPV6 {
            // For the IPv4 peers of a dual-stack socket.
            set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, value).map_err(refused("dscp"))?;
        }
    }
    let is_tcp = socket.r#type().map_err(refused("listen"))? == socket2::Type::STREAM
        && matches!(domain, Domain::IPV4 | Domain::IPV6);
    if is_tcp {
        adjust_tcp(socket, want)
    } else {
        Ok(())
    }
}

/// Accepted sockets inherit these from the listener (tcp(7)). Switched off
/// explicitly too, so that a reload can take them away.
fn adjust_tcp(socket: &Socket, want: &SocketOptions) -> Result<(), BadOption> {
    let fd = socket.as_fd();
    socket
        .set_keepalive(want.keepalive.is_some())
        .map_err(refused("keepalive"))?;
    if let Some(keepalive) = &want.keepalive {
        let mut probe = TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            probe = probe.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            probe = probe.with_interval(interval);
        }
        if let Some(probes) = keepalive.probes {
            probe = probe.with_retries(probes);
        }
        socket
            .set_tcp_keepalive(&probe)
            .map_err(refused("keepalive"))?;
    }
    socket
        .set_tcp_nodelay(want.nodelay)
        .map_err(refused("nodelay"))?;
    let queue = i32::try_from(want.fast_open.unwrap_or(0)).unwrap_or(i32::MAX);
    if queue > 0 {
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)
            .map_err(refused("fast_open"))?;
    }
    let seconds = want.defer_accept.unwrap_or(Duration::ZERO).as_secs();
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
        .map_err(refused("defer_accept"))
}

fn pick(domain: Domain, v4: i32, v6: i32) -> (i32, i32) {
    if domain == Domain::IPV6 {
        (libc::IPPROTO_IPV6, v6)
    } else {
        (libc::IPPROTO_IP, v4)
    }
}
