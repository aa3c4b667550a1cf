//! renameat2(2): two names that change places, in one step.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// linux/fs.h
const RENAME_NOREPLACE: libc::c_uint = 1;
const RENAME_EXCHANGE: libc::c_uint = 2;

/// What `one` and `other` in `dir` name changes places: at every moment each name
/// stands for one of the two.
pub fn exchange(dir: BorrowedFd<'_>, one: &CStr, other: &CStr) -> io::Result<()> {
    rename(dir, one, other, RENAME_EXCHANGE)
}

/// `from` becomes `to`, which must not be there.
pub fn rename_new(dir: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    rename(dir, from, to, RENAME_NOREPLACE)
}

fn rename(dir: BorrowedFd<'_>, from: &CStr, to: &CStr, flags: libc::c_uint) -> io::Result<()> {
    let dir = dir.as_raw_fd();
    // SAFETY: `dir` is borrowed for the call; both names end with a NUL and are only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            dir,
            from.as_ptr(),
            dir,
            to.as_ptr(),
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
