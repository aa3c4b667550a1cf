//! What a rule says about the first bytes: protocols with details, and plain bytes.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::matches::{is_true, many, texts};
use crate::demux::names::{self, Pattern};
use crate::demux::rule::{Dns, Http, Quic, Tftp, Tls, TlsVersion};
use crate::demux::{Content, LIMIT, regex};
use crate::table::complaint::Fault;
use crate::table::dns_types;
use crate::table::reader::{Reader, Value};

/// The keys of a rule that can say more than true.
pub const DETAILED: [&str; 8] = [
    "tls", "http", "dns", "socks", "quic", "tftp", "prefix", "regex",
];
pub const TLS_VERSIONS: [(&str, TlsVersion); 6] = [
    ("ssl2", TlsVersion::Ssl2),
    ("ssl3", TlsVersion::Ssl3),
    ("1.0", TlsVersion::Tls10),
    ("1.1", TlsVersion::Tls11),
    ("1.2", TlsVersion::Tls12),
    ("1.3", TlsVersion::Tls13),
];
/// RFC 9000, 15; RFC 9369, 3.1.
pub const QUIC_VERSIONS: [(&str, u32); 2] = [("v1", 1), ("v2", 0x6b33_43cf)];

/// What may stand in the table of a protocol.
#[must_use]
pub fn keys_of(protocol: &str) -> &'static [&'static str] {
    match protocol {
        "tls" => &["sni", "alpn", "version", "ech", "malformed"],
        "http" => &["host", "path", "method", "header", "malformed"],
        "dns" => &["name", "type"],
        "quic" => &["header", "version"],
        "tftp" => &["operation", "file"],
        _ => &[],
    }
}

/// One of [`DETAILED`].
pub fn content(r: &mut Reader<'_>, key: &'static str, v: &Value<'_>) -> Option<Content> {
    match key {
        "tls" => tls(r, v).map(Content::Tls),
        "http" => http(r, v).map(Content::Http),
        "dns" => dns(r, v).map(Content::Dns),
        "socks" => socks(r, v).map(Content::Socks),
        "quic" => quic(r, v).map(Content::Quic),
        "tftp" => tftp(r, v).map(Content::Tftp),
        "prefix" => many(r, v, PREFIX, prefix).map(Content::Prefix),
        _ => regexes(r, v).map(Content::Regex),
    }
}

/// Reads each key of a protocol's table by `read`; nothing to read for `true`.
fn details(
    r: &mut Reader<'_>,
    protocol: &str,
    v: &Value<'_>,
    mut read: impl FnMut(&mut Reader<'_>, &str, &Value<'_>),
) -> Option<()> {
    let keys = keys_of(protocol);
    let table: &DeTable<'_> = match v.get_ref() {
        DeValue::Boolean(_) => return is_true(r, protocol, v),
        DeValue::Table(table) => table,
        _ => return r.mismatch(v, &format!("true or a table of {}", keys.join(", "))),
    };
    if table.is_empty() {
        let fault = Fault::new(format!("`{protocol}` with nothing in it"));
        return r.complain(v, fault.help(format!("write {protocol} = true")));
    }
    let before = r.complaints.len();
    for (key, value) in table {
        let key: &Spanned<DeString<'_>> = key;
        if keys.contains(&key.get_ref().as_ref()) {
            read(r, key.get_ref(), value);
        } else {
            r.unknown(key, protocol, keys);
        }
    }
    (r.complaints.len() == before).then_some(())
}

fn tls(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Tls> {
    let mut tls = Tls::default();
    details(r, "tls", v, |r, key, v| match key {
        "sni" => tls.sni = names_only(r, v, "TLS clients"),
        "alpn" => tls.alpn = texts(r, v, "an ALPN name such as \"h2\"", alpn).unwrap_or_default(),
        "version" => {
            let versions = many(r, v, "a TLS version", |r, v| r.choice(v, &TLS_VERSIONS));
            tls.version = versions.unwrap_or_default();
        }
        "ech" => tls.ech = r.boolean(v),
        _ => tls.malformed = r.boolean(v),
    })?;
    Some(tls)
}

/// RFC 7301, 3.1: 1 to 255 bytes.
fn alpn(text: &str) -> Result<String, Fault> {
    if (1..=255).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Fault::new("an ALPN name has 1 to 255 bytes"))
}

