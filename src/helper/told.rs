//! What a front says about a request beyond the connection itself.
//!
//! The helper uses it for the server's environment and for nothing else, but
//! for a proxied peer: that one is judged by the table like any other, and
//! believed only where the kernel says that a listed proxy connected.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::octets::{Bytes, put_ip};
use super::wire::ProtocolError;

/// Facts of the match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Which rule of the service's `match`.
    pub rule: Option<u16>,
    pub sni: Option<Text>,
    /// With commas between the names.
    pub alpn: Option<Text>,
    pub host: Option<Text>,
    pub proxy: Option<Proxied>,
}

/// What a PROXY header said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// 1 or 2.
    pub version: u8,
    /// Source and destination; `None`: the proxy speaks for itself.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    pub authority: Option<Text>,
    pub alpn: Option<Text>,
    /// In hexadecimal.
    pub unique_id: Option<Text>,
}

/// Printable ASCII of bounded length: fit for an environment and a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// In bytes. Longer ones are cut.
    pub const LONGEST: usize = 256;

    /// Bytes of a peer; whatever is not printable, and the backslash, becomes `\xNN`.
    #[must_use]
    pub fn escaped(bytes: &[u8]) -> Self {
        let mut text = Self(String::new());
        let fits = bytes.iter().all(|byte| text.push(*byte, b'\\'));
        debug_assert!(fits || text.0.len() > Self::LONGEST - 4);
        text
    }

    /// Names with commas between them; a comma within a name is escaped too.
    /// Half a name would be another name, so the first that does not fit ends it.
    #[must_use]
    pub fn list<N>(names: impl Iterator<Item = N>, bytes: impl Fn(&N) -> &[u8]) -> Self {
        let mut text = Self(String::new());
        for name in names {
            let whole = text.0.len();
            let separate = text.0.is_empty() || text.push(b',', b'\\');
            let mut bytes = bytes(&name).iter();
            if !separate || !bytes.all(|byte| text.push(*byte, b',')) {
                text.0.truncate(whole);
                break;
            }
        }
        text
    }

    /// Appends a byte, escaped where it must be; false if there is no room left.
    fn push(&mut self, byte: u8, special: u8) -> bool {
        let plain = (b' '..=b'~').contains(&byte) && byte != b'\\' && byte != special;
        if self.0.len() + if plain { 1 } else { 4 } > Self::LONGEST {
            return false;
        }
        if plain {
            self.0.push(char::from(byte));
        } else {
            let _ = write!(self.0, "\\x{byte:02x}");
        }
        true
    }

    #[must_use]
    pub fn hex(bytes: &[u8]) -> Self {
        let most = bytes.len().min(Self::LONGEST / 2);
        let digits = bytes[..most].iter().map(|byte| format!("{byte:02x}"));
        Self(digits.collect())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn put(text: Option<&Self>, out: &mut Vec<u8>) {
        let bytes = text.map_or(&[][..], |text| text.0.as_bytes());
        let length = u16::try_from(bytes.len()).unwrap_or(0);
        out.push(u8::from(text.is_some()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
    }

    fn take(bytes: &mut Bytes<'_>) -> Result<Option<Self>, ProtocolError> {
        let there = bytes.flag()?;
        let length = usize::from(bytes.u16()?);
        let text = bytes.slice(length)?;
        let fit = |byte: &u8| (b' '..=b'~').contains(byte);
        if length > Self::LONGEST || !text.iter().all(fit) || !there && length > 0 {
            return Err(ProtocolError::BadValue("text"));
        }
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(there.then_some(Self(text)))
    }
}

impl Told {
    /// Appends it to a packet, or that there is none.
    pub fn put(told: Option<&Self>, out: &mut Vec<u8>) {
        out.push(u8::from(told.is_some()));
        if let Some(told) = told {
            told.encode(out);
        }
    }

    /// The reverse.
    pub(super) fn take(bytes: &mut Bytes<'_>) -> Result<Option<Box<Self>>, ProtocolError> {
        Ok(match bytes.flag()? {
            true => Some(Box::new(Self::decode(bytes)?)),
            false => None,
        })
    }

    /// What [`Self::put`] has made of it, and nothing more.
    pub fn read(octets: &[u8]) -> Result<Option<Box<Self>>, ProtocolError> {
        let mut bytes = Bytes(octets);
        let told = Self::take(&mut bytes)?;
        match bytes.0.is_empty() {
            true => Ok(told),
            false => Err(ProtocolError::TrailingBytes),
        }
    }

    /// Only what cannot be found out again from the connection itself.
    #[must_use]
    pub fn once_only(self) -> Option<Box<Self>> {
        let proxy = Some(self.proxy?);
        Some(Box::new(Self {
            proxy,
            ..Self::default()
        }))
    }

    /// Appends it to a packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.rule.is_some()));
        out.extend_from_slice(&self.rule.unwrap_or(0).to_le_bytes());
        for text in [&self.sni, &self.alpn, &self.host] {
            Text::put(text.as_ref(), out);
        }
        let Some(proxy) = &self.proxy else {
            return out.push(0);
        };
        out.push(proxy.version);
        for end in [proxy.ends.map(|ends| ends.0), proxy.ends.map(|ends| ends.1)] {
            put_ip(out, end.map(|end| end.ip()));
            out.extend_from_slice(&end.map_or(0, |end| end.port()).to_le_bytes());
        }
        for text in [&proxy.authority, &proxy.alpn, &proxy.unique_id] {
            Text::put(text.as_ref(), out);
        }
    }

    pub(super) fn decode(bytes: &mut Bytes<'_>) -> Result<Self, ProtocolError> {
        let has_rule = bytes.flag()?;
        let rule = bytes.u16()?;
        let mut told = Self {
            rule: has_rule.then_some(rule),
            sni: Text::take(bytes)?,
            alpn: Text::take(bytes)?,
            host: Text::take(bytes)?,
            proxy: None,
        };
        told.proxy = match bytes.u8()? {
            0 => None,
            version @ (1 | 2) => Some(Proxied {
                version,
                ends: ends(bytes)?,
                authority: Text::take(bytes)?,
                alpn: Text::take(bytes)?,
                unique_id: Text::take(bytes)?,
            }),
            _ => return Err(ProtocolError::BadValue("version of a PROXY header")),
        };
        Ok(told)
    }
}

fn ends(bytes: &mut Bytes<'_>) -> Result<Option<(SocketAddr, SocketAddr)>, ProtocolError> {
    let mut end = || -> Result<Option<SocketAddr>, ProtocolError> {
        let (ip, port) = (bytes.ip()?, bytes.u16()?);
        Ok(ip.map(|ip: IpAddr| SocketAddr::new(ip.to_canonical(), port)))
    };
    let (from, to) = (end()?, end()?);
    match (from, to) {
        (Some(from), Some(to)) => Ok(Some((from, to))),
        (None, None) => Ok(None),
        _ => Err(ProtocolError::BadValue("half a pair of addresses")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<Text> {
        Some(Text::escaped(text.as_bytes()))
    }

    #[test]
    fn what_is_told_arrives_as_it_was() {
        let proxy = Proxied {
            version: 2,
            ends: Some((
                "192.0.2.1:5".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            )),
            authority: text("a.example"),
            alpn: None,
            unique_id: Some(Text::hex(&[1, 0xab])),
        };
        let told = Told {
            rule: Some(3),
            sni: text("shop.example"),
            alpn: text("h2,http/1.1"),
            host: None,
            proxy: Some(proxy),
        };
        for told in [told, Told::default()] {
            let mut packet = Vec::new();
            told.encode(&mut packet);
            let mut bytes = Bytes(&packet);
            assert_eq!(Told::decode(&mut bytes).unwrap(), told);
            assert!(bytes.0.is_empty());
            for cut in 0..packet.len() {
                assert!(Told::decode(&mut Bytes(&packet[..cut])).is_err());
            }
        }
    }

    #[test]
    fn a_front_that_lies_about_its_texts_is_found_out() {
        let mut packet = Vec::new();
        let told = Told {
            sni: text("abc"),
            ..Told::default()
        };
        told.encode(&mut packet);
        let at = packet.iter().position(|byte| *byte == b'b').unwrap();
        packet[at] = b'\n';
        let bad = Told::decode(&mut Bytes(&packet)).unwrap_err();
        assert_eq!(bad, ProtocolError::BadValue("text"));
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        assert_eq!(Text::escaped(b"a\0\xff\\b").as_str(), "a\\x00\\xff\\x5cb");
        let names = [&b"h2"[..], b"a,b"];
        assert_eq!(Text::list(names.iter(), |name| name).as_str(), "h2,a\\x2cb");
        let names = [&b"h2"[..], &[b'a'; 300], b"x"];
        assert_eq!(Text::list(names.iter(), |name| name).as_str(), "h2");
        assert_eq!(Text::escaped(&[b'a'; 1000]).as_str().len(), Text::LONGEST);
        assert!(Text::escaped(&[0; 1000]).as_str().len() <= Text::LONGEST);
        assert_eq!(Text::hex(&[0; 1000]).as_str().len(), Text::LONGEST);
    }
}
