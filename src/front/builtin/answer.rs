//! One short answer, then the end: daytime, time, and what tcpmux says.
#![forbid(unsafe_code)]

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::discard::drain;
use super::{Moved, Turn, write};
use crate::front::conversation::{Progress, Traffic};

/// How long a peer may take to read a short answer, and to close.
const LINGER: Duration = Duration::from_secs(2);
/// What it may send meanwhile.
const LINGER_BYTES: usize = 64 * 1024;

/// Sends `bytes`, says that this was all, and waits a little for the peer to
/// close first: closing with its bytes unread would send a reset, which can
/// overtake and void the answer.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    sent: usize,
    patience: Duration,
    deadline: Option<Instant>,
}

impl Answer {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::long(bytes, LINGER)
    }

    /// One that may take `patience` to be read.
    pub fn long(bytes: Vec<u8>, patience: Duration) -> Self {
        Self {
            bytes,
            sent: 0,
            patience,
            deadline: None,
        }
    }

    fn send(&mut self, socket: &Socket, traffic: &mut Traffic, now: Instant) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            let Moved::Bytes(count) = write(socket, &self.bytes[self.sent..])? else {
                return Ok(false);
            };
            self.sent += count;
            traffic.sent += count as u64;
            if self.sent == self.bytes.len() {
                socket.shutdown(Shutdown::Write)?;
                self.deadline = self.deadline.map(|at| at.min(now + LINGER));
            }
        }
        Ok(true)
    }
}

impl Turn for Answer {
    fn turn(
        &mut self,
        socket: &Socket,
        traffic: &mut Traffic,
        now: Instant,
    ) -> io::Result<Progress> {
        self.deadline.get_or_insert(now + self.patience);
        let sent = self.send(socket, traffic, now)?;
        let is_late = self.deadline.is_some_and(|at| now >= at);
        if is_late || traffic.received > LINGER_BYTES as u64 {
            return Ok(Progress::Done);
        }
        if !sent {
            return Ok(Progress::Pending);
        }
        Ok(match drain(socket, traffic, LINGER_BYTES)? {
            Moved::Blocked => Progress::Pending,
            Moved::End | Moved::Bytes(_) => Progress::Done,
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
