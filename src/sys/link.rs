//! Packets with descriptors over a SOCK_SEQPACKET pair (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

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

/// Receives one packet without waiting. All descriptors are close-on-exec, and
/// each of them is owned here: also those of a packet that brought more than
/// there were free numbers for, of which nix tells nothing.
pub fn receive(link: BorrowedFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut space = cmsg_space!([RawFd; 253]);
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain old data, for which zeroes mean "none".
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = space.capacity() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message names a live buffer and live space for control data with their true sizes.
    let length = unsafe { libc::recvmsg(link.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(Packet {
        length,
        descriptors: take_rights(&message),
        truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
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

/// The descriptors that came with `message`, which recvmsg(2) has just filled.
fn take_rights(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    // SAFETY: the kernel has filled the message, whose control data is alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header that is not null lies whole within the control data.
    while let Some(part) = unsafe { header.as_ref() } {
        if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            take_all(part, &mut taken);
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    taken
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the length's type differs between libcs"
)]
fn take_all(part: &libc::cmsghdr, taken: &mut Vec<OwnedFd>) {
    // SAFETY: pure arithmetic on a length.
    let before = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = (part.cmsg_len as usize).saturating_sub(before) / size_of::<RawFd>();
    // SAFETY: the data of a header begins right behind it.
    let data = unsafe { libc::CMSG_DATA(part) }.cast::<RawFd>();
    for at in 0..count {
        // SAFETY: `at` is less than the number of descriptors that the length stands for.
        let place = unsafe { data.add(at) };
        // SAFETY: within the control data; it need not be aligned.
        let fd = unsafe { place.read_unaligned() };
        // SAFETY: the kernel just installed this descriptor for us, and each
        // number is taken from the message once.
        taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn every_descriptor_of_a_packet_is_owned() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let sent = [theirs.as_fd(), theirs.as_fd(), theirs.as_fd()];
        send(theirs.as_fd(), b"three", &sent).unwrap();
        send(theirs.as_fd(), b"none", &[]).unwrap();
        let mut buffer = [0; 4];
        let packet = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((packet.descriptors.len(), packet.truncated), (3, true));
        let packet = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((packet.descriptors.len(), packet.truncated), (0, false));
        assert_eq!(&buffer[..packet.length], b"none");
        assert!(receive(ours.as_fd(), &mut buffer).is_err());
    }
}
