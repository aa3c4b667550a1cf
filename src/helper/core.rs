//! The helper's loop: signals, deadlines, then what the front asks for.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Fatal;
use crate::helper::front_process::{Front, Nursery, Order, seal_plan};
use crate::helper::instances::Instances;
use crate::helper::link::LinkError;
use crate::helper::load::Source;
use crate::helper::reload::Change;
use crate::helper::services::Services;
use crate::helper::sockets::registry::Registry;
use crate::helper::start::{Answer, Ask, On, Starter};
use crate::helper::timers::Timers;
use crate::helper::tree::Member;
use crate::helper::wire::{Notice, ProtocolError, Refusal, Request};
use crate::helper::{announce, logs};
use crate::ids::{ConnectionId, InstanceId, ServiceId};
use crate::logging::{self, Pace};
use crate::sandbox::launch::Launcher;
use crate::table::{Serve, Table};

const SIGNALS: Token = Token(0);
const LINK: Token = Token(1);

/// Requests answered before signals and deadlines get their turn again.
const REQUESTS_PER_TURN: usize = 64;

/// Refusals in the log per second.
const REFUSALS_TOLD: u32 = 50;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Asked to end: no new requests, instances get their grace.
    Draining,
}

/// Everything the privileged process knows.
#[derive(Debug)]
pub struct Helper {
    pub(super) source: Source,
    pub(super) table: Table,
    pub(super) services: Services,
    pub(super) registry: Registry,
    pub(super) instances: Instances,
    pub(super) timers: Timers,
    pub(super) launcher: Launcher,
    pub(super) nursery: Nursery,
    pub(super) front: Option<Front>,
    /// When the next front may start, while there is none.
    pub(super) front_due: Option<Instant>,
    /// What servers that are gone left behind and still has to end.
    pub(super) leftovers: HashMap<i32, Vec<Member>>,
    /// What the front asked to end in this turn.
    pub(super) to_stop: Vec<InstanceId>,
    pub(super) phase: Phase,
    /// Set once the ready line is out.
    pub(super) announced: bool,
    pub(super) last_log_reopen: Option<Instant>,
    /// Of refusals: a front may ask for what it cannot have as fast as it likes.
    refusals: Pace,
    /// A table that the front has been told of and has not taken yet.
    pub(super) change: Option<Change>,
    /// SIGHUP came meanwhile.
    pub(super) reload_again: bool,
    null: OwnedFd,
    poll: Poll,
    signals: SignalFd,
}

/// The parts that the start has put together.
#[derive(Debug)]
pub struct Parts {
    pub source: Source,
    pub table: Table,
    pub services: Services,
    pub registry: Registry,
    pub launcher: Launcher,
    pub nursery: Nursery,
    pub null: OwnedFd,
}

