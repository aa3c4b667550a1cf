//! Rules as sets of requests: whether one holds whenever another does, and
//! whether both may hold.
#![forbid(unsafe_code)]

use super::Medium;
use super::kinds::{Meeting, is_part, meet};
use crate::demux::{Address, Rule};
use crate::table::access::Prefix;

/// Whether `wide` holds for every request that `narrow` holds for, and not later.
pub fn covers(wide: &Rule, narrow: &Rule, medium: Medium) -> bool {
    let ends = &wide.endings;
    let not_later = ends.is_empty()
        || !narrow.endings.is_empty() && narrow.endings.iter().all(|e| ends.contains(e));
    not_later
        && covers_address(&wide.address, &narrow.address)
        && wide.content.iter().all(|asked| {
            narrow
                .content
                .iter()
                .any(|given| is_part(given, asked, medium))
        })
}

fn covers_address(wide: &Address, narrow: &Address) -> bool {
    let holds =
        |prefix: &Prefix, other: &Prefix| prefix.bits <= other.bits && prefix.contains(other.addr);
    let range = |wide: &(u16, u16), narrow: &(u16, u16)| wide.0 <= narrow.0 && narrow.1 <= wide.1;
    all_in(&wide.from, &narrow.from, holds)
        && all_in(&wide.to, &narrow.to, holds)
        && all_in(&wide.interface, &narrow.interface, PartialEq::eq)
        && all_in(&wide.source_port, &narrow.source_port, range)
        && all_in(&wide.uid, &narrow.uid, PartialEq::eq)
        && all_in(&wide.gid, &narrow.gid, PartialEq::eq)
}

/// Whether alternatives lie within others; none at all means that everything does.
pub fn all_in<T>(wide: &[T], narrow: &[T], holds: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|n| wide.iter().any(|w| holds(w, n)))
}

/// Whether two lists of alternatives have something in common.
pub fn any_meets<T>(a: &[T], b: &[T], meets: impl Fn(&T, &T) -> bool) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| meets(a, b)))
}

/// Whether one request may be for both.
pub fn may_meet(a: &Rule, b: &Rule, medium: Medium) -> Meeting {
    // One of them is asked before the wait is over, the other after it.
    let at_once = a.endings.is_empty() == b.endings.is_empty()
        && any_meets(&a.endings, &b.endings, PartialEq::eq);
    if !at_once || !addresses_meet(&a.address, &b.address) {
        return Meeting::Never;
    }
    let pairs = a
        .content
        .iter()
        .flat_map(|a| b.content.iter().map(move |b| meet(a, b, medium)));
    pairs.max().unwrap_or(Meeting::Possible)
}

pub fn addresses_meet(a: &Address, b: &Address) -> bool {
    let prefixes = |a: &Prefix, b: &Prefix| a.contains(b.addr) || b.contains(a.addr);
    let ranges = |a: &(u16, u16), b: &(u16, u16)| a.0 <= b.1 && b.0 <= a.1;
    any_meets(&a.from, &b.from, prefixes)
        && any_meets(&a.to, &b.to, prefixes)
        && any_meets(&a.interface, &b.interface, PartialEq::eq)
        && any_meets(&a.source_port, &b.source_port, ranges)
        && any_meets(&a.uid, &b.uid, PartialEq::eq)
        && any_meets(&a.gid, &b.gid, PartialEq::eq)
}

pub fn is_anywhere(address: &Address) -> bool {
    *address == Address::default()
}
