//! A new table for the one in force: parsed, checked, compared, its sockets
//! bound; only then is anything changed, and not before the front has taken it.
//!
//! The order matters. The front is told first; what it asked for until it
//! answers was admitted under the old table and is judged by the old table.
//! So no request is lost between the two.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde_json::json;

use crate::control::message::CallError;
use crate::control::types::EventKind;
use crate::helper::admin::calls::{shown_reload, table_wrong, token_of};
use crate::helper::announce::ready_line;
use crate::helper::cgroups::put_in_force;
use crate::helper::core::{Helper, Phase};
use crate::helper::front_process::{Order, seal_plan};
use crate::helper::services::Compiled;
use crate::helper::sockets::registry::AGAIN;
use crate::helper::sockets::registry::{Prepared, Trouble};
use crate::helper::timers::Due;
use crate::table::{Table, diff};

/// A front that has not taken a plan by then is replaced.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is put in force together.
#[derive(Debug)]
pub struct Change {
    table: Table,
    /// `None`: servers are as they were, and so is what stands ready for them.
    compiled: Option<Compiled>,
    prepared: Prepared,
    warnings: Vec<String>,
    /// When a front that has not taken it is replaced.
    overdue: Instant,
}

/// Whether a change is one for servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Servers {
    New,
    AsTheyWere,
}

impl Change {
    pub(super) fn prepared(&mut self) -> &mut Prepared {
        &mut self.prepared
    }
}

impl Helper {
    /// Sockets that were put aside get a successor by the same way as in a
    /// reload, with the table in force.
    pub(super) fn replace_sockets(&mut self, now: Instant) {
        let idle = self.phase != Phase::Draining && self.change.is_none();
        if idle && self.registry.lacks_sockets() {
            self.renew(now);
        }
    }

    /// The table in force again, with other sockets or lists: no server notices, and what
    /// operators have set since it was read stays.
    pub(super) fn renew(&mut self, now: Instant) {
        self.change_to(self.table.clone(), Vec::new(), Servers::AsTheyWere, now);
    }

    /// Any complaint keeps everything as it is; the log tells, and whoever asked
    /// for it is told. With a `token` only the table that it stands for will do.
    pub(super) fn reload(&mut self, token: Option<&str>, now: Instant) {
        if self.phase == Phase::Draining {
            let draining = CallError::admin("Draining", json!({}));
            return self.reload_over(Err(draining), now);
        }
        let mut states = vec![sd_notify::NotifyState::Reloading];
        states.extend(sd_notify::NotifyState::monotonic_usec_now());
        let _ = sd_notify::notify(&states);
        self.last_log_reopen = None;
        self.reopen_log(now);
        match self.source.load() {
            Ok(loaded) if token.is_some_and(|token| token != token_of(&loaded.table)) => {
                let changed = CallError::admin("TableChanged", json!({}));
                self.refuse("the table has changed since it was looked at", changed, now);
            }
            Ok(loaded) => {
                loaded.warnings.log_warnings();
                let warnings = loaded.warnings.rendered().collect();
                self.change_to(loaded.table, warnings, Servers::New, now);
            }
            Err(complaints) => {
                for complaint in complaints.lines() {
                    log::error!("{complaint}");
                }
                let error = table_wrong(&complaints);
                self.refuse(&complaints.count("complaint"), error, now);
            }
        }
    }

    fn refuse(&mut self, why: &str, error: CallError, now: Instant) {
        log::error!("reload refused: {why}; the table in force stays");
        let text = format!("reload refused: {why}");
        self.tell_event(EventKind::Changed, None, &text);
        self.reload_over(Err(error), now);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    fn change_to(
        &mut self,
        mut table: Table,
        mut warnings: Vec<String>,
        servers: Servers,
        now: Instant,
    ) {
        warnings.extend(self.control.fill_lists(&mut table, Some(&self.table), now));
        let numbered: Vec<_> = table
            .services
            .iter()
            .map(|service| (self.services.id(&service.name), service))
            .collect();
        let prepared = self.registry.prepare(&numbered, now);
        let mut hopeless = false;
        for trouble in &prepared.troubles {
            hopeless |= !trouble.error.may_pass();
            let later = if trouble.error.may_pass() { AGAIN } else { "" };
            log::error!("{trouble}{later}");
        }
        if hopeless {
            let troubles: Vec<String> = prepared.troubles.iter().map(Trouble::to_string).collect();
            self.registry.abandon(prepared);
            let error = CallError::admin("CannotBind", json!({ "troubles": troubles }));
            return self.refuse("not every address can be bound", error, now);
        }
        let compiled = match servers {
            Servers::AsTheyWere => Ok(None),
            Servers::New => {
                let inheritance = self.fronts.inheritance().clone();
                let ground = self.foundation.ground(&table);
                let compiled = self.services.compile(&table, &inheritance, &ground);
                compiled.map(Some)
            }
        };
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(err) => {
                self.registry.abandon(prepared);
                return self.refuse(&err, CallError::failed(err.clone()), now);
            }
        };
        // What the front may do is fixed when it starts.
        let needs_other_front = Self::forwards(&table) != Self::forwards(&self.table)
            || table.daemon.user != self.table.daemon.user
            || table.daemon.cpus != self.table.daemon.cpus;
        let change = Change {
            table,
            compiled,
            prepared,
            warnings,
            overdue: now + PATIENCE,
        };
        if needs_other_front {
            self.change = Some(change);
            self.end_front();
        } else if let Err(err) = self.tell_front(&change) {
            // It may have heard half of it; the next front hears of the table in force.
            self.end_front();
            self.registry.withdraw(change.prepared);
            let why = format!("unable to tell the front: {err}");
            return self.refuse(&why, CallError::failed(why.clone()), now);
        } else {
            self.timers.set(change.overdue, Due::PlanTaken);
            self.change = Some(change);
        }
        if self.front.is_none() {
            self.commit_change(now);
        }
    }

