//! From a ready listener to an admitted connection, or one turned away.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use socket2::Socket;

use crate::control::types::EventKind;
use crate::front::accept_pause::{AcceptError, classify};
use crate::front::admit::Reason;
use crate::front::deadlines::Timer;
use crate::front::event_loop::Front;
use crate::front::events::About;
use crate::front::instances::Work;
use crate::front::makers;
use crate::front::peer::Peer;
use crate::front::refusals::Whose;
use crate::front::slots::Source;
use crate::front::turn_away::turn_away;
use crate::helper::told::Told;
use crate::helper::wire::Request;
use crate::ids::{ListenerId, ServiceId};

/// Connections that one listener may bring in a turn.
const ACCEPTS_PER_TURN: usize = 16;

/// A connection that asks for a service.
#[derive(Debug)]
pub struct Arrival {
    pub socket: Socket,
    pub peer: Peer,
    pub service: ServiceId,
    pub listener: ListenerId,
    /// What the match found out.
    pub told: Option<Box<Told>>,
}

impl Front {
    pub(super) fn listener_ready(&mut self, id: ListenerId, now: Instant) {
        let Some(listener) = self.listeners.get(id).filter(|listener| listener.polled) else {
            return;
        };
        let routed = listener.routes.is_some();
        let Some(service) = self.services.get(listener.service()) else {
            return;
        };
        let (service, hands_over, datagram) = (
            service.id,
            !routed && service.hands_over(listener),
            listener.datagram,
        );
        if !self.may_accept() {
            self.postpone(id);
        } else if hands_over {
            self.wait_ready(service, id, now);
        } else if datagram {
            self.answer_datagrams(service, id, now);
        } else {
            self.accept_all(service, id, now);
        }
    }

