//! The services without a process: echo, discard, chargen, daytime and time,
//! over connections here and over datagrams in [`datagram`]; figures in [`http`], as a page in [`status`].
//!
//! Each of the small ones is a [`Turn`] that moves bytes until the kernel says "would
//! block", but no more than [`TURN_BYTES`] at a time: one fast peer must not
//! hold up the loop.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;

use super::conversation::{Conversation, Progress, Traffic};
use super::tcpmux;
use crate::table::Builtin;

mod answer;
mod chargen;
mod clock;
pub mod datagram;
mod discard;
mod echo;
mod guard;
mod http;
pub mod status;

#[cfg(test)]
pub(super) mod drive;
#[cfg(test)]
mod tests;

pub(super) use answer::Answer;

/// What one conversation moves before the others get their turn.
const TURN_BYTES: usize = 256 * 1024;
/// What a stream reads at once: also the most that one slow echo peer makes us keep.
const STREAM_READ: usize = 16 * 1024;
/// The largest datagram fits, so that none is cut.
const SCRATCH: usize = 64 * 1024;

/// The built-in service `kind` on a fresh connection.
///
/// tcpmux needs the names behind it: the loop calls [`tcpmux::conversation`]
/// itself; without names every one is unknown.
#[must_use]
pub fn conversation(kind: Builtin, socket: Socket) -> Box<dyn Conversation> {
    match kind {
        Builtin::Echo => Stream::boxed(socket, echo::Echo::default()),
        Builtin::Discard => Stream::boxed(socket, discard::Discard),
        Builtin::Chargen => Stream::boxed(socket, chargen::Chargen::default()),
        Builtin::Daytime => {
            let line = clock::daytime(SystemTime::now()).into_bytes();
            Stream::boxed(socket, Answer::new(line))
        }
        Builtin::Time => {
            let octets = clock::time(SystemTime::now()).to_vec();
            Stream::boxed(socket, Answer::new(octets))
        }
        Builtin::Tcpmux => tcpmux::conversation(socket, Rc::new([])),
        Builtin::Metrics => http::Http::boxed(socket, http::Site::Metrics),
        Builtin::Status => http::Http::boxed(socket, http::Site::Status),
    }
}

/// One service's share of a turn.
pub(super) trait Turn: Debug {
    /// Moves bytes until done, blocked, or [`TURN_BYTES`] are reached.
    fn turn(
        &mut self,
        socket: &Socket,
        traffic: &mut Traffic,
        now: Instant,
    ) -> io::Result<Progress>;

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// A connection and the service that it has.
#[derive(Debug)]
struct Stream<T> {
    socket: Socket,
    service: T,
    traffic: Traffic,
    token: Token,
    registered: bool,
}

impl<T: Turn + 'static> Stream<T> {
    fn boxed(socket: Socket, service: T) -> Box<dyn Conversation> {
        Box::new(Self {
            socket,
            service,
            traffic: Traffic::default(),
            token: Token(0),
            registered: false,
        })
    }

    fn turn(&mut self, now: Instant) -> io::Result<Progress> {
        self.service.turn(&self.socket, &mut self.traffic, now)
    }

    /// Registers as late as possible; what became ready before is reported when epoll learns of it.
    fn wait(&mut self, registry: &Registry, progress: Progress) -> io::Result<Progress> {
        if matches!(progress, Progress::Pending) && !self.registered {
            register(registry, &self.socket, self.token)?;
            self.registered = true;
        }
        Ok(progress)
    }
}

impl<T: Turn + 'static> Conversation for Stream<T> {
    fn begin(
        &mut self,
        registry: &Registry,
        tokens: [Token; 2],
        now: Instant,
    ) -> io::Result<Progress> {
        self.token = tokens[0];
        let progress = self.turn(now)?;
        if matches!(progress, Progress::Pending) && self.traffic.received > 0 {
            // It has had its answer and will most likely close in a moment: looking once more after
            // the others is cheaper than the poll set.
            return Ok(Progress::Again);
        }
        self.wait(registry, progress)
    }

    fn ready(&mut self, registry: &Registry, _: Token, now: Instant) -> io::Result<Progress> {
        let progress = self.turn(now)?;
        self.wait(registry, progress)
    }

    fn deadline(&self) -> Option<Instant> {
        self.service.deadline()
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

pub(super) fn register(registry: &Registry, socket: &Socket, token: Token) -> io::Result<()> {
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, both)
}

/// What became of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Bytes(usize),
    /// The peer sent its last byte.
    End,
    Blocked,
}

/// Looks once at what can be read, and leaves it there.
pub(super) fn peek(socket: &Socket, buffer: &mut [u8]) -> io::Result<Moved> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    moved(|| Ok(recv(socket.as_raw_fd(), buffer, flags)?))
}

/// Reads once, past interruptions.
pub(super) fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<Moved> {
    // A flag per call spares a short conversation the two calls that make a socket non-blocking.
    moved(|| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?))
}

/// Writes once, past interruptions, and without SIGPIPE.
pub(super) fn write(socket: &Socket, bytes: &[u8]) -> io::Result<Moved> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    moved(|| socket.send_with_flags(bytes, flags))
}

/// Repeats `call` past interruptions and names its outcome.
pub(super) fn moved(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Moved> {
    loop {
        match call() {
            Ok(0) => return Ok(Moved::End),
            Ok(count) => return Ok(Moved::Bytes(count)),
            Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(Moved::Blocked),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Lends the one buffer of this thread that bytes pass through.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            // Only pages that are touched cost memory, and the first use is early enough.
            buffer.resize(SCRATCH, 0);
            work(&mut buffer)
        }
        Err(_) => work(&mut [0; 4096]),
    })
}

/// The same for streams, at most [`STREAM_READ`] long.
pub(super) fn with_stream_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    with_scratch(|buffer| {
        let len = buffer.len().min(STREAM_READ);
        work(&mut buffer[..len])
    })
}
