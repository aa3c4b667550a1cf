//! Peers: clients of the services under test, with a deadline on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use super::SOON;

/// A connection to a service: TCP or Unix, a stream or a sequence of packets.
#[derive(Debug)]
pub struct Peer {
    socket: Socket,
}

impl Peer {
    /// Connects from 127.0.0.1.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self::try_tcp(port).unwrap_or_else(|err| panic!("unable to connect to port {port}: {err}"))
    }

    pub fn try_tcp(port: u16) -> io::Result<Self> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::over(Socket::from(TcpStream::connect_timeout(&to, SOON)?))
    }

    /// Connects to any address.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, SOON);
        let stream = stream.unwrap_or_else(|err| panic!("unable to connect to {address}: {err}"));
        Self::over(Socket::from(stream)).expect("unable to set a deadline")
    }

    /// Connects from another address of the loopback net, such as 127.0.0.7.
    #[must_use]
    pub fn tcp_from(source: [u8; 4], port: u16) -> Self {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            socket.connect_timeout(&to.into(), SOON)?;
            Self::over(socket)
        };
        open().unwrap_or_else(|err| panic!("unable to connect from {source:?}: {err}"))
    }

    /// Connects between two addresses of one family; port 0 is any.
    pub fn try_between(source: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if source.port() == 0 {
            // Chosen at connect, for the pair of addresses: much faster, and there are more.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        } else {
            socket.set_reuse_address(true)?; // one that was used a moment ago
        }
        socket.bind(&source.into())?;
        socket.connect_timeout(&to.into(), SOON)?;
        Self::over(socket)
    }

    /// Connects to a Unix socket; `@NAME` is an abstract one.
    pub fn try_unix(kind: Type, name: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        let address = match name.strip_prefix('@') {
            Some(name) => SockAddr::unix(format!("\0{name}"))?,
            None => SockAddr::unix(name)?,
        };
        socket.connect(&address)?;
        Self::over(socket)
    }

    #[must_use]
    pub fn unix(kind: Type, name: &str) -> Self {
        Self::try_unix(kind, name)
            .unwrap_or_else(|err| panic!("unable to connect to {name}: {err}"))
    }

    fn over(socket: Socket) -> io::Result<Self> {
        socket.set_read_timeout(Some(SOON))?;
        socket.set_write_timeout(Some(SOON))?;
        Ok(Self { socket })
    }

    /// Sets how long reads wait from now on.
    #[must_use]
    pub fn patience(self, limit: Duration) -> Self {
        let set = self.socket.set_read_timeout(Some(limit));
        set.expect("unable to set a deadline");
        self
    }

    #[must_use]
    pub fn local_port(&self) -> u16 {
        let address = self
            .socket
            .local_addr()
            .expect("a connected socket has one");
        address.as_socket().expect("an address of the net").port()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let sent = self.socket.write_all(bytes.as_ref());
        sent.unwrap_or_else(|err| panic!("unable to send: {err}"));
        self
    }

    /// Sends every byte in a segment of its own.
    pub fn send_one_by_one(&mut self, bytes: &[u8]) -> &mut Self {
        let set = self.socket.set_tcp_nodelay(true);
        set.expect("unable to set TCP_NODELAY");
        for byte in bytes {
            self.send([*byte]);
        }
        self
    }

    /// Sends what the other end may not want any more; false if it has closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// No more bytes will be sent: the server reads the end.
    pub fn finish(&mut self) -> &mut Self {
        // The server may have closed already.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        self
    }

    /// All bytes until the server closes. A reset counts as the end.
    pub fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.socket.read_to_end(&mut bytes) {
            Err(err) if err.kind() != ErrorKind::ConnectionReset => panic!(
                "the server has not closed: {err}; so far {:?}",
                String::from_utf8_lossy(&bytes)
            ),
            _ => bytes,
        }
    }

    /// [`Self::read_all`] as text.
    pub fn read_text(&mut self) -> String {
        String::from_utf8_lossy(&self.read_all()).into_owned()
    }

    /// Sends all of `bytes` and the end while reading what comes back.
    #[must_use]
    pub fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let socket = self.socket.try_clone().expect("unable to clone a socket");
        std::thread::scope(|scope| {
            let mut sender = Self { socket };
            let sender = scope.spawn(move || {
                sender.send(bytes).finish();
            });
            let received = self.read_all();
            sender.join().expect("the sender failed");
            received
        })
    }

    /// One line, with its end; what there is if the server closes before. A
    /// reset counts as a close.
    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            match self.socket.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => line.push(byte[0]),
                Err(err) if err.kind() == ErrorKind::ConnectionReset => break,
                Err(err) => panic!(
                    "no line: {err}; so far {:?}",
                    String::from_utf8_lossy(&line)
                ),
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Exactly as many bytes.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = self.socket.read_exact(&mut bytes);
        read.unwrap_or_else(|err| panic!("no {count} bytes: {err}"));
        bytes
    }

    /// One packet of a `SOCK_SEQPACKET` socket.
    pub fn read_packet(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let count = self.socket.read(&mut bytes);
        bytes.truncate(count.unwrap_or_else(|err| panic!("no packet: {err}")));
        bytes
    }

    /// Whether nothing (not even the end) arrives within `limit`. For proofs
    /// that a connection waits; the one kind of wait that runs to its end.
    pub fn hears_nothing_for(&mut self, limit: Duration) -> bool {
        let set = self.socket.set_read_timeout(Some(limit));
        set.expect("unable to set a deadline");
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let heard = self.socket.peek(&mut byte);
        let _ = self.socket.set_read_timeout(Some(SOON));
        matches!(heard, Err(err) if err.kind() == ErrorKind::WouldBlock)
    }

    /// Closes so that the server's side sees a reset instead of an end.
    pub fn reset(self) {
        let linger = self.socket.set_linger(Some(Duration::ZERO));
        linger.expect("unable to set linger");
    }

    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

