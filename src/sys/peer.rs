//! What the kernel says of the peer of a Unix socket, beyond its credentials.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SO_PEERPIDFD` of Linux 6.5, which libc has on some targets only.
const SO_PEERPIDFD: i32 = 77;

/// More supplementary groups than this are not asked for; the kernel's own
/// limit is 65,536 (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 4096;

/// A pidfd of the process that connected, which cannot come to mean another
/// one (`SO_PEERPIDFD`, unix(7)).
pub fn peer_pidfd(socket: BorrowedFd) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut size = libc::socklen_t::try_from(mem::size_of::<RawFd>()).map_err(io::Error::other)?;
    // SAFETY: pointer and size describe the local `fd`, which the kernel fills.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut size,
        )
    };
    if result < 0 || fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The supplementary groups of the peer when it connected (`SO_PEERGROUPS`, Linux 4.13).
pub fn peer_groups(socket: BorrowedFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; MOST_GROUPS];
    let mut size =
        libc::socklen_t::try_from(mem::size_of_val(&groups[..])).map_err(io::Error::other)?;
    // SAFETY: pointer and size describe the live buffer of `groups`, which the kernel fills.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(size as usize / mem::size_of::<u32>());
    Ok(groups)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn our_own_groups_are_those_of_our_peer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut found = peer_groups(ours.as_fd()).unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .map(|gid| gid.as_raw())
            .collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
    }
}
