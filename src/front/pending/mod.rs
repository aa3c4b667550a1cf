//! Connections whose service is not known yet, or has no room yet.
//!
//! ```text
//!  accept ─> arrive ─> look ─┬─> dispatch ─> admit ─> serve
//!             events,        ├─> keep (within bounds; the heaviest source goes first)
//!             deadlines ─────┘─> close
//! ```
//!
//! Bytes are peeked at into the one scratch buffer and stay in the kernel; what
//! is kept here is one record of fixed size. A socket leaves the poll set and
//! gets back the options it came with before anybody else sees it.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use crate::demux::plan::Route;
use crate::front::accept::Arrival;
use crate::front::admit::Reason;
use crate::front::deadlines::Timer;
use crate::front::event_loop::Front;
use crate::front::peer::Peer;
use crate::front::refusals::Whose;
use crate::front::slots::Source;
use crate::helper::told::Told;
use crate::ids::{ListenerId, ServiceId};

mod crowd;
mod look;
pub mod routes;
mod table;
mod told;

use look::Outlook;
use routes::Routes;
pub use table::Table;
use table::{Held, Waiting};

/// As many decided requests wait for a place at one service; a backlog of the
/// kernel's is about as long.
const HELD: usize = 1024;

/// Places of decided requests in the order in which they came, by service.
pub type Queues = HashMap<ServiceId, VecDeque<u32>>;

impl Front {
    /// A fresh connection on a listener that leads to several services, or to
    /// one that does not take everything.
    pub(super) fn arrive(&mut self, socket: Socket, peer: Peer, at: ListenerId, now: Instant) {
        let Some(routes) = self.routes_of(at) else {
            return;
        };
        self.count_undecided();
        let waiting = Waiting::new(socket, peer, at, now);
        self.arrive_as(waiting, &routes, now);
    }

    /// The same for what the front before this one gave back: `told` is what a
    /// proxy said of it.
    pub(super) fn arrive_again(
        &mut self,
        socket: Socket,
        peer: Peer,
        at: ListenerId,
        told: Option<Box<Told>>,
        now: Instant,
    ) {
        let Some(routes) = self.routes_of(at) else {
            return;
        };
        let mut waiting = Waiting::new(socket, peer, at, now);
        waiting.header = told
            .and_then(|told| told.proxy)
            .map(told::header)
            .map(Box::new);
        self.arrive_as(waiting, &routes, now);
    }

    fn arrive_as(&mut self, mut waiting: Waiting, routes: &Routes, now: Instant) {
        let peer = waiting.peer;
        if self.is_banned(peer.ip(), now) {
            return self.close_waiting(waiting, Some(Reason::Banned), now);
        }
        waiting.find_out(routes);
        if !waiting.owes_header && routes.denies_all(&waiting.facts()) {
            return self.close_waiting(waiting, Some(Reason::AddressDenied), now);
        }
        match waiting.look(routes, &mut self.scratch, false, now) {
            Outlook::Route(route, told) => self.dispatch_waiting(waiting, route, told, now),
            Outlook::Close(why) => self.close_waiting(waiting, why, now),
            Outlook::Wait { mark, until } => {
                waiting.set_mark(mark);
                waiting.due = until;
                self.keep_waiting(waiting, now);
            }
        }
    }

    fn routes_of(&self, at: ListenerId) -> Option<Rc<Routes>> {
        self.listeners.get(at)?.routes.clone()
    }

