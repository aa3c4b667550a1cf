//! splice(2): nix has it only behind a feature that is not ours to switch on.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Moves up to `len` bytes between two descriptors, one of them a pipe,
/// without blocking on the pipe. Sockets must be non-blocking themselves.
/// `Ok(0)` is the end of `from`.
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are borrowed for the whole call, and the two offsets are null, which
    // splice takes as "none": it reads and writes no memory of ours.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), len, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
