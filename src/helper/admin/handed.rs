//! What the admin socket's side of one usherd leaves to the next.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::Control;
use crate::helper::handover::state::{Bag, ControlState};
use crate::ids::ServiceId;

impl Control {
    /// Whether no reload is asked for or under way.
    pub(in crate::helper) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    pub(in crate::helper) fn starts(&self) -> u64 {
        self.starts
    }

    pub(in crate::helper) fn count_starts_from(&mut self, starts: u64) {
        self.starts = self.starts.max(starts);
    }

    /// Services that take no request.
    pub(in crate::helper) fn held(&self) -> impl Iterator<Item = ServiceId> {
        self.halted.keys().copied()
    }

    /// A service still takes none; no front has heard of that.
    pub(in crate::helper) fn keep_held(&mut self, service: ServiceId) {
        self.halted.insert(service, true);
    }

    /// The connection of a caller that has not left.
    pub(in crate::helper) fn socket_of(&self, caller: u64) -> Option<BorrowedFd<'_>> {
        let place = self.server.place(caller)?;
        Some(self.server.connection(place)?.as_fd())
    }

    /// The entry of the audit log about what a caller asked, and since when.
    pub(in crate::helper) fn asked_of(&self, caller: u64) -> Option<(u64, Instant)> {
        self.trail.asked_of(caller)
    }

    /// Both sockets, with all who wait to be accepted.
    pub(in crate::helper) fn hand_over(
        &self,
        bag: &mut dyn Bag,
    ) -> io::Result<Option<ControlState>> {
        let (Some(sockets), Some(admin)) = (&self.sockets, self.server.listener()) else {
            return Ok(None);
        };
        sockets.hand_over(admin, bag).map(Some)
    }
}
