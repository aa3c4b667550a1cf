//! Addresses: where to listen, where to forward to, who may come in.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use super::FORWARD_KEYS;
use super::read::{keep, span};
use crate::table::access::{BadPrefix, Peers, Prefix};
use crate::table::address::{self, Listen, UnixName};
use crate::table::complaint::{At, Fault};
use crate::table::reader::{Reader, Value};
use crate::table::{Forward, ProxyVersion, Upstream};

pub fn listen(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<Listen>>> {
    const WANTED: &str = "an address such as \"tcp:7\", or a list of them";
    r.one_or_more(v, WANTED, |r, v| {
        r.at(v, |r, v| {
            let names = r.names;
            r.parsed(v, "an address such as \"tcp:7\"", |t| {
                address::listen(t, names)
            })
        })
    })
}

pub fn forward(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Forward> {
    let mut forward = Forward {
        to: Vec::new(),
        proxy: None,
        connect_timeout: Duration::from_secs(5),
    };
    let Some(table) = v.get_ref().as_table() else {
        forward.to = upstreams(r, v)?;
        return Some(forward);
    };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "to" => keep(&mut forward.to, upstreams(r, value)),
            "proxy" => {
                let versions = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
                forward.proxy = r.choice(value, &versions);
            }
            "connect_timeout" => keep(&mut forward.connect_timeout, span(r, value)),
            _ => {
                r.unknown(key, "forward", FORWARD_KEYS);
            }
        }
    }
    if !table.contains_key("to") {
        return r.complain(
            v,
            Fault::new("forward does not say where to: `to` is missing"),
        );
    }
    Some(forward)
}

fn upstreams(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Upstream>> {
    const WANTED: &str = "an address such as \"tcp:192.0.2.1:80\", or a list of them";
    r.one_or_more(v, WANTED, |r, v| {
        r.parsed(v, "an address such as \"tcp:192.0.2.1:80\"", upstream)
    })
}

fn upstream(text: &str) -> Result<Upstream, Fault> {
    const FORMS: &str = "the forms are \"tcp:ADDRESS:PORT\", \"unix:/PATH\" and \"unix:@NAME\"";
    if let Some(name) = text.strip_prefix("unix:") {
        return address::unix_name(name).map(|name| match name {
            UnixName::Path(path) => Upstream::Unix(path),
            UnixName::Abstract(name) => Upstream::Abstract(name),
        });
    }
    let Some(rest) = text.strip_prefix("tcp:") else {
        return Err(Fault::new(format!("\"{text}\" is no address to forward to")).help(FORMS));
    };
    match rest.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => Ok(Upstream::Tcp(addr)),
        Ok(_) => Err(Fault::new("0 is no port to connect to")),
        Err(_) if rest.parse::<u16>().is_ok() => {
            Err(Fault::new(format!("\"{text}\" names no address"))
                .help(format!("write \"tcp:127.0.0.1:{rest}\" or another address")))
        }
        Err(_) if rest.contains(|c: char| c.is_ascii_alphabetic()) && !rest.starts_with('[') => Err(
            Fault::new(format!("\"{rest}\" is no IP address and port")).help(
                "usherd does no DNS, so that no connection waits for it; write the address itself",
            ),
        ),
        Err(_) => Err(Fault::new(format!("\"{rest}\" is no IP address and port")).help(FORMS)),
    }
}

pub fn allow(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Peers>> {
    let allowed = peers(r, v)?;
    if allowed.is_empty() {
        let fault = Fault::new("an empty `allow` admits nobody").help(
            "leave the key out for everybody, write [\"0.0.0.0/0\", \"::/0\"] over a default, \
             or enabled = false",
        );
        return r.complain(v, fault);
    }
    Some(allowed)
}

/// `allow`, `deny`: prefixes, and local lists.
pub fn peers(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Peers>> {
    r.list(v, "a list of addresses such as \"192.0.2.0/24\"", |r, v| {
        r.parsed(v, "an address such as \"192.0.2.0/24\"", |text| {
            let Some(name) = text.strip_prefix("list:") else {
                return prefix(text).map(Peers::Prefix);
            };
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
            if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) {
                return Ok(Peers::List(name.to_owned()));
            }
            Err(
                Fault::new(format!("\"{name}\" can be no name of a local list"))
                    .help("1 to 64 of a-z, 0-9, - and _"),
            )
        })
    })
}

pub fn prefix(text: &str) -> Result<Prefix, Fault> {
    text.parse().map_err(|bad| match bad {
        BadPrefix::NotAnAddress => Fault::new(format!("\"{text}\" is no address or prefix")).help(
            "only numbers here, such as \"192.0.2.0/24\" or \"2001:db8::1\": a name would make \
             admission depend on DNS",
        ),
        BadPrefix::BadLength => Fault::new(format!("\"{text}\" has no such prefix length"))
            .help("0 to 32 bits for IPv4, 0 to 128 for IPv6"),
        BadPrefix::HostBits(meant) => {
            Fault::new(format!("\"{text}\" has bits set after its prefix"))
                .help(format!("did you mean \"{meant}\"?"))
        }
    })
}
