//! One usherd after the other, and nobody notices.
//!
//! ```text
//!  upgrade:  ask the new program ─> the front retires ─> starts settle ─> execve(2)
//!            may it take over?      gives back what      nobody is in     the same process,
//!            does its table load?   nobody serves yet    our memory       children and all
//!  leave:    (SIGUSR1)              the same             the same         to the supervisor's
//!                                                                         descriptor store; end
//! ```
//!
//! Until the last step everything can be taken back, and is if something goes
//! wrong: the next front gets what the last one gave back. Clients that come
//! meanwhile wait in the backlogs of listeners that are never closed.
//!
//! - [`executable`]: which program, and whether it may be trusted
//! - [`check`]: what the new program says about itself
//! - [`state`]: what is told, its format
//! - [`gather`], [`before`], [`takeover`]: this usherd told, and the next one put together
//! - [`store`]: systemd's descriptor store
//! - [`journal`], [`adopted`]: servers that are no children of ours any more
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::control::message::{CallError, Reply};
use crate::helper::core::{Helper, Phase};
use crate::helper::front_process::Order;
use crate::helper::reserve;
use crate::helper::start::On;
use crate::helper::told::Told;
use crate::ids::ListenerId;
use crate::sys::process::Reaped;
use check::Asked;

pub mod adopted;
pub mod before;
pub mod check;
pub mod executable;
mod gather;
pub mod journal;
pub mod state;
pub mod store;
pub mod takeover;

/// What servers that were stopped leave behind, and sessions that are being
/// closed, have so long.
const QUIET: Duration = Duration::from_secs(2);
/// Children on their way to their program are waited for so long. One that is
/// held up by a slow file system gets there all the same.
const SETTLED: Duration = Duration::from_secs(2);
/// How often to look, for the kernel does not tell.
const LOOK: Duration = Duration::from_millis(2);
/// Fronts that go on with old conversations; beyond that the oldest is ended.
const MOST_FRONTS: usize = 8;

/// A connection that nobody serves yet.
#[derive(Debug)]
pub struct Returned {
    pub listener: ListenerId,
    pub told: Option<Box<Told>>,
    pub connection: OwnedFd,
}

/// Where it goes.
#[derive(Debug)]
enum Goal {
    /// To be the next program. Who asked.
    Upgrade(u64),
    /// To end, and let the next usherd go on.
    Leave,
}

#[derive(Debug)]
enum Stage {
    /// The new program is being asked.
    Checking(Asked),
    /// It is time when nothing else is under way.
    Ready { until: Instant },
    /// The front was told.
    Retiring,
    /// There is no front.
    Settling { until: Instant },
}

/// A handover that is under way.
#[derive(Debug)]
pub struct Departure {
    goal: Goal,
    stage: Stage,
}

impl Departure {
    /// Whether there is no way for new requests.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }

    #[must_use]
    fn is_retiring(&self) -> bool {
        matches!(self.stage, Stage::Retiring)
    }

    /// When it has to be looked at.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Checking(asked) => Some(asked.until),
            Stage::Ready { .. } | Stage::Settling { .. } => Some(Instant::now() + LOOK),
            Stage::Retiring => None, // the front's own patience
        }
    }
}

impl Helper {
    /// An operator wants the program that is there now.
    pub(super) fn begin_upgrade(&mut self, caller: u64) -> Result<(), CallError> {
        if self.departure.is_some() {
            return Err(refused("usherd is being upgraded already"));
        }
        if let Some(name) = self.operations.at_work().next() {
            let why = format!("operation {name} is being carried out; ask again when it is done");
            return Err(refused(why));
        }
        let asked = self.ask_program().map_err(|why| self.refuse_upgrade(why))?;
        self.thaw_all();
        self.departure = Some(Departure {
            goal: Goal::Upgrade(caller),
            stage: Stage::Checking(asked),
        });
        Ok(())
    }

    fn refuse_upgrade(&self, why: String) -> CallError {
        log::error!("upgrade refused: {why}; everything stays as it is");
        refused(why)
    }

