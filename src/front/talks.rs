//! Conversations: requests that the loop serves itself, and their limits.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use crate::front::accept::Arrival;
use crate::front::admit::Reason;
use crate::front::conversation::{Conversation, Progress, Traffic};
use crate::front::counting::Batch;
use crate::front::deadlines::{Alarm, Timer};
use crate::front::event_loop::Front;
use crate::front::instances::Work;
use crate::front::peer::Peer;
use crate::front::slots::Source;
use crate::front::tcpmux::GREETING;
use crate::front::turn_away::turn_away;
use crate::helper::told::Told;
use crate::ids::{ConnectionId, ListenerId, ServiceId};
use crate::table::Rules;

/// RFC 1078: the service will not take the connection.
const NOT_AVAILABLE: &str = "-Service not available\r\n";
/// A conversation whose deadline stays in the past is not asked more often.
const BREATH: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Talk {
    conversation: Box<dyn Conversation>,
    connection: ConnectionId,
    pub work: Work,
    peer: Peer,
    told: Option<Box<Told>>,
    began: Instant,
    traffic: Traffic,
    last_byte: Instant,
    alarm: Alarm,
}

impl Talk {
    /// The bytes moved so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.conversation.traffic()
    }

    /// When a limit of the rules ends it, if nothing more happens.
    fn expires(&self, rules: &Rules) -> Option<Instant> {
        let idle = rules
            .idle_timeout
            .and_then(|span| self.last_byte.checked_add(span));
        let total = rules
            .max_runtime
            .and_then(|span| self.began.checked_add(span));
        idle.into_iter().chain(total).min()
    }

    /// Takes note of the bytes moved; whether there may be more.
    fn count(&mut self, rules: &Rules, now: Instant) -> bool {
        let traffic = self.conversation.traffic();
        if traffic != self.traffic {
            self.traffic = traffic;
            self.last_byte = now;
        }
        let moved = traffic.received.saturating_add(traffic.sent);
        rules.max_bytes.is_none_or(|limit| moved < limit)
    }
}

impl Front {
    pub(super) fn begin_talk(
        &mut self,
        conversation: Box<dyn Conversation>,
        connection: ConnectionId,
        work: Work,
        (peer, told): (Peer, Option<Box<Told>>),
        now: Instant,
    ) {
        let slot = self.talks.insert(Talk {
            conversation,
            connection,
            work,
            peer,
            told,
            began: now,
            traffic: Traffic::default(),
            last_byte: now,
            alarm: Alarm::default(),
        });
        let tokens = [0, 1].map(|side| Source::Talk(slot, side).into());
        if let Some(talk) = self.talks.get_mut(slot) {
            let progress = talk.conversation.begin(&self.registry, tokens, now);
            self.after(slot, progress, now);
        }
    }

    pub(super) fn talk_ready(&mut self, slot: usize, side: usize, now: Instant) {
        let token = Source::Talk(slot, side).into();
        if let Some(talk) = self.talks.get_mut(slot) {
            let progress = talk.conversation.ready(&self.registry, token, now);
            self.after(slot, progress, now);
        }
    }

    pub(super) fn talk_due(&mut self, slot: usize, now: Instant) {
        let Some(talk) = self.talks.get_mut(slot) else {
            return;
        };
        if !talk.alarm.rings(now) {
            return;
        }
        if talk.conversation.deadline().is_some_and(|at| at <= now) {
            self.talk_ready(slot, 0, now);
        } else {
            self.after(slot, Ok(Progress::Pending), now);
        }
    }

    fn after(&mut self, slot: usize, progress: io::Result<Progress>, now: Instant) {
        match progress {
            Ok(Progress::Pending) => self.go_on(slot, now),
            Ok(Progress::Again) => {
                self.go_on(slot, now);
                if self.talks.get_mut(slot).is_some() {
                    self.postponed.push_back(Source::Talk(slot, 0));
                }
            }
            Ok(Progress::Done) => self.end_talk(slot, now),
            Ok(Progress::HandOver {
                socket,
                service,
                greet,
            }) => {
                let talk = self.talks.get_mut(slot);
                let arrival = talk.map(|talk| Arrival {
                    socket,
                    peer: talk.peer,
                    service,
                    listener: talk.work.listener,
                    told: talk.told.take(),
                });
                self.end_talk(slot, now);
                if let Some(arrival) = arrival {
                    self.hand_over(arrival, greet, now);
                }
            }
            Err(err) => {
                if let Some(talk) = self.talks.get_mut(slot) {
                    log::debug!(conn:% = talk.connection; "connection ended: {err}");
                }
                self.end_talk(slot, now);
            }
        }
    }

