//! The form between rules and programs: simple tests, all or any of which
//! must hold. What a test would read beyond the end of a payload does not hold.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::table::access::Prefix;

/// A tree of tests. `All` of nothing holds, `Any` of nothing does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tests {
    One(Test),
    All(Vec<Tests>),
    Any(Vec<Tests>),
}

/// Something that a few instructions decide. Offsets count from the first
/// octet behind the UDP header; numbers are in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Octets of payload, both ends included.
    Length(u32, u32),
    /// The payload's length is a multiple of this, which is not 0.
    MultipleOf(u32),
    /// The number at an offset, under a mask, lies between two others (included).
    Number {
        at: u32,
        width: Width,
        mask: u32,
        low: u32,
        high: u32,
    },
    /// The payload has as many octets as the two at an offset say, and `plus`,
    /// and at most `slack` more.
    Announced {
        at: u32,
        plus: u32,
        slack: u32,
    },
    /// It came over IPv4 (or was mapped to it), or not.
    Ipv4(bool),
    /// Where it came from, and where to.
    From(Prefix),
    To(Prefix),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    One,
    Two,
    Four,
}

impl Width {
    #[must_use]
    pub fn octets(self) -> u32 {
        match self {
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
        }
    }
}

impl Tests {
    /// Whether a datagram between these addresses passes: the reference for
    /// what the kernel's program does.
    #[must_use]
    pub fn holds(&self, from: IpAddr, to: IpAddr, payload: &[u8]) -> bool {
        match self {
            Tests::One(test) => test.holds(from.to_canonical(), to.to_canonical(), payload),
            Tests::All(all) => all.iter().all(|tests| tests.holds(from, to, payload)),
            Tests::Any(any) => any.iter().any(|tests| tests.holds(from, to, payload)),
        }
    }

    /// The fewest octets of payload with which it could hold.
    pub(super) fn floor(&self) -> u32 {
        match self {
            Tests::One(test) => test.floor(),
            Tests::All(all) => all.iter().map(Tests::floor).max().unwrap_or(0),
            Tests::Any(any) => any.iter().map(Tests::floor).min().unwrap_or(0),
        }
    }
}

impl Test {
    fn holds(self, from: IpAddr, to: IpAddr, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        match self {
            Test::Length(low, high) => (low..=high).contains(&length),
            Test::MultipleOf(number) => length.is_multiple_of(number),
            Test::Number {
                at,
                width,
                mask,
                low,
                high,
            } => number(payload, at, width).is_some_and(|n| (low..=high).contains(&(n & mask))),
            Test::Announced { at, plus, slack } => number(payload, at, Width::Two)
                .and_then(|field| length.checked_sub(field.checked_add(plus)?))
                .is_some_and(|more| more <= slack),
            Test::Ipv4(wanted) => from.is_ipv4() == wanted,
            Test::From(prefix) => prefix.contains(from),
            Test::To(prefix) => prefix.contains(to),
        }
    }

    fn floor(self) -> u32 {
        match self {
            Test::Length(low, _) => low,
            Test::Number { at, width, .. } => at.saturating_add(width.octets()),
            Test::Announced { at, plus, .. } => at.saturating_add(2).max(plus),
            Test::MultipleOf(_) | Test::Ipv4(_) | Test::From(_) | Test::To(_) => 0,
        }
    }
}

/// The number at an offset of `payload`, if it has that many octets.
fn number(payload: &[u8], at: u32, width: Width) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let end = at.checked_add(usize::try_from(width.octets()).ok()?)?;
    let octets = payload.get(at..end)?;
    Some(octets.iter().fold(0, |n, octet| n << 8 | u32::from(*octet)))
}

/// One of `prefixes` holds the address that `test` asks about. The family is
/// tested once for all of one family.
pub(super) fn lies_in(prefixes: &[Prefix], test: fn(Prefix) -> Test) -> Tests {
    let family = |wanted: bool| {
        let of_it = prefixes.iter().filter(|p| p.addr.is_ipv4() == wanted);
        let any: Vec<_> = of_it.map(|prefix| Tests::One(test(*prefix))).collect();
        (!any.is_empty()).then(|| Tests::All(vec![Tests::One(Test::Ipv4(wanted)), Tests::Any(any)]))
    };
    Tests::Any([true, false].into_iter().filter_map(family).collect())
}
