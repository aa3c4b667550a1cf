//! `Freeze` and `Thaw`: the servers of a service stand still while somebody
//! reads what they write.
//!
//! The front is told first, so that nothing starts meanwhile. Where servers have
//! cgroups the kernel stops all of a service in one go; the others are stopped
//! one by one until none is left that runs. The kernel does not tell when it is
//! done, so that is looked at. Nothing stays frozen that nobody waits for: not
//! when the caller has left, not for longer than [`LONGEST`], not when an
//! instance is to end, and not when usherd does.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Then, Wait};
use crate::control::message::{Call, CallError, Reply};
use crate::control::server::Answer;
use crate::control::types;
use crate::helper::core::Helper;
use crate::helper::front_process::Order;
use crate::helper::instances::{Instance, Phase};
use crate::helper::timers::Due;
use crate::helper::tree::{Member, Snapshot};
use crate::ids::ServiceId;

/// Nobody may keep a service from its work for longer.
const LONGEST: Duration = Duration::from_secs(600);
/// A process that waits for a disk does not stop before it has it.
const SETTLED: Duration = Duration::from_secs(10);
/// Between two looks; doubles up to the last.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(50);

/// Services that stand still, or are about to.
#[derive(Debug, Default)]
pub(super) struct Frozen(HashMap<ServiceId, Freeze>);

#[derive(Debug)]
struct Freeze {
    /// The number of the caller who wants it.
    caller: u64,
    until: Instant,
    /// The front has heard that it must not ask for servers.
    known: bool,
    stage: Stage,
    /// Those that were stopped one by one.
    stopped: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The front has not been heard of yet.
    Holding,
    Settling {
        until: Instant,
        pause: Duration,
    },
    Still,
}

impl Frozen {
    pub(super) fn has(&self, service: ServiceId) -> bool {
        self.0.contains_key(&service)
    }

    /// Services that the front must not ask for; whether it has heard.
    pub(super) fn held(&self) -> impl Iterator<Item = (ServiceId, bool)> {
        self.0.iter().map(|(service, one)| (*service, one.known))
    }

    pub(super) fn is_known(&self, service: ServiceId) -> bool {
        self.0.get(&service).is_some_and(|one| one.known)
    }

    pub(super) fn know(&mut self, service: ServiceId) {
        if let Some(one) = self.0.get_mut(&service) {
            one.known = true;
        }
    }
}

impl Helper {
    pub(super) fn freeze(
        &mut self,
        service: ServiceId,
        caller: u64,
        now: Instant,
    ) -> Result<Answer<Wait>, CallError> {
        if self.control.frozen.has(service) {
            let why = "somebody else has frozen it; ask again when he is done";
            return Err(CallError::admin("Busy", json!({ "reason": why })));
        }
        if self.departure.is_some() {
            let why = "usherd is being upgraded or restarted; ask again in a moment";
            return Err(CallError::admin("Busy", json!({ "reason": why })));
        }
        let until = now + LONGEST;
        let freeze = Freeze {
            caller,
            until,
            known: false,
            stage: Stage::Holding,
            stopped: Vec::new(),
        };
        self.control.frozen.0.insert(service, freeze);
        self.timers.set(until, Due::Frozen(service));
        Ok(self.order(Order::Hold(service, true), Then::Freeze))
    }

    /// The front asks for no server of `service` any more; the caller is told
    /// when those that run stand still.
    pub(super) fn front_holds(&mut self, place: usize, service: ServiceId, now: Instant) {
        if let Some(freeze) = self.control.frozen.0.get_mut(&service) {
            freeze.stage = Stage::Settling {
                until: now + SETTLED,
                pause: LOOK_FIRST,
            };
            self.control.server.wait_on(place, Wait::Frozen(service));
            self.settle_frozen(service, now);
        } else {
            // He was not quick enough: an operator has stopped it meanwhile.
            let gone = CallError::failed("it was thawed before it stood still");
            self.reply_at(place, &Reply::Error(gone), now);
        }
    }

    /// Whether a call is about a service that this caller has frozen.
    pub(in crate::helper) fn is_frozen_by(&self, caller: u64, call: &Call) -> bool {
        let given = call.parameters.as_ref();
        let name = given.and_then(|given| given.get("service")?.as_str());
        let service = name.and_then(|name| self.services.named(name));
        let freeze = service.and_then(|service| self.control.frozen.0.get(&service));
        freeze.is_some_and(|freeze| freeze.caller == caller)
    }

    pub(super) fn thaw(
        &mut self,
        service: ServiceId,
        caller: u64,
        renewed: bool,
    ) -> Result<Answer<Wait>, CallError> {
        if renewed {
            self.sandboxes.drop_of(service);
            self.clear_lot(None);
        }
        match self.control.frozen.0.get(&service) {
            None => Ok(Answer::Reply(Reply::last(&types::Thaw {
                was_frozen: false,
            }))),
            Some(freeze) if freeze.caller != caller => {
                let why = "somebody else has frozen it, and will thaw it";
                Err(CallError::admin("Busy", json!({ "reason": why })))
            }
            Some(freeze) => {
                let was_frozen = freeze.stage == Stage::Still;
                self.let_go(service);
                let reply = Reply::last(&types::Thaw { was_frozen });
                if self.control.halted.contains_key(&service) {
                    return Ok(Answer::Reply(reply));
                }
                Ok(self.order(Order::Hold(service, false), Then::Say(reply)))
            }
        }
    }