/// Sends `question`, closes the sending side, reads to the end.
#[must_use]
pub fn ask(port: u16, question: impl AsRef<[u8]>) -> String {
    Peer::tcp(port).send(question).finish().read_text()
}

/// Connects and reads to the end.
#[must_use]
pub fn hear(port: u16) -> String {
    Peer::tcp(port).read_text()
}

/// A UDP socket connected to a service.
#[derive(Debug)]
pub struct UdpPeer {
    socket: UdpSocket,
}

impl UdpPeer {
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self::from_source([127, 0, 0, 1], port)
    }

    #[must_use]
    pub fn from_source(source: [u8; 4], port: u16) -> Self {
        Self::between((source, 0).into(), (Ipv4Addr::LOCALHOST, port).into())
    }

    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        Self::between(([127, 0, 0, 1], 0).into(), address)
    }

    #[must_use]
    pub fn between(source: SocketAddr, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(source).expect("unable to bind");
        socket.connect(address).expect("unable to connect");
        let set = socket.set_read_timeout(Some(SOON));
        set.expect("unable to set a deadline");
        Self { socket }
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) -> &Self {
        let sent = self.socket.send(bytes.as_ref());
        sent.unwrap_or_else(|err| panic!("unable to send a datagram: {err}"));
        self
    }

    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        self.try_receive(SOON)
            .unwrap_or_else(|| panic!("no datagram came back"))
    }

    /// The next datagram, if one comes within `limit`.
    #[must_use]
    pub fn try_receive(&self, limit: Duration) -> Option<Vec<u8>> {
        let set = self.socket.set_read_timeout(Some(limit));
        set.expect("unable to set a deadline");
        let mut bytes = vec![0; 65_536];
        match self.socket.recv(&mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                Some(bytes)
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => None,
            Err(err) => panic!("unable to receive a datagram: {err}"),
        }
    }

    /// One question, one answer, as text.
    #[must_use]
    pub fn ask(&self, question: &str) -> String {
        String::from_utf8_lossy(&self.send(question).receive()).into_owned()
    }

    /// One question, one answer, if it comes in time; nobody there is no answer.
    #[must_use]
    pub fn try_ask(&self, question: &str, limit: Duration) -> Option<String> {
        self.socket.send(question.as_bytes()).ok()?;
        self.socket.set_read_timeout(Some(limit)).ok()?;
        let mut bytes = vec![0; 65_536];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    #[must_use]
    pub fn local_port(&self) -> u16 {
        let address = self.socket.local_addr();
        address.expect("a bound socket has one").port()
    }
}
