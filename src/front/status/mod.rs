//! The status socket: callers of `org.usherd.Status`, served between peers.
//!
//! Who a caller is, only the helper can find out: the front cannot look into
//! /proc. It sends the connection there once and reads no byte before the answer.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::control::caller::{Who, denied_text};
use crate::control::message::Reply;
use crate::control::server::Server;
use crate::control::types::EventKind;
use crate::control::{STATUS, STATUS_SOCKET};
use crate::front::deadlines::Timer;
use crate::front::event_loop::Front;
use crate::front::events::About;
use crate::front::events::Watcher;
use crate::front::slots::Source;
use crate::helper::wire::Request;
use crate::ids::ServiceId;
use crate::logging::Pace;

mod calls;
mod views;

pub use views::disabled;

/// Figures of the instances are as good as new for this long.
const FRESH: Duration = Duration::from_millis(500);

/// Denied calls in the log per minute.
const DENIALS_TOLD: u32 = 10;

/// So many callers may be looked into by the helper at once: it answers in
/// order, and servers are to be started too.
const MOST_ASKED: usize = 16;

/// What a call waits for.
#[derive(Debug)]
pub enum Wait {
    /// What the instances of a service, or all, use.
    Usage(Option<ServiceId>),
    Events(Watcher),
}

/// The status socket and what goes with it.
#[derive(Debug)]
pub struct Status {
    server: Server<Wait>,
    /// When the helper last told what instances use.
    measured: Option<Instant>,
    /// It has been asked and has not answered.
    asked: bool,
    /// Callers that it looks into,
    unknown: usize,
    /// and whether others have to wait for that.
    crowded: bool,
    /// Watchers have been told of all events before this one.
    told: u64,
    sweeping: bool,
    /// Calls of those who may not ask; the server is away while a call is answered.
    denied: u64,
    denials: Pace,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            server: Server::new(STATUS),
            measured: None,
            asked: false,
            unknown: 0,
            crowded: false,
            told: 0,
            sweeping: false,
            denied: 0,
            denials: Pace::new(DENIALS_TOLD, Duration::from_secs(60)),
        }
    }
}

impl Status {
    pub fn turn_over(&mut self) {
        self.server.turn_over();
    }

    /// The next front serves the socket; callers of this one ask again.
    pub fn close(&mut self) {
        self.server.close();
        self.unknown = 0;
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.measured
            .is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }
}

impl Front {
    pub(super) fn take_status_socket(&mut self, socket: OwnedFd) {
        let listener = UnixListener::from(socket);
        let token = Source::StatusSocket.into();
        let done = self.status.server.listen(listener, &self.registry, token);
        if let Err(err) = done {
            log::error!("unable to serve the status socket: {err}");
        }
    }

    pub(super) fn status_ready(&mut self, now: Instant) {
        self.status.crowded = self.status.unknown >= MOST_ASKED;
        if self.status.crowded {
            return;
        }
        let token_of = |place| Source::Caller(place).into();
        let (places, more) = self.status.server.accept(&self.registry, token_of, now);
        for place in places {
            let copy = self.status.server.connection(place).map(|c| c.share());
            let number = self.status.server.number(place);
            match (copy, number) {
                (Some(Ok(copy)), Some(caller)) => {
                    self.link.send(&Request::Identify { caller }, Some(copy));
                    self.status.unknown += 1;
                }
                _ => self.status.server.drop_caller(place, &self.registry),
            }
        }
        if more {
            self.postponed.push_back(Source::StatusSocket);
        }
        self.sweep_callers(now);
    }

    /// The helper has asked the kernel.
    pub(super) fn know_caller(&mut self, caller: u64, who: Who, now: Instant) {
        self.status.unknown = self.status.unknown.saturating_sub(1);
        if std::mem::take(&mut self.status.crowded) {
            self.postponed.push_back(Source::StatusSocket);
        }
        if let Some(place) = self.status.server.know(caller, who) {
            self.caller_ready(place, now);
        }
    }

    pub(super) fn caller_ready(&mut self, place: usize, now: Instant) {
        // It may have room for events again.
        self.status.told = u64::MAX;
        // What is asked is answered out of all the rest of the front.
        let mut server = std::mem::replace(&mut self.status.server, Server::new(STATUS));
        let registry = &self.registry.try_clone();
        if let Ok(registry) = registry {
            let more = server.serve(place, registry, now, &mut |who, call| {
                self.answer_call(who, call, now)
            });
            if more {
                self.postponed.push_back(Source::Caller(place));
            }
        }
        self.status.denied = server.denied();
        let denied = server.take_denied();
        self.status.server = server;
        if let Some(who) = denied
            && let Some(held_back) = self.status.denials.admit(now)
        {
            let text = denied_text(who, STATUS_SOCKET, held_back);
            log::warn!("{text}");
            self.note_event(EventKind::Refused, About::default(), &text);
        }
    }

    /// At the end of each turn: events for those who watch them.
    pub(super) fn tell_watchers(&mut self, now: Instant) {
        /// Events in one reply.
        const BATCH: usize = 64;
        if self.status.told == self.events.next() {
            return;
        }
        self.status.told = self.events.next();
        // One batch for each watcher in a turn, however fast it reads.
        let mut replies = Vec::new();
        for (place, wait) in self.status.server.waiting() {
            let Wait::Events(watcher) = wait else {
                continue;
            };
            if watcher.has_seen(self.events.next()) {
                continue;
            }
            let (events, lost) = self.events.read(watcher, BATCH);
            if !events.is_empty() || lost > 0 {
                replies.push((place, views::events(&events, lost, &self.services)));
            }
        }
        // There may be more for them; the loop does not sleep before that is told too.
        if let Some((place, _)) = replies.first() {
            self.status.told = u64::MAX;
            self.postponed.push_back(Source::Caller(*place));
        }
        for (place, reply) in replies {
            let reply = Reply::Continues(reply);
            self.status
                .server
                .answer(place, &reply, &self.registry, now);
        }
    }

    /// All that was asked for has been told.
    pub(super) fn measured(&mut self, now: Instant) {
        self.status.measured = Some(now);
        self.status.asked = false;
        let waiting: Vec<_> = self
            .status
            .server
            .waiting()
            .filter_map(|(place, wait)| match wait {
                Wait::Usage(only) => Some((place, *only)),
                Wait::Events(_) => None,
            })
            .collect();
        for (place, only) in waiting {
            let reply = Reply::last(&self.show_instances(only, now));
            self.status
                .server
                .answer(place, &reply, &self.registry, now);
            self.postponed.push_back(Source::Caller(place));
        }
    }

    /// Asks the helper what instances use, unless it has been asked already.
    pub(super) fn ask_for_usage(&mut self) {
        if !self.status.asked {
            self.status.asked = true;
            self.link.send(&Request::Measure, None);
        }
    }

    pub(super) fn sweep_callers(&mut self, now: Instant) {
        let next = self.status.server.sweep(&self.registry, now);
        if let Some(at) = next.filter(|_| !self.status.sweeping) {
            self.status.sweeping = true;
            self.deadlines.add(at, Timer::Callers);
        }
    }

    pub(super) fn sweep_due(&mut self, now: Instant) {
        self.status.sweeping = false;
        if self.status.server.is_due(now) {
            self.postponed.push_back(Source::StatusSocket);
        }
        self.sweep_callers(now);
    }
}
