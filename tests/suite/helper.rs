//! A front that has been taken over: the test steals the link (and the
//! listener) of the running front and speaks to the real helper in its place.

use std::io::{IoSlice, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::{Domain, SockRef, Socket, Type};

use usherd::helper::link::{Link, LinkError};
use usherd::helper::told::Told;
use usherd::helper::wire::{Notice, Peer as WirePeer, Refusal, Request};
use usherd::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};

use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    a_packet_that_makes_no_sense_ends_the_front_and_nothing_else: 120,
    what_is_not_in_the_table_is_refused,
    only_a_connection_of_this_listener_is_taken,
    a_denied_address_is_refused_by_the_helper_too,
    limits_hold_whatever_the_front_says,
    a_listener_that_a_front_shut_down_listens_for_the_next_one,
    an_instance_that_is_not_there_cannot_be_stopped,
    ten_thousand_random_requests_start_nothing_and_leak_nothing: 120,
    ten_thousand_random_packets_are_read_without_a_panic_or_a_leak,
];

/// The place of a front that has been stopped.
pub struct Stolen {
    link: OwnedFd,
    listeners: Vec<TcpListener>,
    front: Pid,
    count: u64,
    /// Packets of notices that nobody has asked for yet.
    replies: Vec<Notice>,
}

impl Stolen {
    pub fn take(daemon: &Daemon) -> Self {
        needs_root();
        let front = daemon.front();
        process::kill(front, Signal::SIGSTOP);
        until("a stopped front", SOON, || {
            (process::state(front) == Some('T')).then_some(())
        });
        let (mut link, mut listeners) = (None, Vec::new());
        for number in process::descriptors(front).into_keys() {
            let fd = match steal::steal(front, number) {
                Ok(fd) => fd,
                Err(err) => skip(format!("needs pidfd_getfd(2): {err}")),
            };
            let socket = SockRef::from(&fd);
            match (socket.domain(), socket.r#type()) {
                (Ok(Domain::UNIX), Ok(Type::SEQPACKET)) => link = Some(fd),
                (Ok(Domain::IPV4 | Domain::IPV6), Ok(Type::STREAM))
                    if socket.is_listener().unwrap_or(false) =>
                {
                    socket.set_nonblocking(false).unwrap();
                    listeners.push(fd.into());
                }
                _ => {}
            }
        }
        Self {
            link: link.expect("a link among the descriptors of the front"),
            listeners,
            front,
            count: 1 << 30,
            replies: Vec::new(),
        }
    }

    /// Sends bytes with descriptors; whether the helper still listens.
    fn send(&self, packet: &[u8], descriptors: &[RawFd]) -> bool {
        let data = [IoSlice::new(packet)];
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() {
            &[]
        } else {
            &rights[..]
        };
        let flags = MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.link.as_raw_fd(), &data, control, flags, None) {
                Ok(_) => return true,
                Err(nix::Error::EAGAIN) => self.wait(PollFlags::POLLOUT),
                Err(_) => return false,
            }
        }
    }

    fn wait(&self, events: PollFlags) {
        let mut fds = [PollFd::new(self.link.as_fd(), events)];
        let ready = poll(&mut fds, PollTimeout::from(15_000_u16)).expect("poll");
        assert!(ready > 0, "the helper does not answer");
    }

    /// Asks for a server and waits for the verdict on this request.
    fn start(&mut self, service: u32, listener: u32, fd: &impl AsRawFd) -> Notice {
        self.start_told(service, listener, fd, None)
    }

    /// The same with something to say about the connection.
    pub fn start_told(
        &mut self,
        service: u32,
        listener: u32,
        fd: &impl AsRawFd,
        told: Option<Told>,
    ) -> Notice {
        self.count += 1;
        let connection = ConnectionId(self.count);
        let request = Request::Start {
            connection,
            service: ServiceId(service),
            listener: ListenerId(listener),
            told: told.map(Box::new),
        };
        self.request(&request, &[fd.as_raw_fd()]);
        self.verdict(connection)
    }

    fn request(&self, request: &Request, descriptors: &[RawFd]) {
        let mut packet = Vec::new();
        request.encode(&mut packet);
        assert!(self.send(&packet, descriptors), "the helper has hung up");
    }

    fn verdict(&mut self, wanted: ConnectionId) -> Notice {
        loop {
            let mine = self.replies.iter().position(|notice| {
                matches!(notice, Notice::Started { connection, .. }
                    | Notice::Refused { connection, .. }
                    | Notice::Failed { connection, .. } if *connection == wanted)
            });
            if let Some(at) = mine {
                return self.replies.swap_remove(at);
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        self.wait(PollFlags::POLLIN);
        let mut bytes = [0; 8_192];
        // Descriptors that come along are dropped by the kernel: no room for them.
        let count = nix::unistd::read(&self.link, &mut bytes).expect("the link");
        assert!(count > 0, "the helper has hung up");
        let notices = Notice::decode_all(&bytes[..count]).expect("the helper makes sense");
        self.replies.extend(notices);
    }

    /// The numbers of the only service and its listener.
    pub fn find_service(&mut self) -> (u32, u32) {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        for service in 0..20 {
            for listener in 0..20 {
                let verdict = self.start(service, listener, &nothing);
                let Notice::Refused { reason, .. } = verdict else {
                    panic!("/dev/null is no connection: {verdict:?}");
                };
                match reason {
                    Refusal::UnknownService => break,
                    Refusal::UnknownListener => {}
                    _ => return (service, listener),
                }
            }
        }
        panic!("the service has no number below 20");
    }

    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.listeners[0].accept().expect("accept");
        stream
    }
}

