//! The PROXY protocol header that tells the upstream who the peer is.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::table::ProxyVersion;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection from `peer` to our `local` address. Peers
/// without an internet address (unix, vsock) are announced as unknown.
pub fn header(
    version: ProxyVersion,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
) -> Vec<u8> {
    let ends = peer
        .zip(local)
        .and_then(|(peer, local)| same_family(peer, local));
    match version {
        ProxyVersion::V1 => text(ends).into_bytes(),
        ProxyVersion::V2 => binary(ends),
    }
}

/// Both ends of a connection, of one family once mapped addresses are unmapped.
enum Ends {
    V4([u8; 4], [u8; 4], u16, u16),
    V6([u8; 16], [u8; 16], u16, u16),
}

fn same_family(peer: SocketAddr, local: SocketAddr) -> Option<Ends> {
    let ports = (peer.port(), local.port());
    match (peer.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(Ends::V4(from.octets(), to.octets(), ports.0, ports.1))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(Ends::V6(from.octets(), to.octets(), ports.0, ports.1))
        }
        _ => None,
    }
}

fn text(ends: Option<Ends>) -> String {
    match ends {
        Some(Ends::V4(from, to, source, port)) => {
            let (from, to) = (IpAddr::from(from), IpAddr::from(to));
            format!("PROXY TCP4 {from} {to} {source} {port}\r\n")
        }
        Some(Ends::V6(from, to, source, port)) => {
            let (from, to) = (IpAddr::from(from), IpAddr::from(to));
            format!("PROXY TCP6 {from} {to} {source} {port}\r\n")
        }
        None => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    match ends {
        Some(Ends::V4(from, to, source, port)) => {
            out.extend_from_slice(&[V2_PROXY, TCP4, 0, 12]);
            put_ends(&mut out, &from, &to, source, port);
        }
        Some(Ends::V6(from, to, source, port)) => {
            out.extend_from_slice(&[V2_PROXY, TCP6, 0, 36]);
            put_ends(&mut out, &from, &to, source, port);
        }
        None => out.extend_from_slice(&[V2_LOCAL, UNSPEC, 0, 0]),
    }
    out
}

fn put_ends(out: &mut Vec<u8>, from: &[u8], to: &[u8], source: u16, port: u16) {
    out.extend_from_slice(from);
    out.extend_from_slice(to);
    out.extend_from_slice(&source.to_be_bytes());
    out.extend_from_slice(&port.to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(version: ProxyVersion, peer: &str, local: &str) -> Vec<u8> {
        header(version, peer.parse().ok(), local.parse().ok())
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |peer, local| String::from_utf8(of(ProxyVersion::V1, peer, local)).unwrap();
        assert_eq!(
            line("192.0.2.1:5000", "198.51.100.2:80"),
            "PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n"
        );
        assert_eq!(
            line("[::ffff:192.0.2.1]:5000", "[::ffff:198.51.100.2]:80"),
            "PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n"
        );
        assert_eq!(
            line("[2001:db8::1]:5000", "[2001:db8::2]:80"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n"
        );
        assert_eq!(line("unix", "unix"), "PROXY UNKNOWN\r\n");
        assert_eq!(line("192.0.2.1:1", "[2001:db8::2]:80"), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_16_28_or_52_octets() {
        let v4 = of(ProxyVersion::V2, "192.0.2.1:5000", "198.51.100.2:80");
        assert_eq!(
            v4,
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x21\x11\x00\x0c\
              \xc0\x00\x02\x01\xc6\x33\x64\x02\x13\x88\x00\x50"
        );
        let v6 = of(ProxyVersion::V2, "[2001:db8::1]:5000", "[2001:db8::2]:80");
        assert_eq!(v6.len(), 52);
        assert_eq!(&v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(&v6[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!((v6[31], v6[47]), (1, 2));
        assert_eq!(&v6[48..], [0x13, 0x88, 0, 80]);
        let unknown = of(ProxyVersion::V2, "unix", "unix");
        assert_eq!(&unknown[12..], [0x20, 0, 0, 0]);
    }
}
