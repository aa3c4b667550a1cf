//! The registry's part in groups of datagram sockets: which addresses are
//! shared, and how a group comes and goes with the tables.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use socket2::{Domain, Type};

use super::bind::{BindError, Bound};
use super::group::{self, Group, Key};
use super::listener::Listener;
use super::registry::{Prepared, Registry};
use crate::ids::{ListenerId, ServiceId};
use crate::sys::socket::dissolve_connection;
use crate::table::Service;

impl Registry {
    /// The datagram addresses that several of `services` want, or one with
    /// rules, or that a group has already. In table order.
    pub(super) fn shared<'a>(&self, services: &[(ServiceId, &'a Service)]) -> Vec<Key<'a>> {
        let mut keys: Vec<Key> = Vec::new();
        let mut users: HashMap<Key, usize> = HashMap::new();
        for (_, service) in services.iter().filter(|(_, service)| service.enabled) {
            let has_rules = !service.routing.rules.is_empty();
            let here = |listen| group::key(listen, &service.socket);
            for key in service.listen.iter().filter_map(here) {
                let users = users.entry(key).or_default();
                if *users == 0 {
                    keys.push(key);
                }
                *users += if has_rules { 2 } else { 1 };
            }
        }
        let shared = |key: &Key| {
            users.get(key).is_some_and(|users| *users > 1)
                || self.groups.iter().any(|group| group.key() == *key)
        };
        keys.retain(shared);
        keys
    }

    /// The group of an address as it is, or a new one, which begins with the
    /// socket that has had the address for itself.
    pub(super) fn group_for(&self, key: Key) -> Group {
        if let Some(group) = self.groups.iter().find(|group| group.key() == key) {
            return group.clone();
        }
        let mut group = Group::new(key);
        let single =
            |listener: &&Listener| group::key(&listener.listen, &listener.options) == Some(key);
        if let Some(bound) = self.listeners.iter().find(single).and_then(Listener::bound) {
            group.take_in(bound);
        }
        group
    }

    /// Binds the first socket of a group, alone or beside sockets that leave.
    pub(super) fn bind_first(
        &self,
        listener: &Listener,
        leaving: &[&Listener],
    ) -> Result<Bound, BindError> {
        let bound = self.bind_open(listener, leaving)?;
        // The same address in other words: the kernel would count it as one of the group.
        let mut others = leaving.iter().filter_map(|listener| listener.bound());
        if others.any(|other| other.kind == bound.kind && other.local == bound.local) {
            return Err(BindError::Taken(std::io::ErrorKind::AddrInUse.into()));
        }
        Ok(bound)
    }

    /// Binds a listener in force whose address was not there.
    pub(super) fn bind_late(&mut self, at: usize) -> Result<Rc<Bound>, BindError> {
        let mut groups = std::mem::take(&mut self.groups);
        let listener = &self.listeners[at];
        let bound = match group_of(&mut groups, listener) {
            Some(group) => group.join(listener, || self.bind_open(listener, &[])),
            None => self.bind(listener, &[]).map(Rc::new),
        };
        self.groups = groups;
        bound
    }

    /// Brings a listener that has just come to what the table says, and its group with it.
    pub(super) fn settle(&mut self, at: usize, bound: &Rc<Bound>) {
        match group_of(&mut self.groups, &self.listeners[at]) {
            Some(group) => {
                group.assign(&self.listeners);
                group.settle(&mut self.listeners);
            }
            None => self.listeners[at].settle(bound),
        }
    }

    /// Sees to the filters of a socket that a server has had.
    pub fn guard(&self, id: ListenerId) {
        let Some(listener) = self.find(id) else {
            return;
        };
        listener.guard();
        let mut groups = self.groups.iter();
        if let Some(group) = groups.find(|group| group.seat_of(id).is_some())
            && let Err(err) = group.attach_again()
        {
            log::error!(address:% = listener.listen; "unable to tell datagrams apart: {err}");
        }
    }

    /// A server that had this socket is gone. If it connected it, and the
    /// socket is one of a group (perhaps of one that is only prepared), it is
    /// of no use any more: it is put aside, and the next table gets another.
    pub fn put_aside(&mut self, id: ListenerId, pending: Option<&mut Prepared>) -> bool {
        let Some(bound) = self.find(id).and_then(Listener::bound).map(Rc::clone) else {
            return false;
        };
        if bound.kind != Type::DGRAM || bound.socket.peer_addr().is_err() {
            return false;
        }
        let mut none = Vec::new();
        let pending = pending.map_or(&mut none, |prepared| &mut prepared.groups);
        let sits = |group: &Group| group.place_of(&bound).is_some();
        if !self.groups.iter().chain(&*pending).any(sits) {
            return false;
        }
        park(&bound);
        for group in &mut self.groups {
            // What is prepared sits behind it already.
            if let Some(later) = pending.iter().find(|later| later.key() == group.key()) {
                group.take_seats_of(later.clone());
            }
            if group.cast_out(&bound) {
                group.attach();
            }
        }
        for group in pending {
            group.cast_out(&bound);
        }
        true
    }

    /// Whether a socket was put aside, and its service waits for another.
    #[must_use]
    pub fn lacks_sockets(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| self.is_aside(listener))
    }

    pub(super) fn is_aside(&self, listener: &Listener) -> bool {
        let sits = |bound| {
            self.groups
                .iter()
                .any(|group| group.place_of(bound).is_some())
        };
        listener.grouped && listener.bound().is_some_and(|bound| !sits(bound))
    }

    /// `prepared` will not be put in force, and nobody has heard of it: what
    /// was bound for it leaves nothing behind. New sockets of a group were its
    /// last, so the others keep their places when they close.
    pub fn abandon(&mut self, prepared: Prepared) {
        prepared.new_ones().for_each(Listener::leave);
        let is_new = |group: &&Group| self.groups.iter().all(|old| old.key() != group.key());
        prepared
            .groups
            .iter()
            .filter(is_new)
            .for_each(Group::dissolve);
    }

    /// As [`Registry::abandon`], but a front may hold copies of the new
    /// sockets: those of groups stay here, deaf, so that the places do not
    /// change when it lets go of them.
    pub fn withdraw(&mut self, prepared: Prepared) {
        prepared.new_ones().for_each(Listener::leave);
        for mut group in prepared.groups {
            group.assign(&self.listeners);
            match self.groups.iter_mut().find(|old| old.key() == group.key()) {
                Some(old) => old.take_seats_of(group),
                None => group.dissolve(),
            }
        }
    }
}

