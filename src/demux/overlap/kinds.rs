//! What two things said about the first bytes have to do with each other.
#![forbid(unsafe_code)]

use super::Medium;
use super::sets::{all_in, any_meets};
use crate::demux::look::{Look, Test};
use crate::demux::names::Pattern;
use crate::demux::rule::{Dns, Http, Protocol, Quic, Tftp, Tls, TlsVersion};
use crate::demux::{Content, Verdict};

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
pub fn is_part(given: &Content, asked: &Content, medium: Medium) -> bool {
    match (given, asked) {
        (Content::Is(given), Content::Is(asked)) => given == asked,
        (Content::Tls(given), Content::Tls(asked)) => {
            asked
                .malformed
                .is_none_or(|bad| tls_malformed(given) == Some(bad))
                && asked.ech.is_none_or(|ech| given.ech == Some(ech))
                && all_in(&asked.sni, &given.sni, holds_name)
                && all_in(&asked.alpn, &given.alpn, PartialEq::eq)
                && all_in(&asked.version, &given.version, PartialEq::eq)
        }
        (Content::Http(given), Content::Http(asked)) => {
            let bad = http_malformed(given);
            asked.malformed.is_none_or(|asked| bad == Some(asked))
                && (bad != Some(true) || has_good_line(given))
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
        (Content::Prefix(given), asked) => {
            let is_yes = |bytes: &Vec<u8>| judge(asked, bytes, medium) == Some(Verdict::Yes);
            given.iter().all(is_yes)
        }
        _ => false,
    }
}

/// What a rule says about it, be it by asking for what only a whole hello has.
fn tls_malformed(tls: &Tls) -> Option<bool> {
    let asks =
        !tls.sni.is_empty() || !tls.alpn.is_empty() || !tls.version.is_empty() || tls.ech.is_some();
    tls.malformed.or(asks.then_some(false))
}

/// The same for the headers of a request.
fn http_malformed(http: &Http) -> Option<bool> {
    let asks = !http.host.is_empty() || !http.header.is_empty();
    http.malformed.or(asks.then_some(false))
}

/// Whether the request line is asked for; what follows it may be malformed.
fn has_good_line(http: &Http) -> bool {
    !http.path.is_empty() || !http.method.is_empty()
}

/// Whether both may hold for one request.
pub fn meet(a: &Content, b: &Content, medium: Medium) -> Meeting {
    match (a, b) {
        (Content::Regex(_), _) | (_, Content::Regex(_)) => Meeting::Unknown,
        (Content::Prefix(a), Content::Prefix(b)) => {
            any_meets(a, b, |a, b| a.starts_with(b) || b.starts_with(a)).into()
        }
        (Content::Prefix(bytes), protocol) | (protocol, Content::Prefix(bytes)) => {
            let verdicts = bytes.iter().map(|bytes| judge(protocol, bytes, medium));
            verdicts.map(meeting_of).min().unwrap_or(Meeting::Unknown)
        }
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

/// What a protocol makes of these first bytes, if somebody can say: a regular
/// expression would have to be compiled for each question, and datagrams are
/// judged elsewhere.
fn judge(content: &Content, bytes: &[u8], medium: Medium) -> Option<Verdict> {
    if medium == Medium::Datagrams || matches!(content, Content::Regex(_) | Content::Prefix(_)) {
        return None;
    }
    let test = Test::compile(content).ok()?;
    Some(test.judge(&Look::new(bytes)).0)
}

fn meeting_of(verdict: Option<Verdict>) -> Meeting {
    match verdict {
        Some(Verdict::No) => Meeting::Never,
        Some(Verdict::Yes | Verdict::Need(_)) => Meeting::Possible,
        None => Meeting::Unknown,
    }
}

fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a == b)
}

fn tls_meet(a: &Tls, b: &Tls) -> bool {
    agree(tls_malformed(a), tls_malformed(b))
        && agree(a.ech, b.ech)
        && any_meets(&a.sni, &b.sni, names_meet)
        && any_meets(&a.version, &b.version, PartialEq::eq)
}

fn http_meet(a: &Http, b: &Http) -> bool {
    agree(http_malformed(a), http_malformed(b))
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
            let old = !tls.version.is_empty()
                && tls.version.iter().all(|v| *v == TlsVersion::Ssl2)
                && (!tls.sni.is_empty() || !tls.alpn.is_empty() || tls.ech == Some(true));
            if old {
                return Some("an SSL 2 hello has no names, so nothing holds here".to_owned());
            }
            let asks = Tls {
                malformed: None,
                ..tls.clone()
            };
            let bad = tls.malformed == Some(true) && tls_malformed(&asks).is_some();
            bad.then(|| "a malformed hello says nothing that could be compared".to_owned())
        }
        Content::Http(http) => {
            let described = !http.host.is_empty() || !http.header.is_empty();
            let bad = http.malformed == Some(true) && described;
            bad.then(|| "a malformed request has no headers that could be compared".to_owned())
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
