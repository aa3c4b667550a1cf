//! Version 1: one line of text, 107 octets at most (section 2.1).
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Fault, Header, expect};

pub const START: &[u8] = b"PROXY ";

/// Octets of the longest line with its CRLF, of an address and of a port.
const MAX_LINE: usize = 107;
const MAX_V4: usize = 15;
const MAX_V6: usize = 45;
const MAX_PORT: usize = 5;

pub fn read(bytes: &[u8]) -> Result<Header, Fault> {
    expect(bytes, START, "the header is no PROXY line")?;
    let mut line = Line {
        bytes,
        at: START.len(),
    };
    let ends = match line.peek(0)? {
        b'T' => Some(line.addresses()?),
        b'U' => {
            line.unknown()?;
            None
        }
        _ => return Err(Fault::Malformed("unknown family")),
    };
    Ok(Header {
        length: line.at,
        version: 1,
        ends,
        ..Header::default()
    })
}

/// A place in the line.
struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    /// The octet `ahead` of here.
    fn peek(&self, ahead: usize) -> Result<u8, Fault> {
        let at = self.at + ahead;
        if at >= MAX_LINE {
            return Err(Fault::Malformed("the line is longer than 107 octets"));
        }
        self.bytes.get(at).copied().ok_or(Fault::Need(at + 1))
    }

    fn fixed(&mut self, text: &[u8], reason: &'static str) -> Result<(), Fault> {
        for &expected in text {
            if self.peek(0)? != expected {
                return Err(Fault::Malformed(reason));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// All up to the CRLF is to be ignored.
    fn unknown(&mut self) -> Result<(), Fault> {
        self.fixed(b"UNKNOWN", "unknown family")?;
        if !matches!(self.peek(0)?, b' ' | b'\r') {
            return Err(Fault::Malformed("unknown family"));
        }
        loop {
            let octet = self.peek(0)?;
            self.at += 1;
            if octet == b'\r' && self.peek(0)? == b'\n' {
                self.at += 1;
                return Ok(());
            }
        }
    }

    fn addresses(&mut self) -> Result<(SocketAddr, SocketAddr), Fault> {
        self.fixed(b"TCP", "unknown family")?;
        let is_v4 = match self.peek(0)? {
            b'4' => true,
            b'6' => false,
            _ => return Err(Fault::Malformed("unknown family")),
        };
        self.at += 1;
        self.fixed(b" ", "unknown family")?;
        let (from, to) = if is_v4 {
            let mut v4 = || -> Result<Ipv4Addr, Fault> {
                self.field(MAX_V4, b' ', may_begin_v4, "IPv4 address")
            };
            (v4()?.into(), v4()?.into())
        } else {
            let mut v6 = || -> Result<Ipv6Addr, Fault> {
                self.field(MAX_V6, b' ', may_begin_v6, "IPv6 address")
            };
            (v6()?.into(), v6()?.into())
        };
        let source = self.field(MAX_PORT, b' ', may_begin_port, "port")?;
        let destination = self.field(MAX_PORT, b'\r', may_begin_port, "port")?;
        self.fixed(b"\n", "the line does not end in CRLF")?;
        Ok((
            SocketAddr::new(from, source),
            SocketAddr::new(to, destination),
        ))
    }

    /// Reads a field that ends before `end`, checking it octet by octet.
    fn field<T: std::str::FromStr>(
        &mut self,
        most: usize,
        end: u8,
        may_begin: fn(&[u8]) -> bool,
        reason: &'static str,
    ) -> Result<T, Fault> {
        let bad = Fault::Malformed(reason);
        let mut length = 0;
        while self.peek(length)? != end {
            length += 1;
            if length > most || !may_begin(self.span(length)) {
                return Err(bad);
            }
        }
        let text = str::from_utf8(self.span(length)).map_err(|_| bad)?;
        let value = text.parse().map_err(|_| bad)?;
        self.at += length + 1;
        Ok(value)
    }

    fn span(&self, length: usize) -> &'a [u8] {
        self.bytes
            .get(self.at..self.at + length)
            .unwrap_or_default()
    }
}

/// A decimal number without leading zeros, `largest` at most.
fn may_begin_number(text: &[u8], largest: u32) -> bool {
    let value = text.iter().try_fold(0_u32, |value, octet| {
        octet.is_ascii_digit().then(|| {
            value
                .saturating_mul(10)
                .saturating_add(u32::from(octet - b'0'))
        })
    });
    value.is_some_and(|value| value <= largest) && (text.len() < 2 || !text.starts_with(b"0"))
}

fn may_begin_port(text: &[u8]) -> bool {
    may_begin_number(text, u16::MAX.into())
}

fn may_begin_v4(text: &[u8]) -> bool {
    let mut numbers = 0;
    let mut parts = text.split(|&octet| octet == b'.').peekable();
    while let Some(part) = parts.next() {
        numbers += 1;
        // Only the last one may still be missing.
        if (part.is_empty() && parts.peek().is_some()) || !may_begin_number(part, 255) {
            return false;
        }
    }
    numbers <= 4
}

/// By its octets only; the rest is told at the end of the field.
fn may_begin_v6(text: &[u8]) -> bool {
    text.iter()
        .all(|octet| octet.is_ascii_hexdigit() || b":.".contains(octet))
}
