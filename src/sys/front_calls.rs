//! What the front asks of the kernel and the C library, one safe function a call.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::time::TimeSpec;

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
        // SAFETY: PR_CAPBSET_DROP takes a number and no pointer.
        let dropped =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_u64, 0_u64, 0_u64) };
        if dropped == 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_READ takes a number; unknown ones are EINVAL.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0_u64, 0_u64, 0_u64) };
        if known < 0 {
            break;
        }
        left += u32::from(known == 1);
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