    /// What is due of a frozen service.
    pub(in crate::helper) fn frozen_due(&mut self, service: ServiceId, now: Instant) {
        let Some(freeze) = self.control.frozen.0.get(&service) else {
            return;
        };
        if freeze.until <= now {
            let name = self.frozen_name(service);
            log::warn!(service = name; "thawed: it was frozen for {} s", LONGEST.as_secs());
            self.thaw_at_once(service);
        } else if matches!(freeze.stage, Stage::Settling { .. }) {
            self.settle_frozen(service, now);
        }
    }

    /// Whoever froze something and has left does not thaw it any more.
    pub(super) fn thaw_left(&mut self) {
        let control = &self.control;
        let left = |(_, freeze): &(&ServiceId, &Freeze)| !control.is_there(freeze.caller);
        let left = control.frozen.0.iter().filter(left);
        let left: Vec<ServiceId> = left.map(|(service, _)| *service).collect();
        for service in left {
            self.thaw_at_once(service);
        }
    }

    /// usherd ends, or makes room for another.
    pub(in crate::helper) fn thaw_all(&mut self) {
        let all: Vec<ServiceId> = self.control.frozen.0.keys().copied().collect();
        for service in all {
            self.thaw_at_once(service);
        }
    }

    /// Lets servers go on though nobody has asked for that; who froze them learns
    /// of it when he thaws them.
    pub(in crate::helper) fn thaw_at_once(&mut self, service: ServiceId) {
        if !self.let_go(service) || self.control.halted.contains_key(&service) {
            return;
        }
        if let Some(front) = &mut self.front {
            front.order(Order::Hold(service, false), None);
        }
    }

    fn let_go(&mut self, service: ServiceId) -> bool {
        let Some(freeze) = self.control.frozen.0.remove(&service) else {
            return false;
        };
        let name = self.frozen_name(service);
        if let Err(err) = self.cgroups.freeze(&name, false) {
            log::error!(service = name; "unable to thaw its cgroup: {err}");
        }
        let stopped = freeze.stopped.iter();
        stopped.for_each(|member| member.signal(libc::SIGCONT));
        true
    }

    /// Stops whatever runs still, and tells the caller once nothing does.
    fn settle_frozen(&mut self, service: ServiceId, now: Instant) {
        let still = self.stop_running(service);
        let Some(freeze) = self.control.frozen.0.get_mut(&service) else {
            return;
        };
        let Stage::Settling { until, pause } = freeze.stage else {
            return;
        };
        let reply = match still {
            Ok(true) => {
                freeze.stage = Stage::Still;
                let instances = self.instances.of_service(service);
                Reply::last(&types::Freeze { instances })
            }
            Ok(false) if now < until => {
                self.timers.set(now + pause, Due::Frozen(service));
                let pause = (pause * 2).min(LOOK_LAST);
                freeze.stage = Stage::Settling { until, pause };
                return;
            }
            Ok(false) => {
                let why = format!(
                    "not all of its processes stand still after {} s",
                    SETTLED.as_secs()
                );
                Reply::Error(CallError::failed(why))
            }
            Err(err) => Reply::Error(CallError::failed(format!(
                "unable to freeze its cgroup: {err}"
            ))),
        };
        if matches!(reply, Reply::Error(_)) {
            self.thaw_at_once(service);
        }
        let mut waiting = self.control.server.waiting();
        let found = waiting.find_map(|(place, wait)| match wait {
            Wait::Frozen(awaited) if *awaited == service => Some(place),
            _ => None,
        });
        drop(waiting);
        if let Some(place) = found {
            self.reply_at(place, &reply, now);
        }
    }

    /// Whether nothing of the service runs. What is to end does that first.
    fn stop_running(&mut self, service: ServiceId) -> std::io::Result<bool> {
        let of_it = |instance: &&Instance| instance.service == service;
        let mut instances = self.instances.iter().filter(of_it);
        if instances.any(|instance| instance.phase == Phase::Stopping) {
            return Ok(false);
        }
        let name = self.frozen_name(service);
        self.cgroups.freeze(&name, true)?;
        let mut still = self.cgroups.is_frozen(&name)?;
        let is_outside = |instance: &&Instance| {
            let leaf = instance.leaf.as_ref();
            !leaf.is_some_and(|leaf| leaf.has(instance.pid))
        };
        let outside = self.instances.iter().filter(of_it).filter(is_outside);
        let outside: Vec<i32> = outside.map(|instance| instance.pid).collect();
        if outside.is_empty() {
            return Ok(still);
        }
        let processes = Snapshot::take();
        let running: Vec<Member> = outside
            .iter()
            .flat_map(|pid| processes.running(*pid))
            .collect();
        still &= running.is_empty();
        running
            .iter()
            .for_each(|member| member.signal(libc::SIGSTOP));
        if let Some(freeze) = self.control.frozen.0.get_mut(&service) {
            // One that is on its way to stop may be here twice, which harms nobody.
            freeze.stopped.extend(running);
        }
        Ok(still)
    }

    fn frozen_name(&self, service: ServiceId) -> String {
        let names = self.services.names();
        names
            .get(&service)
            .map_or_else(String::new, |name| (*name).to_owned())
    }
}
