//! What a supervisor hears: ready, said once, when the front serves for the
//! first time; and, where it asks for that, that we are still well.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::helper::core::{Helper, Phase};
use crate::table::{LogFormat, LogTarget};

/// What is still to be said.
#[derive(Debug)]
pub struct Signs {
    announced: bool,
    /// Where a line end says that everything is served.
    ready: Option<OwnedFd>,
    /// How often to show that we are alive, and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl Signs {
    #[must_use]
    pub fn new(ready: Option<OwnedFd>) -> Self {
        // Twice as often as it is looked for: sd_watchdog_enabled(3).
        let watchdog = sd_notify::watchdog_enabled().map(|span| (span / 2, Instant::now()));
        Self {
            announced: false,
            ready,
            watchdog,
        }
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.watchdog.map(|(_, due)| due)
    }
}

impl Helper {
    /// Called in each turn, which is what it proves of this process. The front
    /// is well as long as nobody replaces it.
    pub(super) fn show_life(&mut self, now: Instant) {
        let Some((pause, due)) = &mut self.signs.watchdog else {
            return;
        };
        if now < *due {
            return;
        }
        *due = now + *pause;
        let serves = self
            .front
            .as_ref()
            .is_some_and(|front| front.ready && !front.ended);
        if serves || self.is_departing() || self.phase == Phase::Draining {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// What is served now, for the log and for `systemctl status`.
pub fn ready_line(helper: &Helper) -> String {
    let listeners = helper.registry.bound().count();
    let services = helper.services.count();
    format!("ready: {services} services, {listeners} listeners")
}

/// Called for each sign of life of the front; the first one means it has its plan.
pub fn when_ready(helper: &mut Helper) {
    if let Some(front) = &mut helper.front {
        front.ready = true;
    }
    if std::mem::replace(&mut helper.signs.announced, true) {
        return;
    }
    helper.tell_upgraded();
    crate::sys::process::trim_heap();
    let line = ready_line(helper);
    let log = &helper.table.daemon.log;
    if log.to == LogTarget::Stderr && log.format == LogFormat::Text {
        // The bare line, for whoever waits for it.
        // In one write, or a line of the front may come between.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    } else {
        log::info!("{line}");
    }
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&line),
    ]);
    if let Some(ready) = helper.signs.ready.take() {
        let _ = File::from(ready).write_all(b"\n");
    }
    if helper.source.is_embedded() {
        eprint!(
            "{}",
            crate::helper::welcome::text(&helper.table, helper.control.is_served())
        );
    }
}
