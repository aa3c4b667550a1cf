//! What two things said about the first bytes have to do with each other.
#![forbid(unsafe_code)]

use super::sets::{all_in, any_meets};
use crate::demux::Content;
use crate::demux::names::Pattern;
use crate::demux::rule::{Dns, Http, Protocol, Quic, Tftp, Tls, TlsVersion};

/// Whether both may hold for one request. The greater answer prevails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meeting {
    Possible,
    /// Nobody looked that closely.
    Unknown,
    Never,
}

impl From<bool> for Meeting {
    fn from(possible: bool) -> Self {
        if possible {
            Meeting::Possible
        } else {
            Meeting::Never
        }
    }
}

/// Whether `asked` holds whenever `given` does.
pub fn is_part(given: &Content, asked: &Content) -> bool {
    match (given, asked) {
        (Content::Is(given), Content::Is(asked)) => given == asked,
        (Content::Tls(given), Content::Tls(asked)) => {
            same_if_asked(asked.malformed, given.malformed)
                && asked.ech.is_none_or(|ech| given.ech == Some(ech))
                && all_in(&asked.sni, &given.sni, holds_name)
                && all_in(&asked.alpn, &given.alpn, PartialEq::eq)
                && all_in(&asked.version, &given.version, PartialEq::eq)
        }
        (Content::Http(given), Content::Http(asked)) => {
            same_if_asked(asked.malformed, given.malformed)
                && all_in(&asked.host, &given.host, holds_name)
                && all_in(&asked.path, &given.path, |a, g| holds_path(a, g))
                && all_in(&asked.method, &given.method, PartialEq::eq)
                && all_in(&asked.header, &given.header, PartialEq::eq)
        }
        (Content::Socks(given), Content::Socks(asked)) => all_in(asked, given, PartialEq::eq),
        (Content::Dns(given), Content::Dns(asked)) => {
            all_in(&asked.name, &given.name, holds_name)
                && all_in(&asked.r#type, &given.r#type, PartialEq::eq)
        }
        (Content::Quic(given), Content::Quic(asked)) => {
            let long = given.long.or((!given.version.is_empty()).then_some(true));
            asked.long.is_none_or(|wanted| long == Some(wanted))
                && all_in(&asked.version, &given.version, PartialEq::eq)
        }
        (Content::Tftp(given), Content::Tftp(asked)) => {
            asked.write.is_none_or(|write| given.write == Some(write))
                && all_in(&asked.file, &given.file, PartialEq::eq)
        }
        (Content::Prefix(given), Content::Prefix(asked)) => {
            all_in(asked, given, |asked, given| given.starts_with(asked))
        }
        (Content::Regex(given), Content::Regex(asked)) => all_in(asked, given, PartialEq::eq),
        _ => false,
    }
}

/// Malformed requests are their own kind: only a rule that asks for them has them.
fn same_if_asked(asked: Option<bool>, given: Option<bool>) -> bool {
    match asked {
        Some(asked) => given == Some(asked),
        None => given != Some(true),
    }
}

/// Whether both may hold for one request.
pub fn meet(a: &Content, b: &Content) -> Meeting {
    match (a, b) {
        (Content::Regex(_), _) | (_, Content::Regex(_)) => Meeting::Unknown,
        (Content::Prefix(a), Content::Prefix(b)) => {
            any_meets(a, b, |a, b| a.starts_with(b) || b.starts_with(a)).into()
        }
        (Content::Prefix(_), _) | (_, Content::Prefix(_)) => Meeting::Unknown,
        (Content::Is(a), Content::Is(b)) => (a == b).into(),
        (Content::Tls(a), Content::Tls(b)) => tls_meet(a, b).into(),
        (Content::Http(a), Content::Http(b)) => http_meet(a, b).into(),
        (Content::Socks(a), Content::Socks(b)) => any_meets(a, b, PartialEq::eq).into(),
        (Content::Dns(a), Content::Dns(b)) => dns_meet(a, b).into(),
        (Content::Quic(a), Content::Quic(b)) => quic_meet(a, b).into(),
        (Content::Tftp(a), Content::Tftp(b)) => tftp_meet(a, b).into(),
        // No request is two protocols at once.
        _ => Meeting::Never,
    }
}

fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a == b)
}

fn tls_meet(a: &Tls, b: &Tls) -> bool {
    a.malformed.unwrap_or(false) == b.malformed.unwrap_or(false)
        && agree(a.ech, b.ech)
        && any_meets(&a.sni, &b.sni, names_meet)
        && any_meets(&a.version, &b.version, PartialEq::eq)
}

