//! Deadlines of instances, soonest first.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ids::{InstanceId, ServiceId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// `max_runtime` is over, or the grace of a drain: ask it to stop.
    Stop(InstanceId),
    /// The grace after the stop signal is over: end its whole tree.
    Kill(InstanceId),
    /// The same for what a server that is gone left behind.
    KillLeftover(i32),
    /// A service that is frozen, or about to be, has to be looked at.
    Frozen(ServiceId),
    /// Cgroups that could not be taken away may be empty by now.
    Sweep,
    /// The front should have taken the new table.
    PlanTaken,
    /// The front should have heard that usherd ends.
    DrainTaken,
    /// A draining front has had its time.
    EndFront,
}

/// What is no longer true when a deadline comes up is found out then; only a
/// great many of such deadlines are taken back ([`Timers::tidy`]).
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, Due)>>);

impl Timers {
    pub fn set(&mut self, at: Instant, due: Due) {
        self.0.push(Reverse((at, due)));
    }

    /// Drops what is not `wanted` any more, once at least half of it may be of
    /// that kind: `living` is how many entries are certainly wanted.
    pub fn tidy(&mut self, living: usize, wanted: impl Fn(Due) -> bool) {
        /// Below this it is not worth the walk.
        const FEW: usize = 1024;
        if self.0.len() > FEW + 2 * living {
            self.0.retain(|Reverse((_, due))| wanted(*due));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Instant, Due)> {
        self.0.iter().map(|Reverse(entry)| *entry)
    }

    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next thing that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, due))| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_of_instances_that_are_gone_do_not_pile_up() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        for n in 0..100_000 {
            timers.set(start + Duration::from_secs(n), Due::Stop(InstanceId(n)));
            timers.tidy(1, |due| due == Due::Stop(InstanceId(n)));
        }
        assert!(timers.0.len() <= 1026, "{}", timers.0.len());
        timers.tidy(0, |_| false);
    }
}
