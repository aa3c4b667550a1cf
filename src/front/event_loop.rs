//! The loop: one thread, one poll, the same order every turn.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};

use crate::admin::bans::Banned;
use crate::error::Exit;
use crate::front::accept_pause::AcceptPause;
use crate::front::board::Board;
use crate::front::cage::Needs;
use crate::front::deadlines::{Alarm, Deadlines, Timer};
use crate::front::events::Ring;
use crate::front::instances::Instances;
use crate::front::links::{Link, Packet};
use crate::front::pending;
use crate::front::plan::{Disabled, MuxPlan, ServePlan};
use crate::front::refusals::Refusals;
use crate::front::retire::Retiring;
use crate::front::roster::Roster;
use crate::front::services::{Listener, Senses, Service};
use crate::front::slots::{Slots, Source};
use crate::front::status::Status;
use crate::front::stderr::Pipe;
use crate::front::talks::Talk;
use crate::front::wait::{Slot, SlotKey};
use crate::helper::wire::Request;
use crate::ids::{ConnectionId, ServiceId};
use crate::stats::Stats;
use crate::table::{Undecided, Upstream};

const EVENTS_PER_TURN: usize = 256;
/// The helper hears from us this often.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often to ask for a log that works.
const LOG_RETRY: Duration = Duration::from_secs(2);
/// How soon to try again when the helper's socket is out of something that tells no event.
const LINK_RETRY: Duration = Duration::from_millis(50);

/// Everything the front knows. The fields belong to the files of the same names.
#[derive(Debug)]
pub struct Front {
    poll: Option<Poll>,
    pub(super) registry: Registry,
    pub(super) link: Link,
    pub(super) services: Roster<Service>,
    pub(super) listeners: Roster<Listener>,
    pub(super) names: Rc<[MuxPlan]>,
    pub(super) instances: Instances,
    pub(super) slots: BTreeMap<SlotKey, Slot>,
    pub(super) talks: Slots<Talk>,
    pub(super) pipes: BTreeMap<ServiceId, Pipe>,
    pub(super) pending: pending::Table,
    pub(super) pending_alarm: Alarm,
    pub(super) held: pending::Queues,
    pub(super) bounds: Undecided,
    pub(super) deadlines: Deadlines,
    pub(super) refusals: Refusals,
    pub(super) stats: Stats,
    pub(super) senses: Senses,
    pub(super) accept_pause: AcceptPause,
    /// Had more to do than one turn allows; their next event may never come.
    pub(super) postponed: VecDeque<Source>,
    /// Their listeners may have to enter or leave the poll set.
    pub(super) touched: Vec<ServiceId>,
    pub(super) epoch: u32,
    pub(super) fronts: u32,
    /// A plan has been read.
    pub(super) planned: bool,
    pub(super) count: u64,
    pub(super) draining: bool,
    pub(super) retiring: Retiring,
    /// The loop runs.
    pub(super) serving: bool,
    /// Listeners of the first plan that are still to come; `None` after that.
    pub(super) awaited: Option<usize>,
    pub(super) scratch: Box<[u8]>,
    pub(super) log: super::LogState,
    pub(super) banned: Banned,
    pub(super) status: Status,
    pub(super) board: Board,
    pub(super) events: Ring,
    /// What this host does not let the front give up.
    pub(super) degraded: Vec<String>,
    /// Services in the order of the table, and those that it switches off.
    pub(super) order: Vec<ServiceId>,
    pub(super) disabled: Vec<Disabled>,
    pub(super) helper_pid: i32,
    pub(super) daemon_began: Instant,
    log_asked: Option<Instant>,
    /// The helper has not taken all that was sent.
    link_blocked: bool,
    ended: Option<Exit>,
}

