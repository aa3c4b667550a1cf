//! Host names and the patterns for them.
#![forbid(unsafe_code)]

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Octets of a whole name and of one label (RFC 1035, 2.3.4; the root's label and
/// the first length octet are not written).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A name in a rule, in lower case, without a trailing dot, as an A-label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pattern {
    /// `shop.example`
    Exact(String),
    /// `*.shop.example`: one label more. Holds what follows the `*.`.
    Label(String),
    /// `**.shop.example`: one label more or several. Holds what follows the `**.`.
    Depth(String),
}

impl Pattern {
    /// How much `name` (in lower case, no trailing dot) is pinned down by this
    /// pattern, `None` if it does not match. Exact names say most, then longer
    /// suffixes; of two with the same suffix `*.` says more.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> Option<u16> {
        let fits = match self {
            Pattern::Exact(exact) => name == exact.as_bytes(),
            Pattern::Label(suffix) => {
                above(name, suffix).is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'.'))
            }
            Pattern::Depth(suffix) => above(name, suffix).is_some_and(|rest| !rest.is_empty()),
        };
        fits.then(|| self.weight())
    }

    /// What a match of this pattern weighs against others.
    #[must_use]
    pub fn weight(&self) -> u16 {
        let of = |suffix: &str, wider: u16| {
            u16::try_from(suffix.len())
                .unwrap_or(u16::MAX / 4)
                .min(u16::MAX / 4)
                * 2
                + wider
        };
        match self {
            Pattern::Exact(_) => u16::MAX,
            Pattern::Label(suffix) => of(suffix, 2),
            Pattern::Depth(suffix) => of(suffix, 1),
        }
    }
}

/// What stands before `.suffix`.
fn above<'n>(name: &'n [u8], suffix: &str) -> Option<&'n [u8]> {
    name.strip_suffix(suffix.as_bytes())?.strip_suffix(b".")
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(name) => f.write_str(name),
            Pattern::Label(suffix) => write!(f, "*.{suffix}"),
            Pattern::Depth(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

/// Reads a pattern of the table: a name, `*.NAME`, `**.NAME`, or an address
/// (`192.0.2.1`, `2001:db8::1`, with or without brackets), which is kept in its
/// canonical text. Case and one trailing dot do not matter.
///
/// # Errors
///
/// A text that says what is wrong, ready to follow the name of the key.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    if let Some(address) = address(text) {
        return Ok(Pattern::Exact(address.to_string()));
    }
    if text.contains(['[', ']', ':']) {
        return Err(format!(
            "\"{text}\" is neither a host name nor an address; a port does not belong here"
        ));
    }
    if let Some(suffix) = text.strip_prefix("**.") {
        return name(text, suffix).map(Pattern::Depth);
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return name(text, suffix).map(Pattern::Label);
    }
    name(text, text).map(Pattern::Exact)
}

/// `2001:db8::1`, `[2001:db8::1]` or `192.0.2.1`; brackets are for IPv6 only.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// The name part of the pattern `whole`, checked and folded (RFC 1123, 2.1;
/// underscores as they are used in service names).
fn name(whole: &str, part: &str) -> Result<String, String> {
    let part = part.strip_suffix('.').unwrap_or(part);
    let refuse = |why: &str| Err(format!("\"{whole}\" is no host name: {why}"));
    if part.is_empty() {
        return refuse("it is empty");
    }
    if !part.is_ascii() {
        return refuse("names are compared as sent, so write the A-label (xn--...)");
    }
    if part.contains('*') {
        return refuse(
            "\"*\" may only stand in front, as \"*.\" (one label) or \"**.\" (any depth)",
        );
    }
    if part.len() > MAX_NAME {
        return refuse("it is longer than 253 octets");
    }
    for label in part.split('.') {
        if label.is_empty() {
            return refuse("a label is empty");
        }
        if label.len() > MAX_LABEL {
            return refuse("a label is longer than 63 octets");
        }
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if let Some(bad) = label.bytes().find(|&b| !is_letter(b)) {
            return refuse(&format!("{:?} cannot be in a label", char::from(bad)));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a label begins or ends with \"-\"");
        }
    }
    let last = part.rsplit('.').next().unwrap_or(part);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return refuse("it ends in a number and is no address");
    }
    Ok(part.to_ascii_lowercase())
}

/// A name that a peer sent, in lower case and without its trailing dot.
///
/// Holds printable ASCII only, so it may go into logs and the environment. Kept in
/// place, because nothing is allocated before a request is decided.
#[derive(Clone, Copy)]
pub struct Name {
    octets: [u8; Name::MAX],
    len: u8,
}

