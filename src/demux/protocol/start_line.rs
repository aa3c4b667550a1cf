//! SIP and RTSP requests by their first line: method, target, version. Responses
//! are not requests.
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Longest method; the longest registered one is `SET_PARAMETER`.
const METHOD: usize = 24;
/// Longest target.
const TARGET: usize = 4096;
/// Longest scheme of a target.
const SCHEME: usize = 16;

/// RFC 3261, 7.1 and 25.1.
pub fn sip(walk: &mut Walk) -> Step<()> {
    // Empty lines, also as keep-alive, may stand in front (RFC 3261, 7.5; RFC 5626, 3.5.1).
    for _ in 0..2 {
        if walk.peek()? == b'\r' {
            walk.literal(b"\r\n")?;
        }
    }
    method(walk)?;
    walk.octet_that(|octet| octet.is_ascii_alphabetic())?;
    walk.until(b':', SCHEME, is_scheme)?;
    target(walk)?;
    walk.literal(b"SIP/2.0\r\n")
}

/// RFC 2326, 6.1, and RFC 7826, 20.2.1: `*`, or a URI whose scheme is `rtsp`,
/// `rtspu` or `rtsps`.
pub fn rtsp(walk: &mut Walk) -> Step<()> {
    method(walk)?;
    if walk.peek()? == b'*' {
        walk.literal(b"* ")?;
    } else {
        for letter in b"rtsp" {
            walk.octet_that(|octet| octet.eq_ignore_ascii_case(letter))?;
        }
        if walk.octet_that(|octet| matches!(octet, b':' | b's' | b'S' | b'u' | b'U'))? != b':' {
            walk.literal(b":")?;
        }
        target(walk)?;
    }
    walk.literal(b"RTSP/")?;
    walk.octet_that(|major| major == b'1' || major == b'2')?;
    walk.literal(b".0\r\n")
}

/// Up to the space behind it. Every registered method is in upper case, so
/// other tokens need not be waited for.
fn method(walk: &mut Walk) -> Step<()> {
    let octets = walk.until(b' ', METHOD, |octet| {
        octet.is_ascii_uppercase() || octet == b'_'
    })?;
    require(octets > 0)
}

/// Up to the space behind it: not empty, nothing but visible ASCII.
fn target(walk: &mut Walk) -> Step<()> {
    let octets = walk.until(b' ', TARGET, |octet| octet.is_ascii_graphic())?;
    require(octets > 0)
}

/// RFC 3986, 3.1.
fn is_scheme(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')
}
