//! Every listener of the table in force, bound or waiting for its address.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Type;

use super::bind::{self, BindError, Bound, Sharing};
use super::group::{self, Group};
use super::holder;
use super::inherited::Inherited;
use super::listener::{Listener, State};
use super::options;
use crate::ids::{ListenerId, ServiceId};
use crate::sys::socket::set_option;
use crate::table::Service;
use crate::table::access::Prefix;
use crate::table::address::{Inet, Listen, Transport};

/// How long an address that is not there is left alone; doubles from the first to the last.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// The holder of a taken port is looked for this often in one go.
const HOLDERS_SOUGHT: usize = 8;

/// A listener that could not be had, for the log and for a refused reload.
#[derive(Debug)]
pub struct Trouble {
    pub address: String,
    pub service: String,
    /// Who has the port, as [`holder::of_port`] tells it.
    holder: Option<String>,
    pub error: BindError,
}

/// Said behind a [`Trouble`] that need not last.
pub const AGAIN: &str = "; it is tried again until it works";

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            service,
            error,
            holder,
        } = self;
        write!(f, "unable to bind {address} for service \"{service}\": ")?;
        match holder {
            Some(holder) => write!(f, "it is held by {holder}"),
            None => write!(f, "{error}"),
        }
    }
}

/// To find out who holds a port takes a walk through all processes.
fn holder_of(listen: &Listen, error: &BindError) -> Option<String> {
    match (listen, error) {
        (Listen::Inet(inet), BindError::Taken(_)) => holder::of_port(inet),
        _ => None,
    }
}

/// The listeners, and the inherited descriptors nobody wants yet.
#[derive(Debug, Default)]
pub struct Registry {
    /// Sorted by id.
    pub(super) listeners: Vec<Listener>,
    pub(super) inherited: Vec<Inherited>,
    /// Datagram addresses that several services share, or shared.
    pub(super) groups: Vec<Group>,
    /// Whom operators keep out.
    banned: Rc<[Prefix]>,
    pub(super) next: u32,
}

/// What [`Registry::prepare`] bound: nothing of it is in force until it is committed.
#[derive(Debug)]
pub struct Prepared {
    /// All that will be in force, sorted by id.
    pub(super) listeners: Vec<Listener>,
    /// Ids from here on are new.
    first_new: u32,
    next: u32,
    pub(super) groups: Vec<Group>,
    pub troubles: Vec<Trouble>,
}

