//! renameat2(2): two names that change places, in one step.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// linux/fs.h
const RENAME_NOREPLACE: libc::c_uint = 1;
const RENAME_EXCHANGE: libc::c_uint = 2;

/// A name in a directory.
pub type Place<'a> = (BorrowedFd<'a>, &'a CStr);

/// What `one` and `other` name changes places: at every moment each name stands for
/// one of the two.
pub fn exchange(one: Place<'_>, other: Place<'_>) -> io::Result<()> {
    rename(one, other, RENAME_EXCHANGE)
}

/// `from` becomes `to`, which must not be there.
pub fn rename_new(from: Place<'_>, to: Place<'_>) -> io::Result<()> {
    rename(from, to, RENAME_NOREPLACE)
}

fn rename(
    (from_dir, from): Place<'_>,
    (to_dir, to): Place<'_>,
    flags: libc::c_uint,
) -> io::Result<()> {
    // SAFETY: both directories are borrowed for the call; both names end with a NUL and are
    // only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from_dir.as_raw_fd(),
            from.as_ptr(),
            to_dir.as_raw_fd(),
            to.as_ptr(),
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
