//! The walk through the entries of a plan.
#![forbid(unsafe_code)]

use super::{Address, Ending, Entry, Facts, Found, Step};
use crate::demux::Verdict;
use crate::demux::look::Look;

/// What the bytes decide is decided, whether or not their end is known by now:
/// how the wait ended counts only where it had to go on. Else it would be up to
/// the network whether bytes and their end are seen at once.
pub(super) fn walk_twice<'p, I: Iterator<Item = (usize, &'p Entry)>>(
    entries: impl Fn() -> I,
    facts: &Facts<'_>,
    look: &Look<'_>,
    ended: Option<Ending>,
    seen: &mut dyn FnMut(usize, Found),
) -> Step {
    let goes_on = || {
        let open = walk(entries(), facts, look, None, &mut |_, _| {});
        matches!(open, Step::Need(_))
    };
    let ended = ended.filter(|_| left_silent(look, ended) || goes_on());
    walk(entries(), facts, look, ended, seen)
}

/// A peer that leaves without a word wants nothing: no server is started for a port scan.
fn left_silent(look: &Look<'_>, ended: Option<Ending>) -> bool {
    look.bytes().is_empty() && ended == Some(Ending::Eof)
}

/// `entries` with their places in the whole list.
fn walk<'p>(
    entries: impl Iterator<Item = (usize, &'p Entry)>,
    facts: &Facts<'_>,
    look: &Look<'_>,
    ended: Option<Ending>,
    seen: &mut dyn FnMut(usize, Found),
) -> Step {
    let left_silent = left_silent(look, ended);
    let mut best: Option<(&Entry, u32)> = None;
    // When those that are for the end of the wait are worth another look.
    let mut later: Option<usize> = None;
    for (at, entry) in entries {
        if let Some((chosen, weight)) = best {
            if chosen.rank != entry.rank {
                break;
            }
            if entry.heaviest <= weight {
                continue;
            }
        }
        if !holds(&entry.address, facts) {
            seen(at, Found::Elsewhere);
            continue;
        }
        if left_silent || !entry.when.is_now(look.bytes(), ended) {
            seen(at, Found::NotNow);
            if ended.is_none() && look.bytes().is_empty() && entry.when.may_be_silence() {
                return Step::Need(1); // who speaks is for others
            }
            if ended.is_none() {
                later = later.into_iter().chain(entry.later(look)).min();
            }
            continue;
        }
        let (mut verdict, weight) = entry.judge(look);
        if ended.is_some() {
            verdict = verdict.at_the_end();
        }
        seen(at, Found::Content(verdict));
        match verdict {
            Verdict::No => {}
            Verdict::Need(k) => return Step::Need(k),
            Verdict::Yes if weight == 0 && best.is_none() => return Step::Route(entry.route),
            Verdict::Yes if best.is_none_or(|(_, most)| weight > most) => {
                best = Some((entry, weight));
            }
            Verdict::Yes => {}
        }
    }
    match (best, later) {
        (Some((entry, _)), _) => Step::Route(entry.route),
        (None, Some(k)) => Step::Need(k),
        (None, None) => Step::Refuse,
    }
}

/// Whether a request with these facts is what the rule means by its addresses.
pub(super) fn holds(address: &Address, facts: &Facts<'_>) -> bool {
    fn any<T>(list: &[T], test: impl Fn(&T) -> bool) -> bool {
        list.is_empty() || list.iter().any(test)
    }
    let (ip, port) = (facts.peer.map(|peer| peer.0), facts.peer.map(|peer| peer.1));
    let (uid, gid) = facts.credentials.unzip();
    any(&address.from, |prefix| {
        ip.is_some_and(|ip| prefix.contains(ip))
    }) && any(&address.to, |prefix| {
        facts.local.is_some_and(|ip| prefix.contains(ip))
    }) && any(&address.interface, |name| {
        facts.interface == Some(name.as_str())
    }) && any(&address.source_port, |(first, last)| {
        port.is_some_and(|port| (*first..=*last).contains(&port))
    }) && any(&address.uid, |wanted| uid == Some(*wanted))
        && any(&address.gid, |wanted| gid == Some(*wanted))
}
