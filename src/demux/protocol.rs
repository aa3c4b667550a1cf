//! Which protocol a stream begins as: one walk per protocol, each of them
//! three-valued, without allocation, over a bounded number of octets.
#![forbid(unsafe_code)]

mod adb;
mod git;
mod ldap;
mod mqtt;
mod openvpn;
mod postgres;
mod rdp;
mod redis;
mod rtmp;
mod start_line;
mod syslog;
mod walk;
mod xmpp;

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "protocol/vectors.rs"]
pub(in crate::demux) mod vectors;

use crate::demux::rule::Protocol;
use crate::demux::verdict::Verdict;

pub use crate::demux::socks::judge_socks;
pub(in crate::demux) use walk::{Step, Walk, require, run};

/// Whether a stream begins as this protocol's client does.
///
/// `Need(k)` counts octets of the stream; with fewer than `k` of them the
/// answer is still undecided, whatever they are. No protocol that travels in
/// datagrams only is ever found in a stream.
#[must_use]
pub fn judge(protocol: Protocol, bytes: &[u8]) -> Verdict {
    run(bytes, |walk| match protocol {
        // RFC 9113, 3.4.
        Protocol::Http2 => walk.literal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        // RFC 4253, 4.2. The version after it is for the server to judge.
        Protocol::Ssh => walk.literal(b"SSH-"),
        // BEP 3, "peer protocol".
        Protocol::Bittorrent => walk.literal(b"\x13BitTorrent protocol"),
        // The greeting line of the daemon protocol; both ends send one.
        Protocol::Rsync => walk.literal(b"@RSYNCD:"),
        Protocol::Amqp => amqp(walk),
        Protocol::Postgres => postgres::walk(walk),
        Protocol::Rdp => rdp::walk(walk),
        Protocol::Mqtt => mqtt::walk(walk),
        Protocol::Xmpp => xmpp::walk(walk),
        Protocol::Syslog => syslog::walk(walk),
        Protocol::Openvpn => openvpn::walk(walk),
        Protocol::Rtmp => rtmp::walk(walk),
        Protocol::Redis => redis::walk(walk),
        Protocol::Git => git::walk(walk),
        Protocol::Adb => adb::walk(walk),
        Protocol::Ldap => ldap::walk(walk),
        Protocol::Sip => start_line::sip(walk),
        Protocol::Rtsp => start_line::rtsp(walk),
        Protocol::Stun
        | Protocol::Wireguard
        | Protocol::Dtls
        | Protocol::Radius
        | Protocol::Ntp => Err(Verdict::No),
    })
}

/// The protocol header: `AMQP`, a protocol id, a version (AMQP 0-9-1, 4.2.2;
/// AMQP 1.0, 2.2). Ids are 0 to 3: AMQP, its older use of 1, TLS, SASL. A
/// server answers a version it does not have with one it has, so any will do.
fn amqp(walk: &mut Walk) -> Step<()> {
    walk.literal(b"AMQP")?;
    walk.octet_that(|id| id <= 3)?;
    Ok(())
}

/// As the key of `match` in the table.
#[must_use]
pub fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http2 => "http2",
        Protocol::Ssh => "ssh",
        Protocol::Postgres => "postgres",
        Protocol::Rdp => "rdp",
        Protocol::Mqtt => "mqtt",
        Protocol::Xmpp => "xmpp",
        Protocol::Syslog => "syslog",
        Protocol::Openvpn => "openvpn",
        Protocol::Rtmp => "rtmp",
        Protocol::Bittorrent => "bittorrent",
        Protocol::Redis => "redis",
        Protocol::Git => "git",
        Protocol::Rsync => "rsync",
        Protocol::Adb => "adb",
        Protocol::Ldap => "ldap",
        Protocol::Amqp => "amqp",
        Protocol::Sip => "sip",
        Protocol::Rtsp => "rtsp",
        Protocol::Stun => "stun",
        Protocol::Wireguard => "wireguard",
        Protocol::Dtls => "dtls",
        Protocol::Radius => "radius",
        Protocol::Ntp => "ntp",
    }
}

impl Protocol {
    /// In the order of the type.
    pub const ALL: [Protocol; 23] = [
        Protocol::Http2,
        Protocol::Ssh,
        Protocol::Postgres,
        Protocol::Rdp,
        Protocol::Mqtt,
        Protocol::Xmpp,
        Protocol::Syslog,
        Protocol::Openvpn,
        Protocol::Rtmp,
        Protocol::Bittorrent,
        Protocol::Redis,
        Protocol::Git,
        Protocol::Rsync,
        Protocol::Adb,
        Protocol::Ldap,
        Protocol::Amqp,
        Protocol::Sip,
        Protocol::Rtsp,
        Protocol::Stun,
        Protocol::Wireguard,
        Protocol::Dtls,
        Protocol::Radius,
        Protocol::Ntp,
    ];

    /// Whether it can be found at the beginning of a stream.
    #[must_use]
    pub fn is_stream(self) -> bool {
        !matches!(
            self,
            Protocol::Stun
                | Protocol::Wireguard
                | Protocol::Dtls
                | Protocol::Radius
                | Protocol::Ntp
        )
    }

    /// Whether it can be found in a datagram. Some protocols travel both ways.
    #[must_use]
    pub fn is_datagram(self) -> bool {
        !self.is_stream() || matches!(self, Protocol::Openvpn | Protocol::Syslog | Protocol::Sip)
    }
}
