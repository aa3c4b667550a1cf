//! chargen (RFC 864): lines of 72 printable characters, each line starting
//! one character later than the one before.
#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use socket2::Socket;

use super::discard::drain;
use super::{Moved, TURN_BYTES, Turn, write};
use crate::front::conversation::{Progress, Traffic};

const PRINTABLE: usize = 95;
const LINE: usize = 72 + 2;
const CYCLE: usize = PRINTABLE * LINE;

/// All lines until they repeat, written once by the compiler.
static PATTERN: [u8; CYCLE] = pattern();

#[allow(
    clippy::cast_possible_truncation,
    reason = "a remainder of 95 fits in a byte"
)]
const fn pattern() -> [u8; CYCLE] {
    let mut out = [0; CYCLE];
    let mut at = 0;
    while at < CYCLE {
        let (line, column) = (at / LINE, at % LINE);
        out[at] = match column {
            72 => b'\r',
            73 => b'\n',
            _ => b' ' + ((line + column) % PRINTABLE) as u8,
        };
        at += 1;
    }
    out
}

/// The first `len` octets, for datagrams; shorter if the pattern is.
pub(super) fn opening(len: usize) -> &'static [u8] {
    &PATTERN[..len.min(CYCLE)]
}

/// Never keeps a byte: where it stands in the pattern is all its state.
#[derive(Debug, Default)]
pub struct Chargen {
    at: usize,
}

impl Turn for Chargen {
    fn turn(&mut self, socket: &Socket, traffic: &mut Traffic, _: Instant) -> io::Result<Progress> {
        let mut sent = 0;
        let mut blocked = false;
        while sent < TURN_BYTES && !blocked {
            match write(socket, &PATTERN[self.at..])? {
                Moved::Bytes(count) => {
                    self.at = (self.at + count) % CYCLE;
                    traffic.sent += count as u64;
                    sent += count;
                }
                Moved::Blocked | Moved::End => blocked = true,
            }
        }
        // Input is thrown away; its end is how the user says "enough".
        match drain(socket, traffic, TURN_BYTES)? {
            Moved::End => Ok(Progress::Done),
            Moved::Blocked if blocked => Ok(Progress::Pending),
            Moved::Blocked | Moved::Bytes(_) => Ok(Progress::Again),
        }
    }
}
