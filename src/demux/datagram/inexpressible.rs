//! What a rule for datagrams cannot say, and why.
#![forbid(unsafe_code)]

use std::fmt;

use super::TooLong;
use crate::demux::Ending;

/// A part of a rule that no program for datagrams can decide. Its `Display` is
/// a clause for a complaint: what it is, then why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inexpressible {
    /// A protocol that only streams speak, by its key.
    Stream(&'static str),
    Regex,
    /// `*.` or `**.` in front of a DNS name; this one.
    WildcardName(String),
    /// No DNS question can hold it.
    BadName(String),
    /// `dns.type` without `dns.name`.
    TypeWithoutName,
    /// `quic.version` where only short headers are asked for.
    VersionOfShortHeaders,
    Interface,
    SourcePort,
    /// `uid` or `gid`.
    Credentials,
    Ending(Ending),
    /// Each rule could be said, but all those of an address cannot.
    TooLong(TooLong),
}

impl fmt::Display for Inexpressible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(key) => write!(f, "{key} is spoken over streams, not in datagrams"),
            Self::Regex => f.write_str(
                "regex needs a loop, which the kernel's program for datagrams cannot have",
            ),
            Self::WildcardName(name) => write!(
                f,
                "dns.name = \"{name}\" needs a loop over labels, which the kernel's program for \
                 datagrams cannot have; only whole names can be told apart"
            ),
            Self::BadName(name) => write!(
                f,
                "dns.name = \"{name}\" fits in no DNS question (labels of 1 to 63 octets, 255 in all)"
            ),
            Self::TypeWithoutName => f.write_str(
                "dns.type stands behind the name, which the kernel's program for datagrams cannot \
                 skip; it needs dns.name with whole names",
            ),
            Self::VersionOfShortHeaders => {
                f.write_str("quic.version cannot be asked of short headers, which carry none")
            }
            Self::Interface => f.write_str(
                "interface cannot be asked of datagrams; bind the service to it with socket.device",
            ),
            Self::SourcePort => f.write_str(
                "source_port is out of reach of the kernel's program for datagrams, which starts \
                 behind the UDP header",
            ),
            Self::Credentials => {
                f.write_str("uid and gid are known of the peers of Unix streams only")
            }
            Self::TooLong(why) => why.fmt(f),
            Self::Ending(ending) => {
                let key = match ending {
                    Ending::Timeout => "timeout",
                    Ending::Eof => "eof",
                    Ending::Full => "full",
                };
                write!(
                    f,
                    "{key} never happens to a datagram: it is there as a whole"
                )
            }
        }
    }
}
