//! XMPP's initial stream header (RFC 6120, 4.2), after an XML declaration or not.
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Longest run of white space before a tag.
const SPACES: usize = 64;
/// Longest XML declaration, between `<?xml` and `?>`.
const DECLARATION: usize = 128;

/// The prefix `stream` is only a custom (RFC 6120, 4.8.5), but servers insist on
/// it. Its namespaces are for the server to judge.
pub fn walk(walk: &mut Walk) -> Step<()> {
    if walk.peek()? == 0xef {
        walk.literal("\u{feff}".as_bytes())?;
    }
    walk.run_of(SPACES, is_space)?;
    walk.literal(b"<")?;
    if walk.peek()? == b'?' {
        declaration(walk)?;
        walk.run_of(SPACES, is_space)?;
        walk.literal(b"<")?;
    }
    walk.literal(b"stream:stream")?;
    walk.octet_that(|octet| is_space(octet) || octet == b'>')?;
    Ok(())
}

/// The rest of `<?xml version='1.0'?>` (XML 1.0, 2.8); stands behind its `<`.
fn declaration(walk: &mut Walk) -> Step<()> {
    walk.literal(b"?xml")?;
    walk.octet_that(is_space)?;
    let inside = |octet: u8| is_space(octet) || matches!(octet, 0x20..=0x7e if octet != b'<');
    walk.until(b'?', DECLARATION, |octet| inside(octet) && octet != b'>')?;
    let end = walk.octet()?;
    require(end == b'>')
}

/// XML 1.0, 2.3, production 3.
fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}
