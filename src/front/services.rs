//! The services and listeners of the plan, with what happened to them since.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::sysinfo::sysinfo;
use socket2::Socket;

use crate::control::types::Exit;
use crate::front::admit::{Facts, LOAD_INTERVAL, Tally};
use crate::front::builtin::datagram::Responder;
use crate::front::deadlines::Alarm;
use crate::front::hours::{self, WeekTime};
use crate::front::limits::BackOff;
use crate::front::pending::routes::Routes;
use crate::front::plan::{ListenerPlan, ServePlan, ServicePlan};
use crate::front::roster::Keyed;
use crate::ids::{ListenerId, ServiceId};
use crate::stats::Counters;
use crate::table::{OnFull, Routing, Rules};

#[derive(Debug)]
pub struct Service {
    pub id: ServiceId,
    pub name: Box<str>,
    pub serve: ServePlan,
    pub rules: Rules,
    pub routing: Routing,
    pub tally: Tally,
    /// Come with the first request.
    pub counters: Option<Box<Counters>>,
    /// After failed starts.
    pub back_off: BackOff,
    pub alarm: Alarm,
    pub listeners: Vec<ListenerId>,
    /// Removed from the table; its instances are still counted.
    pub gone: bool,
    /// Waits for its listeners to be looked at, at the end of the turn.
    pub touched: bool,
    /// Takes no request: an operator drained or stopped it.
    pub halted: bool,
    pub description: Option<Box<str>>,
    /// Why no server of it can be started.
    pub blocked: Option<Box<str>>,
    /// How its last instance ended, and when.
    pub last_exit: Option<(Exit, Instant)>,
    /// Counts those who watch its page, and itself; comes with the first.
    pub watchers: Option<Arc<()>>,
}

#[derive(Debug)]
pub struct Listener {
    pub id: ListenerId,
    /// Never empty; all but the first only where `match` tells them apart.
    pub services: Box<[ServiceId]>,
    /// As in the table.
    pub label: Box<str>,
    /// How they are told apart; `None`: everything is for the first.
    pub routes: Option<Rc<Routes>>,
    /// Its connections that are not decided yet.
    pub undecided: u32,
    pub datagram: bool,
    /// Comes after the plan, maybe much later.
    pub socket: Option<Socket>,
    /// In the poll set.
    pub polled: bool,
    /// Has more than one turn's share of requests.
    pub postponed: bool,
    /// Answers datagrams of a built-in service.
    pub responder: Option<Box<Responder>>,
}

impl Service {
    #[must_use]
    pub fn new(plan: ServicePlan) -> Self {
        Self {
            id: plan.id,
            name: plan.name.into(),
            serve: plan.serve,
            rules: plan.rules,
            routing: plan.routing,
            tally: Tally::default(),
            counters: None,
            back_off: BackOff::default(),
            alarm: Alarm::default(),
            listeners: Vec::new(),
            gone: false,
            touched: false,
            halted: false,
            description: plan.description.map(Into::into),
            blocked: plan.blocked.map(Into::into),
            last_exit: None,
            watchers: None,
        }
    }

    /// Whether the server gets `listener` itself. A datagram socket is never
    /// shared with a program that did not get it.
    #[must_use]
    pub fn hands_over(&self, listener: &Listener) -> bool {
        matches!(self.serve, ServePlan::Exec) && (self.rules.wait || listener.datagram)
    }

    /// Whether requests beyond the limits stay in the kernel's queue.
    #[must_use]
    pub fn queues(&self) -> bool {
        self.rules.on_full == OnFull::Queue
    }
}

impl Listener {
    /// The only service, or the first in the table of those that share it.
    #[must_use]
    pub fn service(&self) -> ServiceId {
        self.services
            .first()
            .copied()
            .unwrap_or(ServiceId(u32::MAX))
    }

    #[must_use]
    pub fn new(plan: &ListenerPlan) -> Self {
        Self {
            id: plan.id,
            services: plan.services.clone().into(),
            label: plan.label.clone().into(),
            routes: None,
            undecided: 0,
            datagram: plan.datagram,
            socket: None,
            polled: false,
            postponed: false,
            responder: None,
        }
    }
}

impl Keyed for Service {
    type Id = ServiceId;
    fn id(&self) -> ServiceId {
        self.id
    }
}

impl Keyed for Listener {
    type Id = ListenerId;
    fn id(&self) -> ListenerId {
        self.id
    }
}

/// Looks at the host's clock and load, where a rule asks for them.
#[derive(Debug, Default)]
pub struct Senses {
    load: f64,
    load_read: Option<Instant>,
}

impl Senses {
    pub fn facts(&mut self, rules: &Rules, now: Instant) -> Facts {
        if rules.max_load.is_some() {
            self.read_load(now);
        }
        let local = if rules.hours.is_empty() {
            WeekTime::default()
        } else {
            hours::now()
        };
        Facts {
            now,
            local,
            load: self.load,
        }
    }

    fn read_load(&mut self, now: Instant) {
        let fresh = |read: Instant| now.saturating_duration_since(read) < LOAD_INTERVAL;
        if self.load_read.is_some_and(fresh) {
            return;
        }
        self.load_read = Some(now);
        self.load = sysinfo().map_or(0.0, |info| info.load_average().0);
    }
}
