//! What a ClientHello says: names, protocols, versions (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301, 3.1).
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use super::records::{Fault, Message, Reader};
use crate::demux::names::Name;
use crate::demux::rule::TlsVersion;

/// Extensions of one hello; each may be there once.
const MAX_EXTENSIONS: usize = 256;

/// Names in one ALPN list.
const MAX_PROTOCOLS: usize = 64;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// A hello that is complete and keeps the rules.
#[derive(Clone, Copy, Debug)]
pub struct ClientHello<'a> {
    message: Message<'a>,
    sni: Option<Name>,
    /// Offset and length of the ALPN names in the message.
    alpn: (usize, usize),
    version: TlsVersion,
    ech: bool,
}

impl<'a> ClientHello<'a> {
    /// A hello in SSL 2.0 framing, which has no extensions.
    #[must_use]
    pub fn of_version(version: TlsVersion) -> Self {
        ClientHello {
            message: Message::empty(),
            sni: None,
            alpn: (0, 0),
            version,
            ech: false,
        }
    }

    /// Reads the body of `message`.
    ///
    /// # Errors
    ///
    /// `Malformed` or `TooLarge`, never `Need`.
    pub fn parse(message: Message<'a>) -> Result<Self, Fault> {
        let mut facts = ClientHello {
            message,
            ..ClientHello::of_version(TlsVersion::Ssl3)
        };
        let mut body = message.body();
        let short = Fault::Malformed("lengths do not add up");

        facts.version = legacy(body.u16().ok_or(short)?)?;
        body.skip(32).ok_or(short)?;
        let session = body.u8().ok_or(short)?;
        if session > 32 {
            return Err(Fault::Malformed("session id"));
        }
        body.skip(session.into()).ok_or(short)?;
        let ciphers = body.u16().ok_or(short)?;
        if ciphers < 2 || ciphers % 2 != 0 {
            return Err(Fault::Malformed("cipher list"));
        }
        body.skip(ciphers.into()).ok_or(short)?;
        let compressions = body.u8().ok_or(short)?;
        if compressions == 0 {
            return Err(Fault::Malformed("compression list"));
        }
        body.skip(compressions.into()).ok_or(short)?;

        // Before TLS 1.3 a hello may end here.
        if !body.is_at_end() {
            if usize::from(body.u16().ok_or(short)?) != body.left() {
                return Err(short);
            }
            facts.read_extensions(body)?;
        }
        Ok(facts)
    }

