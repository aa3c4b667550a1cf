//! The forms of addresses in `only_from` and `no_access`.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::table::access::{Prefix, mask};

/// One address of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Prefix(Prefix),
    /// `2001:db8::1/128`: xinetd takes a full IPv6 mask for a host name without one.
    NeverMatched(Prefix),
    /// A host, `.domain` or network: xinetd compares it with the name that the
    /// DNS gives for the peer's address, or looks it up in networks(5).
    Name(String),
}

/// Every address that a word stands for, or why xinetd disables a service with it.
pub(super) fn peers(word: &str) -> Result<Vec<Peer>, String> {
    if word.contains('{') {
        return factorised(word).ok_or_else(|| format!("\"{word}\" is no factorised address"));
    }
    if word.contains(',') {
        return Err(format!(
            "\"{word}\" has a comma in it; addresses are separated by blanks"
        ));
    }
    Ok(vec![single(word)])
}

fn single(word: &str) -> Peer {
    let masked = word.split_once('/');
    if let Some((addr, bits)) = masked
        && let Some((addr, bits)) = literal(addr).zip(bits.parse::<u32>().ok())
    {
        return with_mask(addr, bits);
    }
    match literal(word) {
        Some(IpAddr::V4(addr)) => Peer::Prefix(wildcard(addr)),
        Some(addr @ IpAddr::V6(_)) => Peer::Prefix(prefix(addr, 128)),
        None => Peer::Name(word.to_owned()),
    }
}

/// More bits than there are count as all of them.
fn with_mask(addr: IpAddr, bits: u32) -> Peer {
    let all = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = prefix(addr, u8::try_from(bits).unwrap_or(all).min(all));
    if addr.is_ipv6() && bits >= 128 {
        Peer::NeverMatched(prefix)
    } else {
        Peer::Prefix(prefix)
    }
}

/// Octets of zero at the end stand for anything.
fn wildcard(addr: Ipv4Addr) -> Prefix {
    let zeros = addr.octets().iter().rev().take_while(|o| **o == 0).count();
    let bits = u8::try_from(32 - 8 * zeros).unwrap_or(32);
    prefix(addr.into(), bits)
}

/// Peers that come in over IPv6 sockets with an IPv4 address count as IPv4.
fn prefix(addr: IpAddr, bits: u8) -> Prefix {
    let (addr, bits) = match (addr, addr.to_canonical()) {
        (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if bits >= 96 => (canonical, bits - 96),
        _ => (addr, bits),
    };
    Prefix {
        addr: mask(addr, bits).unwrap_or(addr),
        bits,
    }
}

fn literal(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    short_ipv4(text).map(IpAddr::V4)
}

/// inet_aton(3): fewer than four parts, of which the last one has what is
/// missing, in decimal, octal or hexadecimal.
pub(super) fn short_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, front) = parts.split_last()?;
    if front.len() > 3 || front.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 8 * (4 - u32::try_from(front.len()).ok()?);
    if room < 32 && *last >> room != 0 {
        return None;
    }
    let front = front
        .iter()
        .zip([24, 16, 8])
        .fold(0, |addr, (part, shift)| addr | part << shift);
    Some(Ipv4Addr::from(front | last))
}

fn number(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hex, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (text, 10),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// `128.138.{200,201}`: the braces are the last part, and each octet in them
/// stands for a network as long as what is written.
fn factorised(word: &str) -> Option<Vec<Peer>> {
    let (front, list) = word.split_once('{')?;
    let list = list.strip_suffix('}')?;
    let front: Vec<u8> = match front.strip_suffix('.') {
        Some(front) => front
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?,
        None if front.is_empty() => Vec::new(),
        None => return None,
    };
    if front.len() > 3 {
        return None;
    }
    list.split(',')
        .map(|last| {
            let mut octets = [0; 4];
            octets[..front.len()].copy_from_slice(&front);
            octets[front.len()] = last.parse().ok()?;
            let bits = u8::try_from(8 * (front.len() + 1)).ok()?;
            Some(Peer::Prefix(prefix(Ipv4Addr::from(octets).into(), bits)))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn shown(word: &str) -> String {
        let all = peers(word).unwrap();
        let texts = all.iter().map(|peer| match peer {
            Peer::Prefix(prefix) => prefix.to_string(),
            Peer::NeverMatched(prefix) => format!("never {prefix}"),
            Peer::Name(name) => format!("name {name}"),
        });
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form_is_read_as_xinetd_reads_it() {
        for (word, meant) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("128.138.12.0", "128.138.12.0/24"),
            ("10.0.0.0", "10.0.0.0/8"),
            ("0.0.0.0", "0.0.0.0/0"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("10.1", "10.0.0.1/32"),
            ("0x7f.1", "127.0.0.1/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("192.0.2.7/77", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1/128", "never ::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("128.138.{200,201}", "128.138.200.0/24 128.138.201.0/24"),
            ("192.0.2.{1,2}", "192.0.2.1/32 192.0.2.2/32"),
            ("localhost", "name localhost"),
            (".example.org", "name .example.org"),
            ("#comment", "name #comment"),
            ("192.0.2.256", "name 192.0.2.256"),
            ("192.0.2.0/x", "name 192.0.2.0/x"),
        ] {
            let plain = |text: &str| text.split(' ').map(full).collect::<Vec<_>>().join(" ");
            assert_eq!(plain(&shown(word)), plain(meant), "{word}");
        }
    }

    /// A whole address is shown without its length.
    fn full(text: &str) -> String {
        text.trim_end_matches("/32")
            .trim_end_matches("/128")
            .to_owned()
    }

    #[test]
    fn what_disables_a_service_is_an_error() {
        for word in [
            "1.2.3.4,5.6.7.8",
            "1.2.{3",
            "1.2.{3,}",
            "1.2.{3,x}",
            "1.{2}.3",
            "1..{2}",
        ] {
            assert!(peers(word).is_err(), "{word}");
        }
    }
}
