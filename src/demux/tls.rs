//! TLS: the ClientHello, over any number of segments and up to 32 records, and
//! the rules that ask about it. SSL 2.0 framing is recognised too.
//!
//! One [`view`] per arrival; every `tls` rule reads the same one.
#![forbid(unsafe_code)]

mod hello;
mod records;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;

pub use hello::{AlpnName, ClientHello};
pub use records::{MAX_MESSAGE, MAX_RECORDS};

use crate::demux::Verdict;
use crate::demux::rule::{Tls, TlsVersion};
use records::{Fault, Message};

/// What the bytes of a request say as TLS.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    is_tls: Verdict,
    hello: Hello<'a>,
}

/// How far the hello has come.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack for one turn; boxing would allocate before a match"
)]
pub enum Hello<'a> {
    NotTls,
    /// Undecided with fewer octets than this.
    Need(usize),
    /// Breaks a rule of its own protocol; which one.
    Malformed(&'static str),
    /// Longer, or in more pieces, than is looked at.
    TooLarge,
    Complete(ClientHello<'a>),
}

/// Walks over `bytes` once, without copying or allocating.
#[must_use]
pub fn view(bytes: &[u8]) -> View<'_> {
    if bytes.first().is_some_and(|&first| first & 0x80 != 0) {
        return old_framing(bytes);
    }
    let is_tls = records::is_hello(bytes);
    let hello = match is_tls {
        Verdict::No => Hello::NotTls,
        Verdict::Need(k) => Hello::Need(k),
        Verdict::Yes => match Message::gather(bytes).and_then(ClientHello::parse) {
            Ok(hello) => Hello::Complete(hello),
            Err(fault) => fault.into(),
        },
    };
    View { is_tls, hello }
}

impl From<Fault> for Hello<'_> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Need(k) => Hello::Need(k),
            Fault::Malformed(reason) => Hello::Malformed(reason),
            Fault::TooLarge => Hello::TooLarge,
        }
    }
}

/// A hello in SSL 2.0 framing (RFC 5246, E.2): 15 bits of length, type 1, version, and
/// the lengths of ciphers, session id and challenge.
fn old_framing(bytes: &[u8]) -> View<'_> {
    let octet = |at: usize| bytes.get(at).copied().ok_or(Fault::Need(at + 1));
    let is_old = || -> Result<(usize, TlsVersion), Fault> {
        let no = Fault::Malformed("not TLS");
        let length = usize::from(octet(0)? & 0x7f) << 8 | usize::from(octet(1)?);
        // One cipher and the shortest challenge.
        if length < 9 + 3 + 16 || octet(2)? != 1 {
            return Err(no);
        }
        let major = octet(3)?;
        if major != 0 && major != 3 {
            return Err(no);
        }
        match (major, octet(4)?) {
            (0, 2) => Ok((length, TlsVersion::Ssl2)),
            (3, minor @ 0..=4) => Ok((length, hello::legacy(0x0300 | u16::from(minor))?)),
            _ => Err(no),
        }
    };
    let (length, version) = match is_old() {
        Ok(found) => found,
        Err(Fault::Need(k)) => {
            return View {
                is_tls: Verdict::Need(k),
                hello: Hello::Need(k),
            };
        }
        Err(Fault::Malformed(_) | Fault::TooLarge) => {
            return View {
                is_tls: Verdict::No,
                hello: Hello::NotTls,
            };
        }
    };
    let lengths_add_up = || -> Result<TlsVersion, Fault> {
        let field = |at: usize| Ok(usize::from(octet(at)?) << 8 | usize::from(octet(at + 1)?));
        // All or nothing: the last of the six octets decides.
        octet(10).map_err(|_| Fault::Need(11))?;
        let (ciphers, session, challenge) = (field(5)?, field(7)?, field(9)?);
        let fits = ciphers > 0
            && ciphers % 3 == 0
            && (session == 0 || session == 16)
            && (16..=32).contains(&challenge)
            && 9 + ciphers + session + challenge == length;
        if fits {
            Ok(version)
        } else {
            Err(Fault::Malformed("lengths do not add up"))
        }
    };
    let hello = match lengths_add_up() {
        Ok(version) => Hello::Complete(ClientHello::of_version(version)),
        Err(fault) => fault.into(),
    };
    View {
        is_tls: Verdict::Yes,
        hello,
    }
}

impl<'a> View<'a> {
    /// Whether this is a ClientHello at all: said at the sixth octet (at the fifth in
    /// SSL 2.0 framing), whatever follows.
    #[must_use]
    pub fn is_tls(&self) -> Verdict {
        self.is_tls
    }

    #[must_use]
    pub fn hello(&self) -> &Hello<'a> {
        &self.hello
    }
}

/// Whether `rule` holds, and for a yes how much the name pattern pins down
/// (its weight in the upper half; 0 where no name was asked for).
#[must_use]
pub fn judge(rule: &Tls, view: &View<'_>) -> (Verdict, u32) {
    let asks_for_facts = !rule.sni.is_empty()
        || !rule.alpn.is_empty()
        || !rule.version.is_empty()
        || rule.ech.is_some();
    if !asks_for_facts && rule.malformed.is_none() {
        return (view.is_tls, 0);
    }
    match &view.hello {
        Hello::NotTls | Hello::TooLarge => (Verdict::No, 0),
        Hello::Need(k) => (Verdict::Need(*k), 0),
        Hello::Malformed(_) => (
            Verdict::from(rule.malformed == Some(true) && !asks_for_facts),
            0,
        ),
        Hello::Complete(hello) => judge_hello(rule, hello),
    }
}

fn judge_hello(rule: &Tls, hello: &ClientHello<'_>) -> (Verdict, u32) {
    let fits = rule.malformed != Some(true)
        && rule.ech.is_none_or(|ech| ech == hello.ech())
        && (rule.version.is_empty() || rule.version.contains(&hello.version()))
        && (rule.alpn.is_empty()
            || hello.alpn().any(|offered| {
                rule.alpn
                    .iter()
                    .any(|wanted| wanted.as_bytes() == offered.as_bytes())
            }));
    if !fits {
        return (Verdict::No, 0);
    }
    if rule.sni.is_empty() {
        return (Verdict::Yes, 0);
    }
    let weight = hello.sni().and_then(|name| {
        rule.sni
            .iter()
            .filter_map(|pattern| pattern.matches(name.as_bytes()))
            .max()
    });
    match weight {
        Some(weight) => (Verdict::Yes, u32::from(weight) << 16),
        None => (Verdict::No, 0),
    }
}
