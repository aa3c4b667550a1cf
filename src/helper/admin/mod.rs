//! The admin socket: `org.usherd.Admin`, served by the helper itself.
//!
//! Callers are operators; what they say is still read with suspicion: bounded,
//! without waiting, and not at all from those who may ask nothing. A reply is
//! sent when the front has taken what was asked for, so that it is true.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::Token;

use crate::admin::bans::{Banned, Bans};
use crate::control::caller::{Who, denied_text};
use crate::control::message::{CallError, Reply};
use crate::control::server::Server;
use crate::control::types::EventKind;
use crate::control::{ADMIN, ADMIN_SOCKET, types};
use crate::helper::core::Helper;
use crate::helper::foundation::FIRST_KEEPER;
use crate::helper::front_process::Order;
use crate::ids::{ConnectionId, ServiceId};
use crate::logging::Pace;

mod audit;
mod bans;
pub(in crate::helper) mod calls;
mod freeze;
mod handed;
mod hold;
mod identify;
mod isolation;
mod lists;
mod measure;
mod resources;
mod running;
mod sockets;
mod toggle;

pub(super) use audit::rule;
pub(super) use calls::changes_something;
pub use sockets::Sockets;

/// Tokens of the helper's loop: the socket, and its callers from here on.
pub(super) const SOCKET: Token = Token(2);
pub(super) const FIRST_CALLER: usize = 16;

/// Denied calls in the log per minute.
const DENIALS_TOLD: u32 = 10;

/// Reloads that may wait for one another: callers can leave theirs behind.
const MOST_QUEUED: usize = 64;

/// What a call waits for.
#[derive(Debug)]
pub enum Wait {
    /// Its reload.
    Reload,
    /// The next program, which answers; this one does if there will be none.
    Upgrade,
    /// The front to take an order.
    Taken(Order, Then),
    /// The last instance of a service that was stopped to end; how many there were.
    Ended(ServiceId, u32),
    /// An operation to end.
    Operation(u32),
    /// A server that it started to have its sandbox; whether the service was held before.
    Started(ServiceId, ConnectionId, Option<bool>),
    /// The servers of a service to stand still.
    Frozen(ServiceId),
}

/// What follows once the front has taken an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    Say(Reply),
    Drain,
    Stop,
    Freeze,
}

/// A reload that somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The caller's number; `None`: a signal.
    caller: Option<u64>,
    /// Of the table that is meant.
    token: Option<String>,
    /// Not of the table, but of the local lists that it names.
    lists: bool,
    /// It is for a service to be switched on or off,
    toggle: Option<toggle::Toggle>,
    /// or for a key of one to be set,
    set: Option<types::SetKey>,
    /// and a file was changed for it.
    edited: Option<toggle::Edited>,
}

/// Everything that belongs to the admin socket.
#[derive(Debug)]
pub struct Control {
    pub(super) server: Server<Wait>,
    sockets: Option<Sockets>,
    state_dir: Option<PathBuf>,
    pub(super) began: Instant,
    queue: VecDeque<Asked>,
    current: Option<Asked>,
    /// Services that take no request; whether the front has heard of it.
    halted: HashMap<ServiceId, bool>,
    frozen: freeze::Frozen,
    bans: Bans,
    banned: Banned,
    /// When the next one of them is over.
    ban_ends: Option<Instant>,
    /// When the next line of a local list is.
    pub(super) lists_end: Option<Instant>,
    last_measured: Option<Instant>,
    /// Starts that an operator asked for: the low part of their connection ids.
    starts: u64,
    /// Callers to go on with.
    again: Vec<usize>,
    /// There may be more to accept.
    more_callers: bool,
    denials: Pace,
    trail: audit::Trail,
}

impl Control {
    #[must_use]
    pub fn new(sockets: Option<Sockets>, state_dir: Option<PathBuf>) -> Self {
        Self {
            server: Server::new(ADMIN),
            sockets,
            trail: audit::Trail::new(state_dir.clone()),
            state_dir,
            began: Instant::now(),
            queue: VecDeque::new(),
            current: None,
            halted: HashMap::new(),
            frozen: freeze::Frozen::default(),
            bans: Bans::default(),
            banned: Banned::default(),
            ban_ends: None,
            lists_end: None,
            last_measured: None,
            starts: 0,
            again: Vec::new(),
            more_callers: false,
            denials: Pace::new(DENIALS_TOLD, Duration::from_secs(60)),
        }
    }

    /// Where what outlasts a restart is kept.
    pub(super) fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// How many there are.
    pub(super) fn callers(&self) -> usize {
        self.server.count()
    }

    /// Whether a caller has not left.
    pub(super) fn is_there(&self, number: u64) -> bool {
        self.server.place(number).is_some()
    }

    /// Whether there are control sockets.
    pub(super) fn is_served(&self) -> bool {
        self.sockets.is_some()
    }

