//! Which listeners are in the poll set. A service that cannot take a request
//! leaves it; its clients wait in the kernel's queue, and no listener is ever
//! closed to shed load.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::front::deadlines::Timer;
use crate::front::event_loop::Front;
use crate::front::hours;
use crate::front::services::{Listener, Service};
use crate::front::slots::Source;
use crate::front::wait::{Slot, SlotKey};
use crate::ids::{ListenerId, ServiceId};

/// Why a listener stays out, and when to look again if not at the next event.
type Out = Option<Instant>;

impl Front {
    /// Puts the listeners of every touched service where they belong. The
    /// last step of a turn, when all that freed or filled a place is known.
    pub(super) fn rebalance(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop() {
            let Some(service) = self.services.get_mut(id) else {
                continue;
            };
            service.touched = false;
            let listeners = std::mem::take(&mut service.listeners);
            let mut look_again = self.serve_held(id, now);
            for listener in &listeners {
                if let Err(Some(at)) = self.place(id, *listener, now) {
                    look_again = Some(look_again.map_or(at, |soonest| soonest.min(at)));
                }
            }
            if let Some(service) = self.services.get_mut(id) {
                service.listeners = listeners;
                if let Some(at) = look_again {
                    service
                        .alarm
                        .set(at, Timer::Service(id), &mut self.deadlines);
                }
            }
        }
    }

    fn place(&mut self, id: ServiceId, at: ListenerId, now: Instant) -> Result<(), Out> {
        let (Some(service), Some(listener)) = (self.services.get(id), self.listeners.get_mut(at))
        else {
            return Ok(());
        };
        // Both, because a reload may have changed what a server is given while one runs.
        let keys = [SlotKey::One(at), SlotKey::Whole(id)];
        let slots = || keys.iter().filter_map(|key| self.slots.get(key));
        let standing = if self.draining || service.gone || slots().any(Slot::is_busy) {
            Err(None)
        } else if let Some(until) = slots().find_map(|slot| slot.back_off.resting(now)) {
            Err(Some(until))
        } else if listener.routes.is_some() {
            return self.place_routed(at, now);
        } else {
            let facts = self.senses.facts(&service.rules, now);
            standing(service, listener, &facts)
        };
        match standing {
            Ok(()) => enter(&self.registry, listener),
            Err(_) => leave(&self.registry, listener),
        }
        standing
    }
}

impl Front {
    /// A listener of several services stays in as long as one of them takes
    /// requests; those for the others are held here.
    fn place_routed(&mut self, at: ListenerId, now: Instant) -> Result<(), Out> {
        let Some(listener) = self.listeners.get_mut(at) else {
            return Ok(());
        };
        let mut all: Result<(), Out> = Err(None);
        for id in &listener.services {
            let Some(service) = self.services.get(*id).filter(|service| !service.gone) else {
                continue;
            };
            let facts = self.senses.facts(&service.rules, now);
            all = match (all, standing(service, listener, &facts)) {
                (Ok(()), _) | (_, Ok(())) => Ok(()),
                (Err(a), Err(b)) => Err(a.into_iter().chain(b).min()),
            };
        }
        match all {
            Ok(()) => enter(&self.registry, listener),
            Err(_) => leave(&self.registry, listener),
        }
        all
    }
}

/// Whether the service takes requests from this listener now.
fn standing(
    service: &Service,
    listener: &Listener,
    facts: &super::admit::Facts,
) -> Result<(), Out> {
    if let Some(until) = service.back_off.resting(facts.now) {
        return Err(Some(until));
    }
    let hands_over = service.hands_over(listener);
    if service.halted && (service.queues() || hands_over || listener.datagram) {
        return Err(None); // whoever lets it go on touches it
    }
    // A connection on a stream that is handed over cannot be looked at, so the
    // hour is asked here; everybody else is told one by one.
    let closed = !hours::is_open(&service.rules.hours, facts.local);
    if hands_over && !listener.datagram && service.queues() && closed {
        return Err(facts.now.checked_add(to_next_minute()));
    }
    let queues = service.queues() && !is_answered_here(service, listener);
    if queues || hands_over && listener.datagram {
        return service
            .tally
            .room(&service.rules, facts)
            .map_err(|(_, at)| at);
    }
    Ok(())
}

/// Built-in datagram services decide about each datagram.
fn is_answered_here(service: &Service, listener: &Listener) -> bool {
    listener.datagram && !service.hands_over(listener)
}

fn to_next_minute() -> Duration {
    let second = hours::now().second;
    Duration::from_secs(60_u64.saturating_sub(second.into()).max(1))
}

/// Into the poll set. What is ready already comes as an event.
pub fn enter(registry: &Registry, listener: &mut Listener) {
    let Some(socket) = listener.socket.as_ref().filter(|_| !listener.polled) else {
        return;
    };
    let token = Source::Listener(listener.id).into();
    let done = registry.register(
        &mut SourceFd(&socket.as_raw_fd()),
        token,
        Interest::READABLE,
    );
    match done {
        Ok(()) => listener.polled = true,
        Err(err) => log::error!("unable to poll listener {}: {err}", listener.id.0),
    }
}

/// Out of the poll set. Needed before a descriptor is dropped, too: the
/// helper's copy would keep it in.
pub fn leave(registry: &Registry, listener: &mut Listener) {
    let Some(socket) = listener.socket.as_ref().filter(|_| listener.polled) else {
        return;
    };
    listener.polled = false;
    if let Err(err) = registry.deregister(&mut SourceFd(&socket.as_raw_fd())) {
        log::debug!("unable to leave listener {}: {err}", listener.id.0);
    }
}
