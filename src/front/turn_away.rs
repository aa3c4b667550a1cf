//! Closes a connection so that the peer reads why.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;
use std::net::Shutdown;

/// At most this much of what the peer sent is read before the close.
const DRAIN_BYTES: usize = 64 * 1024;

/// Sends `text`, if any, and ends the connection. Never waits.
///
/// A socket that is closed with bytes unread sends a reset, and a reset makes
/// the peer throw away what it has not read yet: so our side is ended first,
/// and what has come so far is read.
pub fn turn_away(socket: &Socket, text: &str, scratch: &mut [u8]) {
    if !text.is_empty() {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let _ = socket.send_with_flags(text.as_bytes(), flags);
    }
    let _ = socket.shutdown(Shutdown::Write);
    let mut left = DRAIN_BYTES;
    while left > 0 {
        match recv(socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
            Ok(count) if count > 0 => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_peer_that_spoke_first_still_reads_the_text() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.write_all(&[b'x'; 10_000]).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let ours = Socket::from(ours);
        turn_away(&ours, "closed today\r\n", &mut [0; 512]);
        drop(ours);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "closed today\r\n");
    }
}