impl Drop for Stolen {
    fn drop(&mut self) {
        if process::is_alive(self.front) {
            process::kill(self.front, Signal::SIGCONT);
        }
    }
}

pub fn refused(notice: &Notice) -> Option<Refusal> {
    match notice {
        Notice::Refused { reason, .. } => Some(*reason),
        _ => None,
    }
}

fn cat(port: u16, more: &str) -> String {
    format!("[service.cat]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"/bin/cat\"]\n{more}\n")
}

fn a_packet_that_makes_no_sense_ends_the_front_and_nothing_else() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut held = Peer::tcp(port);
    held.send("before\n");
    assert_eq!(held.read_line(), "before\n");
    let mut start = Vec::new();
    Request::Start {
        connection: ConnectionId(1),
        service: ServiceId(0),
        listener: ListenerId(0),
        told: None,
    }
    .encode(&mut start);
    let longer = [&start[..], &[0]].concat();
    let null = std::fs::File::open("/dev/null").unwrap();
    let fd = null.as_raw_fd();
    let nonsense: [(&str, &[u8], &[RawFd]); 7] = [
        ("cut short", &start[..start.len() - 1], &[fd]),
        ("too long", &longer, &[fd]),
        ("an unknown kind", &[200, 1, 2, 3], &[]),
        ("no descriptor", &start, &[]),
        ("two descriptors", &start, &[fd, fd]),
        ("a descriptor too many", &[4], &[fd]),
        ("longer than any packet", &[1; 6_000], &[]),
    ];
    for (what, packet, descriptors) in nonsense {
        let stolen = Stolen::take(&daemon);
        let old = stolen.front;
        assert!(stolen.send(packet, descriptors), "{what}: not sent");
        until(&format!("{what}: the end of the front"), SOON, || {
            (!process::is_alive(old)).then_some(())
        });
        assert_eq!(
            ask(port, what),
            what,
            "{what}: not served by the next front"
        );
        held.send("still\n");
        assert_eq!(
            held.read_line(),
            "still\n",
            "{what}: a running server was disturbed"
        );
    }
    assert!(daemon.is_running());
}

fn what_is_not_in_the_table_is_refused() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut stolen = Stolen::take(&daemon);
    let (service, listener) = stolen.find_service();
    let _peer = Peer::tcp(port);
    let connection = stolen.accept();
    for unknown in [service + 1, 77, u32::MAX] {
        let verdict = stolen.start(unknown, listener, &connection);
        assert_eq!(
            refused(&verdict),
            Some(Refusal::UnknownService),
            "{verdict:?}"
        );
        let verdict = stolen.start(service, unknown.max(listener + 1), &connection);
        assert_eq!(
            refused(&verdict),
            Some(Refusal::UnknownListener),
            "{verdict:?}"
        );
    }
    assert_eq!(daemon.servers(), [0; 0]);
    let verdict = stolen.start(service, listener, &connection);
    assert!(
        matches!(verdict, Notice::Started { .. }),
        "and what is in it is started: {verdict:?}"
    );
}

