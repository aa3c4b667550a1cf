//! `match`: one rule or a list of them, and what a rule says about addresses.
//! What it says about bytes is read in `content`.
#![forbid(unsafe_code)]

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::address::prefix;
use super::content;
use crate::demux::{Content, Ending, Protocol, Rule};
use crate::table::access::Prefix;
use crate::table::address;
use crate::table::complaint::{At, Fault, Place};
use crate::table::reader::{Reader, Value};

/// The keys of a rule that are about addresses and order.
const ADDRESS_KEYS: [&str; 8] = [
    "any",
    "from",
    "to",
    "interface",
    "source_port",
    "user",
    "group",
    "priority",
];
const ENDINGS: [(&str, Ending); 3] = [
    ("timeout", Ending::Timeout),
    ("eof", Ending::Eof),
    ("full", Ending::Full),
];

/// Protocols without details.
pub const PROTOCOLS: [(&str, Protocol); 23] = [
    ("http2", Protocol::Http2),
    ("ssh", Protocol::Ssh),
    ("postgres", Protocol::Postgres),
    ("rdp", Protocol::Rdp),
    ("mqtt", Protocol::Mqtt),
    ("xmpp", Protocol::Xmpp),
    ("syslog", Protocol::Syslog),
    ("openvpn", Protocol::Openvpn),
    ("rtmp", Protocol::Rtmp),
    ("bittorrent", Protocol::Bittorrent),
    ("redis", Protocol::Redis),
    ("git", Protocol::Git),
    ("rsync", Protocol::Rsync),
    ("adb", Protocol::Adb),
    ("ldap", Protocol::Ldap),
    ("amqp", Protocol::Amqp),
    ("sip", Protocol::Sip),
    ("rtsp", Protocol::Rtsp),
    ("stun", Protocol::Stun),
    ("wireguard", Protocol::Wireguard),
    ("dtls", Protocol::Dtls),
    ("radius", Protocol::Radius),
    ("ntp", Protocol::Ntp),
];

/// A rule as written: accounts are still names.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRule {
    pub place: Place,
    pub rule: Rule,
    pub users: Vec<At<String>>,
    pub groups: Vec<At<String>>,
    /// Every key that it has.
    pub keys: Vec<(&'static str, Place)>,
}

impl RawRule {
    /// Where a key stands, if it does.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<Place> {
        let found = self.keys.iter().find(|(name, _)| *name == key)?;
        Some(found.1)
    }
}

/// Every key of a rule.
#[must_use]
pub fn match_keys() -> Vec<&'static str> {
    let with_details = content::DETAILED.iter().copied();
    with_details
        .chain(PROTOCOLS.iter().map(|(name, _)| *name))
        .chain(ENDINGS.iter().map(|(name, _)| *name))
        .chain(ADDRESS_KEYS)
        .collect()
}

pub fn matches(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<RawRule>> {
    const WANTED: &str = "a table such as { tls.sni = \"shop.example\" }, or a list of them";
    match v.get_ref() {
        DeValue::Table(table) => rule(r, v, table).map(|rule| vec![rule]),
        DeValue::Array(_) => many(r, v, WANTED, |r, v| {
            let table = r.table(v, WANTED)?;
            rule(r, v, table)
        }),
        _ => r.mismatch(v, WANTED),
    }
}

fn rule(r: &mut Reader<'_>, v: &Value<'_>, table: &DeTable<'_>) -> Option<RawRule> {
    let before = r.complaints.len();
    let mut raw = RawRule {
        place: r.place(v),
        rule: Rule::default(),
        users: Vec::new(),
        groups: Vec::new(),
        keys: Vec::new(),
    };
    let known = match_keys();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some(known) = known.iter().find(|known| **known == name) else {
            unknown(r, key, &known);
            continue;
        };
        raw.keys.push((known, r.place(key)));
        read_key(r, known, value, &mut raw);
    }
    if table.is_empty() {
        let fault = Fault::new("this rule says nothing");
        return r.complain(v, fault.help("write any = true if everything is meant"));
    }
    if let Some(any) = raw.place_of("any")
        && !raw.rule.content.is_empty()
    {
        let fault = Fault::new("`any` beside what the bytes must be").help("leave `any` out");
        r.complaints.push(fault.at(any));
    }
    (r.complaints.len() == before).then_some(raw)
}

