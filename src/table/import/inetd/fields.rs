//! What the words of an entry are, in both of its forms.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::dialect::Dialect;
use super::lines::{Entry, Word};
use crate::table::complaint::{Fault, did_you_mean};

pub(super) type Broken = (Range<usize>, Fault);

/// An entry, taken apart but not judged.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Without address and options in front.
    pub service: String,
    /// In front of the service; `None`: what an `addr:` line says.
    pub addresses: Option<Vec<String>>,
    pub kind: Kind,
    pub protocol: Protocol,
    pub wait: bool,
    /// Of several: that is not what inetd looks at.
    pub odd_wait: Option<String>,
    pub limits: Limits,
    pub user: String,
    /// Only where it cannot be part of the user's name.
    pub group: Option<String>,
    pub class: Option<String>,
    pub program: String,
    /// `argv[0]` and on.
    pub args: Vec<String>,
    pub send_buffer: Option<String>,
    pub receive_buffer: Option<String>,
    pub accept_filter: Option<String>,
    pub policy: Option<String>,
    /// FreeBSD's `:user:group:mode:` of a Unix socket.
    pub owner: Option<[String; 3]>,
    pub off: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Stream,
    Datagram,
    Seqpacket,
    /// raw, rdm
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    #[default]
    Unix,
    Ip {
        udp: bool,
        rpc: bool,
        /// `4`, `6`, `46`, `6only` or nothing.
        family: String,
        /// `ttcp`, `faith`
        extra: Option<String>,
    },
    Other(String),
}

/// How many, as each of the dialects writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Starts in a minute.
    pub per_minute: Option<u32>,
    /// At once.
    pub children: Option<u32>,
    /// Starts in a minute for one source.
    pub source_minute: Option<u32>,
    /// At once for one source.
    pub source: Option<u32>,
}

/// Takes an entry apart.
pub(super) fn fields(entry: &Entry<'_>, dialect: Dialect) -> Result<Fields, Broken> {
    let mut fields = match &entry.pairs {
        Some(_) => from_pairs(entry)?,
        None => from_words(entry, dialect)?,
    };
    fields.off = entry.off.or(fields.off);
    Ok(fields)
}

fn from_words(entry: &Entry<'_>, dialect: Dialect) -> Result<Fields, Broken> {
    let [service, kind, protocol, wait, user, program, args @ ..] = entry.words.as_slice() else {
        const NAMES: [&str; 6] = ["service", "type", "protocol", "wait", "user", "program"];
        let missing = NAMES.get(entry.words.len()..).unwrap_or(&[]).join(", ");
        let fault = Fault::new(format!("fields are missing: {missing}"))
            .help("an entry is: service type protocol wait user program arguments");
        return Err((entry.span(), fault));
    };
    let mut fields = Fields::default();
    name(&mut fields, service, dialect)?;
    socket_type(&mut fields, kind)?;
    fields.protocol = protocol_of(&mut fields, protocol)?;
    waits(&mut fields, wait, dialect)?;
    let (account, class) = match user.text.split_once('/') {
        Some((account, class)) => (account, Some(class.to_owned())),
        None => (user.text.as_str(), None),
    };
    fields.user = account.to_owned();
    fields.class = class;
    fields.program = program.text.clone();
    fields.args = args.iter().map(|word| word.text.clone()).collect();
    Ok(fields)
}

/// Field 1: `[:user:group:mode:]path`, `[addr,addr:]name`, `tcpmux/[+]name`, `name/versions`.
fn name(fields: &mut Fields, word: &Word, dialect: Dialect) -> Result<(), Broken> {
    let text = word.text.as_str();
    if text.starts_with('/') {
        text.clone_into(&mut fields.service);
        return Ok(());
    }
    if let Some(owned) = text
        .strip_prefix(':')
        .filter(|_| dialect == Dialect::FreeBsd)
    {
        let parts: Vec<&str> = owned.splitn(4, ':').collect();
        let [user, group, mode, path] = parts.as_slice() else {
            let fault = Fault::new("expected :user:group:mode:path");
            return Err((word.span.clone(), fault));
        };
        fields.owner = Some([*user, *group, *mode].map(str::to_owned));
        (*path).clone_into(&mut fields.service);
        return Ok(());
    }
    // The colons of an IPv6 address are in brackets.
    let from = text.rfind(']').unwrap_or(0);
    match text.get(from..).and_then(|rest| rest.rfind(':')) {
        Some(at) => {
            fields.addresses = Some(addresses(&text[..from + at]));
            fields.service = text[from + at + 1..].to_owned();
        }
        None => text.clone_into(&mut fields.service),
    }
    if fields.service.is_empty() {
        return Err((word.span.clone(), Fault::new("no service is named")));
    }
    Ok(())
}