impl Name {
    /// Octets, of the longest name a length octet can announce.
    pub const MAX: usize = 255;

    /// Folds a name as it was sent: 1 to 255 octets with at most one trailing dot.
    /// `None` for an empty label, `/`, and whatever is not visible ASCII: no
    /// name that a server would understand in the same way holds these.
    #[must_use]
    pub fn parse(sent: &[u8]) -> Option<Name> {
        if sent.len() > Name::MAX {
            return None;
        }
        let sent = sent.strip_suffix(b".").unwrap_or(sent);
        let mut name = Name::EMPTY;
        let mut previous = b'.';
        for &octet in sent {
            if !octet.is_ascii_graphic() || octet == b'/' || (octet == b'.' && previous == b'.') {
                return None;
            }
            name.push(octet)?;
            previous = octet;
        }
        (previous != b'.').then_some(name)
    }

    /// The canonical text of an address, without brackets.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Option<Name> {
        let mut name = Name::EMPTY;
        write!(name, "{address}").ok()?;
        Some(name)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    const EMPTY: Name = Name {
        octets: [0; Name::MAX],
        len: 0,
    };

    /// Appends one octet in lower case; `None` when there is no room.
    fn push(&mut self, octet: u8) -> Option<()> {
        *self.octets.get_mut(usize::from(self.len))? = octet.to_ascii_lowercase();
        self.len += 1;
        Some(())
    }
}

impl fmt::Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes()
            .try_for_each(|octet| self.push(octet))
            .ok_or(fmt::Error)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn weight(text: &str, name: &str) -> Option<u16> {
        pattern(text).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn patterns_are_folded_and_shown_as_written() {
        for (text, shown) in [
            ("Shop.Example.", "shop.example"),
            ("*.Shop.example", "*.shop.example"),
            ("**.example", "**.example"),
            ("_ldap._tcp.example", "_ldap._tcp.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            let read = pattern(text).unwrap();
            assert_eq!(read.to_string(), shown);
            assert_eq!(pattern(shown).unwrap(), read);
        }
    }

    #[test]
    fn bad_patterns_are_refused_with_a_reason() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "a.".repeat(124));
        for (text, reason) in [
            ("", "empty"),
            (".", "empty"),
            ("*.", "empty"),
            ("*", "in front"),
            ("**", "in front"),
            ("a.*.example", "in front"),
            ("w*.example", "in front"),
            ("*.*.example", "in front"),
            ("bücher.example", "xn--"),
            ("a..example", "a label is empty"),
            (".example", "a label is empty"),
            ("a example", "cannot be in a label"),
            ("a/b", "cannot be in a label"),
            ("-a.example", "begins or ends"),
            ("shop.example:443", "port"),
            ("[192.0.2.1]", "neither"),
            ("[fe80::1%eth0]", "neither"),
            ("192.0.2.256", "ends in a number"),
            ("*.0.2.1", "ends in a number"),
            (long_label.as_str(), "63"),
            (long_name.as_str(), "253"),
        ] {
            let told = pattern(text).unwrap_err();
            assert!(told.contains(reason), "{text}: {told}");
        }
    }

    #[test]
    fn one_label_and_any_depth_are_different_things() {
        assert_eq!(weight("shop.example", "shop.example"), Some(u16::MAX));
        assert_eq!(weight("shop.example", "a.shop.example"), None);
        assert!(weight("*.example", "shop.example").is_some());
        assert_eq!(weight("*.example", "a.shop.example"), None);
        assert_eq!(weight("*.example", "example"), None);
        assert_eq!(weight("*.example", "badexample"), None);
        assert!(weight("**.example", "a.shop.example").is_some());
        assert_eq!(weight("**.example", "example"), None);
        assert!(weight("*.example", "a.example") > weight("**.example", "a.example"));
        assert!(weight("**.shop.example", "a.shop.example") > weight("**.example", "a.example"));
    }

    #[test]
    fn names_are_folded_as_they_come() {
        let parsed = |sent: &[u8]| Name::parse(sent).map(|name| name.to_string());
        assert_eq!(parsed(b"Shop.EXAMPLE.").as_deref(), Some("shop.example"));
        assert_eq!(parsed(&[b'a'; 255]).map(|name| name.len()), Some(255));
        for bad in [
            &b""[..],
            b".",
            b"a..b",
            b".a",
            b"a..",
            b"a\0b",
            b"a b",
            b"a/b",
            b"a\x7f",
            "ü".as_bytes(),
            &[b'a'; 256],
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        let v6 = Name::of_address("2001:DB8::0:1".parse().unwrap()).unwrap();
        assert_eq!(v6.as_str(), "2001:db8::1");
    }
}
