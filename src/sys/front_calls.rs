//! What the front asks of the kernel and the C library, one safe function a call.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::time::TimeSpec;

use crate::helper::wire::MAX_DESCRIPTORS;

/// Gives free heap pages back to the kernel, after a large plan was read.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) touches free chunks only.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Ignores the signals that a terminal or a supervisor sends to the whole
/// group: the front ends when the helper says so, or is gone.
pub fn ignore_stop_signals() {
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: SIG_IGN runs no code, and these are valid signal numbers.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Takes every capability out of the bounding and ambient sets; returns how many were left in.
#[must_use]
pub fn drop_capability_bounds() -> u32 {
    let mut left = 0;
    for capability in 0..=63_u64 {
        // SAFETY: PR_CAPBSET_READ takes a number; unknown ones are EINVAL.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0_u64, 0_u64, 0_u64) };
        if known < 0 {
            break;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number and no pointer.
        let dropped =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64) };
        left += u32::from(known == 1 && dropped != 0);
    }
    let clear_all = libc::c_ulong::try_from(libc::PR_CAP_AMBIENT_CLEAR_ALL).unwrap_or(4);
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes numbers only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear_all, 0_u64, 0_u64, 0_u64) };
    left
}

/// Empties the effective, permitted and inheritable capability sets.
pub fn drop_capabilities() -> io::Result<()> {
    /// capget(2), version 3: two words a set.
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0_u32];
    let sets = [0_u32; 6];
    // SAFETY: header and data have the sizes that version 3 prescribes (2 and 6 words).
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Receives one packet with its descriptors, all close-on-exec. `None` is the end.
pub fn receive_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(raw.into_iter().map(|raw| {
                // SAFETY: the kernel has just installed this descriptor for us, nobody else owns it.
                unsafe { OwnedFd::from_raw_fd(raw) }
            }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let ended = message.bytes == 0 && descriptors.is_empty();
    Ok((!ended).then_some((message.bytes, descriptors)))
}

/// Sends one packet, with at most one descriptor, without waiting.
pub fn send_packet(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let raw: [RawFd; 1] = descriptor.map_or([-1], |fd| [fd.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if descriptor.is_some() {
        &rights[..]
    } else {
        &[]
    };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(packet)],
        control,
        flags,
        None,
    )?;
    Ok(())
}

/// The time stamp of the datagram at the head of a queue, which stays there.
/// `None` if there is none, or stamps are switched off. Never waits.
pub fn head_stamp(socket: impl AsFd) -> Option<TimeSpec> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut byte = [0_u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    // Without the sender's address: nix leaves that uninitialised for a unix peer without a name.
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT,
    )
    .ok()?;
    message.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    })
}

/// How many connections wait to be accepted on a listening TCP socket.
pub fn accept_queue(listener: BorrowedFd<'_>) -> Option<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the buffer is as long as `length` says, and both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return None;
    }
    // SAFETY: zeroed above, and every bit pattern is a valid `tcp_info`.
    Some(unsafe { info.assume_init() }.tcpi_unacked)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_accept_queue_of_a_listener_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(accept_queue(listener.as_fd()), Some(1));
    }
}