/// `a,[b],*`; a star stands for every address.
pub(super) fn addresses(list: &str) -> Vec<String> {
    let all = list.split(',').filter(|address| !address.is_empty());
    let all: Vec<String> = all
        .map(|address| {
            address
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned()
        })
        .collect();
    if all.iter().any(|address| address == "*") {
        return Vec::new();
    }
    all
}

/// Field 2, with NetBSD's `stream[,max][:filter[,argument]]`.
fn socket_type(fields: &mut Fields, word: &Word) -> Result<(), Broken> {
    let (kind, filter) = match word.text.split_once(':') {
        Some((kind, filter)) => (kind, Some(filter.to_owned())),
        None => (word.text.as_str(), None),
    };
    let (kind, most) = kind
        .split_once(',')
        .map_or((kind, None), |(k, m)| (k, Some(m)));
    fields.accept_filter = filter;
    if let Some(most) = most {
        fields.limits.children = Some(number(most, word)?);
    }
    fields.kind = kind_of(kind).ok_or_else(|| unknown(kind, "type", &KINDS, word))?;
    Ok(())
}

const KINDS: [&str; 5] = ["stream", "dgram", "seqpacket", "raw", "rdm"];

fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "stream" => Kind::Stream,
        "dgram" => Kind::Datagram,
        "seqpacket" => Kind::Seqpacket,
        "raw" | "rdm" => Kind::Other,
        _ => return None,
    })
}

/// Field 3: `[rpc/|faith/]tcp|udp[4|6|46|6only][/ttcp|/faith][,sndbuf=n][,rcvbuf=n]`, `unix`.
fn protocol_of(fields: &mut Fields, word: &Word) -> Result<Protocol, Broken> {
    let mut options = word.text.split(',');
    let protocol = options.next().unwrap_or("");
    for option in options {
        match option.split_once('=') {
            Some(("sndbuf", size)) => fields.send_buffer = Some(buffer(size, word)?),
            Some(("rcvbuf", size)) => fields.receive_buffer = Some(buffer(size, word)?),
            _ => {
                let known = ["sndbuf=64k", "rcvbuf=64k"];
                return Err(unknown(option, "option", &known, word));
            }
        }
    }
    parse_protocol(protocol).ok_or_else(|| {
        unknown(
            protocol,
            "protocol",
            &["tcp", "udp", "unix", "rpc/tcp", "rpc/udp"],
            word,
        )
    })
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    if text == "unix" {
        return Some(Protocol::Unix);
    }
    let (rpc, rest) = text
        .strip_prefix("rpc/")
        .map_or((false, text), |rest| (true, rest));
    let (faith, rest) = rest
        .strip_prefix("faith/")
        .map_or((false, rest), |rest| (true, rest));
    let (rest, extra) = rest
        .split_once('/')
        .map_or((rest, None), |(r, e)| (r, Some(e.to_owned())));
    let (udp, family) = match (rest.strip_prefix("tcp"), rest.strip_prefix("udp")) {
        (Some(family), _) => (false, family),
        (_, Some(family)) => (true, family),
        _ => {
            let known = matches!(text, "icmp" | "sctp" | "dccp" | "ip");
            return known.then(|| Protocol::Other(text.to_owned()));
        }
    };
    matches!(family, "" | "4" | "6" | "46" | "6only").then(|| Protocol::Ip {
        udp,
        rpc,
        family: family.to_owned(),
        extra: extra.or(faith.then(|| "faith".to_owned())),
    })
}

/// Octets as the table writes them, of `n`, `nk` or `nm`.
fn buffer(text: &str, word: &Word) -> Result<String, Broken> {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M']);
    let unit = match &text[digits.len()..] {
        "" => "B",
        "k" | "K" => "K",
        _ => "M",
    };
    Ok(format!("{}{unit}", number(digits, word)?))
}

/// Field 4: `wait` or `nowait`, and limits: `.n`, `:n`, `/n[/n[/n]]`.
fn waits(fields: &mut Fields, word: &Word, dialect: Dialect) -> Result<(), Broken> {
    let text = word.text.as_str();
    let end = text.find(['.', ':', '/']).unwrap_or(text.len());
    let (base, limits) = text.split_at(end);
    fields.wait = base == "wait";
    if !matches!(base, "wait" | "nowait") {
        // The others take anything for nowait; it is too often a field that is missing.
        if dialect == Dialect::FreeBsd || !base.contains("wait") {
            return Err(unknown(base, "word for waiting", &["wait", "nowait"], word));
        }
        fields.odd_wait = Some(base.to_owned());
    }
    match limits.chars().next() {
        Some('/') => {
            let slots = [
                &mut fields.limits.children,
                &mut fields.limits.source_minute,
                &mut fields.limits.source,
            ];
            for (slot, text) in slots.into_iter().zip(limits[1..].split('/')) {
                // 0 is no limit.
                *slot = Some(number(text, word)?).filter(|n| *n > 0);
            }
        }
        Some(_) => fields.limits.per_minute = Some(number(&limits[1..], word)?),
        None => {}
    }
    Ok(())
}

