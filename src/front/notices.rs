//! What the helper says, one function a notice.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::front::event_loop::Front;
use crate::front::instances::Work;
use crate::front::plan::ServePlan;
use crate::front::wait::SlotKey;
use crate::helper::wire::{Notice, Outcome, Refusal, Request};
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};
use crate::sandbox::Step;

impl Front {
    pub(super) fn take_notice(
        &mut self,
        notice: Notice,
        descriptors: &mut Vec<OwnedFd>,
        now: Instant,
    ) {
        match notice {
            Notice::Plan => self.take_plan(descriptors.pop(), now),
            Notice::Listeners(ids) => {
                let count = ids.len();
                for (id, socket) in ids.into_iter().zip(descriptors.drain(..)) {
                    self.take_listener(id, socket);
                }
                self.tell_own_ports();
                self.awaited = self.awaited.map(|awaited| awaited.saturating_sub(count));
                self.serve_first_plan(now);
            }
            Notice::Stderr { service } => {
                if let Some(pipe) = descriptors.pop() {
                    self.take_pipe(service, pipe, now);
                }
            }
            Notice::Log => {
                if let Some(target) = descriptors.pop() {
                    self.log.attach(target);
                }
            }
            Notice::Running {
                instance,
                service,
                listener,
                source,
            } => {
                let work = Work {
                    service,
                    listener,
                    ip: source,
                    slot: self.slot_for(service, listener),
                };
                self.adopt(instance, work);
            }
            Notice::Started {
                connection,
                instance,
            } => self.started(connection, instance, now),
            Notice::Refused { connection, reason } => self.refused(connection, reason, now),
            Notice::Failed {
                connection, step, ..
            } => self.failed(connection, step, now),
            Notice::Exited { instance, outcome } => self.exited(instance, &outcome, now),
            Notice::Drain => self.drain(),
        }
    }

    fn slot_for(&self, service: ServiceId, listener: ListenerId) -> Option<SlotKey> {
        let (service, listener) = (self.services.get(service)?, self.listeners.get(listener)?);
        service
            .hands_over(listener)
            .then(|| SlotKey::of(service, listener))
    }

    fn adopt(&mut self, instance: InstanceId, work: Work) {
        let Some(service) = self.services.get_mut(work.service) else {
            return;
        };
        service.tally.adopt(&service.rules, work.ip);
        self.instances.adopt(instance, work);
        if let Some(key) = work.slot {
            self.occupy_slot(key, work.listener);
        }
        self.touch(work.service);
    }

    fn started(&mut self, connection: ConnectionId, instance: InstanceId, now: Instant) {
        if let Some((work, waited)) = self.instances.started(connection, instance, now) {
            self.count_started(work.service, waited);
        }
    }

    /// The helper knows something that we do not (yet): the request is lost,
    /// and the service rests where the next one would fare no better.
    fn refused(&mut self, connection: ConnectionId, reason: Refusal, now: Instant) {
        let Some(work) = self.instances.give_up(connection) else {
            return;
        };
        log::debug!(conn:% = connection; "refused by the helper: {reason}");
        self.count_turned_down(work.service, reason);
        let full = matches!(
            reason,
            Refusal::TooManyInstances | Refusal::TooManyInAll | Refusal::Draining
        );
        if let Some(key) = work.slot {
            self.free_slot_unstarted(key, work.service, full, now);
        } else if full {
            self.rest(work.service, now);
        }
        self.finish(work);
    }

    /// No server came of it. The helper may know only after it said that one
    /// was started; then its end is still to come and frees the place.
    fn failed(&mut self, connection: ConnectionId, step: Step, now: Instant) {
        if let Some(work) = self.instances.give_up(connection) {
            self.count_failed(work.service, step);
            self.end_failed(work, now);
        } else if let Some(work) = self.instances.mark_failed(connection) {
            self.count_failed(work.service, step);
        }
    }

    fn end_failed(&mut self, work: Work, now: Instant) {
        if let Some(key) = work.slot {
            self.free_slot_unstarted(key, work.service, false, now);
        } else {
            self.rest(work.service, now);
        }
        self.finish(work);
    }

    fn exited(&mut self, instance: InstanceId, outcome: &Outcome, now: Instant) {
        let Some(ended) = self.instances.exited(instance) else {
            return;
        };
        let work = ended.work;
        self.count_exited(work.service, ended.failed, outcome);
        if ended.failed {
            return self.end_failed(work, now);
        }
        if let Some(key) = work.slot {
            self.free_slot_exited(key, work.service, outcome, now);
        } else if let Some(service) = self.services.get_mut(work.service) {
            service.back_off.succeed();
        }
        self.finish(work);
    }

    /// A service whose starts fail leaves its clients in the backlog for a while.
    fn rest(&mut self, id: ServiceId, now: Instant) {
        let noise = self.noise();
        if let Some(service) = self.services.get_mut(id) {
            let rest = service.back_off.fail(now, noise);
            log_rest(&service.name, rest);
        }
    }

    /// An admitted request is over.
    pub(super) fn finish(&mut self, work: Work) {
        let Some(service) = self.services.get_mut(work.service) else {
            return;
        };
        service.tally.end(&service.rules, work.ip);
        if service.gone && service.tally.running == 0 {
            self.services.retain(|service| service.id != work.service);
        } else {
            self.touch(work.service);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.drop_pending();
        for listener in self.listeners.iter_mut() {
            super::poll_set::leave(&self.registry, listener);
            listener.socket = None;
        }
        self.link.send(&Request::Taken, None);
    }

    /// Whether the helper starts programs for this service.
    pub(super) fn is_exec(&self, id: ServiceId) -> bool {
        let service = self.services.get(id);
        service.is_some_and(|service| matches!(service.serve, ServePlan::Exec))
    }
}

/// Tells why nothing happens for a while. Short rests are over before anybody
/// has read of them; the others become longer, so the lines do not.
pub(super) fn log_rest(service: &str, rest: Option<Duration>) {
    if let Some(rest) = rest.filter(|rest| *rest >= Duration::from_secs(1)) {
        log::warn!(service = service, ms = rest.as_millis(); "resting after failed starts");
    }
}