    /// Finds a place in the table, if need be at the expense of the oldest of
    /// the source that has most of it.
    fn keep_waiting(&mut self, mut waiting: Waiting, now: Instant) -> Option<u32> {
        let listed = self.listeners.get(waiting.listener)?.undecided;
        if waiting.held.is_none()
            && let Some(victim) = self.pending.victim(&waiting, listed, &self.bounds)
            && let Some(victim) = self.remove_waiting(victim)
        {
            self.close_waiting(victim, Some(Reason::Crowded), now);
        }
        waiting.watched = true;
        let (fd, id) = (waiting.socket.as_raw_fd(), waiting.listener);
        let undecided = waiting.held.is_none();
        let place = self.pending.insert(waiting);
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.undecided += u32::from(undecided);
        }
        let token = Source::Pending(place as usize).into();
        let watched = self
            .registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE);
        if let Err(err) = watched {
            log::error!("unable to watch a connection: {err}");
            self.remove_waiting(place);
            return None;
        }
        self.book_pending();
        Some(place)
    }

    /// Descriptors run out: an undecided connection of the source that has most
    /// of them goes. Whether there was one.
    pub(super) fn crowd_out(&mut self, now: Instant) -> bool {
        let victim = self.pending.heaviest();
        let victim = victim.and_then(|place| self.remove_waiting(place));
        let Some(victim) = victim else {
            return false;
        };
        self.close_waiting(victim, Some(Reason::Crowded), now);
        true
    }

    fn remove_waiting(&mut self, place: u32) -> Option<Waiting> {
        let mut waiting = self.pending.remove(place)?;
        if let Some(held) = &waiting.held {
            self.leave_queue(held.service, place);
        } else if let Some(listener) = self.listeners.get_mut(waiting.listener) {
            listener.undecided = listener.undecided.saturating_sub(1);
        }
        // Not by closing: as long as a server has a copy, epoll would go on telling.
        if waiting.watched
            && let Err(err) = self
                .registry
                .deregister(&mut SourceFd(&waiting.socket.as_raw_fd()))
        {
            log::debug!("unable to stop watching a connection: {err}");
        }
        waiting.watched = false;
        Some(waiting)
    }

    fn book_pending(&mut self) {
        if let Some(at) = self.pending.next_due() {
            self.pending_alarm
                .set(at, Timer::Pending, &mut self.deadlines);
        }
    }

    /// An event: bytes, or the end of them. `reset`: there is nobody any more.
    pub(super) fn pending_ready(&mut self, place: usize, closed: bool, reset: bool, now: Instant) {
        let Ok(place) = u32::try_from(place) else {
            return;
        };
        let Some(waiting) = self.pending.get_mut(place) else {
            return; // an event fetched before it left
        };
        if reset {
            // What it sent could still be read, but no server is started for it.
            if let Some(waiting) = self.remove_waiting(place) {
                self.close_waiting(waiting, None, now);
            }
        } else if waiting.held.is_none() {
            self.look_again(place, closed, now);
        }
    }

    fn look_again(&mut self, place: u32, closed: bool, now: Instant) {
        let Some(waiting) = self.pending.get(place) else {
            return;
        };
        let owed = waiting.owes_header;
        let Some(routes) = self.routes_of(waiting.listener) else {
            drop(self.remove_waiting(place)); // a reload took its listener away
            return;
        };
        let scratch = &mut self.scratch;
        let look = |waiting: &mut Waiting| {
            let outlook = waiting.look(&routes, scratch, closed, now);
            (outlook, owed && !waiting.owes_header)
        };
        let Some((outlook, told)) = self.pending.change(place, look) else {
            return;
        };
        if told
            && let Some(victim) = self.pending.one_too_many(place, &self.bounds)
            && let Some(victim) = self.remove_waiting(victim)
        {
            self.close_waiting(victim, Some(Reason::Crowded), now);
        }
        match outlook {
            Outlook::Wait { mark, until } => {
                if let Some(waiting) = self.pending.get_mut(place) {
                    waiting.set_mark(mark);
                }
                self.pending.set_due(place, until);
                self.book_pending();
            }
            Outlook::Route(route, told) => {
                if let Some(waiting) = self.remove_waiting(place) {
                    self.dispatch_waiting(waiting, route, told, now);
                }
            }
            Outlook::Close(why) => {
                if let Some(waiting) = self.remove_waiting(place) {
                    self.close_waiting(waiting, why, now);
                }
            }
        }
    }

    /// Deadlines, and pauses of clients that send byte by byte.
    pub(super) fn pending_due(&mut self, now: Instant) {
        if !self.pending_alarm.rings(now) {
            return;
        }
        while let Some(place) = self.pending.is_due(now) {
            self.look_again(place, false, now);
        }
        self.book_pending();
    }

    /// It is known whom the request is for.
    fn dispatch_waiting(
        &mut self,
        mut waiting: Waiting,
        route: Route,
        told: Option<Box<Told>>,
        now: Instant,
    ) {
        let listener = self.listeners.get(waiting.listener);
        let service = listener.and_then(|l| l.services.get(route.candidate).copied());
        let Some(service) = service else {
            return;
        };
        if waiting.is_gone() {
            // Reset: it costs neither a token nor a line of the log.
            return self.close_waiting(waiting, None, now);
        }
        waiting.restore();
        let client = waiting.client();
        let waited = now.saturating_duration_since(waiting.accepted);
        self.count_source(client.ip(), now);
        self.count_decided(service, route, waited);
        match self.admit_in_turn(service, &client, now) {
            Ok(()) => self.serve(arrival(waiting, service, told), now),
            Err(reason) if reason.may_pass() && self.may_hold(service, &waiting) => {
                self.hold(waiting, service, told, now);
            }
            Err(reason) => {
                self.refuse(arrival(waiting, service, told), reason, now);
            }
        }
    }

    /// Nobody passes those who wait for a place already, also not in the turn
    /// in which one gets free.
    fn admit_in_turn(&mut self, id: ServiceId, peer: &Peer, now: Instant) -> Result<(), Reason> {
        if self.held.contains_key(&id)
            && let Some(service) = self.services.get(id).filter(|service| service.queues())
        {
            let facts = self.senses.facts(&service.rules, now);
            service.tally.judge(&service.rules, peer.ip(), &facts)?;
            return Err(Reason::Instances);
        }
        self.admit(id, peer, now)
    }

    /// Whether this request may wait for its service. Nobody who waits makes
    /// room for a newcomer, so a source that has its share is refused.
    fn may_hold(&self, id: ServiceId, waiting: &Waiting) -> bool {
        let service = self.services.get(id);
        let queued = self.held.get(&id).map_or(0, VecDeque::len);
        service.is_some_and(|service| !service.gone && service.queues())
            && queued < HELD
            && self.pending.may_hold(waiting, &self.bounds)
    }

    /// Its service is full and lets its clients wait. Others use the same
    /// listener, so that the kernel's queue cannot be where they wait.
    fn hold(&mut self, mut waiting: Waiting, id: ServiceId, told: Option<Box<Told>>, now: Instant) {
        waiting.held = Some(Box::new(Held { service: id, told }));
        // Its deadlines are over; only the service's own limits end this.
        waiting.due = now + NEVER;
        if let Some(place) = self.keep_waiting(waiting, now) {
            self.held.entry(id).or_default().push_back(place);
            self.touch(id);
        }
    }

    /// Who left does not take a place of those who still wait.
    fn leave_queue(&mut self, id: ServiceId, place: u32) {
        let Some(queue) = self.held.get_mut(&id) else {
            return;
        };
        if let Some(at) = queue.iter().position(|queued| *queued == place) {
            queue.remove(at);
        }
        if queue.is_empty() {
            self.held.remove(&id);
        }
    }

    /// Serves those who wait for a place, as long as there is one. When to look
    /// again, if the clock and not an exit makes room.
    pub(super) fn serve_held(&mut self, id: ServiceId, now: Instant) -> Option<Instant> {
        while let Some(place) = self.held.get(&id).and_then(VecDeque::front).copied() {
            let service = self.services.get(id).filter(|service| !service.gone);
            if let Some(service) = service {
                let facts = self.senses.facts(&service.rules, now);
                if let Some(until) = service.back_off.resting(now) {
                    return Some(until);
                }
                if let Err((_, again)) = service.tally.room(&service.rules, &facts) {
                    return again;
                }
            }
            // Takes it out of the queue as well.
            let mut waiting = self.remove_waiting(place)?;
            let told = waiting.held.take().and_then(|held| held.told);
            let client = waiting.client();
            let admitted = self.admit(id, &client, now);
            let arrival = arrival(waiting, id, told);
            match admitted {
                Ok(()) => self.serve(arrival, now),
                Err(reason) => self.refuse(arrival, reason, now),
            }
        }
        None
    }

    /// Ends a connection that nobody serves. Port scans and the like leave no
    /// trace but in the debug log.
    fn close_waiting(&mut self, waiting: Waiting, why: Option<Reason>, now: Instant) {
        let client = waiting.client();
        self.count_source(client.ip(), now);
        let Some(reason) = why else {
            return log::debug!(peer:% = waiting.peer; "closed undecided");
        };
        self.count_refused(None, client.ip(), reason);
        self.tell_refusal(Whose::Listener(waiting.listener), &client, reason, now);
    }

    /// After a reload the rules may be others, and listeners gone.
    pub(super) fn review_pending(&mut self, now: Instant) {
        let undecided = self.pending.places();
        let undecided = undecided.filter(|(_, waiting)| waiting.held.is_none());
        let places: Vec<u32> = undecided.map(|(place, _)| place).collect();
        for place in places {
            self.review(place, now);
        }
        self.review_held(now);
    }

    /// The helper starts nobody for a service on a listener that does not lead
    /// to it any more: who waits for that is told now.
    fn review_held(&mut self, now: Instant) {
        let queues = self.held.iter();
        let all = queues.flat_map(|(id, queue)| queue.iter().map(|place| (*id, *place)));
        let all: Vec<(ServiceId, u32)> = all.collect();
        for (id, place) in all {
            let Some(waiting) = self.pending.get_mut(place) else {
                continue;
            };
            let listener = self.listeners.get(waiting.listener);
            if listener.is_some_and(|listener| listener.services.contains(&id)) {
                // The rule that held may have another number, or be gone.
                if let Some(told) = waiting.held.as_mut().and_then(|held| held.told.as_mut()) {
                    told.rule = None;
                }
            } else if let Some(waiting) = self.remove_waiting(place) {
                self.refuse(arrival(waiting, id, None), Reason::Gone, now);
            }
        }
    }

    /// The new rules may ask what nobody asked at arrival.
    fn review(&mut self, place: u32, now: Instant) {
        let Some(at) = self.pending.get(place).map(|waiting| waiting.listener) else {
            return;
        };
        let here = self.listeners.get(at).is_some();
        let routes = self.routes_of(at);
        let mut keep = here;
        self.pending.change(place, |waiting| match &routes {
            Some(routes) => {
                waiting.find_out(routes);
                // The helper takes the word of a proxy only as long as it is one.
                let is_proxy = waiting.peer.ip().is_some_and(|ip| routes.owes_header(ip));
                keep &= is_proxy || waiting.header.is_none();
                keep &= waiting.owes_header || !routes.denies_all(&waiting.facts());
            }
            None => keep &= waiting.header.is_none(),
        });
        if keep && routes.is_some() {
            return self.look_again(place, false, now);
        }
        let Some(waiting) = self.remove_waiting(place) else {
            return;
        };
        if keep {
            // Everything at this listener is for one service by now.
            let route = Route {
                candidate: 0,
                rule: None,
            };
            self.dispatch_waiting(waiting, route, None, now);
        }
    }

    /// Everything that nobody serves yet, with what its listener is and what a
    /// proxy said of it; pristine, as it would be for a server.
    pub(super) fn take_pending(&mut self) -> Vec<(ListenerId, Option<Box<Told>>, Socket)> {
        let places: Vec<u32> = self.pending.places().map(|(place, _)| place).collect();
        let taken = places.into_iter().filter_map(|place| {
            let mut waiting = self.remove_waiting(place)?;
            waiting.restore();
            let told = waiting.header.as_deref().map(told::of_proxy);
            Some((waiting.listener, told, waiting.socket))
        });
        taken.collect()
    }

    /// Nothing is started any more.
    pub(super) fn drop_pending(&mut self) {
        let places: Vec<u32> = self.pending.places().map(|(place, _)| place).collect();
        for place in places {
            drop(self.remove_waiting(place));
        }
    }
}

/// Further away than any daemon runs.
const NEVER: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);

fn arrival(waiting: Waiting, service: ServiceId, told: Option<Box<Told>>) -> Arrival {
    let peer = waiting.client();
    Arrival {
        socket: waiting.socket,
        peer,
        service,
        listener: waiting.listener,
        told,
    }
}
