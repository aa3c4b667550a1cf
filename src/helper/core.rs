//! The helper's loop: what the front asks for, then signals and deadlines.
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
use crate::helper::admin::{Asked, Control};
use crate::helper::announce::{self, Signs};
use crate::helper::cgroups::{Left, Sweeps};
use crate::helper::cpus::Cpus;
use crate::helper::foundation::Foundation;
use crate::helper::front_process::{Front, Fronts, Order};
use crate::helper::handover::executable::Executable;
use crate::helper::handover::store::Store;
use crate::helper::handover::takeover::Upgraded;
use crate::helper::handover::{Departure, Returned};
use crate::helper::instances::Instances;
use crate::helper::link::LinkError;
use crate::helper::load::Source;
use crate::helper::lot::Lot;
use crate::helper::operations::Operations;
use crate::helper::pid_file::PidFile;
use crate::helper::reload::Change;
use crate::helper::sandboxes::Sandboxes;
use crate::helper::services::Services;
use crate::helper::sessions::Closings;
use crate::helper::sockets::registry::Registry;
use crate::helper::start::{Answer, Ask, On, Starter};
use crate::helper::timers::Timers;
use crate::helper::wire::{Notice, ProtocolError, Refusal, Request};
use crate::ids::{ConnectionId, InstanceId, ServiceId};
use crate::logging::Pace;
use crate::sandbox::cgroup::Cgroups;
use crate::sandbox::launch::Launcher;
use crate::table::{Serve, Table};

