//! Version 2: sixteen octets, addresses, and values with type and length (section 2.2).
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::Crc32c;
use super::{Fault, Header, MAX_HEADER, expect};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

/// Octets of the addresses, by family.
const INET: usize = 2 * (4 + 2);
const INET6: usize = 2 * (16 + 2);
const UNIX: usize = 2 * 108;

/// Types of values that matter here.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

pub fn read(bytes: &[u8]) -> Result<Header, Fault> {
    expect(bytes, SIGNATURE, "the header has no PROXY signature")?;
    let octet = |at: usize| bytes.get(at).copied().ok_or(Fault::Need(at + 1));
    let is_local = match octet(12)? {
        0x20 => true,
        0x21 => false,
        command if command >> 4 != 2 => return Err(Fault::Malformed("unknown version")),
        _ => return Err(Fault::Malformed("unknown command")),
    };
    let kind = octet(13)?;
    // The family of LOCAL is to be ignored.
    let (family, needed) = match kind {
        _ if is_local => (Family::Unspecified, 0),
        0x00 => (Family::Unspecified, 0),
        0x11 | 0x12 => (Family::Inet, INET),
        0x21 | 0x22 => (Family::Inet6, INET6),
        0x31 | 0x32 => (Family::Unix, UNIX),
        _ => return Err(Fault::Malformed("unknown family")),
    };
    let high = usize::from(octet(14)?) << 8;
    if FIXED + high > MAX_HEADER {
        return Err(Fault::Malformed("longer than 4096 octets"));
    }
    let length = FIXED + (high | usize::from(octet(15)?));
    if length > MAX_HEADER {
        return Err(Fault::Malformed("longer than 4096 octets"));
    }
    if length < FIXED + needed {
        return Err(Fault::Malformed("too short for its addresses"));
    }
    let whole = bytes.get(..length).ok_or(Fault::Need(length))?;

    let mut header = Header {
        length,
        version: 2,
        ..Header::default()
    };
    // A proxy's own connection: whatever follows says nothing about a client.
    if is_local {
        return Ok(header);
    }
    header.ends = addresses(family, whole.get(FIXED..).unwrap_or_default());
    read_values(&mut header, whole, FIXED + needed)?;
    Ok(header)
}

fn addresses(family: Family, block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let size = match family {
        Family::Inet => 4,
        Family::Inet6 => 16,
        Family::Unspecified | Family::Unix => return None,
    };
    let port = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(block.get(at..at + 2)?.try_into().ok()?))
    };
    let from = address(block.get(..size)?)?;
    let to = address(block.get(size..2 * size)?)?;
    Some((
        SocketAddr::new(from, port(2 * size)?),
        SocketAddr::new(to, port(2 * size + 2)?),
    ))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

/// Walks over the values that begin at `at` and fill the rest of the header.
fn read_values(header: &mut Header, whole: &[u8], mut at: usize) -> Result<(), Fault> {
    let mut checksum = None;
    while at < whole.len() {
        let Some(&[kind, high, low]) = whole.get(at..at + 3) else {
            return Err(Fault::Malformed("a value runs past the end"));
        };
        let start = at + 3;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = whole.get(start..end) else {
            return Err(Fault::Malformed("a value runs past the end"));
        };
        let is_again = match kind {
            ALPN => replace(&mut header.alpn, text(value, 255)),
            AUTHORITY => replace(&mut header.authority, text(value, 255)),
            UNIQUE_ID => replace(&mut header.unique_id, opaque(value, 128)),
            CRC32C => replace(&mut checksum, Some((start, value))),
            _ => false,
        };
        if is_again {
            return Err(Fault::Malformed("a value comes twice"));
        }
        at = end;
    }
    match checksum {
        Some((start, value)) => check(whole, start, value),
        None => Ok(()),
    }
}

/// Whether there was something in `slot` already.
fn replace<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let is_again = slot.is_some();
    *slot = value;
    is_again
}

/// A value that may go into the environment and into logs.
fn text(value: &[u8], most: usize) -> Option<String> {
    let is_printable = value
        .iter()
        .all(|octet| octet.is_ascii_graphic() || *octet == b' ');
    if value.is_empty() || value.len() > most || !is_printable {
        return None;
    }
    String::from_utf8(value.to_vec()).ok()
}

/// A value that may be any bytes (2.2.5): it is shown in hexadecimal.
fn opaque(value: &[u8], most: usize) -> Option<Vec<u8>> {
    (1..=most).contains(&value.len()).then(|| value.to_vec())
}

/// The checksum is that of the whole header, with zeros where it stands itself (2.2.4).
fn check(whole: &[u8], start: usize, value: &[u8]) -> Result<(), Fault> {
    let (Some(before), Some(after), Ok(sent)) = (
        whole.get(..start),
        whole.get(start + 4..),
        <[u8; 4]>::try_from(value),
    ) else {
        return Err(Fault::Malformed("checksum"));
    };
    let crc = Crc32c::new().over(before).over(&[0; 4]).over(after);
    if crc.value() != u32::from_be_bytes(sent) {
        return Err(Fault::Malformed("checksum"));
    }
    Ok(())
}