    /// Ends the conversation if a limit is reached, else notes the next deadline.
    fn go_on(&mut self, slot: usize, now: Instant) {
        let Some(talk) = self.talks.get_mut(slot) else {
            return;
        };
        let Some(service) = self.services.get(talk.work.service) else {
            return self.end_talk(slot, now);
        };
        let may_move = talk.count(&service.rules, now);
        let expires = talk.expires(&service.rules);
        if !may_move || expires.is_some_and(|at| at <= now) {
            return self.end_talk(slot, now);
        }
        let own = talk.conversation.deadline().map(|at| at.max(now + BREATH));
        if let Some(at) = expires.into_iter().chain(own).min() {
            talk.alarm.set(at, Timer::Talk(slot), &mut self.deadlines);
        }
    }

    fn end_talk(&mut self, slot: usize, now: Instant) {
        let Some(talk) = self.talks.remove(slot) else {
            return;
        };
        let traffic = talk.traffic();
        let lasted = now.saturating_duration_since(talk.began);
        self.count_talk(talk.work.service, traffic, lasted);
        if let Some(service) = self.services.get(talk.work.service)
            && service.rules.log.exit
        {
            let millis = lasted.as_millis();
            let (received, sent) = (traffic.received, traffic.sent);
            log::info!(
                service = &*service.name, conn:% = talk.connection, received, sent, ms:% = millis;
                "ended"
            );
        }
        self.finish(talk.work);
    }

    /// A connection that named its service on the tcpmux port: that service's
    /// own rules decide, and there is no queue to wait in.
    fn hand_over(&mut self, arrival: Arrival, greet: bool, now: Instant) {
        let (socket, service, peer) = (&arrival.socket, arrival.service, arrival.peer);
        // Once more: what it asked of tcpmux was a request of its own.
        self.count_accepted(service, peer.ip(), now);
        let admitted = if self.draining {
            Err(Reason::Resting)
        } else {
            self.admit(service, &peer, now)
        };
        if let Err(reason) = admitted {
            turn_away(socket, NOT_AVAILABLE, &mut self.scratch);
            return self.note_refusal(service, &peer, reason, now);
        }
        if greet {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let _ = socket.send_with_flags(GREETING, flags);
        }
        if self.is_exec(service) {
            // Servers expect to wait for their bytes.
            let _ = socket.set_nonblocking(false);
        }
        self.serve(arrival, now);
    }

    /// Answers the datagrams of a built-in service, each peer asked for its leave.
    pub(super) fn answer_datagrams(&mut self, id: ServiceId, at: ListenerId, now: Instant) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        let Some(listener) = self.listeners.get_mut(at) else {
            return;
        };
        let (Some(socket), Some(responder)) = (&listener.socket, &mut listener.responder) else {
            return;
        };
        let facts = self.senses.facts(&service.rules, now);
        let mut refused: Option<(Peer, Reason)> = None;
        let (rules, tally) = (&service.rules, &mut service.tally);
        let banned = &self.banned;
        let (mut batch, sources) = (Batch::default(), &mut self.stats.sources);
        let mut admit = |ip: std::net::IpAddr| {
            sources.accept(ip, now);
            let judged = match banned.holds(ip, now) {
                true => Err(Reason::Banned),
                false => tally.judge(rules, Some(ip), &facts),
            };
            let verdict = judged.and_then(|()| tally.room(rules, &facts).map_err(|(why, _)| why));
            match verdict {
                Ok(()) => tally.pass(rules, ip, now),
                Err(reason) => {
                    batch.refused[reason as usize] += 1;
                    sources.refuse(ip);
                    refused = Some((Peer::Inet { ip, port: 0 }, reason));
                }
            }
            verdict.is_ok()
        };
        let before = (responder.taken(), responder.traffic());
        let more = responder.ready(socket, &mut admit, now);
        batch.admitted = responder.taken() - before.0;
        batch.traffic = responder.traffic().since(before.1);
        match more {
            Ok(true) if !listener.postponed => {
                listener.postponed = true;
                self.postponed.push_back(Source::Listener(at));
            }
            Ok(_) => {}
            Err(err) => log::warn!(service = &*service.name; "unable to answer datagrams: {err}"),
        }
        self.count_batch(id, &batch);
        if let Some((peer, reason)) = refused {
            self.log_refusal(id, &peer, reason, now);
        }
    }
}
