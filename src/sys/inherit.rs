//! Descriptors by number: those that were open before main, and copies above
//! a number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use socket2::Socket;

/// A store of descriptors may hold a socket for each of many services.
const MOST: u32 = 1 << 17;

/// Takes the open descriptors among 3, 4, ... (`count` of them) and marks
/// them close-on-exec. Meant for the first moments of a process, when nothing
/// else can own these numbers.
#[must_use]
pub fn take_from_three(count: u32) -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    for fd in (3i32..).take(usize::try_from(count.min(MOST)).unwrap_or(0)) {
        // SAFETY: no pointers are passed; a number that is not open is an error.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            break;
        }
        // SAFETY: it is open (fcntl just said so) and came from our parent,
        // so nobody in this process owns it.
        taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    taken
}

/// Takes the open descriptor of this number and marks it close-on-exec. Meant
/// for the first moments of a process that was told the number on its command line.
#[must_use]
pub fn take(number: i32) -> Option<OwnedFd> {
    // SAFETY: no pointers are passed; a number that is not open is an error.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open (fcntl just said so) and came from our parent, who
    // told the number to us for nothing else.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether a descriptor stays open over execve(2).
pub fn keep_over_exec(number: i32, keep: bool) -> io::Result<()> {
    let flags = if keep { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: no pointers are passed; a number that is not open is an error.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A copy of a socket on the lowest free number from `from` on
/// (`F_DUPFD_CLOEXEC`, fcntl(2)).
pub fn raise(socket: &Socket, from: i32) -> io::Result<Socket> {
    raise_any(socket.as_fd(), from).map(Socket::from)
}

/// The same of any descriptor.
pub fn raise_any(fd: BorrowedFd<'_>, from: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
