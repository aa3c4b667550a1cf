//! The table `inet usherd`: its sets, its one chain, and what is in the sets; as
//! libnftables-json(5) writes them.
//!
//! The rules never change. What does are the sets, whose elements the kernel
//! lets go by itself when their time is over. In the order of the rules: this
//! machine passes, who is banned is dropped, what has begun passes, then an
//! exception for a port, then the closed ports.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde_json::{Value, json};

use super::is_host;
use crate::table::Prefix;

pub const FAMILY: &str = "inet";
pub const NAME: &str = "usherd";

/// Before the chains of others: priority 0, as a rule.
const PRIORITY: i32 = -10;

/// Elements of a set: what a caller who bans all he can may cost.
pub const SIZE: u32 = 65_536;

/// Those that one service may have in a set: it is not to leave the others no room.
pub const MOST_OF_A_SERVICE: usize = 8_192;

/// Octets of a listing of eight full sets: an element with an exception for a network of
/// IPv6 and a comment of 128 octets, the kernel's most, takes fewer than 400.
pub const LONGEST_LISTING: u64 = 8 * SIZE as u64 * 400;

/// A port that is closed or has an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// `"tcp"`, `"udp"`, `"sctp"`.
    pub protocol: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Ban(Prefix),
    Closed(Gate),
    /// For everybody, or for those who come from there.
    Open(Gate, Option<Prefix>),
}

/// What is in one of the sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub what: What,
    /// `None`: it stays.
    pub seconds_left: Option<u64>,
    /// `"service mail: guesses passwords"`
    pub comment: Option<String>,
}

impl Element {
    /// Whoever wanted it: `"service mail"`, `"uid 0"`.
    pub fn by(&self) -> Option<&str> {
        let comment = self.comment.as_deref()?;
        Some(comment.split_once(": ").map_or(comment, |(by, _)| by))
    }

    pub fn reason(&self) -> Option<&str> {
        Some(self.comment.as_deref()?.split_once(": ")?.1)
    }

    /// Not before the other one ends.
    pub fn outlasts(&self, seconds: Option<u64>) -> bool {
        match (self.seconds_left, seconds) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own >= other,
        }
    }
}

/// The command that puts it there.
pub fn add(what: &What, seconds: Option<u64>, comment: Option<&str>) -> Value {
    let (set, value) = place(what);
    let mut inner = json!({ "val": value });
    if let Some(seconds) = seconds {
        inner["timeout"] = seconds.into();
    }
    if let Some(comment) = comment {
        inner["comment"] = comment.into();
    }
    json!({ "add": element(set, &json!({ "elem": inner })) })
}

/// The command that takes it away; fails if it is not there.
pub fn delete(what: &What) -> Value {
    let (set, value) = place(what);
    json!({ "delete": element(set, &value) })
}

fn element(set: &str, value: &Value) -> Value {
    json!({ "element": { "family": FAMILY, "table": NAME, "name": set, "elem": [value] } })
}

/// The set that it is in.
pub fn set(what: &What) -> &'static str {
    let pick = |prefix: &Prefix, v4, v6| if prefix.addr.is_ipv4() { v4 } else { v6 };
    match what {
        What::Ban(prefix) if is_host(prefix) => pick(prefix, "hosts4", "hosts6"),
        What::Ban(prefix) => pick(prefix, "nets4", "nets6"),
        What::Closed(_) => "closed",
        What::Open(_, None) => "open",
        What::Open(_, Some(from)) => pick(from, "open4", "open6"),
    }
}

/// The set that it is in, and how it is written there.
fn place(what: &What) -> (&'static str, Value) {
    let value = match what {
        What::Ban(prefix) => address(prefix),
        What::Closed(gate) | What::Open(gate, None) => {
            json!({ "concat": [gate.protocol, gate.port] })
        }
        What::Open(gate, Some(from)) => {
            json!({ "concat": [gate.protocol, gate.port, address(from)] })
        }
    };
    (set(what), value)
}

fn address(prefix: &Prefix) -> Value {
    match is_host(prefix) {
        true => json!(prefix.addr),
        false => json!({ "prefix": { "addr": prefix.addr, "len": prefix.bits } }),
    }
}

/// Everything in the sets of a listing; what is not ours by its form is left out.
pub fn elements(listing: &Value) -> Vec<Element> {
    let mut found = Vec::new();
    for object in listing["nftables"].as_array().into_iter().flatten() {
        let set = &object["set"];
        let Some(name) = set["name"].as_str() else {
            continue;
        };
        let all = set["elem"].as_array().into_iter().flatten();
        found.extend(all.filter_map(|element| parse(name, element)));
    }
    found
}

fn parse(set: &str, element: &Value) -> Option<Element> {
    let inner = element.get("elem");
    let value = inner.map_or(element, |inner| &inner["val"]);
    let concat = || value["concat"].as_array();
    let gate = || {
        let parts = concat()?;
        Some(Gate {
            protocol: parts.first()?.as_str()?.to_owned(),
            port: parts.get(1)?.as_u64()?.try_into().ok()?,
        })
    };
    let what = match set {
        "hosts4" | "hosts6" | "nets4" | "nets6" => What::Ban(parse_address(value)?),
        "closed" => What::Closed(gate()?),
        "open" => What::Open(gate()?, None),
        "open4" | "open6" => What::Open(gate()?, Some(parse_address(concat()?.get(2)?)?)),
        _ => return None,
    };
    let timed = inner.filter(|inner| inner.get("timeout").is_some());
    let comment = inner.and_then(|inner| inner["comment"].as_str());
    Some(Element {
        what,
        seconds_left: timed.map(|inner| inner["expires"].as_u64().unwrap_or(0)),
        comment: comment.map(str::to_owned),
    })
}

