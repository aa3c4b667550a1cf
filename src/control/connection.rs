//! One caller's socket: bytes in and out, never waiting, always bounded.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::frame::{Frames, MAX_CALL, TooLong};
use super::message::Reply;

/// What is read at once.
const READ: usize = 4096;
/// Replies are made only while less than this waits to be sent.
const ROOM: usize = 64 * 1024;

/// Why a caller's connection is over.
#[derive(Debug)]
pub enum Gone {
    /// It closed, or it was reset.
    Left,
    /// It sent what no caller sends.
    Misbehaved(&'static str),
}

/// A connection that is accepted and non-blocking. A plain read(2) takes no
/// descriptor: those that a caller sends are closed by the kernel.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    longest: usize,
    frames: Frames,
    outbox: Vec<u8>,
    sent: usize,
    /// No more calls will come.
    ended: bool,
    /// When bytes last moved.
    pub moved: Instant,
}

impl Connection {
    #[must_use]
    pub fn new(stream: UnixStream, now: Instant) -> Self {
        Self::with_limit(stream, MAX_CALL, now)
    }

    /// One whose calls have up to `longest` octets.
    #[must_use]
    pub fn with_limit(stream: UnixStream, longest: usize, now: Instant) -> Self {
        Self {
            stream,
            longest,
            frames: Frames::new(longest),
            outbox: Vec::new(),
            sent: 0,
            ended: false,
            moved: now,
        }
    }

    /// The next whole call; `None` when there is none yet, or no room for its answer.
    pub fn next_call(&mut self, now: Instant) -> Result<Option<Vec<u8>>, Gone> {
        if !self.has_room() {
            return Ok(None);
        }
        let mut buffer = [0; READ];
        loop {
            match self.frames.take() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) if self.ended && self.is_flushed() => return Err(Gone::Left),
                Ok(None) if self.ended => return Ok(None),
                Ok(None) => {}
                Err(TooLong) => return Err(Gone::Misbehaved("a call that is too long")),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.moved = now;
                    self.frames.feed(&buffer[..count]);
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Left),
            }
        }
    }

    /// While a call is being answered: whether the caller is still there. What it
    /// sends ahead is kept for later, up to one call.
    pub fn check_for_end(&mut self, now: Instant) -> Result<(), Gone> {
        let mut buffer = [0; READ];
        while !self.ended && self.frames.len() <= self.longest {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.moved = now;
                    self.frames.feed(&buffer[..count]);
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Left),
            }
        }
        match self.ended {
            true if self.is_hung_up() => Err(Gone::Left),
            // It has said all it will say, and still listens.
            true => Ok(()),
            false => Err(Gone::Misbehaved("too much at once")),
        }
    }

    /// Whether nobody is left to read what is sent.
    fn is_hung_up(&self) -> bool {
        let mut asked = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    pub fn push(&mut self, reply: &Reply) {
        reply.encode(&mut self.outbox);
    }

    /// Sends what the kernel takes.
    pub fn flush(&mut self, now: Instant) -> Result<(), Gone> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(count) => {
                    self.moved = now;
                    self.sent += count;
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Left),
            }
        }
        self.sent = 0;
        self.outbox = Vec::new();
        Ok(())
    }

    /// Octets of replies that are still to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Whether another reply may be made for it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.unsent() < ROOM
    }

    /// Whether it has everything that it was told.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// It sent half a call, or does not read.
    #[must_use]
    pub fn is_halfway(&self) -> bool {
        self.frames.is_partial() || !self.is_flushed()
    }

    /// Another descriptor for the same socket.
    pub fn share(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
