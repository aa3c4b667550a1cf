//! The trivial services over datagrams: one answer for one request, from the
//! address that was asked, and none to a source that would answer back.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, UnixAddr, recvfrom, recvmsg,
    sendmsg, sendto, setsockopt, sockopt,
};
use socket2::{Domain, Socket};

use super::guard::{Guard, Silence};
use super::{chargen, clock, with_scratch};
use crate::front::conversation::Traffic;
use crate::table::Builtin;

/// Requests served before the others get their turn.
const BATCH: usize = 64;
/// RFC 864 allows no more in one datagram.
const CHARGEN_MAX: usize = 512;

/// Switches on what [`Responder::ready`] needs to know of each datagram.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.domain()? {
        Domain::IPV4 => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        // Covers IPv4 on a dual-stack socket as well, as mapped addresses.
        Domain::IPV6 => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    Ok(())
}

/// Answers the requests on one datagram listener.
#[derive(Debug)]
pub struct Responder {
    kind: Builtin,
    guard: Guard,
    /// Known after the first turn.
    unix: Option<bool>,
    control: Vec<u8>,
    traffic: Traffic,
    taken: u64,
    answered: u64,
    unanswered: u64,
}

/// The address that a request was sent to, in the form sendmsg(2) wants back.
#[derive(Clone, Copy, Debug)]
enum Queried {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// A request in the scratch buffer.
struct Asked {
    len: usize,
    source: Source,
}

enum Source {
    Inet {
        from: SockaddrStorage,
        /// `from` as rules see it.
        canonical: SocketAddr,
        queried: Option<Queried>,
    },
    /// Cannot be forged, so there is nothing to guard against.
    Unix(UnixAddr),
}

impl Responder {
    /// `own_ports`: every UDP port on which usherd answers by itself.
    #[must_use]
    pub fn new(kind: Builtin, own_ports: Rc<[u16]>) -> Self {
        Self {
            kind,
            guard: Guard::new(own_ports),
            unix: None,
            control: cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo),
            traffic: Traffic::default(),
            taken: 0,
            answered: 0,
            unanswered: 0,
        }
    }

    /// After a reload.
    pub fn set_own_ports(&mut self, own_ports: Rc<[u16]>) {
        self.guard.set_own_ports(own_ports);
    }

    /// Serves what waits on `socket`, but no more than one batch: `true` if
    /// more may be waiting. `admit` is asked about each source, canonical.
    /// An error is the socket's own, not that of a request.
    pub fn ready(
        &mut self,
        socket: &Socket,
        admit: &mut dyn FnMut(IpAddr) -> bool,
        now: Instant,
    ) -> io::Result<bool> {
        let unix = match self.unix {
            Some(unix) => unix,
            None => *self.unix.insert(socket.domain()? == Domain::UNIX),
        };
        with_scratch(|buffer| {
            for _ in 0..BATCH {
                let asked = if unix {
                    receive_unix(socket, buffer)
                } else {
                    self.receive_inet(socket, buffer)
                };
                match asked {
                    Ok(asked) => self.serve(socket, buffer, &asked, admit, now),
                    Err(Errno::EAGAIN) => return Ok(false),
                    Err(error) if is_of_a_request(error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(true)
        })
    }

    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Requests that were admitted.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Requests that were admitted but got no answer, discard's own aside.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    fn receive_inet(&mut self, socket: &Socket, buffer: &mut [u8]) -> Result<Asked, Errno> {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        let queried = message.cmsgs()?.find_map(|fact| match fact {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Queried::V4(info)),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Queried::V6(info)),
            _ => None,
        });
        let from = message.address.ok_or(Errno::EPROTO)?;
        let canonical = canonical(&from).ok_or(Errno::EPROTO)?;
        Ok(Asked {
            len: message.bytes,
            source: Source::Inet {
                from,
                canonical,
                queried,
            },
        })
    }

    fn serve(
        &mut self,
        socket: &Socket,
        buffer: &[u8],
        asked: &Asked,
        admit: &mut dyn FnMut(IpAddr) -> bool,
        now: Instant,
    ) {
        if let Source::Inet { canonical, .. } = asked.source
            && !admit(canonical.ip())
        {
            return;
        }
        self.taken += 1;
        self.traffic.received += asked.len as u64;
        let Some(answer) = answer(self.kind, &buffer[..asked.len]) else {
            return;
        };
        if !self.permits(&asked.source, now) {
            self.unanswered += 1;
            return;
        }
        match send(socket, answer.as_ref(), &asked.source) {
            Ok(count) => {
                self.answered += 1;
                self.traffic.sent += count as u64;
            }
            // The peer gets nothing, as if the network had lost it.
            Err(error) => {
                self.unanswered += 1;
                log::debug!(builtin:? = self.kind, error:% = error; "unable to answer a datagram");
            }
        }
    }