fn http(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Http> {
    let mut http = Http::default();
    details(r, "http", v, |r, key, v| match key {
        "host" => http.host = host_names(r, v),
        "path" => http.path = texts(r, v, "a path such as \"/api\"", path).unwrap_or_default(),
        "method" => {
            http.method = texts(r, v, "a method such as \"GET\"", method).unwrap_or_default();
        }
        "header" => {
            let wanted = "the name of a header such as \"upgrade\"";
            http.header = texts(r, v, wanted, header).unwrap_or_default();
        }
        _ => http.malformed = r.boolean(v),
    })?;
    Some(http)
}

/// As it stands in a request: requests are compared as they come, so a path
/// that none can have would never match.
fn path(text: &str) -> Result<String, Fault> {
    let fault = |problem: &str| Fault::new(format!("\"{text}\" {problem}"));
    if !text.starts_with('/') {
        return Err(fault("is no path").help("a path begins with /"));
    }
    if text.contains(['?', '#']) {
        return Err(fault("is more than a path").help("what follows ? is not compared"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fault("has bytes that no request has there")
            .help("write them as a client does: %20, %C3%BC"));
    }
    let odd = |segment: &str| matches!(segment, "." | ".." | "");
    let inner = text.strip_suffix('/').unwrap_or(text);
    if inner.split('/').skip(1).any(odd) {
        return Err(fault("is no plain path").help("without `.`, `..` and `//`"));
    }
    Ok(text.to_owned())
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(plain)
}

fn method(text: &str) -> Result<String, Fault> {
    const USUAL: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let upper = text.to_ascii_uppercase();
    if !is_token(text) {
        return Err(Fault::new(format!("\"{text}\" can be no method")));
    }
    if upper != text && USUAL.contains(&upper.as_str()) {
        return Err(Fault::new(format!("no client sends the method \"{text}\""))
            .help(format!("methods have a case: did you mean \"{upper}\"?")));
    }
    Ok(text.to_owned())
}

fn header(text: &str) -> Result<String, Fault> {
    if is_token(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::new(format!("\"{text}\" can be no header"))
        .help("only its name; its value is not compared"))
}

fn dns(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Dns> {
    let mut dns = Dns::default();
    details(r, "dns", v, |r, key, v| match key {
        "name" => dns.name = names_only(r, v, "queries"),
        _ => {
            let types = many(r, v, "a type of records", |r, v| {
                if v.get_ref().as_integer().is_some() {
                    return r.number(v, 0..=65_535);
                }
                r.parsed(v, "a type of records such as \"AAAA\"", dns_types::parse)
            });
            dns.r#type = types.unwrap_or_default();
        }
    })?;
    Some(dns)
}

const NAME: &str = "a name such as \"shop.example\" or \"*.shop.example\"";

fn host_names(r: &mut Reader<'_>, v: &Value<'_>) -> Vec<Pattern> {
    let patterns = texts(r, v, NAME, |text| names::pattern(text).map_err(Fault::new));
    patterns.unwrap_or_default()
}

/// Where an address is never sent (RFC 6066, 3): it would wait for nobody.
fn names_only(r: &mut Reader<'_>, v: &Value<'_>, who: &str) -> Vec<Pattern> {
    let patterns = texts(r, v, NAME, |text| {
        match names::pattern(text).map_err(Fault::new)? {
            Pattern::Exact(name) if name.parse::<IpAddr>().is_ok() => {
                let fault = Fault::new(format!("\"{text}\" is an address"));
                Err(fault.help(format!("{who} send names here, never addresses")))
            }
            pattern => Ok(pattern),
        }
    });
    patterns.unwrap_or_default()
}

fn socks(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<u8>> {
    if v.get_ref().as_bool().is_some() {
        return is_true(r, "socks", v).map(|()| vec![4, 5]);
    }
    many(r, v, "true, 4, 5 or both", |r, v| r.number(v, 4..=5))
}

fn quic(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Quic> {
    const VERSION: &str = "a version such as \"v1\" or \"0x6b3343cf\"";
    let mut quic = Quic::default();
    details(r, "quic", v, |r, key, v| match key {
        "header" => quic.long = r.choice(v, &[("long", true), ("short", false)]),
        _ => quic.version = texts(r, v, VERSION, quic_version).unwrap_or_default(),
    })?;
    if quic.long == Some(false) && !quic.version.is_empty() {
        let fault = Fault::new("short headers have no version");
        return r.complain(v, fault.help("leave one of them out"));
    }
    Some(quic)
}

fn quic_version(text: &str) -> Result<u32, Fault> {
    if let Some((_, version)) = QUIC_VERSIONS.iter().find(|(name, _)| *name == text) {
        return Ok(*version);
    }
    let digits = text.strip_prefix("0x").filter(|digits| is_hex(digits));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            Fault::new(format!("\"{text}\" is no version of QUIC"))
                .help("\"v1\", \"v2\", or up to eight hexadecimal digits after 0x")
        })
}

fn is_hex(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn tftp(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Tftp> {
    let mut tftp = Tftp::default();
    details(r, "tftp", v, |r, key, v| match key {
        "operation" => tftp.write = r.choice(v, &[("read", false), ("write", true)]),
        _ => {
            let files = many(r, v, "the name of a file", |r, v| {
                r.word(v, "the name of a file")
            });
            tftp.file = files.unwrap_or_default();
        }
    })?;
    Some(tftp)
}

const PREFIX: &str = "a text, or { hex = \"16 03 01\" }";

fn prefix(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<u8>> {
    let bytes = match v.get_ref() {
        // Unlike a path or a name, these bytes may be any: NUL too.
        DeValue::String(text) => text.as_bytes().to_vec(),
        DeValue::Table(table) => {
            let mut found = None;
            for (key, value) in table {
                match key.get_ref().as_ref() {
                    "hex" => found = r.parsed(value, "hexadecimal digits", hex),
                    _ => {
                        r.unknown(key, "prefix", &["hex"]);
                        return None;
                    }
                }
            }
            if table.is_empty() {
                return r.mismatch(v, PREFIX);
            }
            found?
        }
        _ => return r.mismatch(v, PREFIX),
    };
    if bytes.is_empty() {
        let fault = Fault::new("every request begins with nothing");
        return r.complain(v, fault.help("write any = true if everything is meant"));
    }
    if bytes.len() > LIMIT {
        let problem = format!("no more than {LIMIT} bytes are ever looked at");
        return r.complain(v, Fault::new(problem));
    }
    Some(bytes)
}

fn hex(text: &str) -> Result<Vec<u8>, Fault> {
    let digits: String = text.split_ascii_whitespace().collect();
    let fault = |problem: &str| Fault::new(format!("\"{text}\" {problem}"));
    if !digits.is_empty() && !is_hex(&digits) {
        return Err(fault("has other things than hexadecimal digits")
            .help("two digits for each byte: \"16 03 01\""));
    }
    if !digits.len().is_multiple_of(2) {
        return Err(fault("ends in the middle of a byte").help("two digits for each byte"));
    }
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0);
        let byte = pair.iter().fold(0, |sum, digit| sum * 16 + value(digit));
        u8::try_from(byte).unwrap_or(0)
    });
    Ok(bytes.collect())
}

fn regexes(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    let patterns = many(r, v, "a regular expression", |r, v| {
        let text = r.word(v, "a regular expression")?;
        match regex::compile(std::slice::from_ref(&text)) {
            Ok(_) => Some(text),
            Err(why) => r.complain(v, Fault::new(why)),
        }
    })?;
    // Each is small enough; together they may not be.
    if patterns.len() > 1
        && let Err(why) = regex::compile(&patterns)
    {
        return r.complain(v, Fault::new(why));
    }
    Some(patterns)
}
