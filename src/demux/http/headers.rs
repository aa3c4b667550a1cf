//! The header lines of an HTTP/1.x request, up to the blank line (RFC 9112, 5).
#![forbid(unsafe_code)]

use crate::demux::names::Name;

use super::authority::{self, Port};
use super::line::is_token;

/// Header lines of one request.
pub const MAX_LINES: usize = 100;

/// How far the headers have come.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack for one turn; boxing would allocate before a match"
)]
pub enum Head<'a> {
    /// Undecided with fewer octets than this.
    Need(usize),
    Malformed(&'static str),
    /// More lines than are looked at.
    TooLarge,
    Complete {
        /// All lines but the blank one.
        fields: &'a [u8],
        /// What the Host header says, if there is one and it says something.
        host: Option<Name>,
    },
}

/// Walks over the header lines that begin at `start`.
#[must_use]
pub fn walk(bytes: &[u8], start: usize) -> Head<'_> {
    let mut at = start;
    let mut lines = 0;
    let mut host: Option<Option<Name>> = None;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if lines == MAX_LINES && rest.first().is_some_and(|octet| !b"\r\n".contains(octet)) {
            return Head::TooLarge;
        }
        let end = memchr::memchr(b'\n', rest);
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let field = match read_field(line) {
            Ok(field) => field,
            Err(reason) => return Head::Malformed(reason),
        };
        let Some(end) = end else {
            return Head::Need(bytes.len() + 1);
        };
        if line.is_empty() {
            let fields = bytes.get(start..at).unwrap_or_default();
            return Head::Complete {
                fields,
                host: host.flatten(),
            };
        }
        let Some((name, value)) = field else {
            return Head::Malformed("a header line without a colon");
        };
        if name.eq_ignore_ascii_case(b"host") {
            if host.is_some() {
                return Head::Malformed("two Host headers");
            }
            match read_host(value) {
                Ok(said) => host = Some(said),
                Err(reason) => return Head::Malformed(reason),
            }
        }
        at += end + 1;
        lines += 1;
    }
}

/// Name and value; the value has its white space still.
type Field<'a> = (&'a [u8], &'a [u8]);

/// Checks a line or the beginning of one, without its line end; `None` while
/// there is no colon.
fn read_field(line: &[u8]) -> Result<Option<Field<'_>>, &'static str> {
    if line.first().is_some_and(|octet| b" \t".contains(octet)) {
        return Err("a header line begins with white space");
    }
    let colon = memchr::memchr(b':', line);
    let (name, value) = line
        .split_at_checked(colon.unwrap_or(line.len()))
        .unwrap_or_default();
    if !name.iter().all(is_token) || (name.is_empty() && colon.is_some()) {
        return Err("header name");
    }
    // Control octets make servers disagree about where a line ends (RFC 9110, 5.5).
    if value
        .iter()
        .any(|&octet| octet.is_ascii_control() && octet != b'\t')
    {
        return Err("control octet in a header");
    }
    Ok(colon.map(|_| (name, value.get(1..).unwrap_or_default())))
}

fn read_host(value: &[u8]) -> Result<Option<Name>, &'static str> {
    let value = value.trim_ascii();
    if value.is_empty() {
        return Ok(None);
    }
    authority::host(value, Port::Optional)
        .map(Some)
        .ok_or("Host header")
}

/// Whether one of `wanted` is among `fields`, without regard to case.
#[must_use]
pub fn has_one(fields: &[u8], wanted: &[String]) -> bool {
    fields.split(|&octet| octet == b'\n').any(|line| {
        let name = line
            .split(|&octet| octet == b':')
            .next()
            .unwrap_or_default();
        wanted
            .iter()
            .any(|wanted| name.eq_ignore_ascii_case(wanted.as_bytes()))
    })
}
