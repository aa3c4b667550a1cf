//! Reaching an upstream: the addresses of the table, one after the other,
//! without ever waiting inside a call.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::logging::Pace;
use crate::table::{Forward, Upstream};

/// A unix listener whose queue is full says so at once; it is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// The search for an upstream that answers.
#[derive(Debug)]
pub struct Search {
    to: Vec<Upstream>,
    timeout: Duration,
    /// Of `to`: the one being tried.
    at: usize,
    /// Connecting; none between two tries of one that is full.
    socket: Option<Socket>,
    retry: Option<Instant>,
    give_up: Instant,
}

/// How a search stands.
#[derive(Debug)]
pub enum Reach {
    Waiting,
    Found(Socket),
    /// The last one's error.
    Nobody(io::Error),
}

enum Attempt {
    Connected(Socket),
    Started(Socket),
    Full,
}

impl Search {
    pub fn new(forward: &Forward) -> Self {
        Self {
            to: forward.to.clone(),
            timeout: forward.connect_timeout,
            at: 0,
            socket: None,
            retry: None,
            give_up: Instant::now() + forward.connect_timeout,
        }
    }

    pub fn begin(&mut self, registry: &Registry, token: Token, now: Instant) -> Reach {
        self.give_up = now + self.timeout;
        self.attempt(registry, token, now)
    }

    /// To be called on events of the upstream's token and when due.
    pub fn ready(&mut self, registry: &Registry, token: Token, now: Instant) -> Reach {
        if let Some(socket) = self.socket.take() {
            match outcome(&socket) {
                Ok(true) => return Reach::Found(socket),
                Ok(false) => self.socket = Some(socket),
                Err(error) => return self.next(registry, token, now, error),
            }
        }
        if now >= self.give_up {
            return self.next(registry, token, now, io::ErrorKind::TimedOut.into());
        }
        if self.retry.is_some_and(|at| now >= at) {
            return self.attempt(registry, token, now);
        }
        Reach::Waiting
    }

    pub fn deadline(&self) -> Instant {
        self.retry.map_or(self.give_up, |at| at.min(self.give_up))
    }

    fn attempt(&mut self, registry: &Registry, token: Token, now: Instant) -> Reach {
        self.retry = None;
        let Some(upstream) = self.to.get(self.at) else {
            return Reach::Nobody(io::ErrorKind::NotFound.into());
        };
        match connect(upstream, registry, token) {
            Ok(Attempt::Connected(socket)) => Reach::Found(socket),
            Ok(Attempt::Started(socket)) => {
                self.socket = Some(socket);
                Reach::Waiting
            }
            Ok(Attempt::Full) => {
                self.retry = Some(now + RETRY);
                Reach::Waiting
            }
            Err(error) => self.next(registry, token, now, error),
        }
    }

    /// Gives the current one up. Recursion ends with the list, which the table keeps short.
    fn next(&mut self, registry: &Registry, token: Token, now: Instant, error: io::Error) -> Reach {
        if let Some(upstream) = self.to.get(self.at) {
            log::debug!(upstream:% = name(upstream), error:% = error; "upstream does not answer");
        }
        self.socket = None;
        self.at += 1;
        if self.at >= self.to.len() {
            return Reach::Nobody(error);
        }
        self.give_up = now + self.timeout;
        self.attempt(registry, token, now)
    }

    /// One line for a peer that cannot be served, but not one per peer.
    pub fn log_nobody(&self, error: &io::Error, peer: Option<SocketAddr>, now: Instant) {
        thread_local! {
            static PACE: RefCell<Pace> =
                const { RefCell::new(Pace::new(10, Duration::from_secs(60))) };
        }
        let Some(held_back) = PACE.with_borrow_mut(|pace| pace.admit(now)) else {
            return;
        };
        let upstreams: Vec<String> = self.to.iter().map(name).collect();
        let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        log::warn!(peer = peer, upstreams = upstreams.join(","), error:% = error, held_back = held_back;
            "unable to connect to any upstream");
    }
}

fn name(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp(address) => format!("tcp:{address}"),
        Upstream::Unix(path) => format!("unix:{}", path.display()),
        Upstream::Abstract(name) => format!("unix:@{name}"),
    }
}

fn connect(upstream: &Upstream, registry: &Registry, token: Token) -> io::Result<Attempt> {
    let (domain, address) = match upstream {
        Upstream::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Upstream::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Upstream::Abstract(name) => (Domain::UNIX, SockAddr::unix(format!("\0{name}"))?),
    };
    let socket = Socket::new(domain, Type::STREAM.cloexec().nonblocking(), None)?;
    if domain != Domain::UNIX {
        // What the peer sends in small pieces must not wait for acknowledgements here.
        socket.set_tcp_nodelay(true)?;
    }
    let attempt = match socket
        .connect(&address)
        .map_err(|err| (err.raw_os_error(), err))
    {
        Ok(()) => Attempt::Connected(socket),
        Err((Some(libc::EINPROGRESS | libc::EINTR), _)) => Attempt::Started(socket),
        Err((Some(libc::EAGAIN), _)) if domain == Domain::UNIX => return Ok(Attempt::Full),
        Err((_, error)) => return Err(error),
    };
    // After connect(2): before, epoll would report a hang-up.
    if let Attempt::Connected(socket) | Attempt::Started(socket) = &attempt {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, both)?;
    }
    Ok(attempt)
}

/// Whether a connection that was started is there by now.
fn outcome(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(err) if err.raw_os_error() == Some(libc::ENOTCONN) => Ok(false),
        Err(err) => Err(err),
    }
}
