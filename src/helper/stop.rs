//! How things end: one instance, and usherd itself.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::helper::cgroups::{Processes, kill_all};
use crate::helper::core::{Helper, Phase};
use crate::helper::front_process::Order;
use crate::helper::instances::{self, Instance};
use crate::helper::timers::Due;
use crate::ids::{InstanceId, ServiceId};

/// What a server gets between its stop signal and the end when usherd itself
/// is ending and the grace has been used up already.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long built-in services and relays may go on while usherd ends.
const FRONT_GRACE: Duration = Duration::from_secs(5);

impl Helper {
    /// What is due now.
    pub(super) fn expire(&mut self, now: Instant) {
        let (mut stops, mut kills, mut leftovers) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Stop(id) => stops.push(id),
                Due::Kill(id) => kills.push(id),
                Due::EndFront => {
                    self.end_front();
                    self.end_retired(0);
                }
                Due::DrainTaken if self.is_drained() => {}
                Due::DrainTaken => self.end_front(),
                Due::PlanTaken => self.plan_overdue(now),
                Due::KillLeftover(pid) => leftovers.push(pid),
                Due::Frozen(service) => self.frozen_due(service, now),
                Due::Sweep => self.sweep(now),
            }
        }
        self.stop_all(&stops, now);
        self.kill_all(&kills);
        self.kill_leftovers(&leftovers);
        self.sweep_later(now);
        self.retry_addresses(now);
        self.expire_sandboxes(now);
        self.expire_closers(now);
    }

    fn retry_addresses(&mut self, now: Instant) {
        let came = self.registry.retry(now);
        if !came.is_empty() {
            self.stale_store();
            self.services.attach(&self.registry);
            let came = came.iter().filter_map(|id| self.registry.find(*id));
            if let Some(front) = &mut self.front
                && let Err(err) = front.give_listeners(came)
            {
                log::error!("unable to give the front a listener: {err}");
            }
        }
    }

    /// Sends the table's stop signal to instances and all they started, and
    /// sees to it that nothing outlives the grace.
    pub(super) fn stop_all(&mut self, ids: &[InstanceId], now: Instant) {
        let is_running = |id: &&InstanceId| {
            let instance = self.instances.find(**id);
            instance.is_some_and(|instance| instance.phase == instances::Phase::Running)
        };
        let running: Vec<_> = ids.iter().filter(is_running).copied().collect();
        if running.is_empty() {
            return;
        }
        // Whoever is frozen does not hear that it is to end.
        let services = running.iter().filter_map(|id| self.instances.find(*id));
        let services: HashSet<ServiceId> = services.map(|found| found.service).collect();
        services
            .into_iter()
            .for_each(|service| self.thaw_at_once(service));
        let mut processes = Processes::default();
        for id in running {
            self.stop(id, &mut processes, now);
        }
    }

    fn stop(&mut self, id: InstanceId, processes: &mut Processes, now: Instant) {
        let draining = self.phase == Phase::Draining;
        let Some(instance) = self.instances.find_mut(id) else {
            return;
        };
        instance.phase = instances::Phase::Stopping;
        let grace = if draining && !instance.wait {
            instance.stop.grace.min(LAST_WORD)
        } else {
            instance.stop.grace
        };
        log::info!(
            service = &*instance.name, conn:% = instance.connection, pid = instance.pid;
            "stopping"
        );
        if instance.is_there() {
            processes.signal(instance);
        }
        self.timers.set(now + grace, Due::Kill(id));
    }

    fn kill_all(&mut self, ids: &[InstanceId]) {
        let instances: Vec<_> = ids
            .iter()
            .filter_map(|id| self.instances.find(*id))
            .filter(|instance| instance.is_there())
            .collect();
        for instance in &instances {
            log::warn!(
                service = &*instance.name, conn:% = instance.connection, pid = instance.pid;
                "did not stop in its grace; killing it"
            );
        }
        instances.iter().for_each(|instance| instance.end_sandbox());
        kill_all(&instances);
    }

    /// When what a stopped server leaves behind has to end: at once while
    /// usherd ends.
    pub(super) fn last_word(&self, now: Instant) -> Instant {
        match self.phase {
            Phase::Draining => now,
            Phase::Serving => now + LAST_WORD,
        }
    }

    /// The first stop request: no new clients. What the front has let in
    /// until it hears of it is served. The second one: everything ends now.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.phase == Phase::Draining {
            return self.end_now();
        }
        self.phase = Phase::Draining;
        self.front_due = None;
        self.abandon_change();
        self.thaw_all();
        self.abandon_departure(now);
        self.drain_operations(now);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let running = self.instances.len();
        if running > 0 {
            log::info!("stopping: {running} running; a second signal ends them now");
        } else {
            log::info!("stopping");
        }
        self.timers.set(now + FRONT_GRACE, Due::DrainTaken);
        match &mut self.front {
            Some(front) => front.order(Order::Drain, None),
            None => self.drained(now),
        }
    }

    /// Nothing new will come. The listeners close; running instances may
    /// finish within their grace, servers that own a listener never would and
    /// are told at once.
    pub(super) fn drained(&mut self, now: Instant) {
        self.clear_lot(None);
        self.registry.close();
        if let Some(mut store) = self.store.take() {
            store.clear();
        }
        let mut waits = Vec::new();
        let mut front_time = FRONT_GRACE;
        for instance in self.instances.iter() {
            // As long as servers run, the front reads what they write to stderr.
            front_time = front_time.max(instance.stop.grace + LAST_WORD * 2);
            if instance.wait {
                waits.push(instance.id);
            } else {
                self.timers
                    .set(now + instance.stop.grace, Due::Stop(instance.id));
            }
        }
        self.timers.set(now + front_time, Due::EndFront);
        self.stop_all(&waits, now);
    }

    fn end_now(&mut self) {
        log::warn!("ending {} instances now", self.instances.len());
        self.closings.give_up();
        self.end_operations("usherd is ending");
        self.instances.iter().for_each(Instance::end_sandbox);
        let gone: Vec<i32> = self.leftovers.keys().copied().collect();
        self.kill_leftovers(&gone);
        let there = self.instances.iter().filter(|instance| instance.is_there());
        kill_all(&there.collect::<Vec<_>>());
        self.end_front();
    }
}
