//! HTTP/1.x: the request line, the headers, and the rules that ask about them.
//!
//! One [`view`] per arrival; every `http` rule reads the same one. Only the first
//! request of a connection is seen, so a rule for hosts or paths is no access control.
#![forbid(unsafe_code)]

mod authority;
mod headers;
mod line;
mod path;
#[cfg(test)]
mod tests;

pub use line::start_line;

use crate::demux::Verdict;
use crate::demux::names::Name;
use crate::demux::rule::Http;
use headers::Head;
use line::{Line, Target};

/// What the bytes of a request say as HTTP/1.x.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The request line has ended and keeps the rules. Headers cannot change that.
    is_http: Verdict,
    /// The request line is one of HTTP/1.x and breaks a rule.
    is_broken: Verdict,
    /// Set if `is_http` says yes.
    request: Option<(Line<'a>, Target<'a>)>,
    /// Looked at if `is_http` says yes.
    head: Head<'a>,
}

/// Walks over `bytes` once, without copying or allocating.
#[must_use]
pub fn view(bytes: &[u8]) -> View<'_> {
    let without_head = |is_http, is_broken| View {
        is_http,
        is_broken,
        request: None,
        head: Head::Need(bytes.len() + 1),
    };
    match line::http(bytes) {
        Ok(line) => match Target::parse(&line) {
            Some(target) => View {
                is_http: Verdict::Yes,
                is_broken: Verdict::No,
                request: Some((line, target)),
                head: headers::walk(bytes, line.length),
            },
            None => without_head(Verdict::No, Verdict::Yes),
        },
        Err(Verdict::Need(k)) => without_head(Verdict::Need(k), Verdict::Need(k)),
        Err(decided) => without_head(decided, line::is_broken_http(bytes)),
    }
}

impl<'a> View<'a> {
    /// Whether this is a request of HTTP/1.x: said at the end of its first line.
    #[must_use]
    pub fn is_http(&self) -> Verdict {
        self.is_http
    }

    /// Whether it is one that breaks a rule of its own protocol.
    #[must_use]
    pub fn is_malformed(&self) -> Verdict {
        match (self.is_http, &self.head) {
            (Verdict::Yes, Head::Need(k)) => Verdict::Need(*k),
            (Verdict::Yes, Head::Malformed(_)) => Verdict::Yes,
            (Verdict::Yes, Head::TooLarge | Head::Complete { .. }) => Verdict::No,
            (Verdict::No | Verdict::Need(_), _) => self.is_broken,
        }
    }

    /// Which rule it breaks, once that is known.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self.head {
            Head::Malformed(reason) => Some(reason),
            _ if self.is_broken == Verdict::Yes => Some("request line"),
            Head::Need(_) | Head::TooLarge | Head::Complete { .. } => None,
        }
    }

    /// Whom the request is for, once its headers are complete: the authority of the
    /// target, else the Host header, without the port.
    #[must_use]
    pub fn host(&self) -> Option<&Name> {
        let (_, target) = self.request.as_ref()?;
        match &self.head {
            Head::Complete { host, .. } => target.host.as_ref().or(host.as_ref()),
            Head::Need(_) | Head::Malformed(_) | Head::TooLarge => None,
        }
    }

    #[must_use]
    pub fn method(&self) -> Option<&'a [u8]> {
        self.request.map(|(line, _)| line.method)
    }

    /// As sent, without the query; `None` for CONNECT and `*` too.
    #[must_use]
    pub fn path(&self) -> Option<&'a [u8]> {
        self.request.and_then(|(_, target)| target.path)
    }

    /// The header lines as sent, without the blank one, once they are complete.
    #[must_use]
    pub fn fields(&self) -> Option<&'a [u8]> {
        match self.head {
            Head::Complete { fields, .. } => Some(fields),
            Head::Need(_) | Head::Malformed(_) | Head::TooLarge => None,
        }
    }

    /// Whether there are more header lines than are looked at.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.head, Head::TooLarge)
    }

    /// Yes once the headers are complete and keep the rules.
    #[must_use]
    pub fn has_good_head(&self) -> Verdict {
        self.is_http.and(match &self.head {
            Head::Need(k) => Verdict::Need(*k),
            Head::Malformed(_) | Head::TooLarge => Verdict::No,
            Head::Complete { .. } => Verdict::Yes,
        })
    }

    fn has_header(&self, wanted: &[String]) -> bool {
        matches!(&self.head, Head::Complete { fields, .. } if headers::has_one(fields, wanted))
    }
}

/// Whether `rule` holds, and for a yes how much it pins down: the weight of the host
/// pattern in the upper half, the length of the path prefix and one in the lower.
#[must_use]
pub fn judge(rule: &Http, view: &View<'_>) -> (Verdict, u32) {
    let mut verdict = match rule.malformed {
        None => view.is_http,
        Some(true) => view.is_malformed(),
        Some(false) => view.has_good_head(),
    };
    // What is asked, when it is known, and whether it holds then.
    let mut demand = |asked: bool, known: Verdict, holds: &dyn Fn() -> bool| {
        if asked {
            let told = if known == Verdict::Yes {
                Verdict::from(holds())
            } else {
                known
            };
            verdict = verdict.and(told);
        }
    };
    let path = view.path().and_then(|path| path::weight(&rule.path, path));
    demand(!rule.method.is_empty(), view.is_http, &|| {
        rule.method
            .iter()
            .any(|method| view.method() == Some(method.as_bytes()))
    });
    demand(!rule.path.is_empty(), view.is_http, &|| path.is_some());
    let host = view.host().and_then(|name| {
        rule.host
            .iter()
            .filter_map(|pattern| pattern.matches(name.as_bytes()))
            .max()
    });
    let head = view.has_good_head();
    demand(!rule.host.is_empty(), head, &|| host.is_some());
    demand(!rule.header.is_empty(), head, &|| {
        view.has_header(&rule.header)
    });

    if verdict != Verdict::Yes {
        return (verdict, 0);
    }
    (
        verdict,
        u32::from(host.unwrap_or(0)) << 16 | u32::from(path.unwrap_or(0)),
    )
}
