//! One front makes room for the next, and loses nothing: what nobody serves
//! yet goes back to the helper, what is being answered here is answered here.
//!
//! What a peer said to the tcpmux port is read and cannot be given back, so
//! the helper is kept until those clients have named their service.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use socket2::Socket;

use crate::front::deadlines::Timer;
use crate::front::event_loop::Front;
use crate::front::instances::Instances;
use crate::front::peer::Peer;
use crate::front::plan::ServePlan;
use crate::front::poll_set::leave;
use crate::helper::told::Told;
use crate::helper::wire::Request;
use crate::ids::ListenerId;
use crate::table::Builtin;

/// A client of tcpmux that has not named a service by then never gets one.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retiring {
    #[default]
    No,
    /// Accepts nothing; clients of tcpmux may name a service until then.
    Until(Instant),
    /// The helper has all it can get.
    Done,
}

impl Front {
    pub(super) fn retire(&mut self, now: Instant) {
        self.retiring = Retiring::Until(now + PATIENCE);
        self.deadlines.add(now + PATIENCE, Timer::Retire);
        for listener in self.listeners.iter_mut() {
            leave(&self.registry, listener);
            listener.socket = None;
            listener.responder = None;
        }
        self.status.close();
        for (listener, told, socket) in self.take_pending() {
            let request = Request::GiveBack { listener, told };
            self.link.send(&request, Some(socket.into()));
        }
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.retiring != Retiring::No
    }

    /// Lets the helper know once there is nothing more to come.
    pub(super) fn retired(&mut self, now: Instant) {
        let Retiring::Until(until) = self.retiring else {
            return;
        };
        if now < until && self.has_undecided_talks() {
            return;
        }
        self.retiring = Retiring::Done;
        self.draining = true;
        // The next front hears of servers, and reads what they write.
        self.instances = Instances::default();
        self.flush_pipes();
        self.tell_refusals();
        self.link.send(&Request::Taken, None);
    }

    fn has_undecided_talks(&self) -> bool {
        self.talks.iter().any(|(_, talk)| {
            let service = self.services.get(talk.work.service);
            service.is_some_and(|s| matches!(s.serve, ServePlan::Builtin(Builtin::Tcpmux)))
        })
    }

    /// The helper goes its own way, with another front.
    pub(super) fn leave_helper(&mut self) {
        let fd = self.link.as_fd().as_raw_fd();
        if let Err(err) = self.registry.deregister(&mut SourceFd(&fd)) {
            log::debug!("unable to stop watching the helper: {err}");
        }
    }

    /// A connection that the front before this one had accepted.
    pub(super) fn accept_again_from(
        &mut self,
        id: ListenerId,
        socket: OwnedFd,
        told: Option<Box<Told>>,
        now: Instant,
    ) {
        let socket = Socket::from(socket);
        // One that was reset meanwhile has no peer.
        let Ok(peer) = socket.peer_addr().map(|address| Peer::from(&address)) else {
            return;
        };
        let Some(listener) = self.listeners.get(id).filter(|_| !self.draining) else {
            return log::info!(peer:% = peer; "closed: its listener is gone");
        };
        let service = listener.service();
        if listener.routes.is_some() {
            self.arrive_again(socket, peer, id, told, now);
        } else if told.is_none() {
            self.arrive_directly(socket, peer, service, id, now);
        } else {
            log::info!(peer:% = peer; "closed: a proxy brought it, and its listener takes none any more");
        }
    }
}
