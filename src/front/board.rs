//! Answers what the front's own conversations ask about it.
//!
//! Figures are made when somebody asks and at no other time. All who watch get
//! the same snapshot, made once.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::types;
use crate::front::builtin::status::snapshot::{self, Row, Total, Usage};
use crate::front::builtin::status::{Snapshot, page};
use crate::front::conversation::{Question, Told};
use crate::front::event_loop::Front;
use crate::front::events::{self, Event, Watcher};
use crate::front::status::disabled;
use crate::ids::ServiceId;
use crate::stats::prometheus;

/// Who watches a service's page gets a snapshot this often,
const INTERVAL: Duration = Duration::from_secs(1);
/// and a longer table is told less often, so that it never takes a great part of the time.
const FOR_EACH_SERVICE: Duration = Duration::from_millis(1);
/// A snapshot is as good as new for this long.
const FRESH: Duration = Duration::from_millis(250);
/// So many may watch one service's page.
const WATCHERS: usize = 32;
/// Events that a page begins with, and that are told at once.
const EVENTS: usize = 50;

/// The last snapshot, while somebody may want it.
#[derive(Debug, Default)]
pub struct Board(Option<(Instant, Rc<str>)>);

/// The place of one who watches: given back by dropping it.
#[derive(Debug)]
pub struct Seat {
    watcher: Watcher,
    _place: Arc<()>,
}

/// What one who watches is told next.
#[derive(Debug)]
pub struct News {
    /// Messages of an event stream.
    pub snapshot: Rc<str>,
    pub events: Option<Rc<str>>,
    pub seat: Seat,
    /// When to ask for more.
    pub next: Instant,
}

#[cfg(test)]
impl News {
    /// A snapshot of this size, for tests of what becomes of it.
    pub fn sample(size: usize, next: Instant) -> Self {
        Self {
            snapshot: "x".repeat(size).into(),
            events: None,
            seat: Seat {
                watcher: crate::front::events::Ring::default().watch(None, Vec::new(), 0),
                _place: Arc::default(),
            },
            next,
        }
    }
}

impl Board {
    /// Forgets what nobody asked for again.
    pub fn tidy(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > 2 * INTERVAL;
        self.0.take_if(|(made, _)| is_old(*made));
    }
}

impl Front {
    /// Answers a conversation of service `id`.
    pub(super) fn answer_question(
        &mut self,
        id: ServiceId,
        question: Question,
        now: Instant,
    ) -> Told {
        match question {
            Question::Metrics => {
                let (daemon, statistics) = (self.show_daemon(now), self.statistics(None));
                Told::Text(prometheus::text(&daemon, &statistics))
            }
            Question::Snapshot => Told::Text(snapshot::json(&self.snapshot(now))),
            Question::Page => {
                let mut watcher = self.events.watch(None, Vec::new(), EVENTS);
                let (events, _) = self.events.read(&mut watcher, EVENTS);
                let events = self.show_events(&events);
                Told::Text(page::page(&self.snapshot(now), &events))
            }
            Question::News(seat) => self.tell_news(id, seat, now),
        }
    }

    fn tell_news(&mut self, id: ServiceId, seat: Option<Seat>, now: Instant) -> Told {
        let Some(mut seat) = seat.or_else(|| self.take_seat(id)) else {
            return Told::NoMore;
        };
        let service = self.services.get(id);
        if self.draining || service.is_none_or(|service| service.gone || service.halted) {
            return Told::NoMore;
        }
        let (made, snapshot) = self.snapshot_message(now);
        let (events, lost) = self.events.read_newest(&mut seat.watcher, EVENTS);
        let events = (!events.is_empty() || lost > 0).then(|| {
            let events = self.show_events(&events);
            let news = snapshot::News { events, lost };
            format!("event: events\ndata: {}\n\n", snapshot::json(&news)).into()
        });
        let services = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let interval = FOR_EACH_SERVICE.saturating_mul(services).max(INTERVAL);
        Told::News(News {
            snapshot,
            events,
            seat,
            next: made + interval,
        })
    }

    fn take_seat(&mut self, id: ServiceId) -> Option<Seat> {
        let watchers = &mut self.services.get_mut(id)?.watchers;
        let place = Arc::clone(watchers.get_or_insert_default());
        // One is the service's own.
        (Arc::strong_count(&place) <= WATCHERS + 1).then(|| Seat {
            watcher: self.events.watch(None, Vec::new(), EVENTS),
            _place: place,
        })
    }

    fn snapshot_message(&mut self, now: Instant) -> (Instant, Rc<str>) {
        if let Some((made, message)) = &self.board.0
            && now.saturating_duration_since(*made) < FRESH
        {
            return (*made, Rc::clone(message));
        }
        let json = snapshot::json(&self.snapshot(now));
        let message: Rc<str> = format!("event: snapshot\ndata: {json}\n\n").into();
        self.board.0 = Some((now, Rc::clone(&message)));
        (now, message)
    }

    fn snapshot(&mut self, now: Instant) -> Snapshot {
        // The answer is there for the next one.
        if !self.instances.runs_none() {
            self.ask_for_usage();
        }
        let usage = self.usage_by_service();
        let usage = |id: &ServiceId| usage.get(id).copied().unwrap_or_default();
        let moving = self.moving();
        let total = self.total_figures(&moving);
        let mut services = Vec::with_capacity(self.order.len());
        for id in self.order.clone() {
            let figures = self.figures_of(id, &moving);
            if let Some(service) = self.show_service(id, &figures, now) {
                services.push(Row::new(service, figures, usage(&id)));
            }
        }
        let off = self.disabled.iter().map(disabled);
        let none = types::Statistics::default;
        services.extend(off.map(|service| Row::new(service, none(), Usage::default())));
        Snapshot {
            time_us: events::date(),
            daemon: self.show_daemon(now),
            total: Total {
                accepted: total.accepted,
                refused: total.refused,
            },
            services,
        }
    }

    fn usage_by_service(&self) -> HashMap<ServiceId, Usage> {
        let mut all: HashMap<ServiceId, Usage> = HashMap::new();
        for (_, running) in self.instances.running() {
            let used = running.usage.unwrap_or_default();
            let sum = all.entry(running.work.service).or_default();
            sum.cpu_us = sum.cpu_us.saturating_add(used.cpu);
            sum.memory = sum.memory.saturating_add(used.memory);
        }
        all
    }

    fn show_events(&self, events: &[&Event]) -> Vec<types::Event> {
        let show = |event: &&Event| {
            let service = event.service().and_then(|id| self.services.get(id));
            event.show(service.map(|service| &*service.name))
        };
        events.iter().map(show).collect()
    }
}
