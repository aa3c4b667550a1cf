//! Servers that come by way of a session process ([`crate::sandbox::session`]):
//! what it tells, and who closes a session of PAM after the server.
//!
//! A closer is no instance and counts for nothing. The helper waits for it a
//! while when it ends itself, and before it ends what else is in a sandbox.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};

use crate::helper::core::Helper;
use crate::helper::instances::{Instance, Phase};
use crate::helper::sandbox::Sandbox;
use crate::sandbox::Step;
use crate::sandbox::launch::NotStarted;
use crate::sandbox::session::{Failure, MAX_REPORT, Report};
use crate::sys::link;
use crate::sys::process::Reaped;

/// Tokens of the links to closers, with the numbers of their descriptors.
const FIRST_CLOSER: usize = 1 << 25;

/// A session that is not closed by then is left to itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The helper's end of the link.
#[derive(Debug)]
pub struct Session {
    link: OwnedFd,
    going: bool,
    failure: Option<Failure>,
    not_closed: Option<String>,
    /// Nobody is at the other end any more.
    over: bool,
}

impl Session {
    #[must_use]
    pub fn new(link: OwnedFd) -> Self {
        Self {
            link,
            going: false,
            failure: None,
            not_closed: None,
            over: false,
        }
    }

    /// The link from another usherd; whether it has said that it goes.
    #[must_use]
    pub fn again(link: OwnedFd, going: bool) -> Self {
        Self {
            going,
            ..Self::new(link)
        }
    }

    #[must_use]
    pub fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    #[must_use]
    pub fn is_going(&self) -> bool {
        self.going
    }

    fn hear(&mut self) {
        let mut buffer = [0; MAX_REPORT];
        while !self.over {
            let length = match link::receive(self.link.as_fd(), &mut buffer) {
                Ok(packet) => packet.length,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => 0,
            };
            match serde_json::from_slice(&buffer[..length]) {
                _ if length == 0 => self.over = true,
                Ok(Report::Going) => self.going = true,
                Ok(Report::Failed(failure)) => self.failure = Some(failure),
                Ok(Report::NotClosed(why)) => self.not_closed = Some(why),
                Err(err) => log::warn!("unable to understand a session process: {err}"),
            }
        }
    }

    /// Why the process that was just reaped never became a server. `stopped`:
    /// it was told to end, and may have done so on the way.
    fn failure(&mut self, reaped: &Reaped, stopped: bool) -> Option<NotStarted> {
        self.hear();
        if let Some(failure) = self.failure.take() {
            return Some(NotStarted {
                step: Step::from_code(failure.step).unwrap_or(Step::SessionProcess),
                errno: failure.errno,
                why: failure.why,
            });
        }
        if self.going || stopped {
            return None;
        }
        let how = if reaped.signalled { "signal" } else { "status" };
        Some(NotStarted {
            why: Some(format!("it ended by itself ({how} {})", reaped.status)),
            ..NotStarted::new(Step::SessionProcess, libc::ECHILD)
        })
    }
}

impl Instance {
    /// The same for an instance, if it came by way of a session process.
    pub fn session_failure(&mut self, reaped: &Reaped) -> Option<NotStarted> {
        let stopped = self.phase == Phase::Stopping;
        self.session.as_mut()?.failure(reaped, stopped)
    }
}

/// A session whose server has ended.
#[derive(Debug)]
struct Closing {
    name: Rc<str>,
    pid: i32,
    session: Session,
    /// To be ended afterwards.
    sandbox: Option<Rc<Sandbox>>,
    until: Instant,
}

impl Closing {
    fn end(self) {
        if let Some(why) = &self.session.not_closed {
            log::error!(service = &*self.name, pid = self.pid; "unable to close its PAM session: {why}");
        }
        if let Some(sandbox) = self.sandbox {
            sandbox.kill();
        }
    }
}

/// By the number of the descriptor of the link.
#[derive(Debug, Default)]
pub struct Closings(HashMap<i32, Closing>);

impl Closings {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|closing| closing.until).min()
    }

    /// Waits for none of them any longer.
    pub fn give_up(&mut self) {
        self.0.drain().for_each(|(_, closing)| closing.end());
    }
}

impl Helper {
    /// An instance was reaped. If its session is still to be closed, what else is
    /// in its sandbox may live as long.
    pub(super) fn close_session(&mut self, instance: &mut Instance, now: Instant) {
        let Some(session) = instance.session.take() else {
            return;
        };
        let closing = Closing {
            name: Rc::clone(&instance.name),
            pid: instance.pid,
            session,
            sandbox: instance.sandbox.take_if(|_| instance.alone),
            until: now + PATIENCE,
        };
        let number = closing.session.link.as_raw_fd();
        let token = Token(FIRST_CLOSER + usize::try_from(number).unwrap_or(0));
        let registry = self.poll.registry();
        let watched = registry.register(&mut SourceFd(&number), token, Interest::READABLE);
        if closing.session.over || watched.is_err() {
            return closing.end();
        }
        self.closings.0.insert(number, closing);
    }

    pub(super) fn hear_closers(&mut self, events: &Events) {
        for event in events {
            let number = event.token().0.checked_sub(FIRST_CLOSER);
            let number = number.and_then(|number| i32::try_from(number).ok());
            let Some(number) = number else { continue };
            let Some(closing) = self.closings.0.get_mut(&number) else {
                continue;
            };
            closing.session.hear();
            if closing.session.over
                && let Some(closing) = self.closings.0.remove(&number)
            {
                closing.end();
            }
        }
    }

    pub(super) fn expire_closers(&mut self, now: Instant) {
        let late = |_: &i32, closing: &mut Closing| closing.until <= now;
        for (_, closing) in self.closings.0.extract_if(late) {
            log::warn!(
                service = &*closing.name, pid = closing.pid;
                "its PAM session is not closed after {} s; not waiting any longer", PATIENCE.as_secs()
            );
            closing.end();
        }
    }
}
