//! Services whose server is given the listener or datagram socket itself.
//!
//! One server at a time has a slot; until it ends nobody else looks at the
//! socket. What the old super-servers got wrong is decided here: a server that
//! ends without reading must not be started again at once for the same
//! datagram for ever, and the other datagrams must not be thrown away for it.
#![forbid(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::Socket;

use crate::front::accept::Arrival;
use crate::front::admit::Reason;
use crate::front::event_loop::Front;
use crate::front::instances::Work;
use crate::front::limits::BackOff;
use crate::front::peer::Peer;
use crate::front::poll_set::leave;
use crate::front::roster::Roster;
use crate::front::services::{Listener, Service};
use crate::helper::wire::{Outcome, Request};
use crate::ids::{ConnectionId, ListenerId, ServiceId};
use crate::sys::front_calls::{accept_queue, head_stamp};

/// Datagrams of one socket that are looked at in a turn.
const DATAGRAMS_PER_TURN: usize = 32;
/// Connections turned away in a turn.
const REFUSALS_PER_TURN: usize = 16;
/// A stream server that ends sooner may not have accepted at all.
const QUICK: Duration = Duration::from_secs(1);
/// From this quick end in a row on the slot rests.
const REST_FROM: u32 = 3;
/// From this one on the connection that nobody wants is closed.
const CLOSE_FROM: u32 = 5;

/// What one server is given: a listener, or all listeners of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotKey {
    One(ListenerId),
    Whole(ServiceId),
}

impl SlotKey {
    #[must_use]
    pub fn of(service: &Service, listener: &Listener) -> Self {
        if service.rules.whole {
            SlotKey::Whole(service.id)
        } else {
            SlotKey::One(listener.id)
        }
    }
}

#[derive(Debug, Default)]
pub struct Slot {
    /// What the server was started for; `None` while nobody has the slot.
    started: Option<Start>,
    /// After ends without progress.
    pub back_off: BackOff,
    /// Quick ends in a row that left a stream's queue as long as it was.
    idle_ends: u32,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    at: Instant,
    /// Where the request was.
    on: ListenerId,
    /// The datagram that was at the head.
    head: Option<TimeSpec>,
    queue: Option<u32>,
}

impl Slot {
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.started.is_some()
    }
}

impl SlotKey {
    /// Whether it is one of `service`'s.
    #[must_use]
    pub fn is_of(self, service: &Service, listeners: &Roster<Listener>) -> bool {
        match self {
            SlotKey::Whole(id) => id == service.id,
            SlotKey::One(id) => listeners
                .get(id)
                .is_some_and(|listener| listener.service() == service.id),
        }
    }
}

impl Front {
    fn key(&self, service: ServiceId, listener: ListenerId) -> Option<SlotKey> {
        let service = self.services.get(service)?;
        Some(SlotKey::of(service, self.listeners.get(listener)?))
    }

    pub(super) fn wait_ready(&mut self, service: ServiceId, id: ListenerId, now: Instant) {
        let key = self.key(service, id);
        let slot = key.and_then(|key| self.slots.get(&key));
        if slot.is_some_and(|slot| slot.is_busy() || slot.back_off.resting(now).is_some()) {
            return self.touch(service);
        }
        if self.listeners.get(id).is_some_and(|l| l.datagram) {
            self.look_at_datagrams(service, id, now);
        } else {
            self.look_at_stream(service, id, now);
        }
    }