impl Front {
    pub fn new(link: Link) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        registry.register(
            &mut SourceFd(&link.as_fd().as_raw_fd()),
            Source::Helper.into(),
            Interest::READABLE,
        )?;
        let mut deadlines = Deadlines::default();
        deadlines.add(Instant::now(), Timer::Alive);
        Ok(Self {
            poll: Some(poll),
            registry,
            link,
            services: Roster::default(),
            listeners: Roster::default(),
            names: Rc::new([]),
            instances: Instances::default(),
            slots: BTreeMap::new(),
            talks: Slots::default(),
            pipes: BTreeMap::new(),
            pending: pending::Table::default(),
            pending_alarm: Alarm::default(),
            held: pending::Queues::default(),
            bounds: Undecided::default(),
            deadlines,
            refusals: Refusals::default(),
            stats: Stats::default(),
            senses: Senses::default(),
            accept_pause: AcceptPause::new()?,
            postponed: VecDeque::new(),
            touched: Vec::new(),
            epoch: 0,
            fronts: 0,
            planned: false,
            count: 0,
            draining: false,
            retiring: Retiring::default(),
            serving: false,
            awaited: None,
            scratch: vec![0; super::SCRATCH].into(),
            log: super::LogState::default(),
            banned: Banned::default(),
            status: Status::default(),
            board: Board::default(),
            events: Ring::default(),
            degraded: Vec::new(),
            order: Vec::new(),
            disabled: Vec::new(),
            helper_pid: 0,
            daemon_began: Instant::now(),
            log_asked: None,
            link_blocked: false,
            ended: None,
        })
    }

    /// Reads what the helper says until the first plan is there.
    pub fn wait_for_plan(&mut self) -> Result<(), Exit> {
        while !self.planned && self.ended.is_none() {
            match self.link.wait_for_packet() {
                Ok(packet) => self.take_packet(packet, Instant::now()),
                Err(err) => self.end_link(&err),
            }
        }
        self.ended.map_or(Ok(()), Err)
    }

    /// What the plan needs beyond serving what is accepted.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for service in self.services.iter() {
            if let ServePlan::Forward(forward) = &service.serve {
                needs.connect = true;
                let is_abstract = |to: &Upstream| matches!(to, Upstream::Abstract(_));
                needs.connect_abstract |= forward.to.iter().any(is_abstract);
            }
        }
        needs
    }

    /// Runs until the helper is gone, or everything is over after a drain:
    /// conversations, and servers, whose stderr is read here.
    ///
    /// Each turn takes the same steps in the same order. What the helper says
    /// (exits, mostly) and overdue work come before anything new is let in, so
    /// a place that was freed in this turn can be used in this turn.
    pub fn run(&mut self) -> Exit {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let Some(mut poll) = self.poll.take() else {
            return Exit::System;
        };
        self.serving = true;
        self.serve_first_plan(Instant::now());
        loop {
            if let Err(err) = poll.poll(&mut events, self.patience())
                && err.kind() != io::ErrorKind::Interrupted
            {
                log::error!("unable to wait for events: {err}");
                return Exit::System;
            }
            self.turn(&events, Instant::now());
            if let Some(exit) = self.ended {
                self.flush_pipes();
                self.tell_refusals();
                return exit;
            }
        }
    }

    /// Answers the first plan, once its listeners are watched and not before
    /// the cage is closed.
    pub(super) fn serve_first_plan(&mut self, now: Instant) {
        if self.serving && self.awaited.take_if(|awaited| *awaited == 0).is_some() {
            self.rebalance(now);
            self.link.send(&Request::Taken, None);
            self.link.flush();
        }
    }

    fn turn(&mut self, events: &Events, now: Instant) {
        self.talks.turn_over();
        self.pending.turn_over();
        self.status.turn_over();
        if events
            .iter()
            .any(|event| Source::from(event.token()) == Source::Helper)
        {
            self.read_notices(now);
        }
        self.expire(now);
        let left_over = std::mem::take(&mut self.postponed);
        for event in events {
            match event.token().into() {
                Source::Pending(place) => {
                    let closed = event.is_read_closed();
                    // Not a hang-up: a Unix peer that has sent all and left is served.
                    let reset = event.is_error();
                    self.pending_ready(place, closed, reset, now);
                }
                source => self.dispatch(source, now),
            }
        }
        for source in left_over {
            self.resume(source, now);
        }
        self.retired(now);
        self.tell_watchers(now);
        self.ask_for_log(now);
        self.flush_link();
        self.rebalance(now);
        let over = self.talks.is_empty() && self.instances.is_empty();
        if self.draining && over && self.link.is_flushed() {
            self.ended.get_or_insert(Exit::Ok);
        }
    }

    /// Room in the link is asked for only while it lacks: otherwise every
    /// packet that the helper reads would wake us.
    fn flush_link(&mut self) {
        self.link.flush();
        let blocked = !self.link.is_flushed();
        if blocked == self.link_blocked {
            return;
        }
        let mut interest = Interest::READABLE;
        if blocked {
            interest |= Interest::WRITABLE;
        }
        let fd = self.link.as_fd().as_raw_fd();
        let source = Source::Helper.into();
        match self
            .registry
            .reregister(&mut SourceFd(&fd), source, interest)
        {
            Ok(()) => self.link_blocked = blocked,
            Err(err) => log::error!("unable to watch the helper: {err}"),
        }
    }

    /// How long there is nothing to do without an event.
    fn patience(&self) -> Option<Duration> {
        if !self.postponed.is_empty() && (self.may_accept() || self.has_postponed_bytes()) {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let next = self.deadlines.next();
        let left = next.map(|at| at.saturating_duration_since(now));
        if self.link.is_flushed() {
            left
        } else {
            Some(left.unwrap_or(LINK_RETRY).min(LINK_RETRY))
        }
    }

    /// Sends one readiness event to the part of the front that owns it.
    fn dispatch(&mut self, source: Source, now: Instant) {
        match source {
            Source::Helper => {} // read at the top of the turn, flushed at its end
            Source::Listener(id) => self.listener_ready(id, now),
            Source::Talk(slot, side) => self.talk_ready(slot, side, now),
            Source::Pipe(service) => self.pipe_ready(service, now),
            Source::StatusSocket => self.status_ready(now),
            Source::Caller(place) => self.caller_ready(place, now),
            Source::Pending(_) => {} // needs more of the event than this
        }
    }

    fn resume(&mut self, source: Source, now: Instant) {
        if let Source::Listener(id) = source
            && let Some(listener) = self.listeners.get_mut(id)
        {
            listener.postponed = false;
        }
        self.dispatch(source, now);
    }

    /// Whether something other than a listener waits for its next turn.
    fn has_postponed_bytes(&self) -> bool {
        let is_listener = |source: &Source| matches!(source, Source::Listener(_));
        !self.postponed.iter().all(is_listener)
    }

    /// Whether connections may be accepted and servers asked for right now.
    pub(super) fn may_accept(&self) -> bool {
        !self.accept_pause.is_on() && !self.link.is_congested()
    }

    fn read_notices(&mut self, now: Instant) {
        loop {
            match self.link.receive() {
                Ok(Some(packet)) => self.take_packet(packet, now),
                Ok(None) => return,
                Err(err) => return self.end_link(&err),
            }
            if self.ended.is_some() {
                return;
            }
        }
    }

    pub(super) fn take_packet(&mut self, packet: Packet, now: Instant) {
        let mut descriptors = packet.descriptors;
        for notice in packet.notices {
            self.take_notice(notice, &mut descriptors, now);
        }
    }

    fn end_link(&mut self, err: &super::links::LinkError) {
        use super::links::LinkError;
        if self.draining && self.is_retiring() {
            return self.leave_helper();
        }
        self.ended = Some(match err {
            LinkError::Ended => {
                log::debug!("the helper is gone");
                Exit::Ok
            }
            LinkError::Malformed(what) => {
                log::error!("malformed packet from the helper: {what}");
                Exit::System
            }
            LinkError::Io(err) => {
                log::error!("unable to read from the helper: {err}");
                Exit::System
            }
        });
    }

    /// The front cannot go on.
    pub(super) fn fail(&mut self, what: &dyn std::fmt::Display) {
        log::error!("{what}");
        self.ended = Some(Exit::System);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.deadlines.pop_due(now) {
            match timer {
                Timer::Alive => self.alive(now),
                Timer::Accept => self.accept_again(now),
                Timer::Refusals => self.tell_refusals(),
                Timer::Service(id) => self.service_due(id, now),
                Timer::Talk(slot) => self.talk_due(slot, now),
                Timer::Pipe(service) => self.pipe_due(service, now),
                Timer::Pending => self.pending_due(now),
                Timer::Callers => self.sweep_due(now),
                Timer::Retire => {} // looked at in each turn
            }
        }
    }

    fn alive(&mut self, now: Instant) {
        self.link.send(&Request::Alive, None);
        for service in self.services.iter_mut() {
            service.tally.forget_idle(now);
        }
        self.board.tidy(now);
        self.deadlines.add(now + ALIVE_INTERVAL, Timer::Alive);
    }

    /// A log that went away (syslogd was restarted) is the helper's to open.
    fn ask_for_log(&mut self, now: Instant) {
        let asked_lately = |at: Instant| now.saturating_duration_since(at) < LOG_RETRY;
        if crate::logging::is_broken() && !self.log_asked.is_some_and(asked_lately) {
            self.log_asked = Some(now);
            self.link.send(&Request::ReopenLog, None);
        }
    }

    fn service_due(&mut self, id: ServiceId, now: Instant) {
        if let Some(service) = self.services.get_mut(id)
            && service.alarm.rings(now)
        {
            self.touch(id);
        }
    }

    /// Notes that listeners of this service may have to enter or leave the poll set.
    pub(super) fn touch(&mut self, id: ServiceId) {
        if let Some(service) = self.services.get_mut(id)
            && !service.touched
        {
            service.touched = true;
            self.touched.push(id);
        }
    }

    pub(super) fn next_connection(&mut self) -> ConnectionId {
        self.count += 1;
        ConnectionId::new(self.epoch, self.count)
    }

    /// Any number, a different one each time.
    pub(super) fn noise(&self) -> u32 {
        let mixed = self
            .count
            .wrapping_add(1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u32::try_from(mixed >> 40).unwrap_or(0)
    }
}