    /// A supervisor starts another usherd after this one: servers go on.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.phase == Phase::Draining {
            return;
        }
        self.end_operations("usherd was told to leave; the next one has to be asked again");
        self.thaw_all();
        let stage = Stage::Ready { until: now + QUIET };
        let goal = Goal::Leave;
        let before = self.departure.replace(Departure { goal, stage });
        match before.map(|departure| (departure.goal, departure.stage)) {
            None => log::info!("leaving: {} running servers go on", self.instances.len()),
            Some((goal, stage)) => {
                self.answer_refused(&goal, "usherd was told to leave", now);
                match stage {
                    Stage::Checking(asked) => asked.kill(),
                    stage => {
                        self.departure = Some(Departure {
                            goal: Goal::Leave,
                            stage,
                        });
                    }
                }
            }
        }
    }

    /// usherd ends: nobody takes over.
    pub(super) fn abandon_departure(&mut self, now: Instant) {
        if let Some(departure) = self.departure.take() {
            self.give_up(departure, "usherd was told to end", now);
        }
    }

    /// Whether changes have to wait for what is under way.
    pub(super) fn is_departing(&self) -> bool {
        let under_way = |departure: &Departure| !matches!(departure.stage, Stage::Checking(_));
        self.departure.as_ref().is_some_and(under_way)
    }

    /// Whether the front was told to go, and no other one is to come yet.
    pub(super) fn is_between_fronts(&self) -> bool {
        let told = |departure: &Departure| departure.is_retiring() || departure.is_settling();
        self.departure.as_ref().is_some_and(told)
    }

    /// Goes on with what is under way. `true`: this usherd has left.
    pub(super) fn depart(&mut self, now: Instant) -> bool {
        let Some(departure) = &mut self.departure else {
            return false;
        };
        match &mut departure.stage {
            Stage::Checking(asked) => {
                if now >= asked.until {
                    asked.kill();
                }
            }
            Stage::Ready { until } => {
                let late = now >= *until;
                let is_quiet = self.leftovers.is_empty() && self.closings.is_empty();
                if self.change.is_none() && self.control.is_idle() && (is_quiet || late) {
                    self.retire_front(now);
                }
            }
            Stage::Retiring => {
                // It has died: what it had not given back is lost.
                if self.front.is_none() {
                    self.front_retired(now);
                }
            }
            Stage::Settling { until } => {
                let late = now >= *until;
                if self.launcher.is_settled() || late {
                    return self.go(now);
                }
            }
        }
        false
    }

    fn retire_front(&mut self, now: Instant) {
        let Some(departure) = &mut self.departure else {
            return;
        };
        match &mut self.front {
            // Told everything else before, and told to retire once it serves.
            Some(front) if front.ready && !front.ended && front.orders.is_empty() => {
                departure.stage = Stage::Retiring;
                front.order(Order::Retire, None);
            }
            Some(_) => {}
            None => self.front_retired(now),
        }
    }

    /// The front gives back a connection. Whether that was asked of it.
    pub(super) fn give_back(
        &mut self,
        listener: ListenerId,
        told: Option<Box<Told>>,
        connection: OwnedFd,
    ) -> bool {
        if !self.departure.as_ref().is_some_and(Departure::is_retiring) {
            return false;
        }
        // Out of descriptors, the newest have to go.
        if !reserve::is_of_the_last(&connection) {
            self.returned.push(Returned {
                listener,
                told,
                connection,
            });
        }
        true
    }

    /// Nothing new comes from the front: it has retired, or there is none.
    pub(super) fn front_retired(&mut self, now: Instant) {
        let Some(departure) = &mut self.departure else {
            return;
        };
        if departure.is_settling() {
            return;
        }
        departure.stage = Stage::Settling {
            until: now + SETTLED,
        };
        self.front_due = None;
        // One that had nothing left to answer has ended already.
        if let Some(front) = self.front.take_if(|front| !front.ended) {
            log::debug!(pid = front.pid; "the front has retired");
            self.retired.push(front.pid);
        }
        for ask in self.sandboxes.give_up_all() {
            // Who waits at its listener is found there again.
            if let On::Connection(connection, told) = ask.on {
                self.returned.push(Returned {
                    listener: ask.listener,
                    told: told.and_then(|told| told.once_only()),
                    connection,
                });
            }
        }
        self.clear_lot(None);
        self.sandboxes.drop_all();
        let gone: Vec<i32> = self.leftovers.keys().copied().collect();
        self.kill_leftovers(&gone);
    }

    /// The last step. Comes back only if it could not be done, or has left.
    fn go(&mut self, now: Instant) -> bool {
        let Some(departure) = self.departure.take() else {
            return false;
        };
        let done = match departure.goal {
            Goal::Leave => {
                self.leave_to_store();
                return true;
            }
            Goal::Upgrade(caller) => self.become_next(Some(caller)),
        };
        let Err(err) = done;
        let why = format!(
            "unable to execute {}: {err}",
            self.executable.path().display()
        );
        self.give_up(departure, &why, now);
        false
    }

    /// Everything goes on as before.
    fn give_up(&mut self, departure: Departure, why: &str, now: Instant) {
        if let Stage::Checking(asked) = &departure.stage {
            asked.kill();
        }
        if self.front.is_none() && self.phase == Phase::Serving {
            self.front_due = Some(now);
        }
        self.answer_refused(&departure.goal, why, now);
    }

    fn answer_refused(&mut self, goal: &Goal, why: &str, now: Instant) {
        if let Goal::Upgrade(caller) = goal {
            let error = self.refuse_upgrade(why.to_owned());
            self.reply_to(*caller, &Reply::Error(error), now);
        }
    }

    /// A child was reaped: perhaps the new program, with its answer.
    pub(super) fn program_answered(&mut self, reaped: &Reaped, now: Instant) -> bool {
        let answered = |departure: &mut Departure| match &departure.stage {
            Stage::Checking(asked) => asked.pid == reaped.pid,
            _ => false,
        };
        let Some(mut departure) = self.departure.take_if(answered) else {
            return false;
        };
        if let Stage::Checking(asked) = &departure.stage {
            match asked.answer(reaped) {
                Ok(()) => {
                    departure.stage = Stage::Ready { until: now + QUIET };
                    self.departure = Some(departure);
                }
                Err(why) => self.answer_refused(&departure.goal, &why, now),
            }
        }
        true
    }

    /// A front that has retired has ended.
    pub(super) fn retired_ended(&mut self, pid: i32) -> bool {
        let before = self.retired.len();
        self.retired.retain(|retired| *retired != pid);
        self.retired.len() < before
    }

    /// Conversations in fronts that have retired end with usherd; those of the
    /// oldest, if there are `more` of them than that.
    pub(super) fn end_retired(&mut self, more: usize) {
        for pid in self.retired.iter().rev().skip(more) {
            // Our own children, not reaped yet: the numbers are still their own.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }

    /// A new front looks after what the last one gave back.
    pub(super) fn return_connections(&mut self) {
        let Some(front) = &mut self.front else { return };
        for returned in self.returned.drain(..) {
            let notice = crate::helper::wire::Notice::Accepted {
                listener: returned.listener,
                told: returned.told,
            };
            front.link.notify_with(&notice, vec![returned.connection]);
        }
        self.end_retired(MOST_FRONTS);
    }
}

fn refused(reason: impl Into<String>) -> CallError {
    CallError::admin("UpgradeRefused", json!({ "reason": reason.into() }))
}
