//! A handshake message across TLS records, read where it lies.
//!
//! Only where each fragment begins and ends is written down; a [`Reader`] steps
//! from one to the next as if they were one piece.
#![forbid(unsafe_code)]

use crate::demux::Verdict;

/// Records one hello may be cut into.
pub const MAX_RECORDS: usize = 32;

/// Octets of a hello, by its length field.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Octets of a fragment: 2^14 as in RFC 8446, 5.1, and the 256 that older
/// implementations may add.
const MAX_FRAGMENT: usize = 16 * 1024 + 256;

/// Octets of a record header, and of the header of a handshake message.
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

/// A hello without extensions: version, random, empty session id, one cipher, one compression.
const MIN_MESSAGE: usize = 2 + 32 + 1 + 4 + 2;

const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 0x01;

/// Why there is no message to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Need(usize),
    Malformed(&'static str),
    TooLarge,
}

/// The body of a ClientHello, without its own header.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where fragments begin and how long they are.
    fragments: [(u16, u16); MAX_RECORDS],
    count: usize,
    /// Of all fragments.
    len: usize,
}

/// Whether `bytes` begin a TLS record with a ClientHello: said at the sixth
/// octet, denied at the first that cannot be.
#[must_use]
pub fn is_hello(bytes: &[u8]) -> Verdict {
    match record_at(bytes, 0) {
        Ok(_) => match bytes.get(RECORD_HEADER) {
            None => Verdict::Need(RECORD_HEADER + 1),
            Some(&kind) => Verdict::from(kind == CLIENT_HELLO),
        },
        Err(Fault::Need(k)) => Verdict::Need(k),
        Err(Fault::Malformed(_) | Fault::TooLarge) => Verdict::No,
    }
}

/// Length of the fragment whose header is at `at`.
fn record_at(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let octet = |offset: usize| {
        bytes
            .get(at + offset)
            .copied()
            .ok_or(Fault::Need(at + offset + 1))
    };
    if octet(0)? != HANDSHAKE {
        return Err(Fault::Malformed("another record inside the hello"));
    }
    if octet(1)? != 3 || octet(2)? > 4 {
        return Err(Fault::Malformed("record version"));
    }
    let high = usize::from(octet(3)?) << 8;
    if high > MAX_FRAGMENT {
        return Err(Fault::Malformed("record length"));
    }
    let length = high | usize::from(octet(4)?);
    if length == 0 || length > MAX_FRAGMENT {
        return Err(Fault::Malformed("record length"));
    }
    Ok(length)
}

impl<'a> Message<'a> {
    /// An empty message: that of a hello without TLS records.
    #[must_use]
    pub fn empty() -> Self {
        Message {
            bytes: &[],
            fragments: [(0, 0); MAX_RECORDS],
            count: 0,
            len: 0,
        }
    }

    /// Finds the fragments of the hello that `bytes` begin with
    /// ([`is_hello`] has said yes).
    ///
    /// # Errors
    ///
    /// `Need`: a record header, the message header or the end of the message is missing.
    pub fn gather(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut message = Message {
            bytes,
            ..Message::empty()
        };
        let mut at = 0;
        loop {
            let length = record_at(bytes, at)?;
            let start = at + RECORD_HEADER;
            let end = start + length;
            let before = message.len;
            message.push(start, length.min(bytes.len().saturating_sub(start)))?;

            // Where the first octet is that says something new.
            let wanted = message.total()?.unwrap_or(MESSAGE_HEADER) - before;
            if message.len >= MESSAGE_HEADER && length > wanted {
                return Err(Fault::Malformed("the record goes on after the hello"));
            }
            if message.count == MAX_RECORDS && length < wanted {
                return Err(Fault::TooLarge);
            }
            if bytes.len() < end.min(start + wanted) {
                return Err(Fault::Need(if length < wanted {
                    end + 1
                } else {
                    start + wanted
                }));
            }
            if message.len >= MESSAGE_HEADER && length == wanted {
                return Ok(message);
            }
            at = end;
        }
    }