impl Helper {
    /// Blocks the signals it handles, so that none is missed between turns.
    pub fn new(parts: Parts) -> Result<Self, Fatal> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |err: io::Error| Fatal(format!("unable to {what}: {err}"))
        };
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGINT,
        ] {
            mask.add(signal);
        }
        mask.thread_block()
            .map_err(|err| failed("block signals")(err.into()))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|err| failed("watch signals")(err.into()))?;
        let poll = Poll::new().map_err(failed("make a poll set"))?;
        poll.registry()
            .register(
                &mut SourceFd(&signals.as_fd().as_raw_fd()),
                SIGNALS,
                Interest::READABLE,
            )
            .map_err(failed("watch signals"))?;
        let Parts {
            source,
            table,
            services,
            registry,
            launcher,
            nursery,
            null,
        } = parts;
        Ok(Self {
            source,
            table,
            services,
            registry,
            instances: Instances::default(),
            timers: Timers::default(),
            launcher,
            nursery,
            front: None,
            front_due: Some(Instant::now()),
            leftovers: HashMap::new(),
            to_stop: Vec::new(),
            phase: Phase::Serving,
            announced: false,
            last_log_reopen: None,
            refusals: Pace::new(REFUSALS_TOLD, Duration::from_secs(1)),
            change: None,
            reload_again: false,
            null,
            poll,
            signals,
        })
    }

    /// Runs until a stop request has ended every instance.
    ///
    /// Children are reaped and deadlines kept before requests are answered, so
    /// a slot freed in this turn can be used in this turn.
    pub fn run(&mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(8);
        while !self.is_finished() {
            let now = Instant::now();
            self.tend_front(now)?;
            self.flush();
            self.wait(&mut events)?;
            let now = Instant::now();
            self.handle_signals(now);
            self.expire(now);
            if events.iter().any(|event| event.token() == LINK) {
                self.answer_requests(now);
            }
            let to_stop = std::mem::take(&mut self.to_stop);
            self.stop_all(&to_stop, now);
        }
        self.registry.close();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> Result<(), Fatal> {
        let deadlines = [
            self.timers.next(),
            self.registry.next_retry(),
            self.front_due,
            self.front.as_ref().and_then(Front::patience_ends),
        ];
        let timeout = deadlines
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()))
            // epoll counts milliseconds and must not come back too early.
            .map(|wait| wait + Duration::from_millis(1));
        match self.poll.poll(events, timeout) {
            Err(err) if err.kind() != io::ErrorKind::Interrupted => {
                Err(Fatal(format!("unable to wait for events: {err}")))
            }
            _ => Ok(()),
        }
    }

    fn handle_signals(&mut self, now: Instant) {
        let mut reap = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => reap = true,
                Ok(Ok(Signal::SIGHUP)) => self.reload(now),
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => self.drain(now),
                _ => {}
            }
        }
        if reap {
            self.reap_all(now);
        }
    }

    /// Keeps a front running: starts one that is due, replaces one that is silent.
    fn tend_front(&mut self, now: Instant) -> Result<(), Fatal> {
        if let Some(front) = &self.front
            && front.patience_ends().is_some_and(|at| now >= at)
        {
            log::error!(pid = front.pid; "the front has been silent for too long; replacing it");
            self.end_front();
        }
        if self.front_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        if self.nursery.is_hopeless() {
            return Err(Fatal(
                "the front cannot be kept running; see the lines above".into(),
            ));
        }
        self.front_due = None;
        if self.phase == Phase::Draining {
            return Ok(());
        }
        if let Err(err) = self.start_front(now) {
            log::error!("unable to start the front: {err}");
            self.end_front();
            self.front_due = Some(now + Duration::from_secs(1));
        }
        Ok(())
    }

    /// Starts a front and tells it everything: the plan, the listeners, the
    /// instances that run.
    fn start_front(&mut self, now: Instant) -> io::Result<()> {
        let front = self
            .nursery
            .start(self.table.daemon.user.as_ref(), &mut self.launcher, now)?;
        self.poll.registry().register(
            &mut SourceFd(&front.link.as_fd().as_raw_fd()),
            LINK,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        log::debug!(pid = front.pid; "front started");
        self.front = Some(front);
        self.send_log()?;
        self.send_plan()?;
        for instance in self.instances.iter() {
            let notice = Notice::Running {
                instance: instance.id,
                service: instance.service,
                listener: instance.listener,
                source: instance.peer,
            };
            if let Some(front) = &mut self.front {
                front.link.notify(&notice);
            }
        }
        self.registry.listen_again();
        if let Some(front) = &mut self.front {
            front.give_listeners(self.registry.iter())?;
        }
        let pipes: Vec<_> = self.services.pipes.keys().copied().collect();
        for service in pipes {
            self.send_pipe(service)?;
        }
        Ok(())
    }

    /// Tells the front which table is in force.
    fn send_plan(&mut self) -> io::Result<()> {
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let epoch = self.nursery.epoch;
        let plan = self.services.plan(&self.table, self.registry.iter(), epoch);
        front.order(Order::Plan, Some(seal_plan(&plan)?));
        Ok(())
    }

    fn send_pipe(&mut self, service: ServiceId) -> io::Result<()> {
        if let (Some(front), Some(pipe)) = (&mut self.front, self.services.pipes.get(&service)) {
            let read = pipe.read.try_clone()?;
            front
                .link
                .notify_with(&Notice::Stderr { service }, vec![read]);
        }
        Ok(())
    }

    pub(super) fn send_log(&mut self) -> io::Result<()> {
        // A log that cannot be had is no reason to serve nobody: the front asks again.
        let settings = &self.table.daemon.log;
        let descriptor = logs::open(settings).or_else(|_| logging::share())?;
        if let Some(front) = &mut self.front {
            front.link.notify_with(&Notice::Log, vec![descriptor]);
        }
        Ok(())
    }

    /// Sends what is queued; a front that cannot take it is replaced.
    fn flush(&mut self) {
        let Some(front) = &mut self.front else { return };
        if let Err(err) = front.link.flush() {
            self.lose_front(&err);
        }
    }

    /// Ends a front that broke the rules. It is reaped, and replaced then.
    fn lose_front(&mut self, err: &LinkError) {
        let Some(front) = &mut self.front else { return };
        let pid = front.pid;
        front.distrusted |= matches!(err, LinkError::Malformed(_));
        match err {
            LinkError::Closed => {}
            LinkError::Malformed(err) => {
                log::error!(pid = pid; "the front is not to be trusted: {err}");
            }
            LinkError::NotReading => {
                log::error!(pid = pid; "the front does not read; replacing it");
            }
            LinkError::Io(err) => log::error!(pid = pid; "unable to speak to the front: {err}"),
        }
        self.end_front();
    }

    pub(super) fn end_front(&mut self) {
        let Some(front) = &mut self.front else { return };
        if std::mem::replace(&mut front.ended, true) {
            return;
        }
        // Our own child, not reaped yet: the number is still its own.
        let pid = nix::unistd::Pid::from_raw(front.pid);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }

    fn answer_requests(&mut self, now: Instant) {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(front) = self.front.as_mut().filter(|front| !front.distrusted) else {
                return;
            };
            match front.link.receive() {
                Ok(Some((request, descriptor))) => {
                    front.heard(now);
                    self.answer(request, descriptor, now);
                }
                Ok(None) => return,
                Err(err) => return self.lose_front(&err),
            }
        }
        self.look_again();
    }

    /// What a front asked for before it died was admitted and has a peer that waits.
    pub(super) fn hear_out(&mut self, now: Instant) {
        while let Some(front) = self.front.as_mut().filter(|front| !front.distrusted)
            && let Ok(Some((request, descriptor))) = front.link.receive()
        {
            self.answer(request, descriptor, now);
        }
    }

    /// More may wait, and an edge is told only once.
    fn look_again(&mut self) {
        let Some(front) = &self.front else { return };
        let fd = front.link.as_fd().as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(err) = self
            .poll
            .registry()
            .reregister(&mut SourceFd(&fd), LINK, both)
        {
            log::error!("unable to watch the front: {err}");
        }
    }

    /// Decoded already, so well-formed; whether it is allowed is asked next.
    fn answer(&mut self, request: Request, descriptor: Option<OwnedFd>, now: Instant) {
        match (request, descriptor) {
            (
                Request::Start {
                    connection,
                    service,
                    listener,
                },
                Some(fd),
            ) => {
                self.start(
                    Ask {
                        connection,
                        service,
                        listener,
                        on: On::Connection(fd),
                    },
                    now,
                );
            }
            (
                Request::StartWait {
                    connection,
                    service,
                    listener,
                    peer,
                },
                _,
            ) => {
                self.start(
                    Ask {
                        connection,
                        service,
                        listener,
                        on: On::Listener(peer),
                    },
                    now,
                );
            }
            (Request::Stop { instance }, _) => self.to_stop.push(instance),
            (Request::ReopenLog, _) => self.reopen_log(now),
            (Request::Alive, _) => {}
            (Request::Taken, _) => self.taken(now),
            (Request::Start { .. }, None) => unreachable!("decoding counts descriptors"),
        }
    }

    fn start(&mut self, ask: Ask, now: Instant) {
        let (connection, service) = (ask.connection, ask.service);
        let draining = self.is_drained();
        let mut starter = Starter {
            services: &mut self.services,
            registry: &self.registry,
            instances: &mut self.instances,
            launcher: &mut self.launcher,
            null: self.null.as_fd(),
            draining,
        };
        let (answer, new_pipe) = starter.answer(ask, now);
        if new_pipe && let Err(err) = self.send_pipe(service) {
            log::warn!("unable to give the front a server's stderr: {err}");
        }
        let notice = match answer {
            Answer::Started(instance) => {
                self.set_runtime_limit(service, instance, now);
                Notice::Started {
                    connection,
                    instance,
                }
            }
            Answer::Refused(reason) => {
                self.log_refusal(service, connection, reason, now);
                Notice::Refused { connection, reason }
            }
            Answer::Failed(failed) => {
                self.log_failure(service, connection, &failed);
                Notice::Failed {
                    connection,
                    step: failed.step,
                    errno: failed.errno,
                }
            }
        };
        if let Some(front) = &mut self.front {
            front.link.notify(&notice);
        }
    }

    fn log_refusal(
        &mut self,
        service: ServiceId,
        connection: ConnectionId,
        reason: Refusal,
        now: Instant,
    ) {
        let Some(held_back) = self.refusals.admit(now) else {
            return;
        };
        let before = (held_back > 0).then_some(held_back);
        let service = self.services.find(service);
        let name = service.map_or("?", |service| &service.name);
        log::warn!(service = name, conn:% = connection, held_back = before; "refused: {reason}");
    }

    /// Whether the plan has anything that must connect to somewhere.
    #[must_use]
    pub(super) fn forwards(table: &Table) -> bool {
        let mut enabled = table.services.iter().filter(|service| service.enabled);
        enabled.any(|service| matches!(service.serve, Serve::Forward(_)))
    }

    /// The front has carried out what it was told.
    fn taken(&mut self, now: Instant) {
        let Some(front) = &mut self.front else { return };
        match front.orders.pop_front() {
            Some(Order::Plan) => {
                // The first plan of a front may be older than the change it is told of next.
                let took_all = !front.orders.contains(&Order::Plan);
                announce::when_ready(self);
                if took_all {
                    self.commit_change(now);
                }
            }
            Some(Order::Drain) => self.drained(now),
            None => self.lose_front(&LinkError::Malformed(ProtocolError::Unasked)),
        }
    }

    /// Whether requests are refused because usherd ends. Those that the front
    /// asked for before it heard of that are still served.
    pub(super) fn is_drained(&self) -> bool {
        let heard = |front: &Front| !front.orders.contains(&Order::Drain);
        self.phase == Phase::Draining && self.front.as_ref().is_none_or(heard)
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Draining
            && self.front.is_none()
            && self.instances.is_empty()
            && self.leftovers.is_empty()
    }
}