fn only_a_connection_of_this_listener_is_taken() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut stolen = Stolen::take(&daemon);
    let (service, listener) = stolen.find_service();
    let before = process::descriptors(daemon.pid).len();

    let (pipe, _writer) = nix::unistd::pipe().unwrap();
    let (unix, _other) = UnixStream::pair().unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let _far = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
    let (foreign, _) = elsewhere.accept().unwrap();
    let fresh = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = std::fs::File::open("/").unwrap();
    let outgoing = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let own_listener = stolen.listeners[0].try_clone().unwrap();
    let wrong: [(&str, &dyn AsRawFd); 9] = [
        ("a pipe", &pipe),
        ("a Unix socket", &unix),
        ("a listening socket of the test", &elsewhere),
        ("the listener itself", &own_listener),
        ("a connection to another port", &foreign),
        ("a socket that is not connected", &fresh),
        ("a UDP socket", &udp),
        ("a folder", &folder),
        ("the far end of a connection", &outgoing),
    ];
    for (what, fd) in wrong {
        let verdict = stolen.start(service, listener, &fd.as_raw_fd());
        assert!(
            matches!(
                refused(&verdict),
                Some(Refusal::WrongDescriptor | Refusal::PeerGone)
            ),
            "{what}: {verdict:?}"
        );
    }
    assert_eq!(daemon.servers(), [0; 0]);
    assert_eq!(
        process::descriptors(daemon.pid).len(),
        before,
        "the helper keeps descriptors"
    );
}

fn a_denied_address_is_refused_by_the_helper_too() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "deny = [\"127.0.0.2/32\"]\n"));
    let mut stolen = Stolen::take(&daemon);
    let (service, listener) = stolen.find_service();
    // Where the kernel turns denied peers away, none ever gets this far.
    let _denied = Peer::tcp_from([127, 0, 0, 2], port);
    let connection = stolen.accept();
    let verdict = stolen.start(service, listener, &connection);
    assert_eq!(
        refused(&verdict),
        Some(Refusal::AddressDenied),
        "{verdict:?}"
    );
}

fn limits_hold_whatever_the_front_says() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, "instances = 2\n"));
    let mut stolen = Stolen::take(&daemon);
    let (service, listener) = stolen.find_service();
    let peers: Vec<Peer> = (0..4).map(|_| Peer::tcp(port)).collect();
    let verdicts: Vec<Notice> = peers
        .iter()
        .map(|_| {
            let connection = stolen.accept();
            stolen.start(service, listener, &connection)
        })
        .collect();
    assert!(matches!(verdicts[0], Notice::Started { .. }));
    assert!(matches!(verdicts[1], Notice::Started { .. }));
    for verdict in &verdicts[2..] {
        assert_eq!(
            refused(verdict),
            Some(Refusal::TooManyInstances),
            "{verdict:?}"
        );
    }
    daemon.wait_servers(2);
}

fn a_listener_that_a_front_shut_down_listens_for_the_next_one() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let stolen = Stolen::take(&daemon);
    let listener = SockRef::from(&stolen.listeners[0]);
    listener.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(Peer::try_tcp(port).is_err());
    process::kill(stolen.front, nix::sys::signal::Signal::SIGKILL);
    daemon.log.wait_for("the front ended");
    until("a listener", SOON, || Peer::try_tcp(port).ok());
    assert_eq!(ask(port, "back"), "back");
}

fn an_instance_that_is_not_there_cannot_be_stopped() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut held = Peer::tcp(port);
    held.send("before\n");
    assert_eq!(held.read_line(), "before\n");
    let mut stolen = Stolen::take(&daemon);
    let pid = u64::try_from(daemon.pid).unwrap();
    for number in [1 << 40, u64::MAX, 1 << 63, pid] {
        let instance = InstanceId(number);
        stolen.request(&Request::Stop { instance }, &[]);
    }
    // The helper has read them once it answers what came after them.
    let _ = stolen.find_service();
    drop(stolen);
    held.send("after\n");
    assert_eq!(held.read_line(), "after\n");
    assert!(daemon.is_running());
}