    /// Goes on with this listener in the next turn: readiness is told only once.
    pub(super) fn postpone(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id)
            && !listener.postponed
        {
            listener.postponed = true;
            self.postponed.push_back(Source::Listener(id));
        }
    }

    fn accept_all(&mut self, service: ServiceId, id: ListenerId, now: Instant) {
        if self.accept_some(service, id, now) {
            self.postpone(id);
        }
    }

    /// A turn's share of connections; whether there may be more.
    pub(super) fn accept_some(&mut self, service: ServiceId, id: ListenerId, now: Instant) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.takes_any(id, now) {
                self.touch(service); // leaves the poll set at the end of the turn
                return false;
            }
            let Some((socket, peer)) = self.accept_one(service, id, now) else {
                return false;
            };
            if self.listeners.get(id).is_some_and(|l| l.routes.is_some()) {
                self.arrive(socket, peer, id, now);
            } else {
                self.arrive_directly(socket, peer, service, id, now);
            }
            if !self.may_accept() {
                break;
            }
        }
        true
    }

    /// Everything at this listener is for one service.
    pub(super) fn arrive_directly(
        &mut self,
        socket: Socket,
        peer: Peer,
        service: ServiceId,
        listener: ListenerId,
        now: Instant,
    ) {
        let arrival = Arrival {
            socket,
            peer,
            service,
            listener,
            told: None,
        };
        self.count_accepted(service, peer.ip(), now);
        match self.admit(service, &peer, now) {
            Ok(()) => self.serve(arrival, now),
            Err(reason) => self.refuse(arrival, reason, now),
        }
    }

    /// Whether a service behind this listener takes more.
    fn takes_any(&mut self, id: ListenerId, now: Instant) -> bool {
        let count = self.listeners.get(id).map_or(0, |l| l.services.len());
        (0..count).any(|number| {
            let listener = self.listeners.get(id);
            let service = listener.and_then(|l| l.services.get(number).copied());
            service.is_some_and(|service| self.takes_more(service, now))
        })
    }

    /// Whether a service that queues has room; the others refuse one by one.
    fn takes_more(&mut self, id: ServiceId, now: Instant) -> bool {
        let Some(service) = self.services.get(id).filter(|service| !service.gone) else {
            return false;
        };
        let facts = self.senses.facts(&service.rules, now);
        let waits = service.halted && service.queues();
        !waits
            && service.back_off.resting(now).is_none()
            && (!service.queues() || service.tally.room(&service.rules, &facts).is_ok())
    }

    /// The next connection; `None` when there is none, or no way to take it.
    pub(super) fn accept_one(
        &mut self,
        service: ServiceId,
        id: ListenerId,
        now: Instant,
    ) -> Option<(Socket, Peer)> {
        loop {
            let listener = self.listeners.get(id)?;
            let err = match listener.socket.as_ref()?.accept() {
                Ok((socket, address)) => {
                    let socket = self.keep_reserve(socket, now);
                    return Some((socket, Peer::from(&address)));
                }
                Err(err) => err,
            };
            match classify(&err) {
                AcceptError::Nothing => return None,
                AcceptError::Connection => {}
                AcceptError::Exhausted => {
                    self.pause_accepting(&err, now);
                    self.postpone(id);
                    return None;
                }
                AcceptError::Listener => {
                    log::error!(listener = id.0; "unable to accept: {err}");
                    let noise = self.noise();
                    if let Some(service) = self.services.get_mut(service) {
                        service.back_off.fail(now, noise);
                    }
                    self.touch(service);
                    return None;
                }
            }
        }
    }

    /// Where descriptors run out, a connection takes the place of an undecided
    /// one, and its number too: high numbers would fill the reserve. Where there
    /// is none, accepting pauses.
    fn keep_reserve(&mut self, socket: Socket, now: Instant) -> Socket {
        if !self.accept_pause.is_near_the_limit(socket.as_raw_fd()) {
            self.accept_pause.worked();
            return socket;
        }
        if self.crowd_out(now)
            && let Ok(lower) = socket.try_clone()
        {
            return lower;
        }
        self.pause_accepting(&io::Error::from_raw_os_error(libc::EMFILE), now);
        socket
    }

    fn pause_accepting(&mut self, err: &io::Error, now: Instant) {
        let interval = self.accept_pause.begin();
        log::warn!(
            "unable to accept connections: {err}; trying again in {} ms",
            interval.as_millis()
        );
        self.deadlines.add(now + interval, Timer::Accept);
    }

    /// The pause is over, if there is a descriptor to spare by now.
    pub(super) fn accept_again(&mut self, now: Instant) {
        let next = self.link.as_fd().try_clone_to_owned();
        match next.map(|spare| spare.as_raw_fd()) {
            Ok(next) if !self.accept_pause.is_near_the_limit(next) => self.accept_pause.end(),
            Ok(_) => self.pause_accepting(&io::Error::from_raw_os_error(libc::EMFILE), now),
            Err(err) => self.pause_accepting(&err, now),
        }
    }

    /// Decides about one more request and counts it if it is admitted.
    pub(super) fn admit(&mut self, id: ServiceId, peer: &Peer, now: Instant) -> Result<(), Reason> {
        if self.is_banned(peer.ip(), now) {
            return Err(Reason::Banned);
        }
        let service = self.services.get_mut(id).ok_or(Reason::Gone)?;
        let facts = self.senses.facts(&service.rules, now);
        if service.gone {
            return Err(Reason::Gone);
        }
        service.tally.judge(&service.rules, peer.ip(), &facts)?;
        if service.halted {
            return Err(Reason::Held);
        }
        if service.back_off.resting(now).is_some() {
            return Err(Reason::Resting);
        }
        let room = service.tally.room(&service.rules, &facts);
        room.map_err(|(reason, _)| reason)?;
        service.tally.begin(&service.rules, peer.ip(), now);
        self.count_admitted(id);
        self.touch(id);
        Ok(())
    }

    /// Starts what serves an admitted connection.
    pub(super) fn serve(&mut self, arrival: Arrival, now: Instant) {
        let connection = self.next_connection();
        let work = Work {
            service: arrival.service,
            listener: arrival.listener,
            ip: arrival.peer.ip(),
            slot: None,
            peer: Some(arrival.peer),
        };
        let Some(service) = self.services.get(arrival.service) else {
            return;
        };
        if service.rules.log.accept {
            log::info!(service = &*service.name, conn:% = connection, peer:% = arrival.peer; "accepted");
            let about = About {
                service: Some(service.id),
                connection: Some(connection),
                peer: Some(arrival.peer),
            };
            self.events.add(EventKind::Accepted, about, "");
        }
        if let Some(text) = &service.rules.banner.admitted {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // A peer that cannot take a greeting now is not worth a wait; the server will see why.
            let _ = arrival.socket.send_with_flags(text.as_bytes(), flags);
        }
        if self.is_exec(arrival.service) {
            self.instances.ask(connection, work, now);
            let request = Request::Start {
                connection,
                service: arrival.service,
                listener: arrival.listener,
                told: arrival.told,
            };
            self.link.send(&request, Some(arrival.socket.into()));
            return;
        }
        let from = (arrival.peer, arrival.told.clone());
        match makers::conversation(&service.serve, arrival, &self.names) {
            Some(conversation) => self.begin_talk(conversation, connection, work, from, now),
            None => self.finish(work),
        }
    }

    pub(super) fn refuse(&mut self, arrival: Arrival, reason: Reason, now: Instant) {
        if let Some(service) = self.services.get(arrival.service) {
            let text = service.rules.banner.refused.as_deref();
            turn_away(&arrival.socket, text.unwrap_or_default(), &mut self.scratch);
        }
        self.note_refusal(arrival.service, &arrival.peer, reason, now);
    }

    pub(super) fn note_refusal(
        &mut self,
        id: ServiceId,
        peer: &Peer,
        reason: Reason,
        now: Instant,
    ) {
        self.count_refused(Some(id), peer.ip(), reason);
        self.log_refusal(id, peer, reason, now);
    }

    pub(super) fn log_refusal(&mut self, id: ServiceId, peer: &Peer, reason: Reason, now: Instant) {
        let service = self.services.get(id);
        if service.is_some_and(|service| service.rules.log.refuse) {
            self.tell_refusal(Whose::Service(id), peer, reason, now);
        }
    }

    pub(super) fn tell_refusal(&mut self, whose: Whose, peer: &Peer, reason: Reason, now: Instant) {
        let noted = self.refusals.note(whose, reason, peer.ip(), now);
        if noted.tell {
            let about = About {
                service: whose.service(),
                connection: None,
                peer: Some(*peer),
            };
            self.note_event(EventKind::Refused, about, &reason.to_string());
            match self.name_of(whose) {
                (service @ Some(_), _) => log::warn!(service, peer:% = peer; "refused: {reason}"),
                // Strangers knock at every port: nothing for an operator to do.
                (None, address) => log::info!(address, peer:% = peer; "refused: {reason}"),
            }
        }
        if let Some(at) = noted.sum_at {
            self.deadlines.add(at, Timer::Refusals);
        }
    }

    pub(super) fn tell_refusals(&mut self) {
        for sum in self.refusals.sum_up() {
            let (count, reason) = (sum.count, sum.reason);
            let about = About {
                service: sum.whose.service(),
                ..About::default()
            };
            let text = format!("{count} more: {reason}");
            self.note_event(EventKind::Refused, about, &text);
            match self.name_of(sum.whose) {
                (None, None) => {} // gone since
                (service @ Some(_), _) => {
                    log::warn!(service, count; "refused {count} more: {reason}");
                }
                (None, address) => log::info!(address, count; "refused {count} more: {reason}"),
            }
        }
    }

    /// The service, or the address.
    fn name_of(&self, whose: Whose) -> (Option<&str>, Option<&str>) {
        match whose {
            Whose::Service(id) => (self.services.get(id).map(|s| &*s.name), None),
            Whose::Listener(id) => (None, self.listeners.get(id).map(|l| &*l.label)),
        }
    }
}
