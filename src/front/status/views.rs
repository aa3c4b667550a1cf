//! What the front knows, as the types of `org.usherd.Status`.
#![forbid(unsafe_code)]

use std::time::Instant;

use serde_json::Value;

use crate::control::types::{self, State};
use crate::front::admit::Reason;
use crate::front::event_loop::Front;
use crate::front::events::Event;
use crate::front::hours;
use crate::front::instances::Running;
use crate::front::plan::{Disabled, ServePlan};
use crate::front::roster::Roster;
use crate::front::services::Service;
use crate::front::wait::SlotKey;
use crate::ids::{InstanceId, ServiceId};

/// The reply of `WatchEvents`.
pub fn events(events: &[&Event], lost: u64, services: &Roster<Service>) -> Value {
    let name = |event: &Event| {
        let service = event.service().and_then(|id| services.get(id));
        service.map(|service| &*service.name)
    };
    let events = events.iter().map(|event| event.show(name(event)));
    let reply = types::WatchEvents {
        events: events.collect(),
        lost,
    };
    serde_json::to_value(&reply).unwrap_or_default()
}

/// A service that the table switches off.
pub fn disabled(disabled: &Disabled) -> types::Service {
    let listeners = disabled.listen.iter().map(|address| types::Listener {
        address: address.clone(),
        bound: false,
    });
    types::Service {
        name: disabled.name.clone(),
        description: disabled.description.clone(),
        state: State::Disabled,
        reason: disabled.reason.clone(),
        serves: disabled.serves.clone(),
        listeners: listeners.collect(),
        running: 0,
        instances: 0,
        accepted: 0,
        refused: 0,
        failed: 0,
        last_exit: None,
    }
}

