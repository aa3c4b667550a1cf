//! The head of an HTTP/1 request: all that is read of a peer that asks for figures.
//!
//! Pure and strict: what `demux::http` calls malformed is refused, and so is a
//! request that brings a body.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::demux::Verdict;
use crate::demux::http::{View, view};

/// The longest head, its blank line included.
pub const HEAD_LIMIT: usize = 8 * 1024;

/// What the bytes so far say.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    More,
    Whole(Request<'a>),
    Bad(Fault),
}

/// A request whose head is complete and keeps the rules.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a [u8],
    /// As sent, without the query; `None` for `*` and CONNECT.
    pub path: Option<&'a [u8]>,
    /// The host asked for, without its port, in lower case.
    pub host: Option<String>,
}

/// Why there is no such request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Which rule is broken.
    Malformed(&'static str),
    TooLarge,
}

/// Reads the head that `bytes` begin with; what follows it is not looked at.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading<'_> {
    let view = view(bytes);
    if view.is_too_large() {
        return Reading::Bad(Fault::TooLarge);
    }
    match view.has_good_head() {
        Verdict::Yes => check(bytes, &view),
        Verdict::No => {
            let why = view.fault().unwrap_or("this is not HTTP/1");
            Reading::Bad(Fault::Malformed(why))
        }
        Verdict::Need(_) if bytes.len() >= HEAD_LIMIT => Reading::Bad(Fault::TooLarge),
        Verdict::Need(_) => Reading::More,
    }
}

fn check<'a>(bytes: &'a [u8], view: &View<'a>) -> Reading<'a> {
    let fields = view.fields().unwrap_or_default();
    let host = view.host().map(|name| name.as_str().to_owned());
    if host.is_none() && !is_version_0(bytes) {
        return Reading::Bad(Fault::Malformed("no Host header"));
    }
    if brings_body(fields) {
        return Reading::Bad(Fault::Malformed("a request that brings a body"));
    }
    Reading::Whole(Request {
        method: view.method().unwrap_or_default(),
        path: view.path(),
        host,
    })
}

/// HTTP/1.0 knows no Host header.
fn is_version_0(bytes: &[u8]) -> bool {
    let line = bytes.split(|octet| *octet == b'\n').next();
    line.is_some_and(|line| line.trim_ascii_end().ends_with(b"/1.0"))
}

fn brings_body(fields: &[u8]) -> bool {
    fields.split(|octet| *octet == b'\n').any(|line| {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"transfer-encoding")
            || (name.eq_ignore_ascii_case(b"content-length") && value != b"0")
    })
}

impl Request<'_> {
    /// Whether the host asked for is this one by a name that is always its own.
    ///
    /// A page from elsewhere can have its own name resolve to 127.0.0.1 and then
    /// read what it likes ("DNS rebinding"), but the browser goes on to send that
    /// name. A peer without a Host header is no browser.
    #[must_use]
    pub fn is_for_loopback(&self) -> bool {
        let Some(host) = &self.host else { return true };
        let address = host.parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"GET /metrics?x=1 HTTP/1.1\r\nHost: LocalHost:9\r\nAccept: */*\r\n\r\n";

    fn host(host: &str) -> bool {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        match read(text.as_bytes()) {
            Reading::Whole(request) => request.is_for_loopback(),
            Reading::More | Reading::Bad(_) => false,
        }
    }

    #[test]
    fn a_good_head_tells_method_path_and_host() {
        let expected = Request {
            method: b"GET",
            path: Some(b"/metrics"),
            host: Some("localhost".to_owned()),
        };
        assert_eq!(read(GOOD), Reading::Whole(expected));
    }

    #[test]
    fn every_cut_of_a_good_head_waits_for_more_and_what_follows_is_left_alone() {
        for cut in 0..GOOD.len() {
            assert_eq!(read(&GOOD[..cut]), Reading::More, "{cut}");
        }
        let two = [GOOD, b"\0\0 nonsense \xff"].concat();
        assert_eq!(read(&two), read(GOOD));
    }

    #[test]
    fn what_breaks_a_rule_is_told_apart_from_what_is_too_large() {
        for bad in [
            "hello\r\n",
            "\x16\x03\x01",
            "GET /\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            let read = read(bad.as_bytes());
            let is_bad = matches!(read, Reading::Bad(Fault::Malformed(_)));
            assert!(is_bad, "{bad:?}: {read:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_LIMIT));
        assert_eq!(read(long.as_bytes()), Reading::Bad(Fault::TooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(200));
        assert_eq!(read(many.as_bytes()), Reading::Bad(Fault::TooLarge));
    }

    #[test]
    fn only_version_0_may_come_without_a_host() {
        let old = read(b"GET / HTTP/1.0\r\n\r\n");
        assert!(matches!(old, Reading::Whole(request) if request.is_for_loopback()));
    }

    #[test]
    fn names_that_others_can_point_here_are_not_this_host() {
        for own in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.0.0.1:9",
            "127.9.9.9",
            "[::1]",
            "[::1]:9",
        ] {
            assert!(host(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "[2001:db8::1]:9",
            "2130706433",
            "127.1",
            "xlocalhost",
        ] {
            assert!(!host(other), "{other}");
        }
    }
}
