//! tcpmux (RFC 1078): the peer names a service, and the connection becomes
//! that service's.
//!
//! Only the line with the name is taken from the socket; whatever the peer
//! sent after it is the server's to read. What the named service thinks of
//! this peer (addresses, limits, hours) is decided by the loop after the
//! hand-over, with that service's own rules.
#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Registry, Token};
use socket2::Socket;

use super::builtin::{Answer, Moved, Turn, peek, read, register, with_stream_scratch};
use super::conversation::{Conversation, Progress, Traffic};
use super::plan::MuxPlan;
use crate::logging::Bytes;

/// What the loop sends once the named service admits the peer, if
/// [`Progress::HandOver`] says `greet`.
pub const GREETING: &[u8] = b"+Go\r\n";
const UNKNOWN: &[u8] = b"-Service not available\r\n";

/// The longest line, its end included.
const MAX_LINE: usize = 256;
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The tcpmux service on a fresh connection, with `names` behind it.
#[must_use]
pub fn conversation(socket: Socket, names: Rc<[MuxPlan]>) -> Box<dyn Conversation> {
    Box::new(Tcpmux {
        state: State::Reading(socket),
        names,
        registered: false,
        deadline: None,
        traffic: Traffic::default(),
    })
}

#[derive(Debug)]
struct Tcpmux {
    state: State,
    names: Rc<[MuxPlan]>,
    registered: bool,
    deadline: Option<Instant>,
    traffic: Traffic,
}

#[derive(Debug)]
enum State {
    /// The name is not complete.
    Reading(Socket),
    /// Nothing to hand over: the last words.
    Answering(Socket, Answer),
    HandedOver,
}

/// What the bytes seen so far ask for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// Not known yet.
    Nothing,
    TooMuch,
    /// A name, and how long its line is.
    Name(&'a [u8], usize),
}

fn asked(seen: &[u8]) -> Asked<'_> {
    let line = &seen[..seen.len().min(MAX_LINE)];
    match line.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let name = &line[..end];
            Asked::Name(name.strip_suffix(b"\r").unwrap_or(name), end + 1)
        }
        None if line.len() == MAX_LINE => Asked::TooMuch,
        None => Asked::Nothing,
    }
}

impl Tcpmux {
    fn turn(&mut self, registry: &Registry, now: Instant) -> io::Result<Progress> {
        match mem::replace(&mut self.state, State::HandedOver) {
            State::Reading(socket) => self.look(registry, socket, now),
            State::Answering(socket, answer) => self.answer(socket, answer, now),
            State::HandedOver => Ok(Progress::Done),
        }
    }

    /// Looks at what has come without taking it.
    fn look(&mut self, registry: &Registry, socket: Socket, now: Instant) -> io::Result<Progress> {
        if self.deadline.is_some_and(|at| now >= at) {
            return Ok(Progress::Done);
        }
        with_stream_scratch(|buffer| {
            let seen = match peek(&socket, &mut buffer[..MAX_LINE])? {
                Moved::Bytes(count) => &buffer[..count],
                Moved::Blocked => &[],
                Moved::End => return Ok(Progress::Done),
            };
            match asked(seen) {
                Asked::Nothing => {
                    self.state = State::Reading(socket);
                    Ok(Progress::Pending)
                }
                Asked::TooMuch => self.answer(socket, Answer::new(UNKNOWN.to_vec()), now),
                Asked::Name(name, line) => {
                    self.take(&socket, line)?;
                    self.serve(registry, socket, name, now)
                }
            }
        })
    }

    /// Takes exactly the line from the socket; every byte of it is there.
    fn take(&mut self, socket: &Socket, line: usize) -> io::Result<()> {
        let mut buffer = [0; MAX_LINE];
        let mut left = line;
        while left > 0 {
            let Moved::Bytes(count) = read(socket, &mut buffer[..left])? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            left -= count;
        }
        self.traffic.received += line as u64;
        Ok(())
    }

    fn serve(
        &mut self,
        registry: &Registry,
        socket: Socket,
        name: &[u8],
        now: Instant,
    ) -> io::Result<Progress> {
        if let Some(found) = self.find(name) {
            let (service, greet) = (found.service, found.greet);
            if self.registered {
                registry.deregister(&mut SourceFd(&socket.as_raw_fd()))?;
            }
            socket.set_nonblocking(false)?;
            return Ok(Progress::HandOver {
                socket,
                service,
                greet,
            });
        }
        let words = if name.eq_ignore_ascii_case(b"help") {
            self.list()
        } else {
            log::debug!(name:% = Bytes(name); "unknown tcpmux service asked for");
            UNKNOWN.to_vec()
        };
        self.answer(socket, Answer::new(words), now)
    }

    fn find(&self, name: &[u8]) -> Option<&MuxPlan> {
        self.names
            .iter()
            .find(|known| known.name.as_bytes().eq_ignore_ascii_case(name))
    }

    fn list(&self) -> Vec<u8> {
        let lines = self.names.iter().map(|known| format!("{}\r\n", known.name));
        lines.collect::<String>().into_bytes()
    }

    fn answer(&mut self, socket: Socket, mut answer: Answer, now: Instant) -> io::Result<Progress> {
        let progress = answer.turn(&socket, &mut self.traffic, now)?;
        self.deadline = answer.deadline();
        self.state = State::Answering(socket, answer);
        Ok(progress)
    }
}

impl Conversation for Tcpmux {
    fn begin(
        &mut self,
        registry: &Registry,
        tokens: [Token; 2],
        now: Instant,
    ) -> io::Result<Progress> {
        self.deadline = Some(now + TIME_LIMIT);
        let progress = self.turn(registry, now)?;
        if let (State::Reading(socket) | State::Answering(socket, _), Progress::Pending) =
            (&self.state, &progress)
        {
            register(registry, socket, tokens[0])?;
            self.registered = true;
        }
        Ok(progress)
    }

    fn ready(&mut self, registry: &Registry, _: Token, now: Instant) -> io::Result<Progress> {
        self.turn(registry, now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

#[cfg(test)]
#[path = "tcpmux_tests.rs"]
mod tests;
