//! Applies a plan: the first one, and every reload after it.
//!
//! What stays keeps its listeners, counts, buckets and rests; only what is
//! gone is dropped. Running servers are never touched by a reload.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use socket2::{Domain, Socket, Type};

use crate::front::builtin::datagram::{self, Responder};
use crate::front::event_loop::Front;
use crate::front::pending::routes::Routes;
use crate::front::plan::{ListenerPlan, Plan, ServePlan, ServicePlan};
use crate::front::poll_set::leave;
use crate::front::services::{Listener, Service};
use crate::front::wait::SlotKey;
use crate::helper::wire::Request;
use crate::ids::{ListenerId, ServiceId};
use crate::sys::process::trim_heap;
use crate::table::Rules;

/// Turns' worth of connections taken from a listener that goes: together a usual backlog.
const EMPTYING: usize = 64;

impl Front {
    pub(super) fn take_plan(&mut self, memory: Option<OwnedFd>, now: Instant) {
        let Some(memory) = memory else {
            return;
        };
        match read_memory::<Plan>(&memory) {
            Ok(plan) => {
                let bound = plan.listeners.iter().filter(|listener| listener.bound);
                let bound = bound.count();
                self.empty_leaving(&plan.listeners, now);
                self.apply_plan(plan);
                if self.serving {
                    self.link.send(&Request::Taken, None);
                    // Behind that answer the helper judges by the new table.
                    self.review_pending(now);
                } else {
                    self.awaited = Some(bound);
                }
            }
            Err(err) => self.fail(&format_args!("unable to read the plan: {err}")),
        }
        trim_heap();
    }

    pub(super) fn apply_plan(&mut self, plan: Plan) {
        self.epoch = plan.epoch;
        self.fronts = plan.fronts;
        self.planned = true;
        self.log.configure(plan.log);
        self.names = plan.tcpmux.into();
        self.bounds = plan.undecided;
        self.order = plan.services.iter().map(|service| service.id).collect();
        self.disabled = plan.disabled;
        self.helper_pid = plan.helper_pid;
        let began = Instant::now().checked_sub(Duration::from_millis(plan.uptime));
        self.daemon_began = began.unwrap_or(self.daemon_began);
        self.drop_missing_listeners(&plan.listeners);
        self.drop_missing_services(&plan.services);
        self.services.reserve(plan.services.len());
        for service in plan.services {
            self.put_service(service);
        }
        self.listeners.reserve(plan.listeners.len());
        for listener in &plan.listeners {
            self.put_listener(listener);
        }
        self.end_rests();
        let services: Vec<ServiceId> = self.services.iter().map(|service| service.id).collect();
        services.into_iter().for_each(|id| self.touch(id));
        self.tell_own_ports();
    }

    /// Whoever mended a server sends SIGHUP and wants to see it work now.
    fn end_rests(&mut self) {
        for service in self.services.iter_mut() {
            service.back_off.succeed();
        }
        for slot in self.slots.values_mut() {
            slot.back_off.succeed();
        }
    }

    /// What waits at a listener that goes would be lost with it, also where
    /// another one takes its place. The helper still judges by the old table.
    fn empty_leaving(&mut self, plans: &[ListenerPlan], now: Instant) {
        let wanted: HashSet<ListenerId> = plans.iter().map(|plan| plan.id).collect();
        let goes = |listener: &&Listener| {
            let service = self.services.get(listener.service());
            let accepts = service.is_some_and(|service| !service.hands_over(listener));
            accepts && listener.polled && !listener.datagram && !wanted.contains(&listener.id)
        };
        let leaving: Vec<_> = self.listeners.iter().filter(goes).collect();
        let leaving: Vec<_> = leaving.iter().map(|l| (l.service(), l.id)).collect();
        for (service, id) in leaving {
            for _ in 0..EMPTYING {
                if !self.may_accept() || !self.accept_some(service, id, now) {
                    break;
                }
            }
        }
    }

    fn drop_missing_listeners(&mut self, plans: &[ListenerPlan]) {
        let wanted: HashSet<ListenerId> = plans.iter().map(|plan| plan.id).collect();
        for listener in self.listeners.iter_mut() {
            if !wanted.contains(&listener.id) {
                leave(&self.registry, listener);
            }
        }
        self.listeners
            .retain(|listener| wanted.contains(&listener.id));
        self.slots.retain(|key, slot| match key {
            SlotKey::One(id) => wanted.contains(id),
            SlotKey::Whole(_) => slot.is_busy(),
        });
    }

    /// What still runs stays counted under its service until it ends.
    fn drop_missing_services(&mut self, plans: &[ServicePlan]) {
        let wanted: HashSet<ServiceId> = plans.iter().map(|plan| plan.id).collect();
        for service in self.services.iter_mut() {
            service.gone = !wanted.contains(&service.id);
            service.listeners = Vec::new();
            // The helper forgets that as well.
            service.halted &= !service.gone;
        }
        self.services
            .retain(|service| !service.gone || service.tally.running > 0);
    }

