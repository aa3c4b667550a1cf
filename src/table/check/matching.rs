//! `match` of one service: accounts resolved, and every key held against what
//! its addresses can tell. What services at one address have to do with each
//! other is `sharing`'s affair.
#![forbid(unsafe_code)]

use super::rules::server_first;
use super::{Check, Draft, Kind};
use crate::demux::Rule;
use crate::demux::datagram::compile_rule;
use crate::demux::overlap::{self, Medium};
use crate::table::address::{Inet, Transport, UnixKind};
use crate::table::complaint::{At, Place};
use crate::table::host::InheritedKind;
use crate::table::schema::RawRule;
use crate::table::{Listen, Routing, Side};

/// Keys that a datagram can be judged by, inside the kernel.
const OF_DATAGRAMS: [&str; 16] = [
    "dns",
    "stun",
    "wireguard",
    "dtls",
    "quic",
    "tftp",
    "syslog",
    "sip",
    "radius",
    "ntp",
    "openvpn",
    "prefix",
    "from",
    "to",
    "any",
    "priority",
];
/// Keys that no stream holds for.
const ONLY_OF_DATAGRAMS: [&str; 7] = ["stun", "wireguard", "dtls", "quic", "tftp", "radius", "ntp"];
const ENDINGS: [&str; 3] = ["timeout", "eof", "full"];

/// How requests at an address find their service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The front looks at the first bytes of connections.
    Streams,
    /// The kernel looks at datagrams.
    Datagrams,
}

impl Way {
    pub(super) fn medium(self) -> Medium {
        match self {
            Way::Streams => Medium::Streams,
            Way::Datagrams => Medium::Datagrams,
        }
    }
}

