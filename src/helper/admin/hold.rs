//! Services that take no request: drained, stopped, started again.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde_json::json;

use super::{Then, Wait};
use crate::control::message::{CallError, Reply};
use crate::control::server::Answer;
use crate::control::types::{self, EventKind};
use crate::helper::core::Helper;
use crate::helper::front_process::{Front, Order};
use crate::helper::start;
use crate::helper::start::{Ask, On};
use crate::helper::wire::Notice;
use crate::ids::{ConnectionId, InstanceId, ServiceId};

impl Helper {
    /// Tells the front that a service takes no request, or takes them again.
    pub(super) fn hold(&mut self, service: ServiceId, held: bool, then: Then) -> Answer<Wait> {
        if held {
            self.control.halted.entry(service).or_insert(false);
        } else {
            self.control.halted.remove(&service);
        }
        self.stale_store();
        if let (false, Then::Say(reply)) = (held || !self.control.frozen.has(service), &then) {
            // The front hears of it when the service is thawed.
            return Answer::Reply(reply.clone());
        }
        self.order(Order::Hold(service, held), then)
    }

    /// A service takes requests again. A server that owns its listener is started
    /// before the front hears of that: it would ask for one itself if anybody waits.
    pub(super) fn release(&mut self, service: ServiceId, now: Instant) -> Answer<Wait> {
        let held = self.control.halted.remove(&service);
        match self.start_service(service, now) {
            Ok(reply) => self.released(service, held, reply),
            Err(connection) => Answer::Later(Wait::Started(service, connection, held)),
        }
    }

    fn released(&mut self, service: ServiceId, held: Option<bool>, reply: Reply) -> Answer<Wait> {
        if matches!(reply, Reply::Error(_)) {
            self.control
                .halted
                .extend(held.map(|known| (service, known)));
            return Answer::Reply(reply);
        }
        self.hold(service, false, Then::Say(reply))
    }

    /// What became of a start that had to wait for its sandbox: whoever asked
    /// for it is told, be it the front or an operator.
    pub(in crate::helper) fn tell_late(
        &mut self,
        connection: ConnectionId,
        service: ServiceId,
        answer: start::Answer,
        now: Instant,
    ) {
        if !connection.is_ours() {
            return self.tell_answer(connection, service, answer, now);
        }
        let Some(reply) = self.shown_start(service, connection, answer) else {
            return;
        };
        let mut waiting = self.control.server.waiting();
        let found = waiting.find_map(|(place, wait)| match wait {
            Wait::Started(_, awaited, held) if *awaited == connection => Some((place, *held)),
            _ => None,
        });
        drop(waiting);
        let Some((place, held)) = found else {
            // He did not wait for it; the front must hear of it all the same.
            let _ = self.released(service, Some(true), reply);
            return;
        };
        match self.released(service, held, reply) {
            Answer::Reply(reply) => self.reply_at(place, &reply, now),
            Answer::Later(what) => self.control.server.wait_on(place, what),
        }
    }

    /// A service that left the table is not held any more, should it come back:
    /// the front has forgotten it too.
    pub(in crate::helper) fn forget_halted(&mut self) {
        let enabled = self.table.services.iter().filter(|service| service.enabled);
        let there: HashSet<ServiceId> = enabled.map(|s| self.services.id(&s.name)).collect();
        self.control.halted.retain(|id, _| there.contains(id));
    }

    /// Tells the front something that it will answer. Where there is none, the
    /// next one is told when it starts.
    pub(super) fn order(&mut self, order: Order, then: Then) -> Answer<Wait> {
        if let Some(front) = &mut self.front {
            let memory = match order {
                Order::Bans => match self.control.seal_bans() {
                    Ok(memory) => Some(memory),
                    Err(err) => return CallError::failed(err.to_string()).into(),
                },
                Order::Plan | Order::Drain | Order::Retire | Order::Hold(..) => None,
            };
            front.order(order, memory);
        }
        Answer::Later(Wait::Taken(order, then))
    }

    /// A new front serves the status socket from the moment at which it is ready.
    pub(in crate::helper) fn send_status_socket(&mut self) -> std::io::Result<()> {
        if let (Some(front), Some(sockets)) = (&mut self.front, &self.control.sockets) {
            let copy = sockets.share_status()?;
            front.link.notify_with(&Notice::StatusSocket, vec![copy]);
        }
        Ok(())
    }

