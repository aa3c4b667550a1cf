//! Where a service listens: `type`, `socket_type`, `protocol`, `port`, `bind`,
//! the flags for families, `rpc_version` and `rpc_number`.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::convert::{Builder, Impossible, Kind, Shape};
use crate::table::address::{self, Transport};
use crate::table::import::Effect;

/// How a peer finds the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Inet(Transport),
    Rpc(Transport),
    /// Through a tcpmux; `greet`: that one sends the `+`.
    Mux {
        greet: bool,
    },
}

impl Route {
    pub fn is_stream(self) -> bool {
        !matches!(self, Self::Inet(Transport::Udp) | Self::Rpc(Transport::Udp))
    }
}

impl Builder<'_> {
    pub fn route(&mut self) -> Result<Route, Impossible> {
        let transport = self.transport()?;
        if self.is_mux() {
            if !self.has_type("UNLISTED") {
                let why = "xinetd does not start a tcpmux service without the type UNLISTED";
                self.turn_off(why.to_owned());
            }
            let greet = self.has_type("TCPMUXPLUS");
            return match transport {
                Transport::Tcp => Ok(Route::Mux { greet }),
                Transport::Udp => Err(Impossible("a tcpmux service is for tcp".to_owned())),
            };
        }
        if self.has_type("RPC") {
            return Ok(Route::Rpc(transport));
        }
        Ok(Route::Inet(transport))
    }

    /// Each of `socket_type` and `protocol` implies the other.
    fn transport(&mut self) -> Result<Transport, Impossible> {
        let kind = self.one("socket_type").map(str::to_ascii_lowercase);
        let protocol = self.one("protocol").map(str::to_ascii_lowercase);
        let of_kind = match kind.as_deref() {
            None => None,
            Some("stream") => Some(Transport::Tcp),
            Some("dgram") => Some(Transport::Udp),
            Some("raw" | "seqpacket") => {
                let why = format!("usherd serves no {} sockets", kind.unwrap_or_default());
                return Err(Impossible(why));
            }
            Some(other) => return Err(Impossible(format!("there is no socket_type {other}"))),
        };
        let of_protocol = match protocol.as_deref() {
            None => None,
            Some("tcp") => Some(Transport::Tcp),
            Some("udp") => Some(Transport::Udp),
            Some(other) => {
                return Err(Impossible(format!(
                    "usherd does not serve the protocol {other}"
                )));
            }
        };
        match (of_kind, of_protocol) {
            (Some(kind), Some(protocol)) if kind != protocol => Err(Impossible(
                "its socket_type and its protocol do not go together".to_owned(),
            )),
            (Some(transport), _) | (None, Some(transport)) => Ok(transport),
            (None, None) => Err(Impossible(
                "it has neither socket_type nor protocol; xinetd does not start it either"
                    .to_owned(),
            )),
        }
    }

    pub fn listen(&mut self, route: &Route, shape: Shape) -> Result<(), Impossible> {
        let text = match *route {
            Route::Mux { greet } => {
                let plus = if greet { "+" } else { "" };
                format!("tcpmux:{plus}{}", self.service.name)
            }
            Route::Rpc(transport) => self.rpc(transport)?,
            Route::Inet(transport) => self.inet(transport, shape)?,
        };
        let parsed = address::listen(&text, &self.sources.world.host.names);
        parsed.map_err(|fault| Impossible(fault.problem))?;
        self.set("listen", text);
        if shape.wait && shape.stream {
            self.set("wait", true);
        }
        Ok(())
    }

    fn rpc(&mut self, transport: Transport) -> Result<String, Impossible> {
        let program = if self.has_type("UNLISTED") {
            self.one("rpc_number").ok_or("it has no rpc_number")
        } else {
            Ok(self.service.name.as_str())
        };
        let versions = self.one("rpc_version").ok_or("it has no rpc_version");
        let missing = |what: &str| Impossible(format!("{what}; xinetd does not start it either"));
        let text = format!(
            "rpc-{transport}:{}/{}",
            program.map_err(missing)?,
            versions.map_err(missing)?
        );
        for key in ["port", "bind"] {
            if self.one(key).is_some() {
                let effect = if key == "bind" {
                    Effect::Loss
                } else {
                    Effect::Changed
                };
                let text = format!(
                    "`{key}` of an RPC service: it listens on any address, at a port that is free"
                );
                self.note(effect, key, text);
            }
        }
        Ok(text)
    }

    fn inet(&mut self, transport: Transport, shape: Shape) -> Result<String, Impossible> {
        let port = self.port(transport)?;
        let bind = match self.one("bind").map(str::to_owned) {
            Some(name) => Some(self.bind(&name)?),
            None => None,
        };
        // An operator who wrote v6only, with either value, has got it.
        let own_v6only = self.service.settings.values.contains_key("v6only");
        let v4 = self.has_flag("IPv4") && !self.has_flag("IPv6");
        let wildcard = bind.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        let wildcard = wildcard.filter(IpAddr::is_unspecified);
        if own_v6only {
            self.v6only(v4 || wildcard.is_some_and(|ip| ip.is_ipv4()));
        }
        let listen = match (bind, wildcard) {
            (_, Some(IpAddr::V4(_))) => format!("{transport}4:{port}"),
            (Some(addr), None) if addr.contains(':') => format!("{transport}:[{addr}]:{port}"),
            (Some(addr), None) => format!("{transport}:{addr}:{port}"),
            (None, _) if v4 => format!("{transport}4:{port}"),
            (_, _) if own_v6only => format!("{transport}6:{port}"),
            (_, _) => format!("{transport}:{port}"),
        };
        if shape.kind == Kind::Builtin && !shape.stream {
            let text = "a datagram is answered at most as often and as long as usherd's guard against \
                        reflection lets it be";
            self.note(Effect::Changed, "type", text.to_owned());
        }
        Ok(listen)
    }

    fn v6only(&mut self, v4: bool) {
        let text = match self.one("v6only") {
            _ if v4 => "v6only says nothing for IPv4 and is left out",
            Some(word) if word.eq_ignore_ascii_case("no") => {
                "v6only = no makes the service listen on IPv6 only in xinetd 2.3.15, against its manual, \
                 and so it does here; write tcp: or udp: for both families"
            }
            _ => return,
        };
        self.note(Effect::Changed, "v6only", text.to_owned());
    }

    /// A service that is not UNLISTED has the port that services(5) says.
    fn port(&mut self, transport: Transport) -> Result<u16, Impossible> {
        let written = self.one("port").map(str::to_owned);
        let number = written.as_deref().map(str::parse::<u16>);
        if let (Some(word), Some(Err(_) | Ok(0))) = (&written, &number) {
            return Err(Impossible(format!("port {word} is none to listen at")));
        }
        let number = number.and_then(Result::ok);
        let name = &self.service.name;
        if self.has_type("UNLISTED") {
            return number.ok_or_else(|| {
                Impossible(
                    "it is UNLISTED and has no `port`; xinetd does not start it either".to_owned(),
                )
            });
        }
        let listed = self.sources.world.host.names.port(name, transport);
        match (listed, number) {
            (Some(listed), None) => Ok(listed),
            (Some(listed), Some(number)) => {
                if listed != number {
                    let why = format!(
                        "/etc/services has port {listed} for {name}, not {number}; with type = UNLISTED \
                         xinetd would take it"
                    );
                    self.turn_off(why);
                }
                Ok(number)
            }
            (None, Some(number)) => {
                let why = format!(
                    "/etc/services has no {name}/{transport}, and the type is not UNLISTED"
                );
                self.turn_off(why);
                Ok(number)
            }
            (None, None) => Err(Impossible(format!(
                "/etc/services has no {name}/{transport}, so its port is unknown; xinetd does not start it either"
            ))),
        }
    }

    /// An address or a name of this host.
    fn bind(&mut self, name: &str) -> Result<String, Impossible> {
        let plain = name.split('%').next().unwrap_or(name);
        if plain.parse::<IpAddr>().is_ok() {
            return Ok(name.to_owned());
        }
        let wants_v6 = self.has_flag("IPv6") || !self.has_flag("IPv4");
        let known = self.sources.world.resolve(name);
        let fitting = known.iter().find(|ip| ip.is_ipv6() == wants_v6);
        let Some(ip) = fitting.or(known.first()).copied() else {
            return Err(Impossible(format!(
                "bind = {name} is a name that /etc/hosts does not have, and without an address the \
                 service would listen on all of them"
            )));
        };
        let text = format!(
            "bind = {name} has become {ip}, which /etc/hosts says; usherd looks no name up"
        );
        self.note(Effect::Changed, "bind", text);
        Ok(ip.to_string())
    }
}
