//! The first line of an HTTP/1.x request, and of protocols that look like it
//! (RFC 9112, 3; RTSP and SIP differ in the version token).
#![forbid(unsafe_code)]

use crate::demux::Verdict;
use crate::demux::names::Name;

use super::authority::{self, Port};

/// Octets of a method; the longest registered one has 17.
const MAX_METHOD: usize = 32;

/// A first line that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    /// Octets with the line end.
    pub length: usize,
}

/// Whether `bytes` begin with a token, a space, visible octets, a space, `version`
/// and a line end (CRLF or LF): `OPTIONS * RTSP/1.0`. Denied at the first octet that
/// does not fit.
#[must_use]
pub fn start_line(bytes: &[u8], version: &[u8]) -> Verdict {
    match read(bytes, version, false) {
        Ok(_) => Verdict::Yes,
        Err(verdict) => verdict,
    }
}

/// The request line of HTTP/1.x, its octets checked but not the form of its target.
///
/// # Errors
///
/// `No` or `Need`, never `Yes`.
pub fn http(bytes: &[u8]) -> Result<Line<'_>, Verdict> {
    read(bytes, b"HTTP/1.", true)
}

fn read<'a>(bytes: &'a [u8], version: &[u8], digit: bool) -> Result<Line<'a>, Verdict> {
    let (method, rest) = word(bytes, MAX_METHOD, is_token)?;
    let (target, mut rest) = word(rest, usize::MAX, u8::is_ascii_graphic)
        .map_err(|verdict| asked_of_all(verdict, bytes))?;
    let mut next = |fits: &dyn Fn(u8) -> bool| match rest.split_first() {
        Some((&octet, after)) if fits(octet) => {
            rest = after;
            Ok(octet)
        }
        Some(_) => Err(Verdict::No),
        None => Err(Verdict::Need(bytes.len() + 1)),
    };
    for &expected in version {
        next(&|octet| octet == expected)?;
    }
    if digit {
        next(&|octet| octet.is_ascii_digit())?;
    }
    if next(&|octet| octet == b'\r' || octet == b'\n')? == b'\r' {
        next(&|octet| octet == b'\n')?;
    }
    Ok(Line {
        method,
        target,
        length: bytes.len() - rest.len(),
    })
}

/// Splits one to `most` octets that fit from what follows the space after them.
fn word(bytes: &[u8], most: usize, fits: fn(&u8) -> bool) -> Result<(&[u8], &[u8]), Verdict> {
    let end = bytes
        .iter()
        .position(|octet| !fits(octet))
        .unwrap_or(bytes.len());
    if end > most {
        return Err(Verdict::No);
    }
    let (word, rest) = bytes.split_at_checked(end).ok_or(Verdict::No)?;
    match rest.split_first() {
        None => Err(Verdict::Need(bytes.len() + 1)),
        Some((b' ', after)) if end > 0 => Ok((word, after)),
        Some(_) => Err(Verdict::No),
    }
}

/// The same verdict, with the length counted from the start of `bytes`.
fn asked_of_all(verdict: Verdict, bytes: &[u8]) -> Verdict {
    match verdict {
        Verdict::Need(_) => Verdict::Need(bytes.len() + 1),
        decided => decided,
    }
}

/// `tchar` of RFC 9110, 5.6.2.
pub fn is_token(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet)
}

/// Whether a line that [`http`] has denied is one of HTTP/1.x all the same: a
/// method and a space first, ` HTTP/1.` and a digit last. Whatever is between
/// breaks a rule then.
#[must_use]
pub fn is_broken_http(bytes: &[u8]) -> Verdict {
    let Ok((_, rest)) = word(bytes, MAX_METHOD, is_token) else {
        return Verdict::No;
    };
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return Verdict::Need(bytes.len() + 1);
    };
    // The space after the method may be the one before the version.
    let start = bytes.len() - rest.len() - 1;
    let line = bytes.get(start..=start + end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.split_last().and_then(|(digit, before)| {
        digit
            .is_ascii_digit()
            .then(|| before.ends_with(b" HTTP/1."))
    });
    Verdict::from(version == Some(true))
}

/// What a request target says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// As sent, without the query. CONNECT and `*` have none.
    pub path: Option<&'a [u8]>,
    /// Of the absolute form and of CONNECT: it counts, whatever `Host` says (RFC 9112, 3.2.2).
    pub host: Option<Name>,
}

impl<'a> Target<'a> {
    /// Reads one of the four forms of RFC 9112, 3.2; `None` if it is none of them.
    #[must_use]
    pub fn parse(line: &Line<'a>) -> Option<Self> {
        let target = line.target;
        if line.method == b"CONNECT" {
            let host = authority::host(target, Port::Required)?;
            return Some(Target {
                path: None,
                host: Some(host),
            });
        }
        if target == b"*" {
            return (line.method == b"OPTIONS").then(Target::default);
        }
        if target.starts_with(b"/") {
            return Some(Target {
                path: Some(without_query(target)),
                host: None,
            });
        }
        let colon = target.iter().position(|&octet| octet == b':')?;
        let (scheme, rest) = target.split_at_checked(colon)?;
        let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(octet));
        let rest = rest.strip_prefix(b"://").filter(|_| is_scheme)?;
        let end = rest
            .iter()
            .position(|octet| b"/?#".contains(octet))
            .unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let host = authority::host(authority, Port::Optional)?;
        let path = if path.starts_with(b"/") {
            without_query(path)
        } else {
            b"/"
        };
        Some(Target {
            path: Some(path),
            host: Some(host),
        })
    }
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&octet| octet == b'?')
        .next()
        .unwrap_or_default()
}