impl Check<'_> {
    pub(super) fn routing(
        &mut self,
        draft: Draft<'_>,
        kind: Kind,
        listen: &[Listen],
        wait: bool,
    ) -> Routing {
        let mut routing = Routing {
            speaks_first: self.who_speaks_first(draft, kind),
            ..Routing::default()
        };
        let ways: Vec<Way> = listen
            .iter()
            .filter_map(|l| self.way(l, wait).ok())
            .collect();
        self.useless_deadlines(draft, listen, wait, &ways);
        let Some(written) = &draft.own.matches else {
            return routing;
        };
        if ways.is_empty() || wait && listen.iter().any(is_stream) {
            self.nothing_to_match(draft, listen, wait);
            return routing;
        }
        for raw in &written.value {
            let before = self.complaints.len();
            self.fits_the_ways(draft, raw, &ways);
            self.fits_the_peers(draft, raw, listen);
            let rule = self.resolved(raw);
            if self.complaints.len() == before
                && ways.contains(&Way::Datagrams)
                && let Err(why) = compile_rule(&rule)
            {
                self.complain(raw.place, draft.fault(&why.to_string()));
            }
            let why = ways
                .iter()
                .find_map(|way| overlap::contradiction(&rule, way.medium()));
            if let Some(why) = why {
                self.complain(raw.place, draft.fault(&why));
            }
            routing.rules.push(rule);
        }
        routing
    }

    /// How services share `listen`, or why they cannot.
    pub(super) fn way(&self, listen: &Listen, wait: bool) -> Result<Way, &'static str> {
        const WAITS: &str = "with wait the server takes its requests from the socket itself";
        match listen {
            Listen::Inet(Inet {
                transport: Transport::Udp,
                ..
            }) => Ok(Way::Datagrams),
            Listen::Unix {
                kind: UnixKind::Datagram,
                ..
            } => Err("the kernel cannot tell the datagrams of a unix socket apart"),
            Listen::Tcpmux { .. } => Err("a tcpmux name is for one service"),
            Listen::Rpc { .. } => Err("rpcbind has one service for each program"),
            Listen::Inherited { name } => match self.inherited_kind(name) {
                Some(InheritedKind::Connection) => Err("it is a single connection"),
                Some(InheritedKind::Datagram) => {
                    Err("an inherited datagram socket is for one service")
                }
                Some(InheritedKind::Listener) | None if wait => Err(WAITS),
                Some(InheritedKind::Listener) | None => Ok(Way::Streams),
            },
            Listen::Inet(_) | Listen::Unix { .. } | Listen::Vsock { .. } if wait => Err(WAITS),
            Listen::Inet(_) | Listen::Unix { .. } | Listen::Vsock { .. } => Ok(Way::Streams),
        }
    }

    fn who_speaks_first(&mut self, draft: Draft<'_>, kind: Kind) -> Side {
        match kind {
            Kind::Builtin(builtin) if server_first(builtin) => Side::Server,
            Kind::Builtin(_) => Side::Client,
            Kind::Exec | Kind::Forward => draft.value(|k| &k.speaks_first).unwrap_or_default(),
        }
    }

    fn nothing_to_match(&mut self, draft: Draft<'_>, listen: &[Listen], wait: bool) {
        let why = listen
            .iter()
            .filter(|l| !wait || is_stream(l))
            .find_map(|l| self.way(l, wait).err())
            .unwrap_or("its addresses are for one service");
        if let Some(place) = draft.own.place_of("match") {
            self.complain(
                place,
                draft.fault(&format!("`match` cannot work here: {why}")),
            );
        }
    }

    /// Deadlines are for connections that somebody waits for.
    fn useless_deadlines(&mut self, draft: Draft<'_>, listen: &[Listen], wait: bool, ways: &[Way]) {
        let streams = ways.contains(&Way::Streams);
        for key in ["match_timeout", "first_byte_timeout", "proxy_protocol"] {
            if let Some(place) = draft.own.place_of(key)
                && !streams
            {
                let why = listen
                    .iter()
                    .find_map(|l| self.way(l, wait).err())
                    .unwrap_or("a datagram is all there is, nothing is waited for");
                let problem = format!("`{key}` cannot work here: {why}");
                self.complain(place, draft.fault(&problem));
            }
        }
        if let Some(At { place, .. }) = &draft.own.proxy_protocol
            && streams
            && !listen.iter().any(Listen::has_ip_peers)
        {
            let fault = draft.fault("`proxy_protocol` lists addresses, and these peers have none");
            self.complain(*place, fault);
        }
    }

    fn fits_the_ways(&mut self, draft: Draft<'_>, raw: &RawRule, ways: &[Way]) {
        let datagrams = ways.contains(&Way::Datagrams);
        let streams = ways.contains(&Way::Streams);
        for (key, place) in &raw.keys {
            let (problem, help) = if datagrams && !OF_DATAGRAMS.contains(key) {
                let why = match *key {
                    key if ENDINGS.contains(&key) => {
                        "a datagram is all there is, nothing is waited for"
                    }
                    "interface" | "source_port" | "user" | "group" => {
                        "the kernel does not show it to the program that tells datagrams apart"
                    }
                    "regex" => "the kernel runs no regular expressions; `prefix` it can do",
                    _ => "it comes in streams only",
                };
                (format!("`{key}` is not for datagrams"), why)
            } else if streams && ONLY_OF_DATAGRAMS.contains(key) {
                let why = "it comes in datagrams only";
                (format!("`{key}` is not for streams"), why)
            } else {
                continue;
            };
            let help = if streams && datagrams {
                format!("{help}; make two services of it")
            } else {
                help.to_owned()
            };
            self.complain(*place, draft.fault(&problem).help(help));
        }
    }

    fn fits_the_peers(&mut self, draft: Draft<'_>, raw: &RawRule, listen: &[Listen]) {
        let unix = listen
            .iter()
            .any(|l| matches!(l, Listen::Unix { .. }) || matches!(l, Listen::Inherited { .. }));
        let ip = listen.iter().any(Listen::has_ip_peers);
        for (key, place) in &raw.keys {
            let problem = match *key {
                "from" | "to" | "source_port" | "interface" if !ip => {
                    format!("`{key}` never holds here: these peers have no IP address")
                }
                "user" | "group" if !unix => {
                    format!("`{key}` never holds here: only the peers of unix sockets have one")
                }
                _ => continue,
            };
            self.complain(*place, draft.fault(&problem));
        }
    }

    /// The rule with numbers in place of names.
    fn resolved(&mut self, raw: &RawRule) -> Rule {
        let mut rule = raw.rule.clone();
        for At { value, place } in &raw.users {
            match self.directory.user(value) {
                Ok(found) => rule.address.uid.push(found.account.uid),
                Err(fault) => self.complain(*place, fault),
            }
        }
        for At { value, place } in &raw.groups {
            match self.directory.group(value) {
                Ok(gid) => rule.address.gid.push(gid),
                Err(fault) => self.complain(*place, fault),
            }
        }
        rule
    }
}

fn is_stream(listen: &Listen) -> bool {
    listen.is_datagram() == Some(false)
}

/// Where the `number`th rule of a service stands.
pub(super) fn place_of_rule(raw: &crate::table::schema::RawService, number: usize) -> Place {
    let written = raw.keys.matches.as_ref();
    let rule = written.and_then(|at| at.value.get(number));
    rule.map_or(raw.name.place, |rule| rule.place)
}
