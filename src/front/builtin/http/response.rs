//! What is sent back: always one answer, and then the end of the connection.
#![forbid(unsafe_code)]

use std::fmt::Write;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream";
/// The text format of Prometheus.
pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of plain text may load nothing and run nothing.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Misdirected,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Misdirected => "421 Misdirected Request",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// An answer with everything but its body.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub status: Status,
    pub content_type: &'a str,
    pub policy: &'a str,
}

impl<'a> Response<'a> {
    #[must_use]
    pub fn text(status: Status) -> Self {
        Self {
            status,
            content_type: TEXT,
            policy: NOTHING,
        }
    }

    #[must_use]
    pub fn ok(content_type: &'a str) -> Self {
        Self {
            content_type,
            ..Self::text(Status::Ok)
        }
    }

    /// The head up to its blank line. Nothing of what peers or the table say is in it.
    #[must_use]
    pub fn head(&self, length: Option<usize>) -> String {
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\n",
            self.status.line(),
            self.content_type
        );
        if let Some(length) = length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        if self.status == Status::MethodNotAllowed {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        let _ = write!(
            head,
            "Cache-Control: no-store\r\n\
             Content-Security-Policy: {}\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\n\
             Referrer-Policy: no-referrer\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n",
            self.policy
        );
        head
    }

    /// The whole answer; `body` is only measured if nothing but the head was asked for.
    #[must_use]
    pub fn whole(&self, body: &str, head_only: bool) -> Vec<u8> {
        let mut bytes = self.head(Some(body.len())).into_bytes();
        if !head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_the_length_of_a_body_that_is_not_sent() {
        let response = Response::text(Status::NotFound);
        let whole = String::from_utf8(response.whole("gone\n", false)).unwrap();
        let head = String::from_utf8(response.whole("gone\n", true)).unwrap();
        assert_eq!(whole, format!("{head}gone\n"));
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn no_answer_lets_another_site_read_it() {
        let head = Response::ok(METRICS).head(None);
        assert!(!head.contains("Access-Control"), "{head}");
        assert!(head.contains("nosniff"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
    }
}
