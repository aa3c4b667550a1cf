//! Moments at which something must be looked at, soonest first.
//!
//! Nothing is ever taken out early: whoever is woken looks at its own state
//! and may find that it is not time yet. So that a busy connection does not
//! fill the heap, its owner notes in an [`Alarm`] what is already booked.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ids::ServiceId;

/// What a deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Tell the helper that the front is alive, and tidy up.
    Alive,
    /// Accept again after the descriptors ran out.
    Accept,
    /// Sum up repeated refusals.
    Refusals,
    /// A token is due, a rest is over, a load may have fallen.
    Service(ServiceId),
    /// A conversation in this slot.
    Talk(usize),
    /// A line in the stderr of its servers has no end yet, or lines were dropped.
    Pipe(ServiceId),
    /// The next connection whose service is not known.
    Pending,
    /// Callers of the status socket that say nothing.
    Callers,
    /// Who goes does not wait for slow clients of tcpmux any longer.
    Retire,
}

#[derive(Debug, Default)]
pub struct Deadlines(BinaryHeap<Reverse<(Instant, Timer)>>);

impl Deadlines {
    pub fn add(&mut self, at: Instant, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next timer that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}

/// The soonest deadline that an owner has booked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm(Option<Instant>);

impl Alarm {
    /// Books `at` unless an earlier deadline will come anyway.
    pub fn set(&mut self, at: Instant, timer: Timer, deadlines: &mut Deadlines) {
        if self.0.is_none_or(|booked| at < booked) {
            self.0 = Some(at);
            deadlines.add(at, timer);
        }
    }

    /// A deadline came: whether it is the one booked last.
    pub fn rings(&mut self, now: Instant) -> bool {
        let due = self.0.is_some_and(|booked| booked <= now);
        if due {
            self.0 = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_come_in_the_order_of_their_moments() {
        let now = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.add(now + Duration::from_secs(2), Timer::Talk(2));
        deadlines.add(now + Duration::from_secs(1), Timer::Talk(1));
        assert_eq!(deadlines.pop_due(now), None);
        let later = now + Duration::from_secs(2);
        assert_eq!(deadlines.pop_due(later), Some(Timer::Talk(1)));
        assert_eq!(deadlines.pop_due(later), Some(Timer::Talk(2)));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_later_deadline_is_not_booked_behind_an_earlier_one() {
        let now = Instant::now();
        let (mut deadlines, mut alarm) = (Deadlines::default(), Alarm::default());
        for seconds in [5, 6, 7, 3, 4] {
            let at = now + Duration::from_secs(seconds);
            alarm.set(at, Timer::Talk(0), &mut deadlines);
        }
        assert_eq!(deadlines.0.len(), 2);
        assert!(!alarm.rings(now + Duration::from_secs(2)));
        assert!(alarm.rings(now + Duration::from_secs(3)));
        assert!(!alarm.rings(now + Duration::from_secs(5)));
    }
}