    fn put_service(&mut self, plan: ServicePlan) {
        let Some(service) = self.services.get_mut(plan.id) else {
            return self.services.put(Service::new(plan));
        };
        let recount = counting_changed(&service.rules, &plan.rules);
        service.name = plan.name.into();
        service.serve = plan.serve;
        service.rules = plan.rules;
        if let Some(counters) = &mut service.counters {
            let matched = &mut counters.matched;
            matched.follow(&service.routing.rules, &plan.routing.rules);
        }
        service.routing = plan.routing;
        service.description = plan.description.map(Into::into);
        service.blocked = plan.blocked.map(Into::into);
        service.gone = false;
        if recount {
            let talks = self.talks.iter().map(|(_, talk)| &talk.work);
            let works = self.instances.iter().chain(talks);
            let own = works.filter(|work| work.service == plan.id);
            service
                .tally
                .recount(&service.rules, own.filter_map(|work| work.ip));
        }
    }

    fn put_listener(&mut self, plan: &ListenerPlan) {
        for id in &plan.services {
            let Some(service) = self.services.get_mut(*id) else {
                return;
            };
            service.listeners.push(plan.id);
            service.listeners.shrink_to_fit();
        }
        if let Some(listener) = self.listeners.get_mut(plan.id) {
            listener.services = plan.services.clone().into();
            listener.datagram = plan.datagram;
        } else {
            self.listeners.put(Listener::new(plan));
        }
        self.route(plan.id);
        self.make_ready(plan.id);
    }

    /// Compiles how the services of a listener are told apart.
    fn route(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else {
            return;
        };
        if listener.datagram {
            return; // the kernel tells those apart
        }
        let services = listener.services.iter();
        let services = services.filter_map(|id| self.services.get(*id));
        let services: Vec<_> = services.map(|s| (&s.routing, &s.rules.access)).collect();
        let socket = listener.socket.as_ref();
        let kind = socket.and_then(|socket| socket.r#type().ok());
        let kind = kind.unwrap_or(Type::STREAM);
        let domain = socket.and_then(|socket| socket.domain().ok());
        let v6 = domain == Some(Domain::IPV6);
        listener.routes = match Routes::compile(&services, kind, v6) {
            Ok(routes) => routes.map(Rc::new),
            Err(why) => {
                // Without them everything would go to the first service.
                log::error!(address = &*listener.label; "nobody is let in, its rules are of no use: {why}");
                Routes::compile(&[], kind, v6).ok().flatten().map(Rc::new)
            }
        };
    }

    fn make_ready(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else {
            return;
        };
        if let Some(service) = self.services.get(listener.service()) {
            ready(service, listener);
        }
    }

    /// Tells every responder on which ports usherd answers datagrams itself:
    /// one that came from there would be a loop.
    pub(super) fn tell_own_ports(&mut self) {
        let own = |listener: &Listener| {
            let socket = listener.responder.as_ref().and(listener.socket.as_ref())?;
            Some(socket.local_addr().ok()?.as_socket()?.port())
        };
        let ports: Rc<[u16]> = self.listeners.iter().filter_map(own).collect();
        for listener in self.listeners.iter_mut() {
            if let Some(responder) = &mut listener.responder {
                responder.set_own_ports(Rc::clone(&ports));
            }
        }
    }

    pub(super) fn take_listener(&mut self, id: ListenerId, socket: OwnedFd) {
        let Some(listener) = self.listeners.get_mut(id).filter(|_| !self.draining) else {
            return log::debug!(listener = id.0; "a listener that no plan names");
        };
        leave(&self.registry, listener);
        listener.socket = Some(Socket::from(socket));
        let services = listener.services.clone();
        self.route(id); // the kind of the socket is known now
        self.make_ready(id);
        services.iter().for_each(|service| self.touch(*service));
    }
}

/// Whether sources are told apart or counted in another way than before.
fn counting_changed(old: &Rules, new: &Rules) -> bool {
    let counts = |rules: &Rules| rules.per_source.is_some() || rules.rate_per_source.is_some();
    old.source_prefix != new.source_prefix || counts(old) != counts(new)
}

/// Makes a listener fit for what serves it.
fn ready(service: &Service, listener: &mut Listener) {
    listener.responder = match service.serve {
        ServePlan::Builtin(kind) if listener.datagram => {
            // Which ports are ours is told once all listeners are known.
            Some(Box::new(Responder::new(kind, Rc::from([]))))
        }
        _ => None,
    };
    // One that is handed over is the helper's to switch: a server may have it now.
    if listener.routes.is_none() && service.hands_over(listener) {
        return;
    }
    let Some(socket) = &listener.socket else {
        return;
    };
    let readied = match listener.responder {
        Some(_) => datagram::prepare(socket),
        None => socket.set_nonblocking(true),
    };
    if let Err(err) = readied {
        log::error!(service = &*service.name; "unable to ready a listener: {err}");
    }
}

/// What the helper wrote into a sealed memfd.
pub(super) fn read_memory<T: DeserializeOwned>(memory: &OwnedFd) -> io::Result<T> {
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        let count = nix::sys::uio::pread(memory, &mut chunk, at)?;
        if count == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..count]);
        at += i64::try_from(count).map_err(io::Error::other)?;
    }
    serde_json::from_slice(&text).map_err(io::Error::other)
}
