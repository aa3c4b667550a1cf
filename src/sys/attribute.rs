//! Extended attributes of open files, which nix does not know.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first octets of the attribute `name` (fgetxattr(2)); an error if it has
/// more than fit, or if there is none.
pub fn attribute(of: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    let mut value = vec![0u8; 64];
    // SAFETY: the name ends in NUL and is only read; the buffer is as long as is said.
    let length = unsafe {
        libc::fgetxattr(
            of.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    value.truncate(length);
    Ok(value)
}