impl Prepared {
    pub(super) fn group_of(&mut self, listener: &Listener) -> Option<&mut Group> {
        group_of(&mut self.groups, listener)
    }

    /// What stays alone at its address may be one of a group from now on.
    pub(super) fn ensure_sink(&mut self, listener: &Listener, service: &Service) {
        if let Some(group) = self.group_of(listener)
            && let Err(error) = group.ensure_sink(&listener.options)
        {
            self.trouble(&listener.listen, service, error);
        }
    }

    /// Compiles the rules of every group.
    pub(super) fn lead(&mut self, services: &[(ServiceId, &Service)]) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            let here = |listener: &&Listener| {
                group::key(&listener.listen, &listener.options) == Some(group.key())
            };
            let members: Vec<(ListenerId, &Service)> = services
                .iter()
                .flat_map(|(id, service)| {
                    let of_it = self.listeners.iter().filter(|l| l.service == *id);
                    of_it.filter(here).map(|listener| (listener.id, *service))
                })
                .collect();
            if let Err((service, why)) = group.lead(&members) {
                let (listen, _) = group.key();
                self.trouble(listen, service, BindError::Rules(why));
            }
        }
        self.groups = groups;
    }
}

/// Ties a socket to a peer that never speaks: as it is in no group any more,
/// it would get datagrams of all services otherwise.
fn park(bound: &Bound) {
    let peer: SocketAddr = match bound.domain {
        Domain::IPV6 => (Ipv6Addr::LOCALHOST, 1).into(),
        _ => (Ipv4Addr::LOCALHOST, 1).into(),
    };
    let aside = || {
        dissolve_connection(bound.socket.as_fd())?;
        bound.socket.connect(&peer.into())?;
        // Its successor must join the others, not this one: see `Sharing::Member`.
        bound.socket.set_reuse_port(false)?;
        bound.socket.set_reuse_address(true)
    };
    if let Err(err) = aside() {
        log::error!("unable to put aside a datagram socket that its server connected: {err}");
    }
}

fn group_of<'g>(groups: &'g mut [Group], listener: &Listener) -> Option<&'g mut Group> {
    if !listener.grouped {
        return None;
    }
    let key = group::key(&listener.listen, &listener.options);
    groups.iter_mut().find(|group| Some(group.key()) == key)
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
