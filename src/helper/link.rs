//! The helper's end of the pair: packets out in order, requests in one by one.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::helper::wire::{MAX_PACKET, Notice, ProtocolError, Request};
use crate::sys::link;

/// Packets a front may leave unread before it counts as hung.
const MAX_OUTBOX: usize = 4096;

/// Why the front must be replaced.
#[derive(Debug)]
pub enum LinkError {
    /// It closed its end, or died.
    Closed,
    Malformed(ProtocolError),
    /// It does not read what it is told.
    NotReading,
    Io(io::Error),
}

/// One front's link.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    /// Notices of this turn that carry no descriptor.
    batch: Vec<u8>,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    buffer: Vec<u8>,
}

impl Link {
    /// A new pair: our end, and the one for the front.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let link = Self {
            socket: ours,
            batch: Vec::new(),
            outbox: VecDeque::new(),
            buffer: vec![0; MAX_PACKET],
        };
        Ok((link, theirs))
    }

    /// Puts a notice into this turn's packet.
    pub fn notify(&mut self, notice: &Notice) {
        let before = self.batch.len();
        notice.encode(&mut self.batch);
        if self.batch.len() > MAX_PACKET {
            let last = self.batch.split_off(before);
            self.close_batch();
            self.batch = last;
        }
    }

    /// Puts a notice with descriptors into the queue, a packet of its own.
    pub fn notify_with(&mut self, notice: &Notice, descriptors: Vec<OwnedFd>) {
        self.close_batch();
        let mut packet = Vec::new();
        notice.encode(&mut packet);
        self.outbox.push_back((packet, descriptors));
    }

    fn close_batch(&mut self) {
        if !self.batch.is_empty() {
            self.outbox
                .push_back((std::mem::take(&mut self.batch), Vec::new()));
        }
    }

    /// Sends what the front can take. `Ok(true)`: nothing is left.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        if self.outbox.is_empty() && !self.batch.is_empty() {
            match self.send(&self.batch, &[]) {
                Ok(()) => self.batch.clear(),
                Err(err) if link::is_passing(&err) => {}
                Err(err) => return Err(failed(err)),
            }
        }
        self.close_batch();
        while let Some((packet, descriptors)) = self.outbox.front() {
            match self.send(packet, descriptors) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(err) if link::is_passing(&err) => {
                    let hung = self.outbox.len() > MAX_OUTBOX;
                    return if hung {
                        Err(LinkError::NotReading)
                    } else {
                        Ok(false)
                    };
                }
                Err(err) => return Err(failed(err)),
            }
        }
        Ok(true)
    }

    fn send(&self, packet: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<BorrowedFd> = descriptors.iter().map(AsFd::as_fd).collect();
        link::send(self.socket.as_fd(), packet, &borrowed)
    }

    /// The next request, or `None` when there is none yet.
    pub fn receive(&mut self) -> Result<Option<(Request, Option<OwnedFd>)>, LinkError> {
        let packet = match link::receive(self.socket.as_fd(), &mut self.buffer) {
            Ok(packet) => packet,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(err) => return Err(failed(err)),
        };
        // Even an end of file can carry descriptors; they are closed on return.
        if packet.length == 0 {
            return Err(LinkError::Closed);
        }
        if packet.truncated {
            return Err(LinkError::Malformed(ProtocolError::TrailingBytes));
        }
        let request = Request::decode(&self.buffer[..packet.length], packet.descriptors.len())
            .map_err(LinkError::Malformed)?;
        Ok(Some((request, packet.descriptors.into_iter().next())))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(err: io::Error) -> LinkError {
    match err.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Closed,
        _ => LinkError::Io(err),
    }
}
