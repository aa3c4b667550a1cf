//! One look at the bytes of a request, shared by all rules: each protocol is
//! walked at most once per arrival, however many rules ask about it.
#![forbid(unsafe_code)]

use std::cell::OnceCell;

use super::rule::{Content, Dns, Http, Protocol, Tls};
use super::verdict::prefix;
use super::{Verdict, dns, http, protocol, regex, tls};

/// The first bytes of a stream, and what the walkers made of them so far.
#[derive(Debug)]
pub struct Look<'a> {
    bytes: &'a [u8],
    tls: OnceCell<tls::View<'a>>,
    http: OnceCell<http::View<'a>>,
}

impl<'a> Look<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            tls: OnceCell::new(),
            http: OnceCell::new(),
        }
    }

    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[must_use]
    pub fn tls(&self) -> &tls::View<'a> {
        self.tls.get_or_init(|| tls::view(self.bytes))
    }

    #[must_use]
    pub fn http(&self) -> &http::View<'a> {
        self.http.get_or_init(|| http::view(self.bytes))
    }
}

/// A [`Content`] made ready to be asked often.
#[derive(Debug)]
pub enum Test {
    Is(Protocol),
    Tls(Tls),
    Http(Http),
    Socks(Vec<u8>),
    Dns(Dns),
    Prefix(Vec<Vec<u8>>),
    Regex(Box<regex::Matcher>),
    /// Only datagrams are ever that.
    Never,
}

impl Test {
    /// Fails with the reason if a regex cannot be compiled.
    pub fn compile(content: &Content) -> Result<Self, String> {
        Ok(match content {
            Content::Is(protocol) => Test::Is(*protocol),
            Content::Tls(tls) => Test::Tls(tls.clone()),
            Content::Http(http) => Test::Http(http.clone()),
            Content::Socks(versions) => Test::Socks(versions.clone()),
            Content::Dns(dns) => Test::Dns(dns.clone()),
            Content::Prefix(prefixes) => Test::Prefix(prefixes.clone()),
            Content::Regex(patterns) => Test::Regex(Box::new(regex::compile(patterns)?)),
            Content::Quic(_) | Content::Tftp(_) => Test::Never,
        })
    }

    /// The verdict, and how much a match would pin down: a name weighs more
    /// than a path, a longer one more than a shorter one.
    #[must_use]
    pub fn judge(&self, look: &Look<'_>) -> (Verdict, u32) {
        let verdict = match self {
            Test::Tls(rule) => return tls::judge(rule, look.tls()),
            Test::Http(rule) => return http::judge(rule, look.http()),
            Test::Dns(rule) => return dns::judge_stream(rule, look.bytes),
            Test::Is(kind) => protocol::judge(*kind, look.bytes),
            Test::Socks(versions) => protocol::judge_socks(versions, look.bytes),
            Test::Prefix(prefixes) => prefixes.iter().fold(Verdict::No, |verdict, wanted| {
                verdict.or(prefix(look.bytes, wanted))
            }),
            Test::Regex(matcher) => matcher.judge(look.bytes),
            Test::Never => Verdict::No,
        };
        (verdict, 0)
    }
}