    fn tell_front(&mut self, change: &Change) -> std::io::Result<()> {
        let age = self.age();
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let known = self.services.all_blocked();
        let blocked = |id| match &change.compiled {
            Some(compiled) => compiled.blocked(id),
            None => known.get(&id).cloned(),
        };
        let plan = self
            .services
            .plan(&change.table, change.prepared.iter(), age, blocked);
        front.order(Order::Plan, Some(seal_plan(&plan)?));
        front.give_listeners(change.prepared.new_ones())
    }

    /// The front did not answer in time, perhaps: the timer may be that of an earlier reload.
    pub(super) fn plan_overdue(&mut self, now: Instant) {
        let overdue = self.change.as_ref().map(|change| change.overdue);
        if is_overdue(overdue, now) {
            log::error!("the front does not take the new table; replacing it");
            self.end_front();
        }
    }

    /// usherd ends: a table that is not in force yet never will be.
    pub(super) fn abandon_change(&mut self) {
        if let Some(change) = self.change.take() {
            self.registry.withdraw(change.prepared);
            let draining = CallError::admin("Draining", json!({}));
            self.reload_over(Err(draining), Instant::now());
        }
    }

    /// Puts the new table in force here too: the front has taken it, or there
    /// is none and the next one will.
    pub(super) fn commit_change(&mut self, now: Instant) {
        let Some(Change {
            table,
            compiled,
            prepared,
            warnings,
            overdue: _,
        }) = self.change.take()
        else {
            return;
        };
        let changes = diff::diff(&self.table, &table);
        for change in &changes {
            log::info!("{change}");
            self.tell_event(EventKind::Changed, None, &change.to_string());
        }
        let outcome = shown_reload(&self.table, &table, warnings);
        let new_log = table.daemon.log != self.table.daemon.log;
        let new_cpus = table.daemon.cpus != self.table.daemon.cpus;
        self.table = table;
        if new_cpus {
            self.settle();
        }
        if let Some(compiled) = compiled {
            let instances = &self.instances;
            self.services
                .put(compiled, |service| instances.of_service(service) > 0);
            self.clear_lot(None);
            self.sandboxes.drop_all();
            self.tell_confinement();
            put_in_force(&mut self.cgroups, &self.table);
        } else {
            self.services.put_rules(&self.table);
        }
        self.registry.commit(prepared);
        self.stale_store();
        self.services.attach(&self.registry);
        if !changes.is_empty() {
            self.identify_again();
        }
        self.forget_halted();
        if new_log {
            self.last_log_reopen = None;
            self.reopen_log(now);
        }
        let listeners = self.registry.bound().count();
        let services = self.services.count();
        log::info!("reloaded: {services} services, {listeners} listeners");
        let _ = sd_notify::notify(&[
            sd_notify::NotifyState::Ready,
            sd_notify::NotifyState::Status(&ready_line(self)),
        ]);
        crate::sys::process::trim_heap();
        self.reload_over(Ok(outcome), now);
        self.replace_sockets(now);
    }
}

/// Whether a timer of a change is that of the one under way: `until` is when that is overdue.
fn is_overdue(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| until <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_of_an_earlier_reload_is_not_that_of_the_next() {
        let first = Instant::now();
        let next = first + Duration::from_secs(3);
        let (first_due, next_due) = (first + PATIENCE, next + PATIENCE);
        assert!(is_overdue(Some(first_due), first_due));
        assert!(
            !is_overdue(Some(next_due), first_due),
            "it goes off during the next"
        );
        assert!(!is_overdue(None, first_due), "or when none is under way");
    }
}
