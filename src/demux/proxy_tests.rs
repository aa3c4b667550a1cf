//! Headers of both versions, read at every cut.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::crc32c::Crc32c;
use super::*;
use crate::demux::{Verdict, laws};

/// The same law as for verdicts; what was complete stays exactly the same.
fn obeys_the_laws(sample: &[u8]) {
    let whole = read(sample);
    laws::obeyed(sample, |bytes| match read(bytes) {
        Read::Need(k) => {
            assert!(k <= MAX_HEADER);
            Verdict::Need(k)
        }
        Read::Malformed(_) => Verdict::No,
        complete @ Read::Complete(_) => {
            assert_eq!(complete, whole);
            Verdict::Yes
        }
    });
}

fn complete(bytes: &[u8]) -> Header {
    obeys_the_laws(bytes);
    match read(bytes) {
        Read::Complete(header) => *header,
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn assert_malformed(bytes: &[u8], reason: &str) {
    obeys_the_laws(bytes);
    match read(bytes) {
        Read::Malformed(told) => assert_eq!(told, reason, "{}", bytes.escape_ascii()),
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn ends(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

fn v2(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, kind]);
    bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend(block);
    bytes
}

fn value(kind: u8, data: &[u8]) -> Vec<u8> {
    [
        &[kind][..],
        &u16::try_from(data.len()).unwrap().to_be_bytes(),
        data,
    ]
    .concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

fn with_values(values: &[Vec<u8>]) -> Vec<u8> {
    v2(0x21, 0x11, &[&V4[..], &values.concat()].concat())
}

/// With a checksum value first, right or off by `error`.
fn with_checksum(values: &[Vec<u8>], error: u32) -> Vec<u8> {
    let mut all = vec![value(3, &[0; 4])];
    all.extend_from_slice(values);
    let mut bytes = with_values(&all);
    let crc = Crc32c::new().over(&bytes).value() ^ error;
    bytes[16 + 12 + 3..][..4].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_line_tells_both_ends() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET /";
    let header = complete(line);
    assert_eq!((header.length, header.version), (line.len() - 5, 1));
    assert_eq!(header.ends, ends("192.0.2.7:56324", "198.51.100.1:443"));
    let header = complete(b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 0 65535\r\n");
    assert_eq!(header.ends, ends("[2001:db8::7]:0", "[2001:db8::1]:65535"));
    let longest = format!(
        "PROXY TCP6 {0} {0} 65535 65535\r\n",
        "ffff:".repeat(7) + "ffff"
    );
    assert!(complete(longest.as_bytes()).ends.is_some());
}

#[test]
fn an_unknown_line_is_passed_over() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 x\ty \r z 1\r\n"] {
        let header = complete(format!("{line}\r\n").as_bytes());
        assert_eq!((header.length, header.ends), (line.len(), None));
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(complete(longest.as_bytes()).length, 107);
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
    assert_malformed(longer.as_bytes(), "the line is longer than 107 octets");
}

#[test]
fn bad_lines_are_refused_where_they_go_wrong() {
    let family = "unknown family";
    for (line, at, reason) in [
        ("GET / HTTP/1.1\r\n", 1, "the header has no PROXY signature"),
        ("PROXX", 5, "the header is no PROXY line"),
        ("PROXY\r", 6, "the header is no PROXY line"),
        ("PROXY UDP4 ", 8, family),
        ("PROXY TCP5 ", 10, family),
        ("PROXY tcp4 ", 7, family),
        ("PROXY UNKNOWNX", 14, family),
        ("PROXY TCP4  ", 12, "IPv4 address"),
        ("PROXY TCP4 192.0.2.256 ", 22, "IPv4 address"),
        ("PROXY TCP4 192.00.2.1 ", 17, "IPv4 address"),
        ("PROXY TCP4 192..2.1 ", 16, "IPv4 address"),
        ("PROXY TCP4 1.2.3.4.5 ", 19, "IPv4 address"),
        ("PROXY TCP4 1.2.3 ", 17, "IPv4 address"),
        ("PROXY TCP4 ::1 ", 12, "IPv4 address"),
        ("PROXY TCP6 1.2.3.4 ", 19, "IPv6 address"),
        ("PROXY TCP6 fe80::1%e ", 19, "IPv6 address"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 ", 32, "port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 080 ", 29, "port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +80 ", 28, "port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4  ", 28, "port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", 31, "port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", 31, "port"),
        (
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r ",
            32,
            "the line does not end in CRLF",
        ),
    ] {
        assert_malformed(line.as_bytes(), reason);
        assert_malformed(&line.as_bytes()[..at], reason);
        assert!(
            matches!(read(&line.as_bytes()[..at - 1]), Read::Need(k) if k == at),
            "{line}"
        );
    }
}

#[test]
fn a_binary_header_tells_both_ends() {
    let bytes = [&v2(0x21, 0x11, &V4)[..], b"rest"].concat();
    let header = complete(&bytes);
    assert_eq!((header.length, header.version), (28, 2));
    assert_eq!(header.ends, ends("192.0.2.7:56324", "198.51.100.1:443"));
    assert_eq!(read(&bytes[..16]), Read::Need(28));

    let v6: Vec<u8> = [
        &[0x20, 1, 0xd, 0xb8][..],
        &[0; 11],
        &[7],
        &[0; 15],
        &[1, 0, 1, 0, 2],
    ]
    .concat();
    let header = complete(&v2(0x21, 0x22, &v6));
    assert_eq!(header.ends, ends("[2001:db8::7]:1", "[::1]:2"));
}

#[test]
fn a_header_without_addresses_keeps_those_of_the_socket() {
    for (bytes, length) in [
        (v2(0x20, 0x00, &[]), 16),
        (v2(0x20, 0x11, &V4), 28),
        (v2(0x20, 0xff, &[9; 5]), 21),
        (v2(0x21, 0x00, &[]), 16),
        (v2(0x21, 0x00, &value(2, b"a.example")), 28),
        (v2(0x21, 0x31, &[0; 216]), 232),
    ] {
        let header = complete(&bytes);
        assert_eq!((header.length, header.ends), (length, None));
    }
    assert_eq!(
        complete(&v2(0x20, 0, &value(2, b"a.example"))).authority,
        None
    );
}

#[test]
fn values_are_kept_if_they_are_fit_to_be_shown() {
    let bytes = with_checksum(
        &[
            value(1, b"h2"),
            value(4, &[0; 9]),
            value(2, b"shop.example"),
            value(0x20, &[0xff; 40]),
            value(5, b"id 7"),
            value(0xe0, &[]),
        ],
        0,
    );
    let header = complete(&bytes);
    assert_eq!(header.alpn.as_deref(), Some("h2"));
    assert_eq!(header.authority.as_deref(), Some("shop.example"));
    assert_eq!(header.unique_id.as_deref(), Some(&b"id 7"[..]));
    assert_eq!(header.length, bytes.len());

    let header = complete(&with_values(&[
        value(2, b"a\nb"),
        value(1, &[b'x'; 256]),
        value(5, &[b'x'; 129]),
    ]));
    assert_eq!(
        (header.authority, header.alpn, header.unique_id),
        (None, None, None)
    );
    let header = complete(&with_values(&[
        value(2, b""),
        value(1, &[b'x'; 255]),
        value(5, "ü".as_bytes()),
    ]));
    assert_eq!(
        (
            header.authority,
            header.alpn.unwrap().len(),
            header.unique_id
        ),
        // Not text, and need not be: it is shown in hexadecimal.
        (None, 255, Some("ü".as_bytes().to_vec()))
    );
}

#[test]
fn bad_binary_headers_are_refused() {
    let past = "a value runs past the end";
    for (bytes, reason) in [
        (v2(0x11, 0x11, &V4), "unknown version"),
        (v2(0x22, 0x11, &V4), "unknown command"),
        (v2(0x21, 0x13, &V4), "unknown family"),
        (v2(0x21, 0x10, &V4), "unknown family"),
        (v2(0x21, 0x41, &V4), "unknown family"),
        (v2(0x21, 0x01, &V4), "unknown family"),
        (v2(0x21, 0x11, &V4[..11]), "too short for its addresses"),
        (v2(0x21, 0x21, &[0; 35]), "too short for its addresses"),
        (v2(0x21, 0x31, &[0; 215]), "too short for its addresses"),
        (v2(0x21, 0x11, &[0; 4081]), "longer than 4096 octets"),
        (v2(0x21, 0x11, &[0; 60_000]), "longer than 4096 octets"),
        (with_values(&[vec![4]]), past),
        (with_values(&[vec![4, 0, 1]]), past),
        (with_values(&[vec![2, 0xff, 0xff, b'a']]), past),
        (
            with_values(&[value(2, b"a"), value(2, b"b")]),
            "a value comes twice",
        ),
        (with_checksum(&[value(2, b"a")], 1), "checksum"),
        (with_values(&[value(3, &[0; 3])]), "checksum"),
    ] {
        assert_malformed(&bytes, reason);
    }
    assert_malformed(b"\r\n\r\n\0\r\nQUIX", "the header has no PROXY signature");
    assert_eq!(read(b"\r\n\r\n"), Read::Need(5));
}

#[test]
fn the_largest_header_is_read() {
    let bytes = with_checksum(&[value(4, &vec![1; MAX_HEADER - 16 - 12 - 7 - 3])], 0);
    assert_eq!(complete(&bytes).length, MAX_HEADER);
}

proptest! {
    #[test]
    fn noise_obeys_the_laws(
        noise in proptest::collection::vec(any::<u8>(), 0..120),
        start in prop::sample::select(vec![&b""[..], b"PROXY TCP4 ", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x30"]),
    ) {
        obeys_the_laws(&[start, &noise].concat());
    }

    #[test]
    fn damaged_headers_obey_the_laws(
        seed in 0..4_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = match seed {
            0 => b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nrest".to_vec(),
            1 => b"PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 1 2\r\n".to_vec(),
            2 => with_values(&[value(1, b"h2"), value(2, b"a.example"), value(5, b"x")]),
            _ => with_checksum(&[value(1, b"h2"), value(2, b"a.example")], 0),
        };
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        obeys_the_laws(&bytes);
    }

    #[test]
    fn any_addresses_come_back(from: std::net::Ipv6Addr, to: std::net::Ipv4Addr, source: u16, destination: u16) {
        let line = format!("PROXY TCP6 {from} {} {source} {destination}\r\n", to.to_ipv6_mapped());
        let told = Some((SocketAddr::new(from.into(), source), SocketAddr::new(to.to_ipv6_mapped().into(), destination)));
        prop_assert_eq!(complete(line.as_bytes()).ends, told);
        let line = format!("PROXY TCP4 {to} {to} {source} {destination}\r\n");
        prop_assert!(complete(line.as_bytes()).ends.is_some());
    }
}