fn http_meet(a: &Http, b: &Http) -> bool {
    a.malformed.unwrap_or(false) == b.malformed.unwrap_or(false)
        && any_meets(&a.host, &b.host, names_meet)
        && any_meets(&a.path, &b.path, |a, b| {
            holds_path(a, b) || holds_path(b, a)
        })
        && any_meets(&a.method, &b.method, PartialEq::eq)
}

fn dns_meet(a: &Dns, b: &Dns) -> bool {
    any_meets(&a.name, &b.name, names_meet) && any_meets(&a.r#type, &b.r#type, PartialEq::eq)
}

fn quic_meet(a: &Quic, b: &Quic) -> bool {
    let long = |quic: &Quic| quic.long.or((!quic.version.is_empty()).then_some(true));
    agree(long(a), long(b)) && any_meets(&a.version, &b.version, PartialEq::eq)
}

fn tftp_meet(a: &Tftp, b: &Tftp) -> bool {
    agree(a.write, b.write) && any_meets(&a.file, &b.file, PartialEq::eq)
}

/// Whether every name of `narrow` is one of `wide`.
pub fn holds_name(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide, narrow) {
        (_, Pattern::Exact(name)) => wide.matches(name.as_bytes()).is_some(),
        (Pattern::Label(wide), Pattern::Label(narrow)) => wide == narrow,
        (Pattern::Depth(wide), Pattern::Label(narrow) | Pattern::Depth(narrow)) => {
            lies_under(narrow, wide)
        }
        (Pattern::Exact(_) | Pattern::Label(_), Pattern::Label(_) | Pattern::Depth(_)) => false,
    }
}

/// Whether a name may be in both.
pub fn names_meet(a: &Pattern, b: &Pattern) -> bool {
    match (a, b) {
        (Pattern::Exact(name), other) | (other, Pattern::Exact(name)) => {
            other.matches(name.as_bytes()).is_some()
        }
        (Pattern::Label(a), Pattern::Label(b)) => a == b,
        (Pattern::Label(label), Pattern::Depth(depth))
        | (Pattern::Depth(depth), Pattern::Label(label)) => lies_under(label, depth),
        (Pattern::Depth(a), Pattern::Depth(b)) => lies_under(a, b) || lies_under(b, a),
    }
}

/// `a.b.example` lies under `b.example`, and so does that itself.
fn lies_under(name: &str, suffix: &str) -> bool {
    name == suffix
        || name
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// Whether every path of `narrow` is one of `wide`: the same, or below it.
pub fn holds_path(wide: &str, narrow: &str) -> bool {
    let rest = narrow.strip_prefix(wide);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || wide.ends_with('/'))
}

/// Why nothing can be all that a rule asks of one protocol.
pub fn contradicts_itself(content: &Content) -> Option<String> {
    match content {
        Content::Tls(tls) => {
            let described = !tls.sni.is_empty() || !tls.alpn.is_empty() || tls.ech.is_some();
            let old = !tls.version.is_empty()
                && tls.version.iter().all(|v| *v == TlsVersion::Ssl2)
                && (!tls.sni.is_empty() || !tls.alpn.is_empty() || tls.ech == Some(true));
            if old {
                return Some("an SSL 2 hello has no names, so nothing holds here".to_owned());
            }
            let bad = tls.malformed == Some(true) && (described || !tls.version.is_empty());
            bad.then(|| "a malformed hello says nothing that could be compared".to_owned())
        }
        Content::Http(http) => {
            let described = !http.host.is_empty()
                || !http.path.is_empty()
                || !http.method.is_empty()
                || !http.header.is_empty();
            let bad = http.malformed == Some(true) && described;
            bad.then(|| "a malformed request says nothing that could be compared".to_owned())
        }
        _ => None,
    }
}

/// The key of it in the table.
pub fn name(content: &Content) -> &'static str {
    match content {
        Content::Tls(_) => "tls",
        Content::Http(_) => "http",
        Content::Socks(_) => "socks",
        Content::Dns(_) => "dns",
        Content::Quic(_) => "quic",
        Content::Tftp(_) => "tftp",
        Content::Prefix(_) => "prefix",
        Content::Regex(_) => "regex",
        Content::Is(protocol) => protocol_name(*protocol),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    let known = crate::table::schema::PROTOCOLS;
    let found = known.iter().find(|(_, known)| *known == protocol);
    found.map_or("", |(name, _)| name)
}
