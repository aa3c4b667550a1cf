//! Packets with descriptors over a SOCK_SEQPACKET pair (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// What recvmsg(2) brought.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of it in the buffer; zero is the end of the link.
    pub length: usize,
    pub descriptors: Vec<OwnedFd>,
    /// The packet or its descriptors were longer than what could be taken.
    pub truncated: bool,
}

/// Sends one packet without waiting.
pub fn send(link: BorrowedFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        link.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )?;
    Ok(())
}

/// Receives one packet without waiting. All descriptors are close-on-exec.
pub fn receive(link: BorrowedFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut space = cmsg_space!([RawFd; 253]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(link.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: the kernel just installed this descriptor for us, and
                // each number is taken from the message once.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let truncated = message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    Ok(Packet {
        length: message.bytes,
        descriptors,
        truncated,
    })
}

/// Whether a packet could not be sent just now: no room, no memory, or too
/// many descriptors under way (`ETOOMANYREFS`, unix(7)).
#[must_use]
pub fn is_passing(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::ETOOMANYREFS)
    )
}
