//! Socket options that socket2 has no call for.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// setsockopt(2) with an `int`.
pub fn set_option(socket: BorrowedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(mem::size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: pointer and size describe the local `value`, which is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// uid and gid of the peer of a Unix socket, as they were when it connected
/// (`SO_PEERCRED`, unix(7)).
#[must_use]
pub fn peer_credentials(socket: BorrowedFd) -> Option<(u32, u32)> {
    let who = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials);
    who.ok().map(|who| (who.uid(), who.gid()))
}

/// One instruction of a classic BPF program (`struct sock_filter`).
pub use libc::sock_filter as Instruction;

/// Runs `program` on every packet that arrives at `socket` (`SO_ATTACH_FILTER`,
/// socket(7)); an empty program takes a filter away.
pub fn set_filter(socket: BorrowedFd, program: &[Instruction]) -> io::Result<()> {
    if program.is_empty() {
        return match set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0) {
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        };
    }
    attach(socket, libc::SO_ATTACH_FILTER, program)
}

/// Lets `program` choose, for every packet that arrives at the `SO_REUSEPORT`
/// group of `socket`, the member by its place (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)).
pub fn attach_reuseport_program(socket: BorrowedFd, program: &[Instruction]) -> io::Result<()> {
    attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

fn attach(socket: BorrowedFd, name: i32, program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let fprog = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let size = libc::socklen_t::try_from(mem::size_of_val(&fprog)).map_err(io::Error::other)?;
    // SAFETY: `fprog` names `program` and its true length; the kernel copies
    // both before it returns and writes to neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const fprog).cast(),
            size,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Undoes a connect(2) on a datagram socket (`AF_UNSPEC`): a server may have
/// tied the shared socket to one peer and left it so.
pub fn dissolve_connection(socket: BorrowedFd) -> io::Result<()> {
    // SAFETY: sockaddr is plain old data; zeroes are AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { mem::zeroed() };
    let size = libc::socklen_t::try_from(mem::size_of_val(&nowhere)).map_err(io::Error::other)?;
    // SAFETY: pointer and size describe the local `nowhere`, only read.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
