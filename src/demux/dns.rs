//! DNS: the header and the first question of a query (RFC 1035, 4.1), over TCP with the
//! two octets of length in front (4.2.2), or as one datagram.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;

use std::ops::RangeInclusive;

use crate::demux::Verdict;
use crate::demux::rule::Dns;

/// Octets of the header, and of the shortest message with a question: the root,
/// type and class.
const HEADER: usize = 12;
const MIN_MESSAGE: usize = HEADER + 1 + 4;

/// Octets of a name on the wire with its length octets (RFC 1035, 2.3.4).
const MAX_WIRE_NAME: usize = 255;

const QUERY: u8 = 0;
const NOTIFY: u8 = 4;
const UPDATE: u8 = 5;

/// The question of a query.
struct Question {
    name: QueryName,
    kind: u16,
}

/// A name in lower case with dots between its labels. The root is empty.
struct QueryName {
    octets: [u8; MAX_WIRE_NAME],
    len: usize,
    /// All octets are visible ASCII and none of them is a dot inside a label, so that
    /// the text means this name and no other.
    is_plain: bool,
}

/// Whether the stream begins with a query that fits `rule`: decided at the end of its
/// question. The weight of a yes is that of the name pattern, in the upper half.
#[must_use]
pub fn judge_stream(rule: &Dns, bytes: &[u8]) -> (Verdict, u32) {
    let question = || {
        let mut walk = Walk {
            bytes,
            at: 0,
            end: 2,
        };
        let length =
            usize::from(walk.u16_from(u16::try_from(MIN_MESSAGE).unwrap_or(0)..=u16::MAX)?);
        walk.end += length;
        walk.question()
    };
    match question() {
        Ok(question) => fits(rule, &question),
        Err(verdict) => (verdict, 0),
    }
}

/// Whether a whole datagram is a query that fits `rule`.
#[must_use]
pub fn judge_message(rule: &Dns, message: &[u8]) -> bool {
    let mut walk = Walk {
        bytes: message,
        at: 0,
        end: message.len(),
    };
    walk.question()
        .is_ok_and(|question| fits(rule, &question).0 == Verdict::Yes)
}

fn fits(rule: &Dns, question: &Question) -> (Verdict, u32) {
    if !rule.r#type.is_empty() && !rule.r#type.contains(&question.kind) {
        return (Verdict::No, 0);
    }
    if rule.name.is_empty() {
        return (Verdict::Yes, 0);
    }
    let name = question.name.as_bytes();
    let weight = rule
        .name
        .iter()
        .filter_map(|pattern| pattern.matches(name))
        .max();
    match weight.filter(|_| question.name.is_plain) {
        Some(weight) => (Verdict::Yes, u32::from(weight) << 16),
        None => (Verdict::No, 0),
    }
}

/// A place in a message that ends at `end`, and in `bytes`, which may end before.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Walk<'_> {
    /// The next octet. `No` behind the end of the message, `Need` behind that of the bytes.
    fn u8(&mut self) -> Result<u8, Verdict> {
        if self.at >= self.end {
            return Err(Verdict::No);
        }
        let octet = self
            .bytes
            .get(self.at)
            .copied()
            .ok_or(Verdict::Need(self.at + 1))?;
        self.at += 1;
        Ok(octet)
    }

    /// The next two octets if they are in `range`; denied at the first where that can be told.
    fn u16_from(&mut self, range: RangeInclusive<u16>) -> Result<u16, Verdict> {
        let high = u16::from(self.u8()?) << 8;
        if high | 0xff < *range.start() || high > *range.end() {
            return Err(Verdict::No);
        }
        let number = high | u16::from(self.u8()?);
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(Verdict::No)
        }
    }

    fn question(&mut self) -> Result<Question, Verdict> {
        let is_bare = self.header()?;
        let name = self.name()?;
        let kind = self.u16_from(0..=u16::MAX)?;
        // IN, CH, HS; NONE and ANY (RFC 2136, 1.3; RFC 1035, 3.2.5).
        let class = self.u16_from(1..=255)?;
        let is_known = matches!(class, 1 | 3 | 4 | 254 | 255);
        if !is_known || (is_bare && self.at != self.end) {
            return Err(Verdict::No);
        }
        Ok(Question { name, kind })
    }

    /// Reads the header; whether nothing may follow the question.
    fn header(&mut self) -> Result<bool, Verdict> {
        self.u16_from(0..=u16::MAX)?; // id
        let high = self.u8()?;
        let (is_response, opcode) = (high & 0x80 != 0, high >> 3 & 0x0f);
        let (is_authoritative, is_truncated) = (high & 0x04 != 0, high & 0x02 != 0);
        if is_response || is_truncated || !matches!(opcode, QUERY | NOTIFY | UPDATE) {
            return Err(Verdict::No);
        }
        if is_authoritative && opcode != NOTIFY {
            return Err(Verdict::No);
        }
        // The reserved bit and the response code.
        if self.u8()? & 0x4f != 0 {
            return Err(Verdict::No);
        }
        self.u16_from(1..=1)?;
        // A query has answers never, an authority for IXFR (RFC 1995, 3). The others carry records.
        let (answers, authorities) = match opcode {
            QUERY => (0, 1),
            NOTIFY => (255, 255),
            _ => (u16::MAX, u16::MAX),
        };
        let answers = self.u16_from(0..=answers)?;
        let authorities = self.u16_from(0..=authorities)?;
        let additional = self.u16_from(0..=255)?;
        Ok(answers == 0 && authorities == 0 && additional == 0)
    }

    /// A name without compression: nothing stands before it that it could point to.
    fn name(&mut self) -> Result<QueryName, Verdict> {
        let mut name = QueryName {
            octets: [0; MAX_WIRE_NAME],
            len: 0,
            is_plain: true,
        };
        let mut wire = 1;
        loop {
            let label = self.u8()?;
            wire += 1 + usize::from(label);
            if label == 0 {
                return Ok(name);
            }
            if label > 63 || wire > MAX_WIRE_NAME {
                return Err(Verdict::No);
            }
            if name.len > 0 {
                name.push(b'.');
            }
            for _ in 0..label {
                let octet = self.u8()?;
                name.is_plain &= octet.is_ascii_graphic() && octet != b'.';
                name.push(octet.to_ascii_lowercase());
            }
        }
    }
}

impl QueryName {
    /// There is room: as text a name is shorter than on the wire.
    fn push(&mut self, octet: u8) {
        if let Some(slot) = self.octets.get_mut(self.len) {
            *slot = octet;
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}
