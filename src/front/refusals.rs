//! Refusals in the log, however many there are: the first of each source is
//! told at once, the rest is summed up in one line per service and reason.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::front::admit::Reason;
use crate::ids::{ListenerId, ServiceId};

/// How long refusals are gathered before they are summed up.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most sources told one by one in a window, all services together.
const MAX_TOLD: usize = 512;

/// Who refuses: a service, or a listener whose connections found none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    Service(ServiceId),
    Listener(ListenerId),
}

impl Whose {
    #[must_use]
    pub fn service(self) -> Option<ServiceId> {
        match self {
            Whose::Service(id) => Some(id),
            Whose::Listener(_) => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Refusals {
    /// Repeats of those told in this window.
    told: HashMap<(Whose, Reason, Option<IpAddr>), u64>,
    /// Those that found no place in `told`.
    others: BTreeMap<(Whose, Reason), u64>,
    ends: Option<Instant>,
}

/// Refusals that were not told one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    pub whose: Whose,
    pub reason: Reason,
    pub count: u64,
}

/// What to do about one refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// It is the first of its kind: tell it now.
    pub tell: bool,
    /// A window began: sum up at this moment.
    pub sum_at: Option<Instant>,
}

impl Refusals {
    pub fn note(
        &mut self,
        whose: Whose,
        reason: Reason,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Noted {
        let sum_at = self.ends.is_none().then(|| now + WINDOW);
        self.ends = self.ends.or(sum_at);
        let key = (whose, reason, source);
        let tell = if let Some(repeats) = self.told.get_mut(&key) {
            *repeats += 1;
            false
        } else if self.told.len() < MAX_TOLD {
            self.told.insert(key, 0);
            true
        } else {
            *self.others.entry((whose, reason)).or_default() += 1;
            false
        };
        Noted { tell, sum_at }
    }

    /// Ends the window: what was only counted, in the order of services.
    pub fn sum_up(&mut self) -> Vec<Sum> {
        self.ends = None;
        let mut sums = std::mem::take(&mut self.others);
        for ((whose, reason, _), repeats) in std::mem::take(&mut self.told) {
            *sums.entry((whose, reason)).or_default() += repeats;
        }
        sums.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|((whose, reason), count)| Sum {
                whose,
                reason,
                count,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Whose = Whose::Service(ServiceId(1));
    const REASON: Reason = Reason::AddressDenied;

    fn source(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(n.into()))
    }

    #[test]
    fn the_first_of_each_source_is_told_and_the_rest_is_summed_up() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let first = refusals.note(SERVICE, REASON, source(1), now);
        assert!(first.tell);
        assert_eq!(first.sum_at, Some(now + WINDOW));
        for _ in 0..9 {
            let again = refusals.note(SERVICE, REASON, source(1), now);
            assert_eq!((again.tell, again.sum_at), (false, None));
        }
        assert!(refusals.note(SERVICE, REASON, source(2), now).tell);
        assert!(
            refusals
                .note(SERVICE, Reason::OutOfHours, source(1), now)
                .tell
        );
        let sum = Sum {
            whose: SERVICE,
            reason: REASON,
            count: 9,
        };
        assert_eq!(refusals.sum_up(), [sum]);
        assert!(refusals.note(SERVICE, REASON, source(1), now).tell);
    }

    #[test]
    fn a_flood_of_sources_is_counted_not_told() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..100_000)
            .filter(|n| refusals.note(SERVICE, REASON, source(*n), now).tell)
            .count();
        assert_eq!(told, MAX_TOLD);
        let sums = refusals.sum_up();
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[0].count, 100_000 - MAX_TOLD as u64);
    }
}
