//! A new table for the one in force: parsed, checked, compared, its sockets
//! bound; only then is anything changed.
#![forbid(unsafe_code)]

use std::time::Instant;

use crate::helper::core::{Helper, Phase};
use crate::table::{Table, diff};

impl Helper {
    /// SIGHUP. Any complaint keeps everything as it is; the log tells.
    pub(super) fn reload(&mut self, now: Instant) {
        if self.phase == Phase::Draining {
            return;
        }
        let _ = sd_notify::notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now()
                .unwrap_or(sd_notify::NotifyState::Reloading),
        ]);
        self.last_log_reopen = None;
        match self.source.load() {
            Ok(table) => self.change_to(table, now),
            Err(complaints) => {
                for complaint in &complaints {
                    log::error!("{complaint}");
                }
                let n = complaints.len();
                log::error!("reload refused: {n} complaints; the table in force stays");
            }
        }
        self.reopen_log(now);
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
            log::error!("{trouble}");
        }
        if hopeless {
            log::error!("reload refused: not every address can be bound; the table in force stays");
            return;
        }
        let inheritance = self.nursery.inheritance().clone();
        if let Err(err) = self.services.replace(&table, &inheritance) {
            log::error!("reload refused: {err}; the table in force stays");
            return;
        }
        let new_cage = Self::forwards(&table) != Self::forwards(&self.table)
            || table.daemon.user != self.table.daemon.user;
        for change in diff::diff(&self.table, &table) {
            log::info!("{change}");
        }
        self.table = table;
        let new = self.registry.commit(prepared);
        self.services.attach(&self.registry);
        if new_cage {
            // What the front may do is fixed when it starts.
            self.replace_front();
        } else if let Err(err) = self.send_plan().and_then(|()| self.send_listeners(&new)) {
            log::error!("unable to tell the front about the new table: {err}; replacing it");
            self.replace_front();
        }
        let listeners = self.registry.bound().count();
        log::info!(
            "reloaded: {} services, {listeners} listeners",
            self.services.count()
        );
        crate::sys::process::trim_heap();
    }
}