const SIGNALS: Token = Token(0);
pub(super) const LINK: Token = Token(1);

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
    pub(super) sandboxes: Sandboxes,
    pub(super) lot: Lot,
    pub(super) foundation: Foundation,
    pub(super) fronts: Fronts,
    pub(super) cpus: Cpus,
    pub(super) front: Option<Front>,
    /// When the next front may start, while there is none.
    pub(super) front_due: Option<Instant>,
    /// What servers that are gone left behind and still has to end.
    pub(super) leftovers: HashMap<i32, Left>,
    /// Sessions of PAM whose servers are gone.
    pub(super) closings: Closings,
    pub(super) operations: Operations,
    pub(super) cgroups: Cgroups,
    pub(super) sweeps: Sweeps,
    /// What the front asked to end in this turn.
    pub(super) to_stop: Vec<InstanceId>,
    pub(super) phase: Phase,
    /// What a supervisor hears of us.
    pub(super) signs: Signs,
    pub(super) last_log_reopen: Option<Instant>,
    /// Of refusals: a front may ask for what it cannot have as fast as it likes.
    refusals: Pace,
    /// A table that the front has been told of and has not taken yet.
    pub(super) change: Option<Change>,
    pub(super) control: Control,
    pub(super) pid_file: Option<PidFile>,
    pub(super) executable: Executable,
    /// This usherd makes room for another.
    pub(super) departure: Option<Departure>,
    /// Where our listeners outlive us.
    pub(super) store: Option<Store>,
    /// For the next front to look after.
    pub(super) returned: Vec<Returned>,
    /// Fronts that go on with what they serve, oldest first.
    pub(super) retired: Vec<i32>,
    /// Somebody waits to hear that this program is there.
    pub(super) upgraded: Option<Upgraded>,
    pub(super) null: OwnedFd,
    pub(super) poll: Poll,
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
    pub foundation: Foundation,
    pub cgroups: Cgroups,
    pub fronts: Fronts,
    pub cpus: Cpus,
    pub null: OwnedFd,
    pub control: Control,
    pub pid_file: Option<PidFile>,
    pub executable: Executable,
    pub store: Option<Store>,
    pub signs: Signs,
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
            Signal::SIGUSR1,
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
            foundation,
            cgroups,
            fronts,
            cpus,
            null,
            control,
            pid_file,
            executable,
            store,
            signs,
        } = parts;
        Ok(Self {
            source,
            table,
            services,
            registry,
            instances: Instances::default(),
            timers: Timers::default(),
            launcher,
            sandboxes: Sandboxes::default(),
            lot: Lot::default(),
            foundation,
            fronts,
            cpus,
            front: None,
            front_due: Some(Instant::now()),
            leftovers: HashMap::new(),
            closings: Closings::default(),
            operations: Operations::default(),
            cgroups,
            sweeps: Sweeps::default(),
            to_stop: Vec::new(),
            phase: Phase::Serving,
            signs,
            last_log_reopen: None,
            refusals: Pace::new(REFUSALS_TOLD, Duration::from_secs(1)),
            change: None,
            control,
            pid_file,
            executable,
            departure: None,
            store,
            returned: Vec::new(),
            retired: Vec::new(),
            upgraded: None,
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
        let mut events = Events::with_capacity(64);
        self.open_admin();
        self.sweep_later(Instant::now());
        while !self.is_finished() {
            let now = Instant::now();
            self.reload_next(now);
            if self.depart(now) {
                self.instances.flush_journal();
                self.close_admin();
                return Ok(());
            }
            self.tend_front(now)?;
            self.orders_without_front(now);
            self.build_sandboxes(now);
            self.flush();
            self.park();
            self.tend_store();
            self.show_life(now);
            self.instances.flush_journal();
            self.wait(&mut events)?;
            let now = Instant::now();
            let is_told = |token| events.iter().any(|event| event.token() == token);
            // Somebody waits for an answer; nobody waits to be reaped.
            if is_told(LINK) {
                self.answer_requests(now);
                self.make_room(now);
            }
            if is_told(SIGNALS) {
                self.handle_signals(now);
            }
            self.expire(now);
            self.hear_keepers(&events, now);
            self.hear_closers(&events);
            self.hear_adopted(&events, now);
            let tokens: Vec<Token> = events.iter().map(mio::event::Event::token).collect();
            self.admin_events(&tokens, now);
            let to_stop = std::mem::take(&mut self.to_stop);
            self.stop_all(&to_stop, now);
        }
        self.end_retired(0);
        self.registry.close();
        self.foundation.clear();
        if let Some(journal) = &self.instances.journal {
            journal.remove();
        }
        self.close_admin();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> Result<(), Fatal> {
        let deadlines = [
            self.timers.next(),
            self.registry.next_retry(),
            self.front_due,
            self.front.as_ref().and_then(Front::patience_ends),
            self.control.next_due(),
            self.sandboxes.next_due(),
            self.lot.next_due(),
            self.closings.next_due(),
            self.operations.next_due(),
            self.departure.as_ref().and_then(Departure::next_due),
            self.signs.next_due(),
        ];
        let timeout = deadlines
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()))
            // epoll counts milliseconds and must not come back too early.
            .map(|wait| wait + Duration::from_millis(1));
        let timeout = match self.control.has_more() {
            true => Some(Duration::ZERO),
            false => timeout,
        };
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
                // A person's or a script's HUP is a wish; the kernel's says that our terminal is gone.
                Ok(Ok(Signal::SIGHUP)) if info.ssi_code == libc::SI_KERNEL => self.drain(now),
                Ok(Ok(Signal::SIGHUP)) => {
                    let _ = self.queue_reload(Asked::default()); // never too many
                }
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => self.drain(now),
                Ok(Ok(Signal::SIGUSR1)) => self.leave(now),
                _ => {}
            }
        }
        if reap {
            self.reap_all(now);
        }
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
        // More may wait, and an edge is told only once.
        self.watch_link();
    }

    /// What a front asked for before it died was admitted and has a peer that waits.
    pub(super) fn hear_out(&mut self, now: Instant) {
        while let Some(front) = self.front.as_mut().filter(|front| !front.distrusted)
            && let Ok(Some((request, descriptor))) = front.link.receive()
        {
            self.answer(request, descriptor, now);
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
                    told,
                },
                Some(fd),
            ) => {
                self.start(
                    Ask {
                        connection,
                        service,
                        listener,
                        on: On::Connection(fd, told),
                        waits: 0,
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
                        waits: 0,
                    },
                    now,
                );
            }
            (Request::Stop { instance }, _) => self.to_stop.push(instance),
            (Request::ReopenLog, _) => self.reopen_log(now),
            (Request::Alive, _) => {}
            (Request::Taken, _) => self.taken(now),
            (Request::Measure, _) => self.measure(now),
            (Request::Identify { caller }, Some(socket)) => self.tell_caller(caller, &socket),
            (Request::GiveBack { listener, told }, Some(connection)) => {
                if !self.give_back(listener, told, connection) {
                    self.lose_front(&LinkError::Malformed(ProtocolError::Unasked));
                }
            }
            (Request::Start { .. } | Request::Identify { .. } | Request::GiveBack { .. }, None) => {
                unreachable!("decoding counts descriptors")
            }
        }
    }

    pub(super) fn start(&mut self, ask: Ask, now: Instant) {
        let (connection, service) = (ask.connection, ask.service);
        self.cpus.count_start();
        let answer = self.carry_out(ask, now);
        self.tell_answer(connection, service, answer, now);
    }

    /// Tells the front what became of its request.
    pub(super) fn tell_answer(
        &mut self,
        connection: ConnectionId,
        service: ServiceId,
        answer: Answer,
        now: Instant,
    ) {
        let notice = match answer {
            Answer::Later => return,
            Answer::Started(instance) => Notice::Started {
                connection,
                instance,
                pid: self.instances.find(instance).map_or(0, |found| found.pid),
            },
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

    /// Starts a server, if it may be started.
    pub(super) fn carry_out(&mut self, ask: Ask, now: Instant) -> Answer {
        let service = ask.service;
        let draining = self.is_drained();
        let mut starter = Starter {
            services: &mut self.services,
            registry: &self.registry,
            instances: &mut self.instances,
            launcher: &mut self.launcher,
            sandboxes: &mut self.sandboxes,
            lot: &mut self.lot,
            cgroups: &mut self.cgroups,
            null: self.null.as_fd(),
            draining,
            halted: self.control.is_halted(service),
            banned: self.control.banned(),
        };
        let (answer, new_pipe) = starter.answer(ask, now);
        if new_pipe && let Err(err) = self.send_pipe(service) {
            log::warn!("unable to give the front a server's stderr: {err}");
        }
        if let Answer::Started(instance) = answer {
            self.set_runtime_limit(service, instance, now);
        }
        answer
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
        match front.take_order(now) {
            Some(Order::Plan) => {
                // The first plan of a front may be older than the change it is told of next.
                let took_all = !front.orders.contains(&Order::Plan);
                announce::when_ready(self);
                if took_all {
                    self.commit_change(now);
                }
            }
            Some(Order::Drain) => self.drained(now),
            Some(Order::Retire) => self.front_retired(now),
            Some(order @ (Order::Hold(..) | Order::Bans)) => self.order_taken(order, now),
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
            && self.closings.is_empty()
            && self.operations.is_idle()
            // Those that waited parked have ended, or their cgroups could not be removed.
            && self.launcher.is_settled()
    }
}
