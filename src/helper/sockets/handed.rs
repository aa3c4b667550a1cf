//! Listeners from one usherd to the next: as records with descriptors beside
//! them, and back. What comes is what a reload finds: sockets in force, which
//! the table may want to keep or not.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use socket2::{SockAddr, Socket};

use super::bind::Bound;
use super::group::Group;
use super::inherited::Inherited;
use super::listener::{Listener, State};
use super::registry::Registry;
use crate::helper::handover::state::{
    Bag, Descriptors, GroupState, ListenerState, SeatState, SocketState, SocketsState,
};
use crate::ids::ServiceId;
use crate::sandbox::launch::FIRST_LISTENER;
use crate::sys::inherit::raise;
use crate::table::SocketOptions;

impl Registry {
    /// Everything that is bound. `name_of`: of services, also of those that have left.
    pub fn hand_over(
        &self,
        bag: &mut dyn Bag,
        name_of: &dyn Fn(ServiceId) -> String,
    ) -> io::Result<SocketsState> {
        let mut listeners = Vec::new();
        for (listener, bound) in self.bound() {
            listeners.push(ListenerState {
                id: listener.id,
                service: name_of(listener.service),
                listen: listener.listen.clone(),
                index: listener.index,
                freebind: listener.options.freebind,
                transparent: listener.options.transparent,
                device: listener.options.device.clone(),
                grouped: listener.grouped,
                program: listener.program.clone(),
                socket: put(bound, bag)?,
            });
        }
        let groups = self.groups.iter();
        let groups = groups.map(|group| group.hand_over(bag, name_of));
        Ok(SocketsState {
            next: self.next,
            listeners,
            groups: groups.collect::<io::Result<_>>()?,
        })
    }

    /// The reverse. A socket that is not what it is said to be is left out, and
    /// said so: the table binds another one.
    #[must_use]
    pub fn taken_over(
        state: SocketsState,
        descriptors: &mut Descriptors,
        inherited: Vec<Inherited>,
        id_of: &mut dyn FnMut(&str) -> ServiceId,
    ) -> Self {
        let mut listeners = Vec::new();
        for one in state.listeners {
            match take(one.socket, descriptors) {
                Ok(bound) => listeners.push(Listener {
                    id: one.id,
                    service: id_of(&one.service),
                    also: Vec::new(),
                    listen: one.listen,
                    index: one.index,
                    options: SocketOptions {
                        freebind: one.freebind,
                        transparent: one.transparent,
                        device: one.device,
                        ..SocketOptions::default()
                    },
                    kept_out: None,
                    owned: false,
                    banned: Rc::new([]),
                    grouped: one.grouped,
                    own: Vec::new(),
                    state: State::Bound(Rc::new(bound)),
                    program: one.program,
                }),
                Err(err) => {
                    let address = one.listen;
                    log::error!(address:% = address; "unable to take over a listener: {err}; binding another");
                }
            }
        }
        listeners.sort_by_key(|listener| listener.id);
        let mut groups = Vec::new();
        for group in state.groups {
            let address = group.listen.to_string();
            match Group::taken_over(group, descriptors, &listeners, id_of) {
                Some(group) => groups.push(group),
                None => {
                    // Their places in the kernel are not known: none may stay.
                    log::error!(address = address.as_str(); "unable to take over a group of sockets; binding others");
                    listeners.retain(|l| !(l.grouped && l.listen.to_string() == address));
                }
            }
        }
        Self::put_together(listeners, groups, inherited, state.next)
    }

    /// Descriptors of a supervisor, each with its name.
    pub fn inherited(&self) -> &[Inherited] {
        &self.inherited
    }

    fn put_together(
        listeners: Vec<Listener>,
        groups: Vec<Group>,
        inherited: Vec<Inherited>,
        next: u32,
    ) -> Self {
        let mut all = Self::new(inherited);
        all.listeners = listeners;
        all.groups = groups;
        all.next = next;
        all
    }
}

fn put(bound: &Bound, bag: &mut dyn Bag) -> io::Result<SocketState> {
    Ok(SocketState {
        key: bag.put(bound.socket.as_fd())?,
        local: shown(&bound.local),
        file: bound.file.clone(),
    })
}

fn take(state: SocketState, descriptors: &mut Descriptors) -> io::Result<Bound> {
    let found = descriptors.take(state.key);
    let found: OwnedFd = found.ok_or_else(|| io::Error::other("it was not handed over"))?;
    let mut socket = Socket::from(found);
    if socket.as_raw_fd() < FIRST_LISTENER {
        socket = raise(&socket, FIRST_LISTENER)?;
    }
    let local = socket.local_addr()?;
    if shown(&local) != state.local {
        let what = format!("it is bound to {}, not to {}", shown(&local), state.local);
        return Err(io::Error::other(what));
    }
    Ok(Bound {
        domain: socket.domain()?,
        kind: socket.r#type()?,
        socket,
        local,
        file: state.file,
    })
}

/// An address as text, for comparison.
fn shown(address: &SockAddr) -> String {
    if let Some(inet) = address.as_socket() {
        return inet.to_string();
    }
    if let Some((cid, port)) = address.as_vsock_address() {
        return format!("vsock:{cid}:{port}");
    }
    match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => path.to_string_lossy().into_owned(),
        (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
        (None, None) => "-".to_owned(),
    }
}

impl Group {
    fn hand_over(
        &self,
        bag: &mut dyn Bag,
        name_of: &dyn Fn(ServiceId) -> String,
    ) -> io::Result<GroupState> {
        let (listen, device) = self.key();
        let seats = self.seats().map(|(bound, of, was)| match of {
            Some(listener) => Ok(SeatState::Listener(listener)),
            None => Ok(SeatState::Spare {
                socket: put(bound, bag)?,
                was: was.map(name_of),
            }),
        });
        Ok(GroupState {
            listen: listen.clone(),
            device: device.map(str::to_owned),
            seats: seats.collect::<io::Result<_>>()?,
            sink: self.sink(),
        })
    }

    /// `None` if a seat is not there: then all places are others.
    fn taken_over(
        state: GroupState,
        descriptors: &mut Descriptors,
        listeners: &[Listener],
        id_of: &mut dyn FnMut(&str) -> ServiceId,
    ) -> Option<Self> {
        let mut group = Self::new((&state.listen, state.device.as_deref()));
        for seat in state.seats {
            match seat {
                SeatState::Listener(id) => {
                    let listener = listeners.iter().find(|listener| listener.id == id)?;
                    let bound = Rc::clone(listener.bound()?);
                    group.seat(bound, Some(id), Some(listener.service));
                }
                SeatState::Spare { socket, was } => {
                    let bound = take(socket, descriptors).ok()?;
                    group.seat(Rc::new(bound), None, was.map(|name| id_of(&name)));
                }
            }
        }
        group.set_sink(state.sink);
        Some(group)
    }
}
