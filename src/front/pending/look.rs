//! One look at the first bytes of a connection, which stay where they are.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::routes::Routes;
use super::table::Waiting;
use super::told;
use crate::demux::look::Look;
use crate::demux::plan::{Facts, Route, Step};
use crate::demux::{Ending, LIMIT, proxy};
use crate::front::admit::Reason;
use crate::front::builtin::{Moved, peek, read};
use crate::front::peer::Peer;
use crate::helper::told::Told;
use crate::sys::interface::incoming_interface;
use crate::sys::socket::{peer_credentials, set_option};

/// A client that sends byte by byte is looked at this often at once; then
/// with pauses that double up to the longest, so that what it costs is bounded.
const QUICK_LOOKS: u16 = 16;
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// `SO_RCVLOWAT` never asks the kernel for more room than this.
const HIGHEST_MARK: usize = 16 * 1024;

/// What one look led to.
#[derive(Debug)]
pub enum Outlook {
    Route(Route, Option<Box<Told>>),
    /// Look again at an event, and no later than this.
    Wait {
        mark: u32,
        until: Instant,
    },
    /// `None`: nothing to tell anybody, such as a port scan.
    Close(Option<Reason>),
}

impl Waiting {
    /// Asks the kernel for what the rules of this listener ask.
    pub fn find_out(&mut self, routes: &Routes) {
        let asks = routes.plan.asks();
        let is_proxy = self.peer.ip().is_some_and(|ip| routes.owes_header(ip));
        self.owes_header = is_proxy && self.header.is_none();
        if asks.local {
            let local = self.socket.local_addr().ok().and_then(|at| at.as_socket());
            self.local = local.map(|at| at.ip().to_canonical());
        }
        if asks.interface {
            let fd = self.socket.as_fd();
            self.interface = incoming_interface(fd, routes.v6).map(Into::into);
        }
        if self.peer == Peer::Unix {
            // Asked for by rules or not: each user is a source of its own.
            self.credentials = peer_credentials(self.socket.as_fd());
        }
    }

    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let client = match self.client() {
            Peer::Inet { ip, port } => Some((ip, port)),
            Peer::Vsock { .. } | Peer::Unix => None,
        };
        let told = self.header.as_ref().and_then(|header| header.ends);
        Facts {
            peer: client,
            local: told.map_or(self.local, |(_, to)| Some(to.ip().to_canonical())),
            interface: self.interface.as_deref(),
            credentials: self.credentials,
        }
    }

    /// Looks at what has come. `closed`: the kernel says that no more will.
    pub fn look(
        &mut self,
        routes: &Routes,
        scratch: &mut [u8],
        closed: bool,
        now: Instant,
    ) -> Outlook {
        if !self.owes_header
            && let Step::Route(route) = routes.plan.step(&self.facts(), &[], None)
        {
            return Outlook::Route(route, told::of(self, route, None, routes));
        }
        self.looks = self.looks.saturating_add(1);
        let Ok(seen) = self.peek(scratch) else {
            return Outlook::Close(None); // a reset: whoever it was is gone
        };
        let (count, closed) = (seen.unwrap_or(0), closed || seen.is_none());
        if self.owes_header {
            return self.look_for_header(routes, count, closed, scratch, now);
        }
        let ended = self.ended(routes, count, closed, now);
        let look = Look::new(&scratch[..count]);
        match routes.plan.choose(&self.facts(), &look, ended) {
            Step::Route(route) => Outlook::Route(route, told::of(self, route, Some(&look), routes)),
            Step::Need(k) => self.wait(routes, count, k, now),
            Step::Refuse if count == 0 => Outlook::Close(None),
            Step::Refuse => Outlook::Close(Some(Reason::NoRule)),
        }
    }

    /// How many bytes are there; `None`: it ended before the first one.
    fn peek(&self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(match peek(&self.socket, &mut scratch[..LIMIT])? {
            Moved::Bytes(count) => Some(count),
            Moved::Blocked => Some(0),
            Moved::End => None,
        })
    }

    fn look_for_header(
        &mut self,
        routes: &Routes,
        count: usize,
        closed: bool,
        scratch: &mut [u8],
        now: Instant,
    ) -> Outlook {
        let header = match proxy::read(&scratch[..count]) {
            proxy::Read::Need(k) => {
                return match self.ended(routes, count, closed, now) {
                    None => self.wait(routes, count, k, now),
                    // A proxy that only asks whether somebody is there.
                    Some(_) if count == 0 => Outlook::Close(None),
                    Some(_) => Outlook::Close(Some(Reason::NoHeader)),
                };
            }
            proxy::Read::Malformed(why) => {
                log::debug!(peer:% = self.peer; "bad PROXY header: {why}");
                return Outlook::Close(Some(Reason::NoHeader));
            }
            proxy::Read::Complete(header) => header,
        };
        if self.consume(header.length, scratch).is_err() {
            return Outlook::Close(None);
        }
        self.owes_header = false;
        self.header = Some(header);
        if routes.denies_all(&self.facts()) {
            return Outlook::Close(Some(Reason::AddressDenied));
        }
        self.look(routes, scratch, closed, now)
    }

    /// Takes exactly the header: every byte of it is there.
    fn consume(&mut self, length: usize, scratch: &mut [u8]) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let Moved::Bytes(count) = read(&self.socket, &mut scratch[..left])? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            left -= count;
        }
        Ok(())
    }

    /// Why no more bytes are waited for, if so.
    fn ended(&self, routes: &Routes, count: usize, closed: bool, now: Instant) -> Option<Ending> {
        if closed {
            Some(Ending::Eof)
        } else if routes.is_all(count) {
            Some(Ending::Full)
        } else if now >= self.deadline(routes, count) {
            Some(Ending::Timeout)
        } else {
            None
        }
    }

    /// Counted from accept, so that no byte puts it off for ever.
    fn deadline(&self, routes: &Routes, count: usize) -> Instant {
        let span = if count == 0 {
            routes.first_byte_timeout
        } else {
            routes.match_timeout
        };
        self.accepted + span
    }

    fn wait(&mut self, routes: &Routes, count: usize, k: usize, now: Instant) -> Outlook {
        let deadline = self.deadline(routes, count);
        let hurry = self.looks.saturating_sub(QUICK_LOOKS);
        let is_new = count != self.seen;
        self.seen = count;
        // Who has said nothing since the last look is not looked at again
        // before it does: thousands of them must cost nothing.
        if hurry > 0 && is_new {
            let pause = Duration::from_millis(1 << hurry.min(6)).min(LONGEST_PAUSE);
            let mark = u32::try_from(HIGHEST_MARK).unwrap_or(u32::MAX);
            let until = deadline.min(now + pause);
            return Outlook::Wait { mark, until };
        }
        // Each arrival is an event anyway; a higher mark spares those that cannot matter.
        let mark = if k > count + 1 {
            k.min(HIGHEST_MARK)
        } else {
            1
        };
        Outlook::Wait {
            mark: u32::try_from(mark).unwrap_or(1),
            until: deadline,
        }
    }

    /// Tells the kernel how many bytes are worth an event.
    pub fn set_mark(&mut self, mark: u32) {
        if self.mark == mark {
            return;
        }
        let value = i32::try_from(mark).unwrap_or(1);
        if set_option(
            self.socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            value,
        )
        .is_ok()
        {
            self.mark = mark;
        }
    }

    /// Whether it is a connection no more. Bytes that came before a reset can
    /// be read all the same.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.socket.peer_addr().is_err()
    }

    /// The same socket as accept(2) gave it. What reads blocking would wait for the mark.
    pub fn restore(&mut self) {
        self.set_mark(1);
    }
}

/// The other end of what a proxy told, for the server.
#[must_use]
pub fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}