    fn read_extensions(&mut self, mut block: Reader<'_>) -> Result<(), Fault> {
        let short = Fault::Malformed("lengths do not add up");
        let mut seen = [0; MAX_EXTENSIONS];
        let mut count = 0;
        while !block.is_at_end() {
            let kind = block.u16().ok_or(short)?;
            let length = block.u16().ok_or(short)?;
            let data = block.take(length.into()).ok_or(short)?;
            if seen.iter().take(count).any(|&other| other == kind) {
                return Err(Fault::Malformed("an extension comes twice"));
            }
            *seen.get_mut(count).ok_or(Fault::TooLarge)? = kind;
            count += 1;
            match kind {
                SERVER_NAME => self.sni = server_name(data)?,
                ALPN => self.alpn = protocols(data)?,
                SUPPORTED_VERSIONS => {
                    if let Some(version) = highest(data)? {
                        self.version = version;
                    }
                }
                ENCRYPTED_CLIENT_HELLO => self.ech = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// The host name asked for; with ECH the one on the outside. An address is no name.
    #[must_use]
    pub fn sni(&self) -> Option<&Name> {
        self.sni.as_ref()
    }

    /// Application protocols in the order of the client's preference, 64 at most.
    pub fn alpn(&self) -> impl Iterator<Item = AlpnName> {
        let (at, len) = self.alpn;
        let mut list = Reader::over(&self.message, at, len);
        std::iter::from_fn(move || AlpnName::read(&mut list))
    }

    /// The highest version offered.
    #[must_use]
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// Whether Encrypted Client Hello is offered (GREASE ECH looks the same).
    #[must_use]
    pub fn ech(&self) -> bool {
        self.ech
    }
}

/// What the version field of a hello offers when no extension says more: above TLS 1.2
/// it is a version to negotiate down from (RFC 8446, D.1).
///
/// # Errors
///
/// Below SSL 3.0.
pub fn legacy(version: u16) -> Result<TlsVersion, Fault> {
    match version {
        ..0x0300 => Err(Fault::Malformed("version")),
        0x0300 => Ok(TlsVersion::Ssl3),
        0x0301 => Ok(TlsVersion::Tls10),
        0x0302 => Ok(TlsVersion::Tls11),
        0x0303.. => Ok(TlsVersion::Tls12),
    }
}

/// The highest version of `supported_versions` that is known. GREASE (RFC 8701) and
/// drafts are not.
fn highest(mut data: Reader<'_>) -> Result<Option<TlsVersion>, Fault> {
    let bad = Fault::Malformed("supported_versions");
    let length = usize::from(data.u8().ok_or(bad)?);
    if length != data.left() || length < 2 || length % 2 != 0 {
        return Err(bad);
    }
    let mut best = None;
    while let Some(version) = data.u16() {
        let known = match version {
            0x0304 => Some(TlsVersion::Tls13),
            0x0300..=0x0303 => Some(legacy(version)?),
            _ => None,
        };
        best = best.max(known);
    }
    Ok(best)
}

/// The one host name of `server_name`; `None` if there is an address or only
/// names of unknown kinds.
fn server_name(mut data: Reader<'_>) -> Result<Option<Name>, Fault> {
    let bad = Fault::Malformed("server_name");
    let length = usize::from(data.u16().ok_or(bad)?);
    if length != data.left() || length == 0 {
        return Err(bad);
    }
    let mut found = None;
    while !data.is_at_end() {
        let kind = data.u8().ok_or(bad)?;
        let length = data.u16().ok_or(bad)?;
        let mut entry = data.take(length.into()).ok_or(bad)?;
        if kind != 0 {
            continue;
        }
        if found.is_some() {
            return Err(Fault::Malformed("two host names"));
        }
        let mut sent = [0; Name::MAX];
        let sent = sent.get_mut(..length.into()).ok_or(bad)?;
        entry.copy_to(sent).ok_or(bad)?;
        found = Some(Name::parse(sent).ok_or(Fault::Malformed("host name"))?);
    }
    Ok(found.filter(|name| !is_address(name.as_str())))
}

fn is_address(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(text).parse::<IpAddr>().is_ok()
}

/// Where the names of an ALPN list are, all of them checked.
fn protocols(mut data: Reader<'_>) -> Result<(usize, usize), Fault> {
    let bad = Fault::Malformed("ALPN");
    let length = usize::from(data.u16().ok_or(bad)?);
    if length != data.left() || length == 0 {
        return Err(bad);
    }
    let list = (data.at(), length);
    let mut names = 0;
    while !data.is_at_end() {
        let name = data.u8().ok_or(bad)?;
        if name == 0 {
            return Err(bad);
        }
        data.skip(name.into()).ok_or(bad)?;
        names += 1;
        if names > MAX_PROTOCOLS {
            return Err(Fault::TooLarge);
        }
    }
    Ok(list)
}

/// The name of an application protocol: 1 to 255 octets of any kind. Copied, because
/// records may cut it.
#[derive(Clone, Copy)]
pub struct AlpnName {
    octets: [u8; 255],
    len: u8,
}

impl AlpnName {
    fn read(list: &mut Reader<'_>) -> Option<AlpnName> {
        let len = list.u8()?;
        let mut octets = [0; 255];
        list.copy_to(octets.get_mut(..len.into())?)?;
        Some(AlpnName { octets, len })
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..self.len.into()).unwrap_or_default()
    }
}

impl fmt::Debug for AlpnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
