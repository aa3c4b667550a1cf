//! Rules as data: what `match` says, in plain values that travel from the
//! table to the front.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::demux::names::Pattern;
use crate::table::access::Prefix;

/// One table of `match`: everything given must hold, lists are alternatives.
/// A rule without anything holds for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub address: Address,
    /// All must hold.
    pub content: Vec<Content>,
    /// How the wait for bytes ended, one of these; empty: not asked. Such a
    /// rule is looked at only when the wait has ended.
    pub endings: Vec<Ending>,
    /// Higher first, among rules that say as much about addresses.
    pub priority: i32,
}

/// What is known of a request without reading from it. Empty lists: not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Of the peer.
    pub from: Vec<Prefix>,
    /// Of this host.
    pub to: Vec<Prefix>,
    /// Names of the interfaces it came in at.
    pub interface: Vec<String>,
    /// Ports of the peer, both ends included.
    pub source_port: Vec<(u16, u16)>,
    /// Of the peer of a Unix socket (SO_PEERCRED).
    pub uid: Vec<u32>,
    pub gid: Vec<u32>,
}

/// Something that the first bytes say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    Is(Protocol),
    Tls(Tls),
    Http(Http),
    /// Versions, 4 or 5.
    Socks(Vec<u8>),
    Dns(Dns),
    Quic(Quic),
    Tftp(Tftp),
    /// The request begins with one of these; none is empty.
    Prefix(Vec<Vec<u8>>),
    /// One of these matches at the start (regex-automata's syntax, bytes, no Unicode).
    Regex(Vec<String>),
}

/// Protocols that are asked for without details: `ssh = true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// With prior knowledge.
    Http2,
    Ssh,
    Postgres,
    Rdp,
    Mqtt,
    Xmpp,
    Syslog,
    Openvpn,
    Rtmp,
    Bittorrent,
    Redis,
    Git,
    Rsync,
    Adb,
    Ldap,
    Amqp,
    Sip,
    Rtsp,
    Stun,
    Wireguard,
    Dtls,
    Radius,
    Ntp,
}

/// `tls`: with nothing in it, any TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub sni: Vec<Pattern>,
    /// One of these is offered.
    pub alpn: Vec<String>,
    /// The highest version offered is one of these.
    pub version: Vec<TlsVersion>,
    /// Whether Encrypted Client Hello is offered.
    pub ech: Option<bool>,
    /// A hello that breaks the rules of its own protocol.
    pub malformed: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    Ssl2,
    Ssl3,
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// `http`: HTTP/1.x; with nothing in it, any request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    pub host: Vec<Pattern>,
    /// Prefixes on segment boundaries, beginning with `/`.
    pub path: Vec<String>,
    pub method: Vec<String>,
    /// One of these headers is there.
    pub header: Vec<String>,
    /// A request that breaks the rules of its own protocol.
    pub malformed: Option<bool>,
}

/// `dns`: a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    pub name: Vec<Pattern>,
    /// QTYPE (RFC 1035, 3.2.2).
    pub r#type: Vec<u16>,
}

/// `quic`, datagrams only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quic {
    /// `Some(true)`: long header; `Some(false)`: short header; `None`: either.
    pub long: Option<bool>,
    /// Of long headers.
    pub version: Vec<u32>,
}

/// `tftp`: a request to read or to write, datagrams only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tftp {
    /// `Some(true)`: write requests; `Some(false)`: read requests.
    pub write: Option<bool>,
    /// Whole file names.
    pub file: Vec<String>,
}

/// Why no more bytes are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// A deadline passed.
    Timeout,
    /// The peer sent its last byte.
    Eof,
    /// As many bytes as are ever looked at have come.
    Full,
}
