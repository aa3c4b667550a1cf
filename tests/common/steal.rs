//! Descriptors of another process: how a test takes the place of the front.
#![allow(
    unsafe_code,
    reason = "pidfd_open(2) and pidfd_getfd(2) have no safe wrapper in the crates at hand"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::process::Pid;

/// A copy of descriptor `number` of process `pid`. Needs the right to trace it.
pub fn steal(pid: Pid, number: RawFd) -> io::Result<OwnedFd> {
    let process = open(pid)?;
    // SAFETY: three integers, the first a descriptor that outlives the call.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    own(got)
}

fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    own(got)
}

fn own(got: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(got) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A TCP option that is a number.
pub fn tcp_option(fd: RawFd, option: i32) -> i32 {
    let mut value: libc::c_int = -1;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small number");
    // SAFETY: both pointers are to live locals, and the size is that of the value.
    let got = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    assert_eq!(got, 0, "no TCP option {option}");
    value
}