    /// A new front learns what the last one knew, and what it was to learn when it ended.
    pub(in crate::helper) fn brief_front(&mut self) -> std::io::Result<()> {
        let (mut holds, mut bans) = (Vec::new(), !self.control.bans.is_empty());
        for (_, wait) in self.control.server.waiting() {
            match wait {
                Wait::Taken(Order::Hold(service, held), _) => holds.push((*service, *held)),
                Wait::Taken(Order::Bans, _) => bans = true,
                Wait::Taken(Order::Plan | Order::Drain | Order::Retire, _)
                | Wait::Upgrade
                | Wait::Reload
                | Wait::Ended(..)
                | Wait::Operation(_)
                | Wait::Frozen(_)
                | Wait::Started(..) => {}
            }
        }
        let memory = bans.then(|| self.control.seal_bans()).transpose()?;
        let mut halted = self.control.halted.clone();
        halted.extend(self.control.frozen.held());
        let holds = holds_to_tell(&holds, &halted);
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        for (service, held) in holds {
            front.order(Order::Hold(service, held), None);
        }
        if memory.is_some() {
            front.order(Order::Bans, memory);
        }
        Ok(())
    }

    /// The front has taken an order: whoever waits for that goes on.
    pub(in crate::helper) fn order_taken(&mut self, order: Order, now: Instant) {
        // The same was asked for again, and what came between is not taken yet.
        let is_last = |front: &Front| !front.orders.contains(&order);
        if !self.front.as_ref().is_none_or(is_last) {
            return;
        }
        if let Order::Hold(service, true) = order {
            let halted = self.control.halted.get_mut(&service);
            halted.into_iter().for_each(|known| *known = true);
            self.control.frozen.know(service);
        }
        let waiting: Vec<(usize, Then)> = self
            .control
            .server
            .waiting()
            .filter_map(|(place, wait)| match wait {
                Wait::Taken(awaited, then) if *awaited == order => Some((place, then.clone())),
                _ => None,
            })
            .collect();
        for (place, then) in waiting {
            self.go_on(place, order, then, now);
        }
    }

    /// Nobody will take an order: there is no front, and the next one is told at its start.
    pub(in crate::helper) fn orders_without_front(&mut self, now: Instant) {
        if self.front.is_some() {
            return;
        }
        let waiting: Vec<(usize, Order, Then)> = self
            .control
            .server
            .waiting()
            .filter_map(|(place, wait)| match wait {
                Wait::Taken(order, then) => Some((place, *order, then.clone())),
                _ => None,
            })
            .collect();
        for (place, order, then) in waiting {
            if let Order::Hold(service, true) = order {
                if then != Then::Freeze {
                    self.control.halted.insert(service, true);
                }
                self.control.frozen.know(service);
            }
            self.go_on(place, order, then, now);
        }
    }

    fn go_on(&mut self, place: usize, order: Order, then: Then, now: Instant) {
        let service = match order {
            Order::Hold(service, _) => Some(service),
            Order::Plan | Order::Drain | Order::Retire | Order::Bans => None,
        };
        let reply = match (then, service) {
            (Then::Say(reply), _) => reply,
            (Then::Drain, Some(service)) => Reply::last(&types::Drain {
                running: self.instances.of_service(service),
            }),
            (Then::Stop, Some(service)) => return self.stop_service(place, service, now),
            (Then::Freeze, Some(service)) => return self.front_holds(place, service, now),
            (Then::Drain | Then::Stop | Then::Freeze, None) => Reply::Last(json!({})),
        };
        self.reply_at(place, &reply, now);
    }