    fn permits(&mut self, source: &Source, now: Instant) -> bool {
        let Source::Inet {
            canonical, queried, ..
        } = source
        else {
            return true;
        };
        let permit = destination(*queried)
            .and_then(|to| self.guard.judge(*canonical, to))
            .and_then(|()| self.guard.spend(canonical.ip(), now));
        let Err(why) = permit else { return true };
        if let Some(held_back) = self.guard.may_log(canonical.ip(), now) {
            log::warn!(builtin:? = self.kind, peer:% = canonical, reason:% = why, held_back = held_back;
                "datagram not answered");
        }
        false
    }
}

fn receive_unix(socket: &Socket, buffer: &mut [u8]) -> Result<Asked, Errno> {
    let (len, source) = recvfrom::<UnixAddr>(socket.as_raw_fd(), buffer)?;
    // As long as the buffer: it may have been cut.
    if len == buffer.len() {
        return Err(Errno::EMSGSIZE);
    }
    // A sender without a name is told from errors of the socket: it only cannot be answered.
    let source = source.ok_or(Errno::EPROTO)?;
    Ok(Asked {
        len,
        source: Source::Unix(source),
    })
}

/// Errors that recvmsg(2) reports for one datagram, or for an earlier answer
/// that could not be delivered; the socket is as good as before.
fn is_of_a_request(error: Errno) -> bool {
    use Errno::{
        ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EINTR, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS,
        ENOPROTOOPT, EPROTO,
    };
    matches!(
        error,
        ECONNREFUSED
            | EHOSTDOWN
            | EHOSTUNREACH
            | EINTR
            | EMSGSIZE
            | ENETDOWN
            | ENETUNREACH
            | ENOBUFS
            | ENOPROTOOPT
            | EPROTO
    )
}

/// Bytes borrowed from the request or the pattern, or made for the occasion.
enum Answer<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Answer<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Answer::Borrowed(bytes) => bytes,
            Answer::Owned(bytes) => bytes,
        }
    }
}

/// What `request` is answered with, if anything.
///
/// No answer makes usherd an amplifier: echo and chargen never send more than
/// they got, and the 26 octets of daytime and 4 of time are less than what the
/// smallest Ethernet frame carries, which is what any request costs its sender.
fn answer(kind: Builtin, request: &[u8]) -> Option<Answer<'_>> {
    Some(match kind {
        Builtin::Echo => Answer::Borrowed(request),
        Builtin::Chargen if request.is_empty() => return None,
        Builtin::Chargen => Answer::Borrowed(chargen::opening(request.len().min(CHARGEN_MAX))),
        Builtin::Daytime => Answer::Owned(clock::daytime(SystemTime::now()).into_bytes()),
        Builtin::Time => Answer::Owned(clock::time(SystemTime::now()).to_vec()),
        Builtin::Discard | Builtin::Tcpmux => return None,
    })
}

fn send(socket: &Socket, answer: &[u8], source: &Source) -> Result<usize, Errno> {
    let fd = socket.as_raw_fd();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (from, queried) = match source {
        Source::Unix(from) => return sendto(fd, answer, from, flags),
        Source::Inet { from, queried, .. } => (from, queried),
    };
    let (v4, v6) = match *queried {
        Some(Queried::V4(info)) => (Some(any_interface(info)), None),
        Some(Queried::V6(info)) => (None, Some(right_interface(info))),
        None => (None, None),
    };
    let v4 = v4.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let control = v4.or(v6.as_ref().map(ControlMessage::Ipv6PacketInfo));
    let parts = [IoSlice::new(answer)];
    sendmsg(fd, &parts, control.as_slice(), flags, Some(from))
}

/// The kernel picks the interface by its routes. As a source it refuses an
/// address that is not our own, such as a broadcast.
fn any_interface(mut info: libc::in_pktinfo) -> libc::in_pktinfo {
    if came_early(info) {
        info.ipi_spec_dst = info.ipi_addr;
    }
    info.ipi_ifindex = 0;
    info
}

/// It was queued before [`prepare`]: the kernel has noted no local address for it.
fn came_early(info: libc::in_pktinfo) -> bool {
    info.ipi_spec_dst.s_addr == 0
}

/// The same, but a link-local address means nothing without its interface.
fn right_interface(mut info: libc::in6_pktinfo) -> libc::in6_pktinfo {
    if !Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local() {
        info.ipi6_ifindex = 0;
    }
    info
}

fn canonical(source: &SockaddrStorage) -> Option<SocketAddr> {
    let (ip, port) = match (source.as_sockaddr_in(), source.as_sockaddr_in6()) {
        (Some(v4), _) => (IpAddr::V4(v4.ip()), v4.port()),
        (_, Some(v6)) => (IpAddr::V6(v6.ip()), v6.port()),
        (None, None) => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Where a request was sent.
fn destination(queried: Option<Queried>) -> Result<Option<IpAddr>, Silence> {
    Ok(match queried {
        // They differ for a broadcast: the header's address is then not our own.
        Some(Queried::V4(info))
            if !came_early(info) && info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr =>
        {
            return Err(Silence::Destination);
        }
        Some(Queried::V4(info)) => Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        Some(Queried::V6(info)) => Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical()),
        None => None,
    })
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