fn parse_address(value: &Value) -> Option<Prefix> {
    let bits = |addr: &IpAddr| if addr.is_ipv4() { 32 } else { 128 };
    let addr = value.as_str().or(value["prefix"]["addr"].as_str())?;
    let addr = addr.parse().ok()?;
    let bits = match value["prefix"]["len"].as_u64() {
        Some(len) => len.try_into().ok()?,
        None => bits(&addr),
    };
    Some(Prefix { addr, bits })
}

/// The commands that make the table. They fail together if there is one.
pub fn creation() -> Vec<Value> {
    let set = |name: &str, kind: Value, flags: &[&str]| {
        let set = json!({
            "family": FAMILY, "table": NAME, "name": name,
            "type": kind, "flags": flags, "size": SIZE,
        });
        json!({ "add": { "set": set } })
    };
    let rule = |expressions: Value| {
        let rule =
            json!({ "family": FAMILY, "table": NAME, "chain": "input", "expr": expressions });
        json!({ "add": { "rule": rule } })
    };
    let (timed, nets) = (&["timeout"][..], &["interval", "timeout"][..]);
    let (proto, port) = ("inet_proto", "inet_service");
    let saddr = |family: &str| json!({ "payload": { "protocol": family, "field": "saddr" } });
    let l4proto = json!({ "meta": { "key": "l4proto" } });
    let dport = json!({ "payload": { "protocol": "th", "field": "dport" } });
    let matches = |left: Value, right: Value| json!({ "match": { "op": "==", "left": left, "right": right } });
    let (accept, drop) = (json!({ "accept": null }), json!({ "drop": null }));
    let established = json!({
        "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"] }
    });
    // Of TCP a stream shows itself: the kernel may not have followed it from its beginning,
    // for it only does since somebody has a rule about that.
    let flags = json!({ "payload": { "protocol": "tcp", "field": "flags" } });
    let begun = json!({
        "match": { "op": "!=", "left": { "&": [flags, ["fin", "syn", "rst", "ack"]] }, "right": "syn" }
    });
    let gate = json!({ "concat": [l4proto, dport] });
    let gate_from = |family| json!({ "concat": [l4proto, dport, saddr(family)] });
    vec![
        json!({ "create": { "table": { "family": FAMILY, "name": NAME } } }),
        set("hosts4", json!("ipv4_addr"), timed),
        set("hosts6", json!("ipv6_addr"), timed),
        set("nets4", json!("ipv4_addr"), nets),
        set("nets6", json!("ipv6_addr"), nets),
        set("closed", json!([proto, port]), timed),
        set("open", json!([proto, port]), timed),
        set("open4", json!([proto, port, "ipv4_addr"]), nets),
        set("open6", json!([proto, port, "ipv6_addr"]), nets),
        json!({ "add": { "chain": {
            "family": FAMILY, "table": NAME, "name": "input",
            "type": "filter", "hook": "input", "prio": PRIORITY, "policy": "accept",
        } } }),
        rule(json!([
            matches(json!({ "meta": { "key": "iifname" } }), json!("lo")),
            accept
        ])),
        rule(json!([matches(saddr("ip"), json!("@hosts4")), drop])),
        rule(json!([matches(saddr("ip"), json!("@nets4")), drop])),
        rule(json!([matches(saddr("ip6"), json!("@hosts6")), drop])),
        rule(json!([matches(saddr("ip6"), json!("@nets6")), drop])),
        rule(json!([established, accept])),
        rule(json!([begun, accept])),
        rule(json!([matches(gate.clone(), json!("@open")), accept])),
        rule(json!([matches(gate_from("ip"), json!("@open4")), accept])),
        rule(json!([matches(gate_from("ip6"), json!("@open6")), accept])),
        rule(json!([matches(gate, json!("@closed")), drop])),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_nft_lists_is_what_was_put_there() {
        let gate = || Gate {
            protocol: "tcp".into(),
            port: 22,
        };
        let whats = [
            What::Ban("192.0.2.1".parse().unwrap()),
            What::Ban("2001:db8::/32".parse().unwrap()),
            What::Closed(gate()),
            What::Open(gate(), None),
            What::Open(gate(), Some("198.51.100.0/24".parse().unwrap())),
            What::Open(gate(), Some("2001:db8::1".parse().unwrap())),
        ];
        for what in whats {
            let command = add(&what, Some(60), Some("uid 0: why: so"));
            let mut set = command["add"]["element"].clone();
            set["elem"][0]["elem"]["expires"] = 59.into();
            let listing = json!({ "nftables": [{ "metainfo": {} }, { "set": set }] });
            let [found] = &elements(&listing)[..] else {
                panic!("{listing}");
            };
            assert_eq!((&found.what, found.seconds_left), (&what, Some(59)));
            let wanted = (Some("uid 0"), Some("why: so"));
            assert_eq!((found.by(), found.reason()), wanted);
            // As nft lists one that has nothing beside it.
            set["elem"][0] = set["elem"][0]["elem"]["val"].clone();
            let listing = json!({ "nftables": [{ "set": set }] });
            let wanted = Element {
                what,
                seconds_left: None,
                comment: None,
            };
            assert_eq!(elements(&listing), [wanted]);
        }
    }

    #[test]
    fn a_listing_of_something_else_is_nothing() {
        for odd in [
            json!(null),
            json!({ "nftables": 7 }),
            json!({ "nftables": [{ "set": { "name": "hosts4", "elem": [7, {}, "x", { "elem": 1 }] } }] }),
        ] {
            assert_eq!(elements(&odd), []);
        }
    }
}
