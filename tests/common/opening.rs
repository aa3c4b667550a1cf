//! First bytes of clients and of proxies, written from the RFCs and the PROXY
//! protocol's own text and not with the code under test.

use std::net::{IpAddr, SocketAddr};

/// A TLS 1.2 ClientHello that asks for `name`, padded to `size` bytes in all
/// where that is more than it takes (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7685).
#[must_use]
pub fn hello_of_size(name: &str, size: usize) -> Vec<u8> {
    let sni = [&[0][..], &length16(name.as_bytes())].concat();
    let mut extensions = extension(0, &length16(&sni));
    extensions.extend(extension(16, &length16(b"\x02h2\x08http/1.1")));
    let fixed = [
        &[3, 3][..],
        &[0x5a; 32],
        &[0],
        &length16(&[0x13, 1, 0xc0, 0x2f]),
        &[1, 0],
    ]
    .concat();
    // Record, handshake, extensions' length: what stands around the rest.
    let plain = 5 + 4 + fixed.len() + 2 + extensions.len();
    if size > plain {
        extensions.extend(extension(21, &vec![0; size.saturating_sub(plain + 4)]));
    }
    let body = [&fixed[..], &length16(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &length16(&message)].concat()
}

#[must_use]
pub fn hello(name: &str) -> Vec<u8> {
    hello_of_size(name, 0)
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length16(body)].concat()
}

/// A length of two bytes and what is that long.
fn length16(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], body].concat()
}

/// A PROXY header of version 1: two addresses of one family.
#[must_use]
pub fn proxy1(from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (a, b) = (from.ip(), to.ip());
    let (p, q) = (from.port(), to.port());
    format!("PROXY {family} {a} {b} {p} {q}\r\n").into_bytes()
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY header of version 2 with these TLVs.
#[must_use]
pub fn proxy2(from: &str, to: &str, tlvs: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut body = Vec::new();
    for end in [from, to] {
        match end.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(tlvs);
    let family = if from.is_ipv4() { 0x11 } else { 0x21 };
    [SIGNATURE, &[0x21, family], &length16(&body)].concat()
}

/// Version 2, where the proxy speaks for itself.
#[must_use]
pub fn proxy2_local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

#[must_use]
pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &length16(value)].concat()
}

/// [`proxy2`] with a checksum behind the other TLVs, the right one or not.
#[must_use]
pub fn proxy2_summed(from: &str, to: &str, tlvs: &[u8], right: bool) -> Vec<u8> {
    let all = [tlvs, &tlv(3, &[0; 4])].concat();
    let mut header = proxy2(from, to, &all);
    let sum = crc32c(&header) ^ u32::from(!right);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// RFC 3720, appendix B.4: reflected, polynomial 0x1EDC6F41.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !sum
}
