//! What the helper says, one function a notice.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::control::types::{self, EventKind};
use crate::front::event_loop::Front;
use crate::front::events::About;
use crate::front::instances::{Running, Work};
use crate::front::peer::Peer;
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
                connection,
                pid,
                age,
            } => {
                let work = Work {
                    service,
                    listener,
                    ip: source,
                    slot: self.slot_for(service, listener),
                    peer: source.map(|ip| Peer::Inet { ip, port: 0 }),
                };
                let began = now.checked_sub(Duration::from_millis(age));
                let running = Running {
                    work,
                    failed: false,
                    connection,
                    pid,
                    since: began.unwrap_or(now),
                    usage: None,
                };
                self.adopt(instance, running);
            }
            Notice::Started {
                connection,
                instance,
                pid,
            } => self.started(connection, instance, pid, now),
            Notice::Refused { connection, reason } => self.refused(connection, reason, now),
            Notice::Failed {
                connection,
                step,
                errno,
            } => self.failed(connection, step, errno, now),
            Notice::Exited { instance, outcome } => self.exited(instance, &outcome, now),
            Notice::Drain => self.drain(),
            Notice::Retire => self.retire(now),
            Notice::Accepted { listener, told } => {
                if let Some(socket) = descriptors.pop() {
                    self.accept_again_from(listener, socket, told, now);
                }
            }
            Notice::StatusSocket => {
                if let Some(socket) = descriptors.pop() {
                    self.take_status_socket(socket);
                }
            }
            Notice::Caller { caller, who } => self.know_caller(caller, who, now),
            Notice::Usage { instance, usage } => self.instances.measure(instance, usage),
            Notice::Measured => self.measured(now),
            Notice::Hold { service, held } => self.halt(service, held),
            Notice::Bans => self.take_bans(descriptors.pop(), now),
            Notice::Event {
                kind,
                service,
                text,
            } => {
                let about = About {
                    service,
                    ..About::default()
                };
                self.note_event(kind, about, &text);
            }
        }
    }

    fn started(&mut self, connection: ConnectionId, instance: InstanceId, pid: i32, now: Instant) {
        let started = self.instances.started(connection, instance, pid, now);
        let Some((work, waited)) = started else {
            return;
        };
        self.count_started(work.service, waited);
        let about = about(&work, connection);
        let text = format!("pid {pid} instance {instance}");
        self.note_event(EventKind::Started, about, &text);
    }

    /// An operator drained or stopped a service, or lets it go on.
    fn halt(&mut self, id: ServiceId, held: bool) {
        if let Some(service) = self.services.get_mut(id) {
            service.halted = held;
            service.back_off.succeed();
        }
        let slots = self.slots.iter_mut();
        let (services, listeners) = (&self.services, &self.listeners);
        for (key, slot) in slots {
            if services.get(id).is_some_and(|s| key.is_of(s, listeners)) {
                slot.back_off.succeed();
            }
        }
        self.touch(id);
        self.link.send(&Request::Taken, None);
    }

    fn slot_for(&self, service: ServiceId, listener: ListenerId) -> Option<SlotKey> {
        let (service, listener) = (self.services.get(service)?, self.listeners.get(listener)?);
        service
            .hands_over(listener)
            .then(|| SlotKey::of(service, listener))
    }

    fn adopt(&mut self, instance: InstanceId, running: Running) {
        let work = running.work;
        let Some(service) = self.services.get_mut(work.service) else {
            return;
        };
        service.tally.adopt(&service.rules, work.ip);
        self.instances.adopt(instance, running);
        if let Some(key) = work.slot {
            self.occupy_slot(key, work.listener);
        }
        self.touch(work.service);
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
            Refusal::TooManyInstances
                | Refusal::TooManyInAll
                | Refusal::Draining
                | Refusal::Held
                | Refusal::Blocked
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
    fn failed(&mut self, connection: ConnectionId, step: Step, errno: i32, now: Instant) {
        let given_up = self.instances.give_up(connection);
        let Some(work) = given_up.or_else(|| self.instances.mark_failed(connection)) else {
            return;
        };
        self.count_failed(work.service, step);
        let err = std::io::Error::from_raw_os_error(errno);
        let text = format!("{step}: {err}");
        self.note_event(EventKind::Failed, about(&work, connection), &text);
        if given_up.is_some() {
            self.end_failed(work, now);
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
        // What it said last comes before its end.
        self.read_pipe(work.service, now);
        self.count_exited(work.service, ended.failed, outcome);
        if ended.failed {
            return self.end_failed(work, now);
        }
        let exit = show_exit(outcome);
        let about = about(&work, ended.connection);
        self.note_event(EventKind::Exited, about, &exit_text(&exit));
        if let Some(service) = self.services.get_mut(work.service) {
            service.last_exit = Some((exit, now));
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
            self.tell_rest(id, rest);
        }
    }

    /// Tells why nothing happens for a while. Short rests are over before anybody
    /// has read of them; the others become longer, so the lines do not.
    pub(super) fn tell_rest(&mut self, id: ServiceId, rest: Option<Duration>) {
        let Some(rest) = rest.filter(|rest| *rest >= Duration::from_secs(1)) else {
            return;
        };
        let Some(service) = self.services.get(id) else {
            return;
        };
        let ms = rest.as_millis();
        log::warn!(service = &*service.name, ms; "resting after failed starts");
        let text = format!("after failed starts, for {ms} ms");
        self.note_event(EventKind::Resting, About::service(id), &text);
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

fn about(work: &Work, connection: ConnectionId) -> About {
    About {
        service: Some(work.service),
        connection: Some(connection),
        peer: work.peer,
    }
}

fn show_exit(outcome: &Outcome) -> types::Exit {
    types::Exit {
        status: (!outcome.signalled && !outcome.unseen).then_some(outcome.status),
        signal: (outcome.signalled && !outcome.unseen).then_some(outcome.status),
        core: outcome.core,
        oom: outcome.oom_killed,
        ran_us: outcome.micros,
        ago_ms: 0,
    }
}

fn exit_text(exit: &types::Exit) -> String {
    let how = match (exit.status, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(status), None) => format!("status {status}"),
        (None, None) => "nobody saw how".to_owned(),
    };
    let core = if exit.core { ", core dumped" } else { "" };
    let oom = if exit.oom { ", out of memory" } else { "" };
    format!("{how}{core}{oom} after {} ms", exit.ran_us / 1000)
}