    /// The next moment at which there is something to do here.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.server
            .next_due()
            .into_iter()
            .chain(self.ban_ends)
            .chain(self.lists_end)
            .min()
    }

    /// Whether the front knows that it must not ask for servers of `service`.
    pub(super) fn is_halted(&self, service: ServiceId) -> bool {
        self.halted.get(&service).copied().unwrap_or(false) || self.frozen.is_known(service)
    }

    pub(super) fn banned(&self) -> &Banned {
        &self.banned
    }

    /// Whether the loop must not sleep.
    pub(super) fn has_more(&self) -> bool {
        self.more_callers || !self.again.is_empty()
    }
}

impl Helper {
    /// Begins to serve the admin socket, and reads the bans.
    pub(super) fn open_admin(&mut self) {
        self.load_bans();
        let Some(sockets) = &mut self.control.sockets else {
            return;
        };
        let Some(listener) = sockets.take_admin() else {
            return;
        };
        let registry = self.poll.registry();
        if let Err(err) = self.control.server.listen(listener, registry, SOCKET) {
            log::error!("unable to serve the admin socket: {err}");
        }
    }

    /// usherd ends: nobody can ask for anything any more.
    pub(super) fn close_admin(&mut self) {
        self.control.server.close();
        if let Some(sockets) = &self.control.sockets {
            sockets.remove();
        }
    }

    /// Events of the admin socket and of its callers.
    pub(super) fn admin_events(&mut self, tokens: &[Token], now: Instant) {
        self.control.server.turn_over();
        if tokens.contains(&SOCKET) || self.control.more_callers || self.control.server.is_due(now)
        {
            self.accept_callers(now);
        }
        for token in tokens {
            match *token {
                Token(number) if (FIRST_CALLER..FIRST_KEEPER).contains(&number) => {
                    self.admin_ready(number - FIRST_CALLER, now);
                }
                Token(_) => {}
            }
        }
        for place in std::mem::take(&mut self.control.again) {
            self.admin_ready(place, now);
        }
        self.control.server.sweep(self.poll.registry(), now);
        self.audit_left(now);
        self.tend_operations(now);
        self.thaw_left();
        self.end_bans(now);
        self.renew_lists(now);
    }

    /// Takes some of those who wait. Not all: strangers can come as fast as we
    /// accept them, and the front waits for its answers meanwhile.
    fn accept_callers(&mut self, now: Instant) {
        let token_of = |place: usize| Token(FIRST_CALLER + place);
        let registry = self.poll.registry();
        let (places, more) = self.control.server.accept(registry, token_of, now);
        self.control.more_callers = more;
        for place in places {
            if self.identify_place(place) {
                self.admin_ready(place, now);
            }
        }
    }

    /// The table has changed, and with it who may do what.
    pub(super) fn identify_again(&mut self) {
        let places: Vec<usize> = self.control.server.accepted().collect();
        for place in places {
            self.identify_place(place);
        }
    }

    /// Whether somebody is there.
    fn identify_place(&mut self, place: usize) -> bool {
        let server = &self.control.server;
        let (Some(connection), Some(number)) = (server.connection(place), server.number(place))
        else {
            return false;
        };
        let known = self.operations.asker(number);
        let (who, asker) = self.identify_operator(connection.as_fd(), known);
        self.control.server.know(number, who);
        self.operations.know(number, asker);
        true
    }

    fn admin_ready(&mut self, place: usize, now: Instant) {
        let mut server = std::mem::replace(&mut self.control.server, Server::new(ADMIN));
        if let Ok(registry) = self.poll.registry().try_clone() {
            let number = server.number(place).unwrap_or(u64::MAX);
            let more = server.serve(place, &registry, now, &mut |who, call| {
                self.answer_call(who, number, call, now)
            });
            if more {
                self.control.again.push(place);
            }
        }
        let denied = server.take_denied();
        self.control.server = server;
        if let Some(who) = denied {
            self.tell_denied(who, now);
        }
    }

    /// Somebody asked who may not.
    fn tell_denied(&mut self, who: Who, now: Instant) {
        if let Some(held_back) = self.control.denials.admit(now) {
            let text = denied_text(who, ADMIN_SOCKET, held_back);
            log::warn!("{text}");
            self.tell_event(EventKind::Refused, None, &text);
            self.audit_denied(who, None, held_back);
        }
    }