fn ten_thousand_random_requests_start_nothing_and_leak_nothing() {
    let (dir, port) = (Dir::new(), free_port());
    let daemon = Daemon::start(&dir, &cat(port, ""));
    let mut stolen = Stolen::take(&daemon);
    let (pipe, _writer) = nix::unistd::pipe().unwrap();
    let (unix, _other) = UnixStream::pair().unwrap();
    let outgoing = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let choice = [pipe.as_raw_fd(), unix.as_raw_fd(), outgoing.as_raw_fd()];
    let mut seeded = Seeded::new(20_040_518);
    let small = |seeded: &mut Seeded| u32::try_from(seeded.below(4)).unwrap();
    let before = process::descriptors(daemon.pid).len();
    for _ in 0..10_000 {
        stolen.count += 1;
        let connection = ConnectionId(stolen.count);
        let (service, listener) = (
            ServiceId(small(&mut seeded)),
            ListenerId(small(&mut seeded)),
        );
        let (request, fds) = match seeded.below(4) {
            0 | 1 => {
                let fd = choice[seeded.below(choice.len())];
                let request = Request::Start {
                    connection,
                    service,
                    listener,
                    told: None,
                };
                (request, vec![fd])
            }
            2 => {
                let peer = (seeded.below(2) == 0).then_some(WirePeer {
                    ip: [10, 0, 0, 1].into(),
                    port: 7,
                });
                let request = Request::StartWait {
                    connection,
                    service,
                    listener,
                    peer,
                };
                (request, Vec::new())
            }
            _ => {
                let instance = InstanceId(seeded.next());
                stolen.request(&Request::Stop { instance }, &[]);
                continue;
            }
        };
        stolen.request(&request, &fds);
        let verdict = stolen.verdict(connection);
        assert!(
            refused(&verdict).is_some(),
            "{request:?} led to {verdict:?}"
        );
    }
    assert_eq!(daemon.servers(), [0; 0]);
    assert_eq!(
        process::descriptors(daemon.pid).len(),
        before,
        "the helper keeps descriptors"
    );
    drop(stolen);
    drop(outgoing);
    assert_eq!(
        ask(port, "as if nothing had been"),
        "as if nothing had been"
    );
}

/// The reading half of the helper, without the rest of it.
fn ten_thousand_random_packets_are_read_without_a_panic_or_a_leak() {
    let (mut link, theirs) = Link::pair().unwrap();
    let (pipe, writer) = nix::unistd::pipe().unwrap();
    let mut seeded = Seeded::new(7_698_400);
    let mut understood = 0;
    for _ in 0..10_000 {
        let mut packet = random_packet(&mut seeded);
        if packet.is_empty() {
            packet.push(0);
        }
        let fds = vec![writer.as_raw_fd(); seeded.below(4)];
        let data = [IoSlice::new(&packet)];
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(theirs.as_raw_fd(), &data, control, MsgFlags::empty(), None).unwrap();
        match link.receive() {
            Ok(Some((request, fd))) => {
                assert_eq!(request.descriptors(), usize::from(fd.is_some()));
                understood += 1;
            }
            Ok(None) => panic!("the packet was lost"),
            Err(LinkError::Malformed(_)) => {}
            Err(err) => panic!("{err:?}"),
        }
    }
    assert!(
        understood > 100,
        "only {understood} packets made sense: not random enough"
    );
    // If any copy of the writing end were still open, this would not end.
    drop(writer);
    SockRef::from(&theirs)
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut left = Vec::new();
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    assert!(
        poll(&mut fds, PollTimeout::from(5_000_u16)).unwrap() > 0,
        "a descriptor was kept"
    );
    std::fs::File::from(pipe).read_to_end(&mut left).unwrap();
    assert!(left.is_empty());
}

/// Anything, or a request with a bit turned or its end cut off.
fn random_packet(seeded: &mut Seeded) -> Vec<u8> {
    let mut packet = Vec::new();
    let connection = ConnectionId(seeded.next());
    let (service, listener) = (ServiceId(1), ListenerId(1));
    match seeded.below(5) {
        0 => {
            let length = seeded.below(60);
            packet = seeded.bytes(length);
        }
        1 => Request::Start {
            connection,
            service,
            listener,
            told: None,
        }
        .encode(&mut packet),
        2 => Request::StartWait {
            connection,
            service,
            listener,
            peer: None,
        }
        .encode(&mut packet),
        3 => Request::Stop {
            instance: InstanceId(seeded.next()),
        }
        .encode(&mut packet),
        _ => Request::Alive.encode(&mut packet),
    }
    match seeded.below(4) {
        0 if !packet.is_empty() => {
            let at = seeded.below(packet.len());
            packet[at] ^= 1 << seeded.below(8);
        }
        1 => packet.truncate(seeded.below(packet.len() + 1)),
        _ => {}
    }
    packet
}