    fn stop_service(&mut self, place: usize, service: ServiceId, now: Instant) {
        let running: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|instance| instance.service == service)
            .map(|instance| instance.id)
            .collect();
        let stopped = u32::try_from(running.len()).unwrap_or(u32::MAX);
        self.stop_all(&running, now);
        self.control
            .server
            .wait_on(place, Wait::Ended(service, stopped));
        self.tell_ended(service, now);
    }

    /// The last instance of a service has ended, perhaps.
    pub(in crate::helper) fn tell_ended(&mut self, service: ServiceId, now: Instant) {
        if self.instances.of_service(service) > 0 {
            return;
        }
        let waiting: Vec<(usize, u32)> = self
            .control
            .server
            .waiting()
            .filter_map(|(place, wait)| match wait {
                Wait::Ended(awaited, count) if *awaited == service => Some((place, *count)),
                _ => None,
            })
            .collect();
        for (place, stopped) in waiting {
            self.reply_at(place, &Reply::last(&types::Stop { stopped }), now);
        }
    }

    /// Starts the server of a service if it owns its listener. `Err`: it will
    /// be, when its sandbox stands.
    fn start_service(&mut self, id: ServiceId, now: Instant) -> Result<Reply, ConnectionId> {
        let none = Reply::last(&types::Start { instance: None });
        let Some(service) = self.services.find(id) else {
            return Ok(none);
        };
        let name = service.name.clone();
        if !service.rules.wait || service.program.is_none() {
            return Ok(none);
        }
        let Some(listener) = service.listeners.first().copied() else {
            let why = "none of its addresses is bound";
            return Ok(Reply::Error(not_startable(&name, why)));
        };
        self.control.starts += 1;
        let connection = ConnectionId::new(0, self.control.starts);
        let answer = self.carry_out(
            Ask {
                connection,
                service: id,
                listener,
                on: On::Listener(None),
                waits: 0,
            },
            now,
        );
        self.shown_start(id, connection, answer).ok_or(connection)
    }

    /// For an operator; `None` if it is still to come.
    fn shown_start(
        &mut self,
        id: ServiceId,
        connection: ConnectionId,
        answer: start::Answer,
    ) -> Option<Reply> {
        let now = Instant::now();
        let name = self.services.find(id).map(|service| service.name.clone());
        let name = name.unwrap_or_else(|| "?".into());
        Some(match answer {
            start::Answer::Later => return None,
            start::Answer::Started(instance) => {
                self.tell_running(instance, now);
                let text = format!("instance {instance}, by an operator");
                self.tell_event(EventKind::Started, Some(id), &text);
                Reply::last(&types::Start {
                    instance: Some(instance.0),
                })
            }
            start::Answer::Refused(reason) => Reply::Error(failed_start(&name, &reason)),
            start::Answer::Failed(failed) => {
                self.log_failure(id, connection, &failed);
                let err = std::io::Error::from_raw_os_error(failed.errno);
                Reply::Error(failed_start(&name, &format_args!("{}: {err}", failed.step)))
            }
        })
    }
}

/// What a new front must hear of holds: whatever a caller waits for, and for
/// each service last what holds now.
fn holds_to_tell(
    waiting: &[(ServiceId, bool)],
    halted: &HashMap<ServiceId, bool>,
) -> Vec<(ServiceId, bool)> {
    let overtaken = |(service, held): &&(ServiceId, bool)| *held != halted.contains_key(service);
    let mut told: Vec<_> = waiting.iter().filter(overtaken).copied().collect();
    let released = waiting.iter().map(|(service, _)| *service);
    let released: HashSet<_> = released.filter(|s| !halted.contains_key(s)).collect();
    told.extend(released.into_iter().map(|service| (service, false)));
    told.extend(halted.keys().map(|service| (*service, true)));
    told
}

pub(super) fn not_startable(service: &str, reason: &str) -> CallError {
    let parameters = json!({ "service": service, "reason": reason });
    CallError::admin("NotStartable", parameters)
}

fn failed_start(service: &str, reason: &dyn std::fmt::Display) -> CallError {
    let parameters = json!({ "service": service, "reason": reason.to_string() });
    CallError::admin("StartFailed", parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_front_ends_up_with_what_holds_now() {
        let (a, b, c) = (ServiceId(1), ServiceId(2), ServiceId(3));
        let halted = HashMap::from([(a, true), (c, false)]);
        let waiting = [(b, false), (b, true), (a, true), (a, false)];
        let told = holds_to_tell(&waiting, &halted);
        for hold in waiting.iter().chain(&[(c, true)]) {
            assert!(told.contains(hold), "nobody is told of {hold:?}");
        }
        let last = |of: ServiceId| told.iter().rev().find(|(service, _)| *service == of);
        assert_eq!(last(a), Some(&(a, true)));
        assert_eq!(last(b), Some(&(b, false)));
        assert!(holds_to_tell(&[], &HashMap::new()).is_empty());
    }
}