    /// Somebody asked for an operation that is not for him, or not as it is asked for.
    pub(super) fn tell_refused(&mut self, who: Who, name: &str, why: &CallError, now: Instant) {
        // A slip of the keyboard is no attempt, and is not to hide one; what was no slip is
        // in the audit log in any case.
        let denied = why.is_denial();
        let Some(held_back) = self.operations.admit_refusal(who, denied, now) else {
            return;
        };
        let told = why.to_value();
        let error = told["error"]
            .as_str()
            .and_then(|name| name.rsplit('.').next());
        let reason = told["parameters"]["reason"].as_str().or(error);
        let reason = reason.unwrap_or_default();
        self.audit_denied(who, Some((name, why)), held_back);
        if !denied {
            let parameter = told["parameters"]["parameter"].as_str();
            log::info!(uid = who.uid, pid = who.pid, parameter; "operation {name} not taken up: {reason}");
            return;
        }
        let text = denied_text(who, ADMIN_SOCKET, held_back);
        let text = format!("{text}: operation {name}: {reason}");
        log::warn!("{text}");
        self.tell_event(EventKind::Refused, None, &text);
    }

    /// Answers a caller by its number; it may have left.
    pub(super) fn reply_to(&mut self, number: u64, reply: &Reply, now: Instant) {
        self.audit_done(number, reply, now);
        if let Some(place) = self.control.server.place(number) {
            self.reply_at(place, reply, now);
        }
    }

    fn reply_at(&mut self, place: usize, reply: &Reply, now: Instant) {
        if let Some(number) = self.control.server.number(place) {
            self.audit_done(number, reply, now);
        }
        let registry = self.poll.registry();
        self.control.server.answer(place, reply, registry, now);
        self.control.again.push(place);
    }

    /// One more reply for a caller who wants to hear more than the last.
    pub(super) fn tell_more(&mut self, number: u64, reply: &Reply, now: Instant) {
        let server = &mut self.control.server;
        if let Some(place) = server
            .place(number)
            .filter(|place| server.wants_more(*place))
        {
            server.answer(place, reply, self.poll.registry(), now);
        }
    }

    /// What a process that has ended said last.
    pub(super) fn hear_last_words(&mut self, number: u64, now: Instant) {
        if let Some(place) = self.control.server.place(number) {
            self.admin_ready(place, now);
        }
    }

    pub(super) fn drop_link(&mut self, number: u64) {
        if let Some(place) = self.control.server.place(number) {
            self.control.server.drop_caller(place, self.poll.registry());
        }
    }

    /// A reload is over, one way or the other; tells who asked for it.
    pub(super) fn reload_over(&mut self, outcome: Result<types::Reload, CallError>, now: Instant) {
        let Some(asked) = self.control.current.take() else {
            return;
        };
        if let (Err(_), Some(edited)) = (&outcome, &asked.edited) {
            edited.undo();
        }
        let Some(caller) = asked.caller else { return };
        if let (Ok(_), Some(toggle)) = (&outcome, &asked.toggle) {
            return self.toggled(toggle, caller, now);
        }
        let reply = match outcome {
            Ok(reload) => Reply::last(&reload),
            Err(error) => Reply::Error(error),
        };
        self.reply_to(caller, &reply, now);
    }

    /// Asks for a reload; one after the other is carried out.
    pub(super) fn queue_reload(&mut self, asked: Asked) -> Result<(), CallError> {
        let is_signal = asked.caller.is_none();
        if is_signal
            && self
                .control
                .queue
                .iter()
                .any(|one| one.caller.is_none() && (asked.lists || !one.lists))
        {
            return Ok(()); // one that begins later reads what this one would have read
        }
        if !is_signal && self.control.queue.len() >= MOST_QUEUED {
            let why = format!("{MOST_QUEUED} reloads are waiting already");
            return Err(CallError::failed(why));
        }
        self.control.queue.push_back(asked);
        Ok(())
    }

    /// Begins the next reload that was asked for, unless one is under way.
    pub(super) fn reload_next(&mut self, now: Instant) {
        while self.change.is_none()
            && !self.is_departing()
            && let Some(mut asked) = self.control.queue.pop_front()
        {
            if let (Some(toggle), Some(caller)) = (&asked.toggle, asked.caller) {
                match self.edit_for(toggle) {
                    Ok(None) if self.is_toggled(toggle) => {
                        self.toggled(toggle, caller, now);
                        continue;
                    }
                    Ok(edited) => asked.edited = edited,
                    Err(error) => {
                        log::error!("refused to {toggle}");
                        self.reply_to(caller, &Reply::Error(error), now);
                        continue;
                    }
                }
            }
            if let (Some(set), Some(caller)) = (&asked.set, asked.caller) {
                match self.edit_key(set) {
                    Ok(edited) => asked.edited = edited,
                    Err(error) => {
                        log::error!("refused to set {} of service \"{}\"", set.key, set.service);
                        self.reply_to(caller, &Reply::Error(error), now);
                        continue;
                    }
                }
            }
            let token = asked.token.clone();
            let lists = asked.lists;
            self.control.current = Some(asked);
            if lists {
                self.renew(now);
                continue;
            }
            self.reload(token.as_deref(), now);
        }
    }
}