fn read_key(r: &mut Reader<'_>, key: &'static str, v: &Value<'_>, raw: &mut RawRule) {
    if let Some((_, protocol)) = PROTOCOLS.iter().find(|(name, _)| *name == key) {
        if is_true(r, key, v).is_some() {
            raw.rule.content.push(Content::Is(*protocol));
        }
        return;
    }
    if let Some((_, ending)) = ENDINGS.iter().find(|(name, _)| *name == key) {
        if is_true(r, key, v).is_some() {
            raw.rule.endings.push(*ending);
        }
        return;
    }
    let address = &mut raw.rule.address;
    match key {
        "any" => {
            is_true(r, key, v);
        }
        "from" => keep_all(&mut address.from, prefixes(r, v)),
        "to" => keep_all(&mut address.to, prefixes(r, v)),
        "interface" => keep_all(&mut address.interface, interfaces(r, v)),
        "source_port" => keep_all(&mut address.source_port, ports(r, v)),
        "user" => keep_all(&mut raw.users, accounts(r, v, "a user name")),
        "group" => keep_all(&mut raw.groups, accounts(r, v, "a group name")),
        "priority" => raw.rule.priority = r.number(v, -1000..=1000).unwrap_or(0),
        _ => raw.rule.content.extend(content::content(r, key, v)),
    }
}

/// "did you mean", also where a detail stands outside its protocol.
fn unknown(r: &mut Reader<'_>, key: &Spanned<DeString<'_>>, known: &[&str]) {
    let name: &str = key.get_ref();
    let whose = ["tls", "http", "dns", "quic", "tftp"]
        .into_iter()
        .find(|protocol| content::keys_of(protocol).contains(&name));
    let elsewhere = [
        ("source", "from"),
        ("src", "from"),
        ("destination", "to"),
        ("local", "to"),
        ("sport", "source_port"),
        ("postgresql", "postgres"),
        ("h2c", "http2"),
        ("socks5", "socks = 5"),
        ("socks4", "socks = 4"),
    ];
    let ours = elsewhere.iter().find(|(theirs, _)| *theirs == name);
    let fault = Fault::new(format!("no key \"{name}\" in match"));
    let help = match (whose, ours) {
        (Some(protocol), _) => format!("did you mean \"{protocol}.{name}\"?"),
        (None, Some((_, ours))) => format!("here it is `{ours}`"),
        (None, None) => {
            r.unknown(key, "match", known);
            return;
        }
    };
    r.complain::<_, ()>(key, fault.help(help));
}

/// `key = true`: what must not be is said by the rules of other services.
pub fn is_true(r: &mut Reader<'_>, key: &str, v: &Value<'_>) -> Option<()> {
    match v.get_ref().as_bool() {
        Some(true) => Some(()),
        Some(false) => {
            let fault = Fault::new(format!("`{key} = false` asks for nothing"))
                .help("a rule says what must hold; leave the key out");
            r.complain(v, fault)
        }
        None => r.mismatch(v, "true"),
    }
}

/// A list that is not empty, or a single value for a list of one.
pub fn many<'i, T>(
    r: &mut Reader<'_>,
    v: &Value<'i>,
    wanted: &str,
    mut item: impl FnMut(&mut Reader<'_>, &Value<'i>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(items) = v.get_ref().as_array() else {
        return item(r, v).map(|one| vec![one]);
    };
    if items.is_empty() {
        let fault = Fault::new(format!("expected {wanted}, found an empty list"));
        return r.complain(v, fault);
    }
    r.list(v, wanted, item)
}

/// [`many`] texts with a grammar of their own.
pub fn texts<T>(
    r: &mut Reader<'_>,
    v: &Value<'_>,
    wanted: &str,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Option<Vec<T>> {
    many(r, v, wanted, |r, v| r.parsed(v, wanted, &parse))
}

fn keep_all<T>(slot: &mut Vec<T>, read: Option<Vec<T>>) {
    slot.extend(read.into_iter().flatten());
}

pub fn prefixes(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Prefix>> {
    texts(r, v, "an address such as \"192.0.2.0/24\"", prefix)
}

fn interfaces(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    texts(r, v, "the name of a network interface", |text| {
        if address::is_interface_name(text) {
            return Ok(text.to_owned());
        }
        let problem = format!("no network interface can be named \"{text}\"");
        Err(Fault::new(problem))
    })
}

fn ports(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    const WANTED: &str = "a port or a range such as \"1024-65535\"";
    many(r, v, WANTED, |r, v| {
        if v.get_ref().as_integer().is_some() {
            return r.number(v, 1..=65_535).map(|port| (port, port));
        }
        r.parsed(v, WANTED, |text| {
            let number = |text: &str| text.parse().ok().filter(|port| *port > 0);
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last)
                .ok_or_else(|| Fault::new(format!("\"{text}\" is no range of ports")))
        })
    })
}

fn accounts(r: &mut Reader<'_>, v: &Value<'_>, wanted: &str) -> Option<Vec<At<String>>> {
    many(r, v, wanted, |r, v| r.at(v, |r, v| r.word(v, wanted)))
}
