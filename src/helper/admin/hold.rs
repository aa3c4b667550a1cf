//! Services that take no request: drained, stopped, started again.
#![forbid(unsafe_code)]

use std::time::Instant;

use serde_json::json;

use super::{Then, Wait};
use crate::control::message::{CallError, Reply};
use crate::control::server::Answer;
use crate::control::types::{self, EventKind};
use crate::helper::core::Helper;
use crate::helper::front_process::Order;
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
        self.order(Order::Hold(service, held), then)
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
                Order::Plan | Order::Drain | Order::Hold(..) => None,
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

    /// A new front learns what the last one knew.
    pub(in crate::helper) fn brief_front(&mut self) -> std::io::Result<()> {
        let bans = (!self.control.bans.is_empty()).then(|| self.control.seal_bans());
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        for service in self.control.halted.keys() {
            front.order(Order::Hold(*service, true), None);
        }
        if let Some(memory) = bans {
            front.order(Order::Bans, Some(memory?));
        }
        Ok(())
    }

    /// The front has taken an order: whoever waits for that goes on.
    pub(in crate::helper) fn order_taken(&mut self, order: Order, now: Instant) {
        if let Order::Hold(service, true) = order
            && let Some(known) = self.control.halted.get_mut(&service)
        {
            *known = true;
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
                self.control.halted.insert(service, true);
            }
            self.go_on(place, order, then, now);
        }
    }

    fn go_on(&mut self, place: usize, order: Order, then: Then, now: Instant) {
        let service = match order {
            Order::Hold(service, _) => Some(service),
            Order::Plan | Order::Drain | Order::Bans => None,
        };
        let reply = match (then, service) {
            (Then::Say(reply), _) => reply,
            (Then::Drain, Some(service)) => Reply::last(&types::Drain {
                running: self.instances.of_service(service),
            }),
            (Then::Stop, Some(service)) => return self.stop_service(place, service, now),
            (Then::Start, Some(service)) => self.start_service(service, now),
            (Then::Drain | Then::Stop | Then::Start, None) => Reply::Last(json!({})),
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

    /// Starts the server of a service that owns its listener.
    fn start_service(&mut self, id: ServiceId, now: Instant) -> Reply {
        let none = Reply::last(&types::Start { instance: None });
        let Some(service) = self.services.find(id) else {
            return none;
        };
        let name = service.name.clone();
        if !service.rules.wait || service.program.is_none() {
            return none;
        }
        let Some(listener) = service.listeners.first().copied() else {
            let why = "none of its addresses is bound";
            return Reply::Error(not_startable(&name, why));
        };
        self.control.starts += 1;
        let connection = ConnectionId::new(0, self.control.starts);
        let answer = self.carry_out(
            Ask {
                connection,
                service: id,
                listener,
                on: On::Listener(None),
            },
            now,
        );
        match answer {
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
        }
    }
}

pub(super) fn not_startable(service: &str, reason: &str) -> CallError {
    let parameters = json!({ "service": service, "reason": reason });
    CallError::admin("NotStartable", parameters)
}

fn failed_start(service: &str, reason: &dyn std::fmt::Display) -> CallError {
    let parameters = json!({ "service": service, "reason": reason.to_string() });
    CallError::admin("StartFailed", parameters)
}
