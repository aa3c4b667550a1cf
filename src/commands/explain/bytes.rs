//! The bytes of a request that is only imagined, and what they look like.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::{Bytes, Sent, read_file};
use crate::demux::look::Look;
use crate::demux::tls::Hello;

/// `160301 00 ...`
pub fn hex(text: &str) -> Result<Bytes, String> {
    let digits: Vec<char> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .collect();
    if !digits.len().is_multiple_of(2) {
        return Err("expected two digits for each byte, found an odd number of them".into());
    }
    let read = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        byte(&pair).ok_or_else(|| format!("\"{pair}\" is no byte in hexadecimal"))
    };
    digits.chunks(2).map(read).collect()
}

/// Exactly two digits.
fn byte(pair: &str) -> Option<u8> {
    let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok())?
}

/// Text with `\r`, `\n`, `\\` and `\xNN`.
pub fn text(text: &str) -> Result<Bytes, String> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('r') => out.push(b'\r'),
            Some('n') => out.push(b'\n'),
            Some('t') => out.push(b'\t'),
            Some('\\') => out.push(b'\\'),
            Some('x') => {
                let pair: String = rest.by_ref().take(2).collect();
                out.push(byte(&pair).ok_or_else(|| format!("\\x{pair} is no byte"))?);
            }
            other => {
                let other = other.map_or(String::new(), String::from);
                return Err(format!(
                    "\\{other} means nothing here; there are \\r \\n \\t \\\\ \\xNN"
                ));
            }
        }
    }
    Ok(out.into())
}

/// The bytes that were asked about; `None` if none were.
pub(super) fn sent(sent: &Sent) -> Result<Option<Vec<u8>>, String> {
    Ok(match (&sent.hex, &sent.text, &sent.file, &sent.sni) {
        (Some(bytes), ..) | (_, Some(bytes), ..) => Some(bytes.to_vec()),
        (_, _, Some(path), _) => Some(read_file(path)?),
        (.., Some(name)) => Some(client_hello(name)?),
        _ => None,
    })
}

/// A small hello of TLS 1.3 that asks for `name` (RFC 8446, 4.1.2; RFC 6066, 3).
fn client_hello(name: &str) -> Result<Vec<u8>, String> {
    fn sized(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let length = u16::try_from(bytes.len()).map_err(|_| "the name is too long")?;
        Ok([&length.to_be_bytes()[..], bytes].concat())
    }
    let host = [&[0][..], &sized(name.as_bytes())?].concat();
    let server_name = [&[0, 0][..], &sized(&sized(&host)?)?].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = sized(&[&server_name[..], &versions].concat())?;
    let body = [
        &[3, 3][..],
        &[0; 32],            // random
        &[0],                // session id
        &[0, 2, 0x13, 0x01], // cipher suites
        &[1, 0],             // compression
        &extensions,
    ]
    .concat();
    // The length of a handshake message has three bytes.
    let message = [&[1, 0][..], &sized(&body)?].concat();
    Ok([&[0x16, 3, 1][..], &sized(&message)?].concat())
}

/// One line about what was recognised.
pub fn describe(out: &mut String, look: &Look<'_>) {
    if look.bytes().is_empty() {
        return;
    }
    match look.tls().hello() {
        Hello::Complete(hello) => {
            let name = hello.sni().map_or_else(
                || "no server name".to_owned(),
                |name| format!("server name {}", String::from_utf8_lossy(name.as_bytes())),
            );
            let _ = write!(out, "  a TLS ClientHello, {name}");
            let offered: Vec<String> = hello
                .alpn()
                .map(|name| {
                    String::from_utf8_lossy(name.as_bytes())
                        .escape_debug()
                        .to_string()
                })
                .collect();
            if !offered.is_empty() {
                let _ = write!(out, ", ALPN {}", offered.join(", "));
            }
            out.push('\n');
        }
        Hello::Malformed(why) => {
            let _ = writeln!(out, "  a malformed TLS ClientHello: {why}");
        }
        Hello::TooLarge => out.push_str("  a TLS ClientHello that is too large\n"),
        Hello::Need(k) => {
            let _ = writeln!(
                out,
                "  the beginning of a TLS ClientHello of {k} bytes or more"
            );
        }
        Hello::NotTls => {
            if let Some(host) = look.http().host() {
                let host = String::from_utf8_lossy(host.as_bytes());
                let _ = writeln!(out, "  an HTTP request, host {host}");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_and_escapes_are_read() {
        assert_eq!(*hex("16 03:01").unwrap(), [0x16, 3, 1]);
        assert!(hex("1").is_err());
        assert!(hex("zz").is_err());
        assert_eq!(
            *text("GET / HTTP/1.1\\r\\n\\x00").unwrap(),
            *b"GET / HTTP/1.1\r\n\0"
        );
        assert!(text("\\q").is_err());
        assert!(text("\\x4").is_err());
    }

    #[test]
    fn the_imagined_hello_asks_for_its_name() {
        let hello = client_hello("Shop.Example").unwrap();
        let look = Look::new(&hello);
        let Hello::Complete(hello) = look.tls().hello() else {
            panic!("not a hello");
        };
        assert_eq!(hello.sni().unwrap().as_bytes(), b"shop.example");
    }
}
