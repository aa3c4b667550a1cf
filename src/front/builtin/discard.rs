//! discard (RFC 863): what comes in is forgotten.
#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use socket2::Socket;

use super::{Moved, TURN_BYTES, Turn, read, with_stream_scratch};
use crate::front::conversation::{Progress, Traffic};

#[derive(Debug)]
pub struct Discard;

impl Turn for Discard {
    fn turn(&mut self, socket: &Socket, traffic: &mut Traffic, _: Instant) -> io::Result<Progress> {
        match drain(socket, traffic, TURN_BYTES)? {
            Moved::End => Ok(Progress::Done),
            Moved::Blocked => Ok(Progress::Pending),
            Moved::Bytes(_) => Ok(Progress::Again),
        }
    }
}

/// Reads and forgets until the end, "would block", or `limit` bytes (then `Bytes`).
pub(super) fn drain(socket: &Socket, traffic: &mut Traffic, limit: usize) -> io::Result<Moved> {
    with_stream_scratch(|buffer| {
        let mut seen = 0;
        while seen < limit {
            match read(socket, buffer)? {
                Moved::Bytes(count) => {
                    seen += count;
                    traffic.received += count as u64;
                }
                over => return Ok(over),
            }
        }
        Ok(Moved::Bytes(seen))
    })
}
