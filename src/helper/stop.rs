//! How things end: one instance, and usherd itself.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::helper::core::{Helper, Phase};
use crate::helper::front_process::Order;
use crate::helper::instances::{self, Instance};
use crate::helper::timers::Due;
use crate::helper::tree;
use crate::ids::InstanceId;

/// What a server gets between its stop signal and the end when usherd itself
/// is ending and the grace has been used up already.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long built-in services and relays may go on while usherd ends.
const FRONT_GRACE: Duration = Duration::from_secs(5);

impl Helper {
    /// What is due now.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Stop(id) => self.stop(id, now),
                Due::Kill(id) => self.kill(id),
                Due::EndFront => self.end_front(),
                Due::DrainTaken if self.is_drained() => {}
                Due::DrainTaken => self.end_front(),
                Due::PlanTaken => self.plan_overdue(now),
                Due::KillLeftover(pid) => {
                    if let Some(members) = self.leftovers.remove(&pid) {
                        tree::kill_all(&HashSet::from([pid]), &members);
                    }
                }
            }
        }
        let came = self.registry.retry(now);
        if !came.is_empty() {
            self.services.attach(&self.registry);
            let came = came.iter().filter_map(|id| self.registry.find(*id));
            if let Some(front) = &mut self.front
                && let Err(err) = front.give_listeners(came)
            {
                log::error!("unable to give the front a listener: {err}");
            }
        }
    }

    /// Sends the table's stop signal to an instance and all it started, and
    /// sees to it that nothing outlives the grace.
    pub(super) fn stop(&mut self, id: InstanceId, now: Instant) {
        let draining = self.phase == Phase::Draining;
        let Some(instance) = self.instances.find_mut(id) else {
            return;
        };
        if instance.phase == instances::Phase::Stopping {
            return;
        }
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
        for member in tree::members(&HashSet::from([instance.pid])) {
            member.signal(instance.stop.signal);
        }
        self.timers.set(now + grace, Due::Kill(id));
    }

    fn kill(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.find(id) else {
            return;
        };
        log::warn!(
            service = &*instance.name, conn:% = instance.connection, pid = instance.pid;
            "did not stop in its grace; killing it"
        );
        tree::kill_all(&HashSet::from([instance.pid]), &[]);
    }

    /// The server of a stopped instance is gone: what it started and left in
    /// its session gets the rest of the grace.
    pub(super) fn end_leftovers(&mut self, instance: &Instance, now: Instant) {
        let left = tree::members(&HashSet::from([instance.pid]));
        if left.is_empty() {
            return;
        }
        let at = if self.phase == Phase::Draining {
            now
        } else {
            now + LAST_WORD
        };
        self.leftovers.insert(instance.pid, left);
        self.timers.set(at, Due::KillLeftover(instance.pid));
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
        self.registry.close();
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
        waits.into_iter().for_each(|id| self.stop(id, now));
    }

    fn end_now(&mut self) {
        log::warn!("ending {} instances now", self.instances.len());
        let roots: HashSet<i32> = self.instances.iter().map(|instance| instance.pid).collect();
        let left: Vec<_> = self
            .leftovers
            .drain()
            .flat_map(|(_, members)| members)
            .collect();
        tree::kill_all(&roots, &left);
        self.end_front();
    }
}
