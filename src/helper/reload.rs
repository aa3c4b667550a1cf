//! A new table for the one in force: parsed, checked, compared, its sockets
//! bound; only then is anything changed, and not before the front has taken it.
//!
//! The order matters. The front is told first; what it asked for until it
//! answers was admitted under the old table and is judged by the old table.
//! So no request is lost between the two.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::helper::announce::ready_line;
use crate::helper::core::{Helper, Phase};
use crate::helper::front_process::{Order, seal_plan};
use crate::helper::services::Compiled;
use crate::helper::sockets::registry::AGAIN;
use crate::helper::sockets::registry::Prepared;
use crate::helper::timers::Due;
use crate::table::{Table, diff};

/// A front that has not taken a plan by then is replaced.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is put in force together.
#[derive(Debug)]
pub struct Change {
    table: Table,
    compiled: Compiled,
    prepared: Prepared,
    /// When a front that has not taken it is replaced.
    overdue: Instant,
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
            self.change_to(self.table.clone(), now);
        }
    }

    /// SIGHUP. Any complaint keeps everything as it is; the log tells.
    pub(super) fn reload(&mut self, now: Instant) {
        if self.phase == Phase::Draining {
            return;
        }
        if self.change.is_some() {
            self.reload_again = true;
            return;
        }
        let mut states = vec![sd_notify::NotifyState::Reloading];
        states.extend(sd_notify::NotifyState::monotonic_usec_now());
        let _ = sd_notify::notify(&states);
        self.last_log_reopen = None;
        self.reopen_log(now);
        match self.source.load() {
            Ok(table) => self.change_to(table, now),
            Err(complaints) => {
                for complaint in complaints.lines() {
                    log::error!("{complaint}");
                }
                self.refuse(&complaints.count("complaint"));
            }
        }
    }

    fn refuse(&self, why: &str) {
        log::error!("reload refused: {why}; the table in force stays");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    fn change_to(&mut self, table: Table, now: Instant) {
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
            self.registry.abandon(prepared);
            return self.refuse("not every address can be bound");
        }
        let inheritance = self.fronts.inheritance().clone();
        let compiled = match self.services.compile(&table, &inheritance) {
            Ok(compiled) => compiled,
            Err(err) => {
                self.registry.abandon(prepared);
                return self.refuse(&err);
            }
        };
        // What the front may do is fixed when it starts.
        let needs_other_front = Self::forwards(&table) != Self::forwards(&self.table)
            || table.daemon.user != self.table.daemon.user;
        let change = Change {
            table,
            compiled,
            prepared,
            overdue: now + PATIENCE,
        };
        if needs_other_front {
            self.change = Some(change);
            self.end_front();
        } else if let Err(err) = self.tell_front(&change) {
            // It may have heard half of it; the next front hears of the table in force.
            self.end_front();
            self.registry.withdraw(change.prepared);
            return self.refuse(&format!("unable to tell the front: {err}"));
        } else {
            self.timers.set(change.overdue, Due::PlanTaken);
            self.change = Some(change);
        }
        if self.front.is_none() {
            self.commit_change(now);
        }
    }

    fn tell_front(&mut self, change: &Change) -> std::io::Result<()> {
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let epoch = self.fronts.epoch;
        let plan = self
            .services
            .plan(&change.table, change.prepared.iter(), epoch);
        front.order(Order::Plan, Some(seal_plan(&plan)?));
        front.give_listeners(change.prepared.new_ones())
    }

    /// The front did not answer in time, perhaps: the timer may be that of an earlier reload.
    pub(super) fn plan_overdue(&mut self, now: Instant) {
        if self
            .change
            .as_ref()
            .is_some_and(|change| change.overdue <= now)
        {
            log::error!("the front does not take the new table; replacing it");
            self.end_front();
        }
    }

    /// usherd ends: a table that is not in force yet never will be.
    pub(super) fn abandon_change(&mut self) {
        if let Some(change) = self.change.take() {
            self.registry.withdraw(change.prepared);
        }
    }

    /// Puts the new table in force here too: the front has taken it, or there
    /// is none and the next one will.
    pub(super) fn commit_change(&mut self, now: Instant) {
        let Some(Change {
            table,
            compiled,
            prepared,
            overdue: _,
        }) = self.change.take()
        else {
            return;
        };
        for change in diff::diff(&self.table, &table) {
            log::info!("{change}");
        }
        let new_log = table.daemon.log != self.table.daemon.log;
        self.table = table;
        let instances = &self.instances;
        self.services
            .put(compiled, |service| instances.of_service(service) > 0);
        self.registry.commit(prepared);
        self.services.attach(&self.registry);
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
        if std::mem::take(&mut self.reload_again) {
            self.reload(now);
        }
        self.replace_sockets(now);
    }
}