fn number(text: &str, word: &Word) -> Result<u32, Broken> {
    // No more than a table takes.
    let number = text.parse().ok().filter(|n| *n <= 1_000_000);
    number.ok_or_else(|| {
        let fault = Fault::new(format!("\"{text}\" is no number up to 1000000"));
        (word.span.clone(), fault)
    })
}

fn unknown(text: &str, what: &str, known: &[&str], word: &Word) -> Broken {
    let fault = Fault::new(format!("no {what} is called \"{text}\""));
    let help = match did_you_mean(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known are {}", known.join(", ")),
    };
    (word.span.clone(), fault.help(help))
}

/// NetBSD's `key = value` form.
fn from_pairs(entry: &Entry<'_>) -> Result<Fields, Broken> {
    let mut fields = Fields::default();
    let [service, state] = entry.words.as_slice() else {
        return Err((
            entry.span(),
            Fault::new("expected a service, then on or off"),
        ));
    };
    name(&mut fields, service, Dialect::NetBsd)?;
    if state.text == "off" {
        fields.off = Some("it is off");
    }
    let mut seen: Vec<&str> = Vec::new();
    let (mut kind, mut protocol, mut wait) = (None, None, None);
    for pair in entry.pairs.iter().flatten() {
        let key = pair.key.text.as_str();
        if seen.contains(&key) {
            let fault = Fault::new(format!("\"{key}\" is there twice"));
            return Err((pair.key.span.clone(), fault));
        }
        seen.push(key);
        if key == "args" {
            fields.args = pair.values.iter().map(|value| value.text.clone()).collect();
            continue;
        }
        let [value] = pair.values.as_slice() else {
            let fault = Fault::new(format!("\"{key}\" takes one value"));
            return Err((pair.key.span.clone(), fault));
        };
        let text = value.text.clone();
        match key {
            "bind" => fields.addresses = Some(addresses(&text)),
            "socktype" => {
                kind = Some(kind_of(&text).ok_or_else(|| unknown(&text, "type", &KINDS, value))?);
            }
            "accept_max" => fields.limits.children = Some(number(&text, value)?),
            "service_max" => fields.limits.per_minute = Some(number(&text, value)?),
            "ip_max" => fields.limits.source_minute = Some(number(&text, value)?),
            "acceptfilter" => fields.accept_filter = Some(text),
            "protocol" => protocol = Some(protocol_of(&mut fields, value)?),
            "sndbuf" => fields.send_buffer = Some(buffer(&text, value)?),
            "recvbuf" => fields.receive_buffer = Some(buffer(&text, value)?),
            "wait" => match text.as_str() {
                "yes" => wait = Some(true),
                "no" => wait = Some(false),
                _ => return Err(unknown(&text, "answer", &["yes", "no"], value)),
            },
            "user" => fields.user = text,
            "group" => fields.group = Some(text),
            "exec" => fields.program = text,
            "ipsec" => fields.policy = Some(text).filter(|policy| !policy.is_empty()),
            _ => return Err(unknown(key, "key", &KEYS, &pair.key)),
        }
    }
    let Some(protocol) = protocol else {
        return Err((entry.span(), Fault::new("no protocol is named")));
    };
    let datagrams = matches!(protocol, Protocol::Ip { udp: true, .. });
    fields.kind = kind.unwrap_or(if datagrams {
        Kind::Datagram
    } else {
        Kind::Stream
    });
    fields.protocol = protocol;
    if fields.program.is_empty() {
        "internal".clone_into(&mut fields.program);
    } else if fields.user.is_empty() {
        return Err((entry.span(), Fault::new("no user is named")));
    } else if wait.is_none() {
        return Err((entry.span(), Fault::new("whether to wait is not said")));
    }
    fields.wait = wait.unwrap_or(datagrams);
    Ok(fields)
}

const KEYS: [&str; 15] = [
    "bind",
    "socktype",
    "accept_max",
    "acceptfilter",
    "protocol",
    "sndbuf",
    "recvbuf",
    "wait",
    "service_max",
    "ip_max",
    "user",
    "group",
    "exec",
    "args",
    "ipsec",
];
