//! A rule as the operator writes it, in one line: `tls.sni = ["shop.example"]`.
//! For the environment of servers, for `explain`, and for complaints.
#![forbid(unsafe_code)]

use super::access::Prefix;
use super::dns_types;
use super::effective::{inline, list, text};
use super::schema::{PROTOCOLS, QUIC_VERSIONS, TLS_VERSIONS};
use crate::demux::names::Pattern;
use crate::demux::rule::{Dns, Http, Quic, Tftp, Tls};
use crate::demux::{Content, Ending, Rule};

/// The keys of one rule with their values as TOML, apart by `, `. Equal rules
/// look the same, and `{ ... }` round it can be read again as a rule.
#[must_use]
pub fn show_rule(rule: &Rule) -> String {
    let parts = parts(rule);
    let parts: Vec<String> = parts.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    parts.join(", ")
}

/// `match`: a table, or a list of several.
#[must_use]
pub(super) fn show_rules(rules: &[Rule]) -> String {
    match rules {
        [only] => braced(only),
        several => list(several.iter().map(braced)),
    }
}

fn braced(rule: &Rule) -> String {
    format!("{{ {} }}", show_rule(rule))
}

fn parts(rule: &Rule) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for content in &rule.content {
        content_parts(&mut parts, content);
    }
    let address = &rule.address;
    let mut add = |key: &str, values: Vec<String>| {
        if !values.is_empty() {
            parts.push((key.to_owned(), list(values.into_iter())));
        }
    };
    add("from", prefixes(&address.from));
    add("to", prefixes(&address.to));
    add("interface", texts(&address.interface));
    let ports = address.source_port.iter();
    add("source_port", ports.map(show_ports).collect());
    let ids = |ids: &[u32]| ids.iter().map(|id| text(&id.to_string())).collect();
    add("user", ids(&address.uid));
    add("group", ids(&address.gid));
    for ending in &rule.endings {
        let key = match ending {
            Ending::Timeout => "timeout",
            Ending::Eof => "eof",
            Ending::Full => "full",
        };
        parts.push((key.to_owned(), "true".to_owned()));
    }
    if parts.is_empty() {
        parts.push(("any".to_owned(), "true".to_owned()));
    }
    if rule.priority != 0 {
        parts.push(("priority".to_owned(), rule.priority.to_string()));
    }
    parts
}

fn content_parts(parts: &mut Vec<(String, String)>, content: &Content) {
    let (protocol, details) = match content {
        Content::Is(protocol) => {
            let known = PROTOCOLS.iter().find(|(_, known)| known == protocol);
            (known.map_or("", |(name, _)| *name), Vec::new())
        }
        Content::Socks(versions) if *versions == [4, 5] => ("socks", Vec::new()),
        Content::Socks(versions) => {
            let versions = list(versions.iter().map(u8::to_string));
            parts.push(("socks".to_owned(), versions));
            return;
        }
        Content::Prefix(all) => {
            let all = list(all.iter().map(|bytes| show_bytes(bytes)));
            parts.push(("prefix".to_owned(), all));
            return;
        }
        Content::Regex(all) => {
            parts.push(("regex".to_owned(), list(texts(all).into_iter())));
            return;
        }
        Content::Tls(tls) => ("tls", tls_details(tls)),
        Content::Http(http) => ("http", http_details(http)),
        Content::Dns(dns) => ("dns", dns_details(dns)),
        Content::Quic(quic) => ("quic", quic_details(quic)),
        Content::Tftp(tftp) => ("tftp", tftp_details(tftp)),
    };
    let mut told = false;
    for (key, value) in details {
        if let Some(value) = value {
            parts.push((format!("{protocol}.{key}"), value));
            told = true;
        }
    }
    if !told {
        parts.push((protocol.to_owned(), "true".to_owned()));
    }
}

type Details = Vec<(&'static str, Option<String>)>;

fn tls_details(tls: &Tls) -> Details {
    let versions = tls.version.iter().filter_map(|version| {
        let known = TLS_VERSIONS.iter().find(|(_, known)| known == version)?;
        Some(text(known.0))
    });
    vec![
        ("sni", some(patterns(&tls.sni))),
        ("alpn", some(texts(&tls.alpn))),
        ("version", some(versions.collect())),
        ("ech", tls.ech.map(|ech| ech.to_string())),
        ("malformed", tls.malformed.map(|bad| bad.to_string())),
    ]
}

fn http_details(http: &Http) -> Details {
    vec![
        ("host", some(patterns(&http.host))),
        ("path", some(texts(&http.path))),
        ("method", some(texts(&http.method))),
        ("header", some(texts(&http.header))),
        ("malformed", http.malformed.map(|bad| bad.to_string())),
    ]
}

fn dns_details(dns: &Dns) -> Details {
    let types = dns.r#type.iter().map(|n| text(&dns_types::show(*n)));
    vec![
        ("name", some(patterns(&dns.name))),
        ("type", some(types.collect())),
    ]
}

fn quic_details(quic: &Quic) -> Details {
    let version = |version: &u32| {
        let known = QUIC_VERSIONS.iter().find(|(_, known)| known == version);
        known.map_or_else(|| text(&format!("0x{version:08x}")), |(name, _)| text(name))
    };
    let header = quic.long.map(|long| if long { "long" } else { "short" });
    vec![
        ("header", header.map(text)),
        ("version", some(quic.version.iter().map(version).collect())),
    ]
}

fn tftp_details(tftp: &Tftp) -> Details {
    let operation = tftp.write.map(|write| if write { "write" } else { "read" });
    vec![
        ("operation", operation.map(text)),
        ("file", some(texts(&tftp.file))),
    ]
}

fn some(values: Vec<String>) -> Option<String> {
    (!values.is_empty()).then(|| list(values.into_iter()))
}

fn texts(values: &[String]) -> Vec<String> {
    values.iter().map(|value| text(value)).collect()
}

fn prefixes(values: &[Prefix]) -> Vec<String> {
    values.iter().map(|p| text(&p.to_string())).collect()
}

fn patterns(values: &[Pattern]) -> Vec<String> {
    values.iter().map(|p| text(&p.to_string())).collect()
}

fn show_ports((first, last): &(u16, u16)) -> String {
    if first == last {
        first.to_string()
    } else {
        text(&format!("{first}-{last}"))
    }
}

/// As a text where people can read it, else in hexadecimal.
#[must_use]
pub fn show_bytes(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_graphic() || b" \r\n\t".contains(b);
    match std::str::from_utf8(bytes) {
        Ok(readable) if bytes.iter().all(plain) => text(readable),
        _ => {
            let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            inline([("hex", text(&pairs.join(" ")))])
        }
    }
}
