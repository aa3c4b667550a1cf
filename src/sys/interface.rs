//! At which interface a connection came in.
//!
//! Linux keeps the interface of the SYN with the connection and tells it with
//! the "sticky" packet options, `IP_PKTOPTIONS` and `IPV6_2292PKTOPTIONS`,
//! while the connection asks for packet information.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::set_option;

/// linux/in.h; libc does not have it.
const IP_PKTOPTIONS: i32 = 9;
/// linux/in6.h.
const IPV6_2292PKTOPTIONS: i32 = 6;
/// Room for one `cmsghdr` with a `struct in6_pktinfo`, and then some.
const ROOM: usize = 256;

/// The name of the interface that a connection came in at, if it is known and
/// still there. What it takes to ask is undone.
#[must_use]
pub fn incoming_interface(connection: BorrowedFd, v6: bool) -> Option<String> {
    let (level, name, asked) = if v6 {
        (
            libc::IPPROTO_IPV6,
            IPV6_2292PKTOPTIONS,
            libc::IPV6_RECVPKTINFO,
        )
    } else {
        (libc::IPPROTO_IP, IP_PKTOPTIONS, libc::IP_PKTINFO)
    };
    let mut control = [0u8; ROOM];
    set_option(connection, level, asked, 1).ok()?;
    let length = get_option(connection, level, name, &mut control);
    let _ = set_option(connection, level, asked, 0);
    let index = index_in(control.get(..length.ok()?)?)?;
    name_of(connection, index)
}

/// The interface of the first packet information in a control buffer.
fn index_in(control: &[u8]) -> Option<i32> {
    const HEAD: usize = mem::size_of::<libc::cmsghdr>();
    let mut rest = control;
    while rest.len() >= HEAD {
        let number = |at: usize| {
            let bytes = rest.get(at..at + 4)?.try_into().ok()?;
            Some(i32::from_ne_bytes(bytes))
        };
        let length = usize::from_ne_bytes(rest.get(..mem::size_of::<usize>())?.try_into().ok()?);
        let after = mem::size_of::<usize>();
        let found = match (number(after)?, number(after + 4)?) {
            // struct in_pktinfo: the index comes first.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => number(HEAD),
            // struct in6_pktinfo: it comes after the address.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => number(HEAD + 16),
            _ => None,
        };
        if found.is_some_and(|index| index > 0) {
            return found;
        }
        let aligned = length.max(HEAD).next_multiple_of(mem::size_of::<usize>());
        rest = rest.get(aligned..)?;
    }
    None
}

fn get_option(socket: BorrowedFd, level: i32, name: i32, into: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(into.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `into`, which has as
    // many, and the number of those it wrote to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            into.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(length as usize)
}

/// `SIOCGIFNAME` (netdevice(7)), which any socket will do for.
fn name_of(socket: BorrowedFd, index: i32) -> Option<String> {
    // SAFETY: ifreq is plain old data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index;
    // SAFETY: the request is a whole ifreq, which the kernel reads and writes.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFNAME as libc::Ioctl,
            &raw mut request,
        )
    };
    if result < 0 {
        return None;
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.to_ne_bytes()[0]).collect();
    String::from_utf8(name).ok()
}

#[allow(
    clippy::cast_possible_wrap,
    reason = "names are ASCII, and a C character's sign differs between machines"
)]
/// Sets an interface of the current network namespace up (`SIOCSIFFLAGS`, netdevice(7)).
pub fn bring_up(name: &str) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain old data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request is a whole ifreq, which the kernel only reads.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw mut request,
        )
    };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn interface(address: &str, connect: &str, v6: bool) -> Option<String> {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _peer = TcpStream::connect((connect, port)).unwrap();
        let (connection, _) = listener.accept().unwrap();
        incoming_interface(connection.as_fd(), v6)
    }

    #[test]
    fn a_connection_from_here_came_in_at_the_loopback() {
        let lo = Some("lo".to_owned());
        assert_eq!(interface("127.0.0.1:0", "127.0.0.1", false), lo);
        assert_eq!(interface("[::1]:0", "::1", true), lo);
        assert_eq!(interface("[::]:0", "127.0.0.1", true), lo);
    }
}