impl Registry {
    #[must_use]
    pub fn new(inherited: Vec<Inherited>) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }

    /// Whom operators keep out from now on, also where a server has the socket.
    /// Sockets that are only prepared learn of it when they are in force.
    pub fn set_banned(&mut self, banned: Vec<Prefix>) {
        if *self.banned == banned {
            return;
        }
        self.banned = banned.into();
        for listener in &mut self.listeners {
            if listener.ban(&self.banned)
                && let Some(bound) = listener.bound().map(Rc::clone)
            {
                listener.keep_out(&bound);
            }
        }
    }

    #[must_use]
    pub fn find(&self, id: ListenerId) -> Option<&Listener> {
        let at = self
            .listeners
            .binary_search_by_key(&id, |listener| listener.id)
            .ok()?;
        self.listeners.get(at)
    }

    /// Binds what `services` want and is not bound yet; what stays is shared,
    /// not touched. Dropping the result leaves everything as it was.
    #[must_use]
    pub fn prepare(&self, services: &[(ServiceId, &Service)], now: Instant) -> Prepared {
        let mut old: HashMap<(&Listen, usize), Vec<&Listener>> = HashMap::new();
        for listener in &self.listeners {
            let alike = old.entry((&listener.listen, listener.index)).or_default();
            alike.push(listener);
        }
        let shared = self.shared(services);
        let mut wanted = Vec::new();
        let mut kept = Vec::new();
        // Streams: the first service that names an address brings the socket, the others join it.
        let mut joint: HashMap<&Listen, Vec<ServiceId>> = HashMap::new();
        for (id, service) in services.iter().filter(|(_, service)| service.enabled) {
            let own = service.listen.iter().filter(|listen| {
                let first = listen.is_datagram() != Some(false) || !joint.contains_key(listen);
                let all = joint.entry(*listen).or_default();
                all.extend((!first).then_some(*id));
                first
            });
            let own: Vec<&Listen> = own.collect();
            for (listen, index) in own.into_iter().flat_map(|l| self.sockets_of(l)) {
                let key = group::key(listen, &service.socket);
                let grouped = key.is_some_and(|key| shared.contains(&key));
                // Its options at bind(2) are there for good: with other ones it is another
                // socket. And where datagram services share an address, each has its own.
                let stays = |listener: &&Listener| {
                    (options::bind_alike(&listener.options, &service.socket)
                        || matches!(listen, Listen::Inherited { .. }))
                        && (!grouped || listener.service == *id && !self.is_aside(listener))
                };
                let alike = old.entry((listen, index)).or_default();
                let known = alike
                    .iter()
                    .position(stays)
                    .map(|at| alike.swap_remove(at))
                    .and_then(|listener| Some((listener, Rc::clone(listener.bound()?))));
                match known {
                    Some((listener, bound)) => {
                        kept.push((*id, *service, listener, bound, grouped));
                    }
                    None => wanted.push((*id, *service, listen, index, grouped)),
                }
            }
        }
        let mut prepared = Prepared {
            listeners: Vec::new(),
            first_new: self.next,
            next: self.next,
            groups: shared.iter().map(|key| self.group_for(*key)).collect(),
            troubles: Vec::new(),
        };
        for (id, service, listener, bound, grouped) in kept {
            let mut stays =
                Listener::new(listener.id, id, service, &listener.listen, listener.index);
            stays.state = State::Bound(bound);
            stays.grouped = grouped;
            stays.ban(&self.banned);
            stays.program.clone_from(&listener.program);
            if grouped {
                prepared.ensure_sink(&stays, service);
            }
            prepared.listeners.push(stays);
        }
        let leaving: Vec<&Listener> = old.into_values().flatten().collect();
        for (id, service, listen, index, grouped) in wanted {
            let mut listener = Listener::new(ListenerId(prepared.next), id, service, listen, index);
            listener.grouped = grouped;
            listener.ban(&self.banned);
            self.prepare_new(&mut prepared, listener, service, &leaving, now);
        }
        prepared.lead(services);
        for listener in &mut prepared.listeners {
            if let Some(also) = joint.get(&listener.listen) {
                listener.also.clone_from(also);
            }
        }
        prepared.listeners.sort_by_key(|listener| listener.id);
        prepared
    }

    /// The sockets an entry of `listen` stands for: one, none for a tcpmux
    /// name, several for inherited descriptors of one name.
    fn sockets_of<'a>(&self, listen: &'a Listen) -> Vec<(&'a Listen, usize)> {
        let count = match listen {
            Listen::Tcpmux { .. } => 0,
            Listen::Inherited { name } => self
                .inherited
                .iter()
                .filter(|inherited| inherited.name == *name)
                .count(),
            Listen::Inet(_) | Listen::Unix { .. } | Listen::Vsock { .. } | Listen::Rpc { .. } => 1,
        };
        (0..count).map(|index| (listen, index)).collect()
    }

    fn prepare_new(
        &self,
        prepared: &mut Prepared,
        mut listener: Listener,
        service: &Service,
        leaving: &[&Listener],
        now: Instant,
    ) {
        let bound = match prepared.group_of(&listener) {
            Some(group) => group.join(&listener, || self.bind_first(&listener, leaving)),
            None => self.bind(&listener, leaving).map(Rc::new),
        };
        match bound {
            Ok(bound) => listener.state = State::Bound(bound),
            Err(error) => {
                listener.state = State::Waiting {
                    again: now + RETRY_FIRST,
                    pause: RETRY_FIRST,
                };
                prepared.trouble(&listener.listen, service, error);
            }
        }
        prepared.next += 1;
        prepared.listeners.push(listener);
    }

    /// Whom the table denies is kept out from the first packet on, not only
    /// once the socket is in force.
    pub(super) fn bind(
        &self,
        listener: &Listener,
        leaving: &[&Listener],
    ) -> Result<Bound, BindError> {
        let bound = self.bind_open(listener, leaving)?;
        if listener.keeps_out() {
            listener.keep_out(&bound);
        }
        Ok(bound)
    }

    pub(super) fn bind_open(
        &self,
        listener: &Listener,
        leaving: &[&Listener],
    ) -> Result<Bound, BindError> {
        if let Listen::Inherited { name } = &listener.listen {
            let mut named = self
                .inherited
                .iter()
                .filter(|inherited| inherited.name == *name);
            return match named.nth(listener.index) {
                Some(inherited) => bind::adopt(&inherited.fd, &listener.options),
                None => Err(BindError::Call("find", io::ErrorKind::NotFound.into())),
            };
        }
        let first = bind::bind(&listener.listen, &listener.options, Sharing::Alone);
        let holders = sharing_port(&listener.listen, leaving);
        if !matches!(first, Err(BindError::Taken(_))) || holders.is_empty() {
            return first;
        }
        // Our own old socket holds the port and goes as soon as the new one is there.
        for holder in holders {
            holder
                .socket
                .set_reuse_port(true)
                .map_err(|e| BindError::Call("SO_REUSEPORT", e))?;
        }
        bind::bind(&listener.listen, &listener.options, Sharing::Beside)
    }

    /// Puts `prepared` in force.
    pub fn commit(&mut self, prepared: Prepared) {
        let old = std::mem::replace(&mut self.listeners, prepared.listeners);
        let groups = std::mem::replace(&mut self.groups, prepared.groups);
        self.next = prepared.next;
        for listener in &old {
            if self.find(listener.id).is_none() {
                listener.leave();
            }
        }
        let gone = |group: &&Group| self.groups.iter().all(|stays| stays.key() != group.key());
        groups.iter().filter(gone).for_each(Group::dissolve);
        drop((old, groups));
        for listener in &mut self.listeners {
            listener.ban(&self.banned); // there may be more of them than when it was prepared
        }
        for listener in self.listeners.iter_mut().filter(|l| !l.grouped) {
            if let Some(bound) = listener.bound().map(Rc::clone) {
                listener.settle(&bound);
            }
        }
        for group in &mut self.groups {
            group.assign(&self.listeners);
            group.settle(&mut self.listeners);
        }
    }

    /// Tries the addresses again whose time has come. Returns those that came.
    pub fn retry(&mut self, now: Instant) -> Vec<ListenerId> {
        let mut came = Vec::new();
        for at in 0..self.listeners.len() {
            let State::Waiting { again, pause } = self.listeners[at].state else {
                continue;
            };
            if again > now {
                continue;
            }
            match self.bind_late(at) {
                Ok(bound) => {
                    let listener = &mut self.listeners[at];
                    log::info!(address:% = listener.listen; "address is there now");
                    listener.state = State::Bound(Rc::clone(&bound));
                    came.push(listener.id);
                    self.settle(at, &bound);
                }
                Err(error) => {
                    log::debug!(address:% = self.listeners[at].listen; "still unable to bind: {error}");
                    let pause = (pause * 2).min(RETRY_LAST);
                    self.listeners[at].state = State::Waiting {
                        again: now + pause,
                        pause,
                    };
                }
            }
        }
        came
    }

    /// When the next address is to be tried.
    #[must_use]
    pub fn next_retry(&self) -> Option<Instant> {
        let waiting = self
            .listeners
            .iter()
            .filter_map(|listener| match listener.state {
                State::Waiting { again, .. } => Some(again),
                State::Bound(_) => None,
            });
        waiting.min()
    }

    /// Every listener that has its socket.
    pub fn bound(&self) -> impl Iterator<Item = (&Listener, &Rc<Bound>)> {
        self.listeners
            .iter()
            .filter_map(|listener| match &listener.state {
                State::Bound(bound) => Some((listener, bound)),
                State::Waiting { .. } => None,
            })
    }

    /// Makes sure that everything listens: the last front may have shut a
    /// listener down for all who hold it. One that listens is not disturbed.
    pub fn listen_again(&self) {
        for (listener, bound) in self.bound().filter(|(_, bound)| bound.kind != Type::DGRAM) {
            // Connections inherit what a lost front may have set: a server would wait
            // for bytes that never come, or lose its last ones.
            let _ = set_option(bound.socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1);
            let _ = bound.socket.set_linger(None);
            let _ = options::adjustable(&bound.socket, bound.domain, &listener.options);
            if let Err(err) = bind::listen(&bound.socket, &listener.options) {
                log::error!(address:% = listener.listen; "unable to listen: {err}");
            }
        }
    }

    /// Closes everything, with socket files and registrations: usherd ends.
    pub fn close(&mut self) {
        self.listeners.iter().for_each(Listener::leave);
        self.listeners.clear();
        self.groups.clear();
    }
}

impl Prepared {
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }

    pub(super) fn trouble(&mut self, listen: &Listen, service: &Service, error: BindError) {
        let known = self.troubles.len() < HOLDERS_SOUGHT;
        self.troubles.push(Trouble {
            address: listen.to_string(),
            service: service.name.clone(),
            holder: known.then(|| holder_of(listen, &error)).flatten(),
            error,
        });
    }

    /// Those that the front does not have yet.
    pub fn new_ones(&self) -> impl Iterator<Item = &Listener> {
        self.listeners
            .iter()
            .filter(|listener| listener.id.0 >= self.first_new)
    }
}

/// The leaving sockets that stand in the way of `listen`.
fn sharing_port<'a>(listen: &Listen, leaving: &[&'a Listener]) -> Vec<&'a Bound> {
    let Listen::Inet(Inet {
        transport, port, ..
    }) = listen
    else {
        return Vec::new();
    };
    let same = |transport: Transport| match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    leaving
        .iter()
        .filter_map(|listener| listener.bound())
        .map(Rc::as_ref)
        .filter(|bound| bound.kind == same(*transport))
        .filter(|bound| {
            bound
                .local
                .as_socket()
                .is_some_and(|local| local.port() == *port)
        })
        .collect()
}
