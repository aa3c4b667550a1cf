//! One listener of the table: its socket, and how it is brought to what the
//! table says.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Type};

use super::bind::{self, BindError, Bound};
use super::options;
use super::registry::RETRY_FIRST;
use super::rpcbind::{self, Program};
use crate::helper::filter;
use crate::ids::{ListenerId, ServiceId};
use crate::sys::bpf::{Instruction, both};
use crate::sys::socket::set_filter;
use crate::table::access::Prefix;
use crate::table::address::Listen;
use crate::table::{Access, Service, SocketOptions};

/// One socket, wanted by one service.
#[derive(Debug)]
pub struct Listener {
    pub id: ListenerId,
    pub service: ServiceId,
    /// The others that share it, in table order.
    pub also: Vec<ServiceId>,
    pub listen: Listen,
    /// Which of several inherited descriptors with one name.
    pub(super) index: usize,
    pub(super) options: SocketOptions,
    /// Peers to be kept out by the kernel: wait services.
    pub(super) kept_out: Option<Access>,
    /// A server owns it: whom operators ban is kept out by the kernel too.
    pub(super) owned: bool,
    pub(super) banned: Rc<[Prefix]>,
    /// One of a group of datagram sockets.
    pub(super) grouped: bool,
    /// Of a group: the filter that lets only its own datagrams in.
    pub(super) own: Vec<Instruction>,
    pub state: State,
    pub(super) program: Option<Program>,
}

#[derive(Debug)]
pub enum State {
    Bound(Rc<Bound>),
    /// Not there at the last try.
    Waiting {
        again: Instant,
        pause: Duration,
    },
}

impl Listener {
    pub(super) fn new(
        id: ListenerId,
        of: ServiceId,
        service: &Service,
        listen: &Listen,
        index: usize,
    ) -> Self {
        let access = &service.rules.access;
        Self {
            id,
            service: of,
            also: Vec::new(),
            listen: listen.clone(),
            index,
            options: service.socket.clone(),
            kept_out: (service.rules.wait && !access.is_open()).then(|| access.clone()),
            owned: service.rules.wait,
            banned: Rc::new([]),
            grouped: false,
            own: Vec::new(),
            state: State::Waiting {
                again: Instant::now(),
                pause: RETRY_FIRST,
            },
            program: None,
        }
    }

    /// All that it leads to.
    pub fn services(&self) -> impl Iterator<Item = ServiceId> {
        std::iter::once(self.service).chain(self.also.iter().copied())
    }

    #[must_use]
    pub fn bound(&self) -> Option<&Rc<Bound>> {
        match &self.state {
            State::Bound(bound) => Some(bound),
            State::Waiting { .. } => None,
        }
    }

    /// A copy of the descriptor for the front.
    pub fn share(&self) -> io::Result<Option<OwnedFd>> {
        self.bound()
            .map(|bound| bound.socket.as_fd().try_clone_to_owned())
            .transpose()
    }

    /// Brings a bound socket to what the table says now; what fails is logged,
    /// for the socket serves on.
    pub(super) fn settle(&mut self, bound: &Bound) {
        let address = &self.listen;
        if let Err(bad) = options::adjustable(&bound.socket, bound.domain, &self.options) {
            log::warn!(address:% = address; "unable to set socket.{}: {}", bad.name, bad.error);
        }
        if let Some(file) = &bound.file
            && let Err(err) = file.adjust(&self.options)
        {
            let err = BindError::Path(err);
            log::warn!(address:% = address; "unable to change the socket's owner or mode: {err}");
        }
        if bound.kind == Type::STREAM
            && let Err(err) = bind::listen(&bound.socket, &self.options)
        {
            log::warn!(address:% = address; "unable to set the backlog: {err}");
        }
        // A reload may have bound it beside its predecessor, which is gone now.
        if !self.grouped {
            let _ = bound.socket.set_reuse_port(false);
        }
        self.keep_out(bound);
        self.register(bound);
    }

    /// Puts the filter of `allow` and `deny` on again: the server that had the
    /// socket may have taken it off.
    pub(super) fn guard(&self) {
        if let Some(bound) = self.bound()
            && (self.grouped || self.keeps_out())
        {
            self.keep_out(bound);
        }
    }

    /// Takes note of whom operators keep out; false if it makes no difference here.
    pub(super) fn ban(&mut self, banned: &Rc<[Prefix]>) -> bool {
        if self.owned {
            self.banned = Rc::clone(banned);
        }
        self.owned
    }

    /// Whether its filter has anything to do with addresses.
    pub(super) fn keeps_out(&self) -> bool {
        self.kept_out.is_some() || !self.banned.is_empty()
    }

    pub(super) fn keep_out(&self, bound: &Bound) {
        if !matches!(bound.domain, Domain::IPV4 | Domain::IPV6) {
            return;
        }
        let access = self.kept_out.as_ref().map(filter::compile);
        let program = both(access.unwrap_or_default(), self.own.clone());
        if !self.banned.is_empty() {
            let bans = filter::compile(&Access {
                allow: None,
                deny: self.banned.to_vec(),
                ..Access::default()
            });
            let Err(err) = set_filter(bound.socket.as_fd(), &both(bans, program.clone())) else {
                return;
            };
            log::error!(
                address:% = self.listen;
                "unable to keep {} banned prefixes out of a socket that a server owns ({err}); \
                 they are refused only while no server runs", self.banned.len()
            );
        }
        let Err(err) = set_filter(bound.socket.as_fd(), &program) else {
            return;
        };
        // A list that the kernel finds too long must not become an open door.
        let closed = set_filter(bound.socket.as_fd(), &filter::nobody());
        let so = closed.map_or("nobody is", |()| "everybody is");
        log::error!(address:% = self.listen; "unable to keep denied peers out ({err}): {so} kept out");
    }

    pub(super) fn register(&mut self, bound: &Bound) {
        let Listen::Rpc {
            transport,
            program,
            first,
            last,
        } = self.listen
        else {
            return;
        };
        let port = bound.local.as_socket().map_or(0, |local| local.port());
        let v6 = bound.domain == Domain::IPV6;
        let wanted = Program {
            number: program,
            first,
            last,
            transport,
            port,
            v6,
        };
        // Again at each reload: the binder may have been restarted.
        match rpcbind::register(&wanted) {
            Ok(()) => self.program = Some(wanted),
            Err(err) => {
                log::error!(address:% = self.listen; "unable to register with rpcbind: {err}");
            }
        }
    }

    /// What must not stay behind when the listener goes.
    pub(super) fn leave(&self) {
        if let Some(file) = self.bound().and_then(|bound| bound.file.as_ref()) {
            file.remove();
        }
        if let Some(program) = &self.program
            && let Err(err) = rpcbind::unregister(program)
        {
            log::warn!(address:% = self.listen; "unable to unregister with rpcbind: {err}");
        }
    }
}