    /// Throws away what is not admitted, one datagram at a time, and starts a
    /// server for the first that is.
    fn look_at_datagrams(&mut self, service: ServiceId, id: ListenerId, now: Instant) {
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(socket) = self.listeners.get(id).and_then(|l| l.socket.as_ref()) else {
                return;
            };
            let peer = match peek_peer(socket) {
                Ok(peer) => peer,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                // An error kept for the socket (an ICMP message), told once and gone now.
                Err(_) => continue,
            };
            match self.admit(service, &peer, now) {
                Ok(()) => return self.start_wait(service, id, Some(peer), now),
                Err(reason) if reason.may_pass() => return self.touch(service),
                Err(reason) => {
                    self.count_accepted(service, peer.ip(), now);
                    discard_one(socket_of(&self.listeners, id));
                    self.note_refusal(service, &peer, reason, now);
                }
            }
        }
        self.postpone(id);
    }

    /// The peer of a waiting connection cannot be known without accepting it.
    fn look_at_stream(&mut self, service: ServiceId, id: ListenerId, now: Instant) {
        let Err(reason) = self.admit(service, &Peer::Unix, now) else {
            return self.start_wait(service, id, None, now);
        };
        let queues = self.services.get(service).is_none_or(Service::queues);
        if queues || matches!(reason, Reason::Resting | Reason::Held) {
            return self.touch(service);
        }
        for _ in 0..REFUSALS_PER_TURN {
            if !self.close_one(service, id, reason, now) {
                return;
            }
        }
        self.postpone(id);
    }

    /// Accepts one connection and turns it away; whether there was one.
    fn close_one(
        &mut self,
        service: ServiceId,
        id: ListenerId,
        reason: Reason,
        now: Instant,
    ) -> bool {
        // The server may have left it blocking.
        if let Some(socket) = socket_of(&self.listeners, id) {
            let _ = socket.set_nonblocking(true);
        }
        let Some((socket, peer)) = self.accept_one(service, id, now) else {
            return false;
        };
        let arrival = Arrival {
            socket,
            peer,
            service,
            listener: id,
            told: None,
        };
        self.count_accepted(service, arrival.peer.ip(), now);
        self.refuse(arrival, reason, now);
        true
    }

    fn start_wait(&mut self, service: ServiceId, id: ListenerId, peer: Option<Peer>, now: Instant) {
        let connection = self.next_connection();
        let work = Work {
            service,
            listener: id,
            ip: peer.and_then(|peer| peer.ip()),
            slot: self.key(service, id),
            peer,
        };
        let socket = socket_of(&self.listeners, id);
        let start = Start {
            at: now,
            on: id,
            head: peer.and(socket).and_then(head_identity),
            queue: socket.and_then(|socket| accept_queue(socket.as_fd())),
        };
        self.count_accepted(service, work.ip, now);
        let Some(key) = work.slot else {
            return self.finish(work);
        };
        self.slots.entry(key).or_default().started = Some(start);
        // Out of the poll set before the server can have it.
        self.leave_slot(key);
        self.log_wait(service, connection, peer);
        self.instances.ask(connection, work, now);
        let request = Request::StartWait {
            connection,
            service,
            listener: id,
            peer: peer.and_then(|peer| peer.on_wire()),
        };
        self.link.send(&request, None);
    }

    fn log_wait(&self, service: ServiceId, connection: ConnectionId, peer: Option<Peer>) {
        let service = self.services.get(service);
        let Some(service) = service.filter(|service| service.rules.log.accept) else {
            return;
        };
        let name = &*service.name;
        match peer {
            Some(peer) => {
                log::info!(service = name, conn:% = connection, peer:% = peer; "accepted");
            }
            None => log::info!(service = name, conn:% = connection; "accepted"),
        }
    }

    fn leave_slot(&mut self, key: SlotKey) {
        match key {
            SlotKey::One(id) => {
                if let Some(listener) = self.listeners.get_mut(id) {
                    leave(&self.registry, listener);
                }
            }
            SlotKey::Whole(service) => {
                for listener in self.listeners.iter_mut() {
                    if listener.service() == service {
                        leave(&self.registry, listener);
                    }
                }
            }
        }
    }

    /// A server that an earlier front started has this slot.
    pub(super) fn occupy_slot(&mut self, key: SlotKey, on: ListenerId) {
        let start = Start {
            at: Instant::now(),
            on,
            head: None,
            queue: None,
        };
        self.slots.entry(key).or_default().started = Some(start);
        self.leave_slot(key);
    }

    /// No server came of it. Whatever asked for one must not do so for ever:
    /// it goes, unless the helper was only too busy (`full`).
    pub(super) fn free_slot_unstarted(
        &mut self,
        key: SlotKey,
        service: ServiceId,
        full: bool,
        now: Instant,
    ) {
        let Some(start) = self.vacate(key) else {
            return;
        };
        if !full {
            self.drop_one(service, start.on, now);
        }
        self.rest_slot(key, service, now);
    }

    pub(super) fn free_slot_exited(
        &mut self,
        key: SlotKey,
        service: ServiceId,
        outcome: &Outcome,
        now: Instant,
    ) {
        let Some(start) = self.vacate(key) else {
            return;
        };
        if self.made_progress(&start, outcome, now) {
            self.slots.remove(&key);
            return;
        }
        let datagram = self.listeners.get(start.on).is_some_and(|l| l.datagram);
        let ends = self.slots.get_mut(&key).map_or(0, |slot| {
            slot.idle_ends = slot.idle_ends.saturating_add(1);
            slot.idle_ends
        });
        if datagram || ends >= REST_FROM {
            self.rest_slot(key, service, now);
        }
        if datagram || ends >= CLOSE_FROM && start.queue.is_some() {
            self.drop_one(service, start.on, now);
            if let Some(service) = self.services.get(service) {
                let what = if datagram {
                    "datagram"
                } else {
                    "connection (a server that wants the connection itself needs wait = false)"
                };
                log::warn!(service = &*service.name; "server ended without taking its request: dropped one {what}");
            }
        }
    }

    /// Drops the request at the head of the queue.
    fn drop_one(&mut self, service: ServiceId, id: ListenerId, now: Instant) {
        if self.listeners.get(id).is_some_and(|l| l.datagram) {
            discard_one(socket_of(&self.listeners, id));
        } else {
            self.close_one(service, id, Reason::Resting, now);
        }
    }

    fn rest_slot(&mut self, key: SlotKey, service: ServiceId, now: Instant) {
        let noise = self.noise();
        let rest = match self.slots.get_mut(&key) {
            Some(slot) => slot.back_off.fail(now, noise),
            None => return,
        };
        self.tell_rest(service, rest);
    }

    /// Whether the server took something from its socket. For datagrams the
    /// head of the queue tells; for streams there are hints only.
    fn made_progress(&self, start: &Start, outcome: &Outcome, now: Instant) -> bool {
        let Some(listener) = self.listeners.get(start.on) else {
            return true;
        };
        let Some(socket) = &listener.socket else {
            return true;
        };
        if listener.datagram {
            return start.head.is_none() || head_identity(socket) != start.head;
        }
        if now.saturating_duration_since(start.at) >= QUICK || !has_waiting(socket) {
            return true;
        }
        match (start.queue, accept_queue(socket.as_fd())) {
            (Some(before), Some(after)) => after < before,
            // Only TCP counts its queue; elsewhere believe a server that says it went well.
            _ => outcome.status == 0 && !outcome.signalled,
        }
    }

    /// The slot is free. Whoever has the listener now looks at it again: a
    /// reload may have given it to another service while the server ran.
    fn vacate(&mut self, key: SlotKey) -> Option<Start> {
        let start = self.slots.get_mut(&key)?.started.take()?;
        if let Some(owner) = self.listeners.get(start.on).map(|on| on.service()) {
            self.touch(owner);
        }
        Some(start)
    }
}

fn socket_of(listeners: &Roster<Listener>, id: ListenerId) -> Option<&Socket> {
    listeners.get(id)?.socket.as_ref()
}

/// Whether a connection waits to be accepted.
fn has_waiting(listener: &Socket) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut wanted = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut wanted, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Who sent the datagram at the head of the queue.
fn peek_peer(socket: &Socket) -> io::Result<Peer> {
    let mut byte = [MaybeUninit::uninit(); 1];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let (_, address) = socket.recv_from_with_flags(&mut byte, flags)?;
    Ok(Peer::from(&address))
}

/// What tells the datagram at the head of the queue from any other: its time stamp.
///
/// The kernel stamps a datagram when it is first looked at with stamps switched
/// on, and never again. They are switched off before anybody else has the
/// socket, so that the server finds it as it was.
fn head_identity(socket: &Socket) -> Option<TimeSpec> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true).ok()?;
    let stamp = head_stamp(socket);
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    stamp
}

/// Throws away exactly one datagram.
fn discard_one(socket: Option<&Socket>) {
    if let Some(socket) = socket {
        let _ = recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT);
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
