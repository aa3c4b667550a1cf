//! A connection that the loop serves itself: built-in service, tcpmux name, relay.
//!
//! The event loop owns the registration and the deadlines; a conversation
//! only moves bytes until the kernel says "would block".
#![forbid(unsafe_code)]

use std::io;
use std::time::Instant;

use mio::{Registry, Token};
use socket2::Socket;

use crate::ids::ServiceId;

/// What one turn of work led to.
#[derive(Debug)]
pub enum Progress {
    /// Wait for the next readiness event (or the deadline).
    Pending,
    /// Could go on, but others have waited long enough: call [`Conversation::ready`] with the first
    /// token once they had their turn. No event will come by itself; nothing may be registered yet.
    Again,
    /// Over: drop it. Counts are read by [`Conversation::traffic`] before.
    Done,
    /// tcpmux: the name was consumed, `socket` now belongs to `service`, whose
    /// own rules decide. Already deregistered. `greet`: send the `+` line once admitted.
    HandOver {
        socket: Socket,
        service: ServiceId,
        greet: bool,
    },
}

/// Bytes seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

impl Traffic {
    /// What was added to `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            sent: self.sent.saturating_sub(earlier.sent),
        }
    }
}

/// Implemented by every service that runs inside the loop.
pub trait Conversation: std::fmt::Debug {
    /// Called once, right after admission; registers its descriptors
    /// edge-triggered. A relay has two, told apart by `tokens`.
    fn begin(
        &mut self,
        registry: &Registry,
        tokens: [Token; 2],
        now: Instant,
    ) -> io::Result<Progress>;

    /// Called for each readiness event on one of its tokens, and when [`Self::deadline`] has passed.
    /// An error is the connection's own (reset and the like): it ends only this conversation.
    fn ready(&mut self, registry: &Registry, token: Token, now: Instant) -> io::Result<Progress>;

    /// A deadline of its own (next upstream, name not complete); idle and
    /// total limits are kept by the loop with [`Self::traffic`].
    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn traffic(&self) -> Traffic;
}
