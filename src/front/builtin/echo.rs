//! echo (RFC 862): what comes in goes out.
#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use socket2::Socket;

use super::{Moved, TURN_BYTES, Turn, read, with_stream_scratch, write};
use crate::front::conversation::{Progress, Traffic};

/// While the peer does not read, nothing more is read from it either.
#[derive(Debug, Default)]
pub struct Echo {
    /// Read, not yet written: at most one buffer, and usually none.
    unsent: Vec<u8>,
}

impl Turn for Echo {
    fn turn(&mut self, socket: &Socket, traffic: &mut Traffic, _: Instant) -> io::Result<Progress> {
        if !self.flush(socket, traffic)? {
            return Ok(Progress::Pending);
        }
        with_stream_scratch(|buffer| self.pass(socket, traffic, buffer))
    }
}

impl Echo {
    /// Whether all that was left is now sent.
    fn flush(&mut self, socket: &Socket, traffic: &mut Traffic) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let Moved::Bytes(count) = write(socket, &self.unsent)? else {
                return Ok(false);
            };
            traffic.sent += count as u64;
            self.unsent.drain(..count);
        }
        self.unsent = Vec::new();
        Ok(true)
    }

    fn pass(
        &mut self,
        socket: &Socket,
        traffic: &mut Traffic,
        buffer: &mut [u8],
    ) -> io::Result<Progress> {
        let mut moved = 0;
        while moved < TURN_BYTES {
            let count = match read(socket, buffer)? {
                Moved::Bytes(count) => count,
                Moved::Blocked => return Ok(Progress::Pending),
                // Nothing is unread and nothing unsent, so closing tells the peer in the regular way.
                Moved::End => return Ok(Progress::Done),
            };
            moved += count;
            traffic.received += count as u64;
            let sent = match write(socket, &buffer[..count])? {
                Moved::Bytes(sent) => sent,
                Moved::Blocked | Moved::End => 0,
            };
            traffic.sent += sent as u64;
            if sent < count {
                self.unsent.extend_from_slice(&buffer[sent..count]);
                if !self.flush(socket, traffic)? {
                    return Ok(Progress::Pending);
                }
            }
        }
        Ok(Progress::Again)
    }
}
