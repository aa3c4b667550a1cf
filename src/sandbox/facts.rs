//! What a server is told about its request, in its environment.
//!
//! The names are those of inetd's relatives (`REMOTE_HOST`), of systemd
//! (`REMOTE_ADDR`, `REMOTE_PORT`, `LISTEN_FDS`) and of UCSPI (`PROTO`,
//! `TCPREMOTEIP`), plus `USHERD_*`. IPv4-mapped addresses are written as IPv4.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::helper::told::{Text, Told};
use crate::ids::ConnectionId;
use crate::sandbox::plan::ExecPlan;
use crate::sys::exec::Environment;

/// Where a request came from and where it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    Inet {
        datagram: bool,
        peer: Option<SocketAddr>,
        local: SocketAddr,
    },
    /// `uid` and `gid` of the peer as the kernel saw them (SO_PEERCRED), for connections.
    Unix {
        path: String,
        credentials: Option<(u32, u32, i32)>,
    },
    Vsock {
        peer: Option<(u32, u32)>,
        local_port: u32,
    },
    /// A server for listeners of more than one kind, or of a kind without names.
    None,
}

/// One request, for one server.
#[derive(Debug)]
pub struct Facts<'a> {
    pub service: &'a str,
    pub connection: ConnectionId,
    pub ends: &'a Ends,
    /// `LISTEN_FDNAMES`, with `activation = "listen-fds"`; one for each descriptor from 3 on.
    pub listen_names: Option<&'a [String]>,
    /// The rule of `match` that held, as text.
    pub rule: Option<&'a str>,
    pub told: Option<&'a Told>,
    /// Who connected, where that is a proxy that brings somebody.
    pub proxy: Option<SocketAddr>,
}

/// The whole environment of one server.
#[must_use]
pub fn environment(plan: &ExecPlan, facts: &Facts) -> Environment {
    let mut env = plan.environment.clone();
    let mut push = |name: &str, value: &str| {
        if !plan.fixed.iter().any(|fixed| fixed == name) {
            env.push(name, value.as_bytes());
        }
    };
    push("USHERD_SERVICE", facts.service);
    push("USHERD_CONNECTION", &facts.connection.to_string());
    push_ends(&mut push, facts.ends);
    push_told(&mut push, facts);
    if let Some(names) = facts.listen_names {
        push("LISTEN_FDS", &names.len().to_string());
        push("LISTEN_FDNAMES", &names.join(":"));
        env.push_listen_pid();
    }
    env
}

/// What the first bytes said: bounded, and printable ASCII only.
fn push_told(push: &mut dyn FnMut(&str, &str), facts: &Facts) {
    let mut put = |name: &str, text: Option<&Text>| {
        if let Some(text) = text {
            push(name, text.as_str());
        }
    };
    if let Some(told) = facts.told {
        put("USHERD_TLS_SNI", told.sni.as_ref());
        put("USHERD_TLS_ALPN", told.alpn.as_ref());
        put("USHERD_HTTP_HOST", told.host.as_ref());
        if let Some(proxy) = &told.proxy {
            put("USHERD_PROXY_AUTHORITY", proxy.authority.as_ref());
            put("USHERD_PROXY_ALPN", proxy.alpn.as_ref());
            put("USHERD_PROXY_UNIQUE_ID", proxy.unique_id.as_ref());
            push("USHERD_PROXY_VERSION", &proxy.version.to_string());
        }
    }
    if let Some(proxy) = facts.proxy {
        push("USHERD_PROXY_ADDR", &proxy.ip().to_string());
        push("USHERD_PROXY_PORT", &proxy.port().to_string());
    }
    if let Some(rule) = facts.rule {
        push("USHERD_RULE", rule);
    }
}

fn push_ends(push: &mut dyn FnMut(&str, &str), ends: &Ends) {
    match ends {
        Ends::Inet {
            datagram,
            peer,
            local,
        } => {
            let proto = if *datagram { "UDP" } else { "TCP" };
            push("PROTO", proto);
            push_address(push, proto, "LOCAL", *local);
            if let Some(peer) = peer {
                let (ip, port) = push_address(push, proto, "REMOTE", *peer);
                push("REMOTE_HOST", &ip);
                push("REMOTE_ADDR", &ip);
                push("REMOTE_PORT", &port);
            }
        }
        Ends::Unix { path, credentials } => {
            push("PROTO", "UNIX");
            push("UNIXLOCALPATH", path);
            if let Some((uid, gid, pid)) = credentials {
                push("UNIXREMOTEEUID", &uid.to_string());
                push("UNIXREMOTEEGID", &gid.to_string());
                push("UNIXREMOTEPID", &pid.to_string());
            }
        }
        Ends::Vsock { peer, local_port } => {
            push("PROTO", "VSOCK");
            push("VSOCKLOCALPORT", &local_port.to_string());
            if let Some((cid, port)) = peer {
                push("REMOTE_ADDR", &format!("vsock:{cid}"));
                push("REMOTE_HOST", &format!("vsock:{cid}"));
                push("REMOTE_PORT", &port.to_string());
            }
        }
        Ends::None => {}
    }
}

/// `TCPREMOTEIP` and `TCPREMOTEPORT`, or `...LOCAL...`; gives both back as texts.
fn push_address(
    push: &mut dyn FnMut(&str, &str),
    proto: &str,
    side: &str,
    addr: SocketAddr,
) -> (String, String) {
    let ip = addr.ip().to_canonical().to_string();
    let port = addr.port().to_string();
    push(&format!("{proto}{side}IP"), &ip);
    push(&format!("{proto}{side}PORT"), &port);
    (ip, port)
}
