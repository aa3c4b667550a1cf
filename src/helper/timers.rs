//! Deadlines of instances, soonest first.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ids::InstanceId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// `max_runtime` is over, or the grace of a drain: ask it to stop.
    Stop(InstanceId),
    /// The grace after the stop signal is over: end its whole tree.
    Kill(InstanceId),
    /// The same for what a server that is gone left behind.
    KillLeftover(i32),
    /// The front should have taken the new table.
    PlanTaken,
    /// The front should have heard that usherd ends.
    DrainTaken,
    /// A draining front has had its time.
    EndFront,
}

/// Deadlines are never taken back: what is no longer true when one comes up
/// is found out then.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, Due)>>);

impl Timers {
    pub fn set(&mut self, at: Instant, due: Due) {
        self.0.push(Reverse((at, due)));
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