    fn push(&mut self, start: usize, length: usize) -> Result<(), Fault> {
        let (Ok(from), Ok(octets)) = (u16::try_from(start), u16::try_from(length)) else {
            return Err(Fault::TooLarge);
        };
        let slot = self.fragments.get_mut(self.count).ok_or(Fault::TooLarge)?;
        *slot = (from, octets);
        self.count += 1;
        self.len += length;
        Ok(())
    }

    /// Length with the header, once the header is there.
    fn total(&self) -> Result<Option<usize>, Fault> {
        let mut header = Reader::over(self, 0, self.len);
        let (Some(_), Some(high), Some(low)) = (header.u8(), header.u8(), header.u16()) else {
            return Ok(None);
        };
        let length = usize::from(high) << 16 | usize::from(low);
        if length > MAX_MESSAGE {
            return Err(Fault::TooLarge);
        }
        if length < MIN_MESSAGE {
            return Err(Fault::Malformed("a hello cannot be that short"));
        }
        Ok(Some(MESSAGE_HEADER + length))
    }

    /// Reads what follows the header of the message.
    #[must_use]
    pub fn body(&self) -> Reader<'_> {
        Reader::over(
            self,
            MESSAGE_HEADER,
            self.len.saturating_sub(MESSAGE_HEADER),
        )
    }
}

/// A place in a message and how far one may read from there.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'m> {
    message: &'m Message<'m>,
    fragment: usize,
    /// Octets of the fragment already read.
    read: usize,
    /// From the start of the message.
    at: usize,
    left: usize,
}

impl<'m> Reader<'m> {
    /// Reads `len` octets from `at` on, both checked against the message.
    #[must_use]
    pub fn over(message: &'m Message<'m>, at: usize, len: usize) -> Self {
        let mut reader = Reader {
            message,
            fragment: 0,
            read: 0,
            at: 0,
            left: message.len,
        };
        if reader.skip(at).is_none() {
            reader.left = 0;
        }
        reader.left = reader.left.min(len);
        reader
    }

    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.left == 0
    }

    /// Octets that may still be read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Offset from the start of the message.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn u8(&mut self) -> Option<u8> {
        let octet = *self.piece(1)?.first()?;
        Some(octet)
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    pub fn skip(&mut self, mut octets: usize) -> Option<()> {
        if octets > self.left {
            return None;
        }
        while octets > 0 {
            octets -= self.piece(octets)?.len();
        }
        Some(())
    }

    /// A reader of the next `octets`, which this one leaves behind.
    pub fn take(&mut self, octets: usize) -> Option<Reader<'m>> {
        let mut taken = *self;
        self.skip(octets)?;
        taken.left = octets;
        Some(taken)
    }

    /// Fills `target` with the next octets.
    pub fn copy_to(&mut self, target: &mut [u8]) -> Option<()> {
        if target.len() > self.left {
            return None;
        }
        let mut done = 0;
        while done < target.len() {
            let piece = self.piece(target.len() - done)?;
            target
                .get_mut(done..done + piece.len())?
                .copy_from_slice(piece);
            done += piece.len();
        }
        Some(())
    }

    /// The next octets that lie together, one at least and `most` at most.
    fn piece(&mut self, most: usize) -> Option<&'m [u8]> {
        if self.left == 0 {
            return None;
        }
        loop {
            let &(start, length) = self
                .message
                .fragments
                .get(..self.message.count)?
                .get(self.fragment)?;
            let (start, length) = (usize::from(start), usize::from(length));
            if self.read == length {
                self.fragment += 1;
                self.read = 0;
                continue;
            }
            let octets = (length - self.read).min(most).min(self.left);
            let from = start + self.read;
            let piece = self.message.bytes.get(from..from + octets)?;
            self.read += octets;
            self.at += octets;
            self.left -= octets;
            return Some(piece);
        }
    }
}
