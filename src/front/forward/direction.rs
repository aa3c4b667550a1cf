//! One direction of a relay: from a socket into a pipe, from the pipe into
//! the other socket, never through our memory where splice(2) can do it.
//!
//! Between two loads a direction holds nothing, not even a pipe: an idle
//! relay costs its two sockets.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use socket2::Socket;

use crate::front::builtin::{Moved, moved, read, with_stream_scratch, write};
use crate::sys::splice::splice;

/// What a pipe holds by default; more stays in the socket.
const LOAD: usize = 64 * 1024;
/// What one direction moves before others get their turn.
const TURN_BYTES: usize = 512 * 1024;
/// Empty pipes kept for the next load.
const SPARE_PIPES: usize = 32;

/// A socket and what is remembered of its last edges.
#[derive(Debug)]
pub struct Side {
    pub socket: Socket,
    readable: bool,
    writable: bool,
}

impl Side {
    /// A fresh one: nothing is known, so everything is tried.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
        }
    }

    /// The kernel reported something; a try tells what.
    pub fn woken(&mut self) {
        self.readable = true;
        self.writable = true;
    }
}

/// Bytes on their way from one side to the other.
#[derive(Debug)]
pub struct Direction {
    load: Load,
    /// The source sent its last byte.
    ended: bool,
    over: bool,
    /// One of the sockets is of a kind that splice(2) does not take.
    copies: bool,
    /// Bytes read from the source.
    pub taken: u64,
    /// Bytes written to the other side, a header not counted.
    pub delivered: u64,
}

#[derive(Debug)]
enum Load {
    Nothing,
    Pipe(Pipe, usize),
    /// Written up to the index.
    Bytes(Vec<u8>, usize),
    /// The same, but not counted as delivered.
    Header(Vec<u8>, usize),
}

impl Direction {
    /// `header` goes first.
    pub fn new(header: Vec<u8>) -> Self {
        let load = if header.is_empty() {
            Load::Nothing
        } else {
            Load::Header(header, 0)
        };
        Self {
            load,
            ended: false,
            over: false,
            copies: false,
            taken: 0,
            delivered: 0,
        }
    }

    /// As if splice(2) had refused already.
    #[cfg(test)]
    pub fn copying() -> Self {
        Self {
            copies: true,
            ..Self::new(Vec::new())
        }
    }

    /// Nothing will go this way any more.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Moves bytes until blocked (`false`) or until others should have a turn
    /// (`true`). An error is one of reading: the source was reset.
    pub fn turn(&mut self, from: &mut Side, to: &mut Side) -> io::Result<bool> {
        let mut moved = 0;
        while !self.over {
            match self.unload(to) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_) => {
                    self.abandon(to);
                    return Ok(false);
                }
            }
            if self.ended {
                // The peer may have gone already; its own direction will tell.
                let _ = to.socket.shutdown(Shutdown::Write);
                self.over = true;
            } else if moved >= TURN_BYTES {
                return Ok(true);
            } else if !from.readable {
                return Ok(false);
            } else {
                moved += self.load(from)?;
            }
        }
        Ok(false)
    }

    /// `to` takes nothing any more, but what it sent before may still be read:
    /// a server may answer and close before it has read the whole request.
    fn abandon(&mut self, to: &mut Side) {
        self.load = Load::Nothing;
        self.over = true;
        to.readable = true;
    }

    /// Fetches the next load; only when the last one is gone, because splice
    /// does not tell a full pipe from an empty socket.
    fn load(&mut self, from: &mut Side) -> io::Result<usize> {
        let got = if self.copies {
            self.load_copy(from)?
        } else {
            self.load_pipe(from)?
        };
        match got {
            Moved::Bytes(count) => {
                self.taken += count as u64;
                return Ok(count);
            }
            Moved::Blocked => from.readable = false,
            Moved::End => self.ended = true,
        }
        Ok(0)
    }

    fn load_pipe(&mut self, from: &Side) -> io::Result<Moved> {
        // Out of descriptors: this load goes through memory.
        let Ok(pipe) = Pipe::take() else {
            return self.load_copy(from);
        };
        match moved(|| splice(&from.socket, &pipe.into, LOAD)) {
            Ok(Moved::Bytes(count)) => {
                self.load = Load::Pipe(pipe, count);
                Ok(Moved::Bytes(count))
            }
            Ok(other) => {
                pipe.put_back();
                Ok(other)
            }
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
                pipe.put_back();
                self.copies = true;
                self.load_copy(from)
            }
            Err(err) => Err(err),
        }
    }

    fn load_copy(&mut self, from: &Side) -> io::Result<Moved> {
        with_stream_scratch(|buffer| {
            let got = read(&from.socket, buffer)?;
            if let Moved::Bytes(count) = got {
                self.load = Load::Bytes(buffer[..count].to_vec(), 0);
            }
            Ok(got)
        })
    }

    /// Whether nothing is left to write.
    fn unload(&mut self, to: &mut Side) -> io::Result<bool> {
        loop {
            let left = match &self.load {
                Load::Nothing => 0,
                Load::Pipe(_, left) => *left,
                Load::Bytes(bytes, at) | Load::Header(bytes, at) => bytes.len() - at,
            };
            if left == 0 {
                self.put_back();
                return Ok(true);
            }
            if !to.writable {
                return Ok(false);
            }
            match self.write(to) {
                Ok(Moved::Bytes(count)) => self.wrote(count),
                Ok(Moved::Blocked | Moved::End) => to.writable = false,
                Err(err) if err.raw_os_error() == Some(libc::EINVAL) && !self.copies => {
                    self.unpipe()?;
                }
                Err(err) => return Err(err),
            }
        }
    }

    fn write(&self, to: &Side) -> io::Result<Moved> {
        match &self.load {
            Load::Nothing => Ok(Moved::Blocked),
            Load::Pipe(pipe, left) => moved(|| splice(&pipe.out, &to.socket, *left)),
            Load::Bytes(bytes, at) | Load::Header(bytes, at) => write(&to.socket, &bytes[*at..]),
        }
    }

    fn wrote(&mut self, count: usize) {
        match &mut self.load {
            Load::Nothing => {}
            Load::Pipe(_, left) => *left -= count,
            Load::Bytes(_, at) => *at += count,
            Load::Header(_, at) => {
                *at += count;
                return;
            }
        }
        self.delivered += count as u64;
    }

    /// The destination takes no splice: what is in the pipe goes through memory.
    fn unpipe(&mut self) -> io::Result<()> {
        self.copies = true;
        if let Load::Pipe(pipe, left) = &self.load {
            let mut bytes = vec![0; *left];
            let mut at = 0;
            while at < bytes.len() {
                match nix::unistd::read(&pipe.out, &mut bytes[at..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => at += count,
                }
            }
            self.load = Load::Bytes(bytes, 0);
        }
        Ok(())
    }

    fn put_back(&mut self) {
        if let Load::Pipe(pipe, _) = std::mem::replace(&mut self.load, Load::Nothing) {
            pipe.put_back();
        }
    }
}

/// Two ends; empty whenever it is not part of a load.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = SPARE.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (out, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { out, into })
    }

    fn put_back(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_PIPES {
                spare.push(self);
            }
        });
    }
}
