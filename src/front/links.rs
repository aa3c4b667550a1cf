//! The front's end of the socket to the helper: packets in, packets out.
//!
//! Sending never waits. What the kernel will not take stays here in order,
//! and while too much of it does, no connection is accepted.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::helper::wire::{MAX_PACKET, Notice, Request};
use crate::sys::link;

/// As many requests may wait for the helper before accepting stops.
const CONGESTED: usize = 256;

#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    outbox: VecDeque<(Box<[u8]>, Option<OwnedFd>)>,
    packet: Vec<u8>,
    scratch: Box<[u8; MAX_PACKET]>,
}

/// The notices of one packet. Descriptors belong to a packet's only notice.
#[derive(Debug)]
pub struct Packet {
    pub notices: Vec<Notice>,
    pub descriptors: Vec<OwnedFd>,
}

/// Why there is nothing more from the helper.
#[derive(Debug)]
pub enum LinkError {
    /// It closed its end: time to go.
    Ended,
    Malformed(String),
    Io(io::Error),
}

impl Link {
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outbox: VecDeque::new(),
            packet: Vec::new(),
            scratch: Box::new([0; MAX_PACKET]),
        }
    }

    /// Waits for the next packet, on a blocking socket or not; only before the loop runs.
    pub fn wait_for_packet(&mut self) -> Result<Packet, LinkError> {
        loop {
            if let Some(packet) = self.receive()? {
                return Ok(packet);
            }
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(err) => return Err(LinkError::Io(err.into())),
            }
        }
    }

    /// The next packet, if there is one.
    pub fn receive(&mut self) -> Result<Option<Packet>, LinkError> {
        match self.receive_one() {
            Ok(packet) => Ok(Some(packet)),
            Err(LinkError::Io(err)) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(LinkError::Io(err)) if err.kind() == io::ErrorKind::Interrupted => self.receive(),
            Err(err) => Err(err),
        }
    }

    fn receive_one(&mut self) -> Result<Packet, LinkError> {
        let received = link::receive(self.socket.as_fd(), self.scratch.as_mut_slice());
        let packet = received.map_err(|err| match err.kind() {
            io::ErrorKind::ConnectionReset => LinkError::Ended,
            _ => LinkError::Io(err),
        })?;
        let descriptors = packet.descriptors;
        if packet.length == 0 && descriptors.is_empty() {
            return Err(LinkError::Ended);
        }
        if packet.truncated {
            return Err(LinkError::Malformed("a packet that is too long".into()));
        }
        let notices = Notice::decode_all(&self.scratch[..packet.length])
            .map_err(|err| LinkError::Malformed(err.to_string()))?;
        let want = match notices.as_slice() {
            [
                Notice::Plan
                | Notice::Stderr { .. }
                | Notice::Log
                | Notice::StatusSocket
                | Notice::Accepted { .. }
                | Notice::Bans,
            ] => 1,
            [Notice::Listeners(ids)] => ids.len(),
            _ => 0,
        };
        if descriptors.len() != want {
            let text = format!("{} descriptors instead of {want}", descriptors.len());
            return Err(LinkError::Malformed(text));
        }
        Ok(Packet {
            notices,
            descriptors,
        })
    }

    /// Sends a request, or keeps it until the helper has room.
    pub fn send(&mut self, request: &Request, descriptor: Option<OwnedFd>) {
        self.packet.clear();
        request.encode(&mut self.packet);
        if self.outbox.is_empty() && self.try_send(&self.packet, descriptor.as_ref()) {
            return;
        }
        self.outbox
            .push_back((self.packet.as_slice().into(), descriptor));
    }

    /// Sends what waits, as far as the helper has room.
    pub fn flush(&mut self) {
        while let Some((packet, descriptor)) = self.outbox.front() {
            if !self.try_send(packet, descriptor.as_ref()) {
                return;
            }
            self.outbox.pop_front();
        }
    }

    /// Whether the packet is out of our hands. A broken link is: its end is
    /// seen where it is read.
    fn try_send(&self, packet: &[u8], descriptor: Option<&OwnedFd>) -> bool {
        loop {
            let descriptor = descriptor.map(OwnedFd::as_fd);
            let sent = link::send(self.socket.as_fd(), packet, descriptor.as_slice());
            let Err(err) = sent else { return true };
            if err.kind() != io::ErrorKind::Interrupted {
                return !link::is_passing(&err);
            }
        }
    }

    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.outbox.len() >= CONGESTED
    }

    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn requests_wait_while_the_helper_is_busy_and_keep_their_order() {
        let (near, far) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let mut link = Link::new(near);
        let mut sent = 0_u64;
        while !link.is_congested() {
            let instance = crate::ids::InstanceId(sent);
            link.send(&Request::Stop { instance }, None);
            sent += 1;
        }
        let mut seen = 0;
        let mut buffer = [0; MAX_PACKET];
        while let Ok(link::Packet { length, .. }) = link::receive(far.as_fd(), &mut buffer) {
            let instance = crate::ids::InstanceId(seen);
            assert_eq!(
                Request::decode(&buffer[..length], 0).unwrap(),
                Request::Stop { instance }
            );
            seen += 1;
            link.flush();
        }
        assert_eq!(seen, sent);
        assert!(link.is_flushed());
    }
}
