//! The unprivileged process: the only one that reads a byte from a peer.
//!
//! ```text
//!  notices ──> reload          plans, listeners
//!          ──> instances       started, exited
//!  event_loop ─> accept ─┬─> admit (pure) ─┬─> talks       served in the loop
//!                 │          │           └─> link ─> helper starts a server
//!                 │          └─> turn_away, refusals
//!                 └─> wait             servers that own the listener
//!                 └─> pending          whose service is not known before bytes are seen
//!  counting ─> figures         what happened, for the status socket and the board
//!  events                      the last of it, one by one, for those who watch
//!  status                      the status socket; board: the page and the metrics
//!  poll_set                    which listeners are polled, after every turn
//! ```
//!
//! One thread, one poll. [`cage`] takes away everything the loop does not need
//! before the first peer is looked at.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::error::Exit;
use crate::sys::schedule;
use crate::table::LogSettings;

pub mod accept;
pub mod accept_pause;
pub mod admit;
pub mod bans;
pub mod board;
pub mod builtin;
pub mod cage;
pub mod conversation;
mod counting;
pub mod deadlines;
pub mod event_loop;
pub mod events;
mod figures;
pub mod forward;
pub mod hours;
pub mod instances;
pub mod limits;
pub mod links;
pub mod makers;
pub mod notices;
pub mod peer;
pub mod pending;
pub mod plan;
pub mod poll_set;
pub mod refusals;
pub mod reload;
mod retire;
pub mod roster;
#[cfg(test)]
mod samples;
pub mod services;
pub mod slots;
pub mod status;
pub mod stderr;
pub mod talks;
pub mod tcpmux;
pub mod turn_away;
pub mod wait;

use event_loop::Front;
use links::Link;

/// Bytes that any part of the front may use within one call.
const SCRATCH: usize = crate::demux::LIMIT;

/// Before whatever else waits for the CPU, but not before the helper, which goes on with a request
/// that the front is done with.
const SLICE: Duration = Duration::from_micros(400);

/// How the helper starts a front.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whom to become, as root: user and group id.
    pub identity: Option<(u32, u32)>,
}

/// Runs the front on its end of the socket pair until the helper is gone.
pub fn run(link: OwnedFd, options: Options) -> Exit {
    crate::sys::front_calls::ignore_stop_signals();
    // Started from /proc/self/exe, it would be "exe" to ps, top and ss.
    let _ = nix::sys::prctl::set_name(c"usherd-front");
    crate::sys::clock::prepare();
    let _ = schedule::shorten_slice(SLICE); // it is served all the same
    let kept = match cage::give_up_rights(options.identity) {
        Ok(kept) => kept,
        Err(err) => {
            log::error!("{err}");
            return Exit::System;
        }
    };
    let mut front = match Front::new(Link::new(link)) {
        Ok(front) => front,
        Err(err) => {
            log::error!("unable to make an event loop: {err}");
            return Exit::System;
        }
    };
    // The plan says whether connections are made to elsewhere, so the cage closes after it.
    if let Err(exit) = front.wait_for_plan() {
        return exit;
    }
    let mut degraded: Vec<String> = kept.iter().map(|what| (*what).to_owned()).collect();
    degraded.extend(cage::close(front.needs()));
    for what in &degraded {
        log::warn!("degraded: {what}"); // not sooner: the log came with the plan
    }
    front.note_degraded(degraded);
    front.run()
}

/// The log descriptor and the settings it is used with. They come apart, in
/// any order, and either may change alone.
#[derive(Debug, Default)]
pub struct LogState {
    settings: Option<LogSettings>,
    target: Option<OwnedFd>,
}

impl LogState {
    fn attach(&mut self, target: OwnedFd) {
        self.target = Some(target);
        self.apply();
    }

    fn configure(&mut self, settings: LogSettings) {
        if self.settings.as_ref() != Some(&settings) {
            self.settings = Some(settings);
            self.apply();
        }
    }

    fn apply(&self) {
        if let (Some(settings), Some(target)) = (&self.settings, &self.target)
            && let Ok(target) = target.try_clone()
        {
            crate::logging::attach(target, settings);
        }
    }
}