impl Front {
    pub(crate) fn show_daemon(&self, now: Instant) -> types::Daemon {
        let bound = self.listeners.iter().filter(|l| l.socket.is_some());
        let services = self.services.iter().filter(|service| !service.gone);
        let running = self.services.iter().map(|s| u64::from(s.tally.running));
        let uptime = now.saturating_duration_since(self.daemon_began);
        types::Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            helper_pid: self.helper_pid,
            front_pid: i32::try_from(std::process::id()).unwrap_or(0),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            fronts: self.fronts,
            draining: self.draining,
            services: services.count() as u64,
            listeners: bound.count() as u64,
            undecided: self.pending.len() as u64,
            running: running.sum(),
            denied: self.status.denied,
            degraded: self.degraded.clone(),
        }
    }

    /// One service, or all in the order of the table, those that are switched off last.
    pub(crate) fn show_services(
        &mut self,
        only: Option<ServiceId>,
        now: Instant,
    ) -> Vec<types::Service> {
        let ids: Vec<ServiceId> = match only {
            Some(id) => vec![id],
            None => self.order.clone(),
        };
        let moving = self.moving();
        let mut shown: Vec<types::Service> = ids
            .into_iter()
            .filter_map(|id| {
                let figures = self.figures_of(id, &moving);
                self.show_service(id, &figures, now)
            })
            .collect();
        if only.is_none() {
            shown.extend(self.disabled.iter().map(disabled));
        }
        shown
    }

    pub(crate) fn show_service(
        &mut self,
        id: ServiceId,
        figures: &types::Statistics,
        now: Instant,
    ) -> Option<types::Service> {
        let (state, reason) = self.state_of(id, now)?;
        let service = self.services.get(id)?;
        let listeners = service.listeners.iter();
        let listeners = listeners.filter_map(|id| self.listeners.get(*id));
        let listeners = listeners.map(|listener| types::Listener {
            address: listener.label.to_string(),
            bound: listener.socket.is_some(),
        });
        Some(types::Service {
            name: service.name.to_string(),
            description: service.description.as_deref().map(str::to_owned),
            state,
            reason,
            serves: match &service.serve {
                ServePlan::Exec => "exec".to_owned(),
                ServePlan::Forward(_) => "forward".to_owned(),
                ServePlan::Builtin(builtin) => builtin.name().to_owned(),
            },
            listeners: listeners.collect(),
            running: service.tally.running,
            instances: service.rules.instances,
            accepted: figures.accepted,
            refused: figures.refused.values().sum(),
            failed: figures.failed.values().sum(),
            last_exit: service.last_exit.map(|(exit, at)| types::Exit {
                ago_ms: millis(at, now),
                ..exit
            }),
        })
    }

    fn state_of(&mut self, id: ServiceId, now: Instant) -> Option<(State, Option<String>)> {
        let service = self.services.get(id).filter(|service| !service.gone)?;
        let listeners = service.listeners.iter();
        let mut listeners = listeners.filter_map(|id| self.listeners.get(*id));
        let lacks_all = match listeners.next() {
            Some(first) => first.socket.is_none() && listeners.all(|l| l.socket.is_none()),
            None => false, // reached through others only
        };
        if service.halted {
            let why = "drained or stopped by an operator; `usherctl start` ends that";
            return Some((State::Held, Some(why.into())));
        }
        if lacks_all {
            return Some((State::Unbound, None));
        }
        if let Some(why) = &service.blocked {
            return Some((State::Blocked, Some(why.to_string())));
        }
        let keys = service.listeners.iter().map(|id| SlotKey::One(*id));
        let mut keys = keys.filter(|key| key.is_of(service, &self.listeners));
        let whole = self.slots.get(&SlotKey::Whole(id));
        let rest = whole.and_then(|slot| slot.back_off.resting(now));
        let rest =
            rest.or_else(|| keys.find_map(|key| self.slots.get(&key)?.back_off.resting(now)));
        if let Some(until) = service.back_off.resting(now).or(rest) {
            let left = until.saturating_duration_since(now).as_millis();
            let why = format!("its starts fail; the next try is in {left} ms");
            return Some((State::Resting, Some(why)));
        }
        let facts = self.senses.facts(&service.rules, now);
        let room = match hours::is_open(&service.rules.hours, facts.local) {
            true => service.tally.room(&service.rules, &facts),
            false => Err((Reason::OutOfHours, None)),
        };
        Some(match room {
            Ok(()) => (State::Serving, None),
            // Its server has the socket, and with it all requests.
            Err((Reason::Instances, _)) if service.rules.wait => (State::Serving, None),
            Err((reason, _)) => (State::Full, Some(reason.to_string())),
        })
    }

    /// The servers that run, oldest first.
    pub(crate) fn show_instances(
        &self,
        only: Option<ServiceId>,
        now: Instant,
    ) -> types::GetInstances {
        let wanted = |running: &Running| only.is_none_or(|id| running.work.service == id);
        let found = self.instances.running().filter(|(_, r)| wanted(r));
        let mut found: Vec<(InstanceId, &Running)> = found.collect();
        found.sort_by_key(|(id, _)| id.0);
        let measured = self.status.measured.map(|at| millis(at, now));
        let shown = found.into_iter().map(|(id, running)| types::Instance {
            id: id.0,
            service: self
                .services
                .get(running.work.service)
                .map_or_else(String::new, |s| s.name.to_string()),
            pid: running.pid,
            connection: running.connection.to_string(),
            peer: running.work.peer.map(|peer| peer.to_string()),
            age_ms: millis(running.since, now),
            cpu_us: running.usage.map(|usage| usage.cpu),
            memory: running.usage.map(|usage| usage.memory),
            tasks: running.usage.and_then(|usage| usage.tasks),
            bytes_read: running.usage.and_then(|usage| usage.read),
            bytes_written: running.usage.and_then(|usage| usage.written),
            measured_ms: measured.filter(|_| running.usage.is_some()),
        });
        types::GetInstances {
            instances: shown.collect(),
        }
    }
}

fn millis(at: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX)
}
