//! Datagram services that share an address: one socket each in one
//! `SO_REUSEPORT` group (socket(7)), and a program that picks a socket for
//! every datagram by its place in the group.
//!
//! The kernel numbers the sockets in the order of their bind(2), and when one
//! closes the last takes its place. So none of a group is closed before all
//! are: one whose service has left stays here, deaf, as a server may still
//! hold it too, and is that service's again if it comes back. What no rule
//! takes goes to the sink, which nobody reads.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::rc::Rc;

use super::bind::{self, BindError, Bound, Sharing};
use super::listener::Listener;
use crate::demux::datagram::{Base, Inexpressible, Tests, ordered, program};
use crate::helper::filter;
use crate::ids::{ListenerId, ServiceId};
use crate::sys::bpf::{DROP, Instruction, PASS, RETURN, plain};
use crate::sys::socket::{attach_reuseport_program, set_filter};
use crate::table::address::{Inet, Listen, Transport};
use crate::table::{Service, SocketOptions};

/// What sockets of one group have in common.
pub type Key<'a> = (&'a Listen, Option<&'a str>);

/// Sockets of one address, in the kernel's order.
#[derive(Clone, Debug)]
pub struct Group {
    listen: Listen,
    device: Option<String>,
    seats: Vec<Seat>,
    /// The seat of what no rule takes; there is one as soon as there are two seats.
    sink: Option<usize>,
    /// In the order they are asked, each with the listener it leads to.
    rules: Vec<(Tests, ListenerId)>,
    /// As attached.
    program: Vec<Instruction>,
}

#[derive(Clone, Debug)]
struct Seat {
    bound: Rc<Bound>,
    /// `None`: the sink, or one whose service has left.
    of: Option<ListenerId>,
    /// Whose it was last.
    was: Option<ServiceId>,
}

/// The key of a datagram address that several services could share.
#[must_use]
pub fn key<'a>(listen: &'a Listen, options: &'a SocketOptions) -> Option<Key<'a>> {
    let Listen::Inet(Inet {
        transport: Transport::Udp,
        ..
    }) = listen
    else {
        return None;
    };
    Some((listen, options.device.as_deref()))
}

impl Group {
    /// A group without sockets yet.
    #[must_use]
    pub fn new((listen, device): Key) -> Self {
        Self {
            listen: listen.clone(),
            device: device.map(str::to_owned),
            seats: Vec::new(),
            sink: None,
            rules: Vec::new(),
            program: Vec::new(),
        }
    }

    #[must_use]
    pub fn key(&self) -> Key<'_> {
        (&self.listen, self.device.as_deref())
    }

    /// The seats in order: each with whose it is, and whose it was last.
    pub(super) fn seats(
        &self,
    ) -> impl Iterator<Item = (&Bound, Option<ListenerId>, Option<ServiceId>)> {
        self.seats
            .iter()
            .map(|seat| (&*seat.bound, seat.of, seat.was))
    }

    #[must_use]
    pub(super) fn sink(&self) -> Option<usize> {
        self.sink
    }

    /// One more seat, which the kernel has already.
    pub(super) fn seat(
        &mut self,
        bound: Rc<Bound>,
        of: Option<ListenerId>,
        was: Option<ServiceId>,
    ) {
        self.seats.push(Seat { bound, of, was });
    }

    pub(super) fn set_sink(&mut self, sink: Option<usize>) {
        self.sink = sink;
    }

    /// Takes in a socket that had the address for itself; it must be the first.
    pub fn take_in(&mut self, bound: &Rc<Bound>) {
        debug_assert!(self.seats.is_empty());
        let bound = Rc::clone(bound);
        self.seats.push(Seat {
            bound,
            of: None,
            was: None,
        });
    }

    /// Binds the socket of one more listener. It hears nothing until the group
    /// is brought to order.
    pub fn join(
        &mut self,
        listener: &Listener,
        first: impl FnOnce() -> Result<Bound, BindError>,
    ) -> Result<Rc<Bound>, BindError> {
        let left = |seat: &&mut Seat| {
            let is_open = || seat.bound.socket.peer_addr().is_err();
            seat.of.is_none() && seat.was == Some(listener.service) && is_open()
        };
        if let Some(seat) = self.seats.iter_mut().find(left) {
            // Nobody would hear what comes to another one while its server runs.
            seat.of = Some(listener.id);
            return Ok(Rc::clone(&seat.bound));
        }
        if self.sink.is_none() {
            self.make_sink(&listener.options, first)?;
        }
        let bound = bind::bind(&self.listen, &listener.options, Sharing::Member)?;
        self.sit_down(bound, Some(listener.id))
    }

    /// There must be a sink even where the only service had its socket before.
    pub fn ensure_sink(&mut self, options: &SocketOptions) -> Result<(), BindError> {
        if self.sink.is_some() || self.seats.is_empty() {
            return Ok(());
        }
        self.make_sink(options, || unreachable!("somebody sits here"))
    }

    fn make_sink(
        &mut self,
        options: &SocketOptions,
        first: impl FnOnce() -> Result<Bound, BindError>,
    ) -> Result<(), BindError> {
        let bound = match self.seats.first() {
            Some(seat) => {
                share(&seat.bound, true)?;
                bind::bind(&self.listen, options, Sharing::Member)?
            }
            None => {
                // Alone first, so that a stranger's group is not joined.
                let bound = first()?;
                share(&bound, true)?;
                deafen(&bound);
                bound
            }
        };
        self.sink = Some(self.seats.len());
        self.sit_down(bound, None).map(|_| ())
    }

    fn sit_down(&mut self, bound: Bound, of: Option<ListenerId>) -> Result<Rc<Bound>, BindError> {
        let bound = Rc::new(bound);
        if self.seats.len() == 1 {
            // The kernel has made a group of the two now, and would share the
            // datagrams out. Until the table is in force all are the first one's.
            attach_reuseport_program(bound.socket.as_fd(), &[plain(RETURN, 0)])
                .map_err(|e| BindError::Call("SO_ATTACH_REUSEPORT_CBPF", e))?;
        }
        let seat = Rc::clone(&bound);
        self.seats.push(Seat {
            bound: seat,
            of,
            was: None,
        });
        Ok(bound)
    }

    /// Seats are those of `listeners` now, each by its socket; all others have left.
    pub fn assign(&mut self, listeners: &[Listener]) {
        for seat in &mut self.seats {
            let owner = listeners.iter().find(|listener| {
                listener
                    .bound()
                    .is_some_and(|bound| Rc::ptr_eq(bound, &seat.bound))
            });
            seat.of = owner.map(|listener| listener.id);
            seat.was = owner.map(|listener| listener.service).or(seat.was);
        }
    }

    /// Which rules lead to which listener. Members come in table order. Fails
    /// with the service whose rules are no program's.
    pub fn lead<'s>(
        &mut self,
        members: &[(ListenerId, &'s Service)],
    ) -> Result<(), (&'s Service, Inexpressible)> {
        let rules = members.iter().map(|(_, service)| &*service.routing.rules);
        let asked = ordered(rules).map_err(|(at, why)| (members[at].1, why))?;
        let rules = asked
            .into_iter()
            .map(|asked| (asked.tests, members[asked.service].0));
        self.rules = rules.collect();
        let measured: Vec<_> = self.rules.iter().map(|(t, _)| (t.clone(), PASS)).collect();
        match (program(&measured, DROP, Base::Transport), members.last()) {
            (Err(why), Some((_, last))) => Err((*last, Inexpressible::TooLong(why))),
            _ => Ok(()),
        }
    }

    /// Puts the rules in force. Sockets that stay hear everything for the
    /// moment in which the program changes, so that no datagram is lost.
    pub fn settle(&mut self, listeners: &mut [Listener]) {
        for (listener, bound) in self.members(listeners) {
            listener.own.clear();
            listener.settle(&bound);
        }
        self.attach();
        for (listener, bound) in self.members(listeners) {
            listener.own = self.own(listener.id);
            listener.keep_out(&bound);
        }
        for seat in self.seats.iter().filter(|seat| seat.of.is_none()) {
            deafen(&seat.bound);
        }
    }

    /// The listeners of the group that sit.
    fn members<'a>(
        &self,
        listeners: &'a mut [Listener],
    ) -> impl Iterator<Item = (&'a mut Listener, Rc<Bound>)> {
        listeners.iter_mut().filter_map(|listener| {
            let place = self.seat_of(listener.id)?;
            let bound = self.seats.get(place)?.bound.clone();
            Some((listener, bound))
        })
    }

    #[must_use]
    pub fn seat_of(&self, id: ListenerId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.of == Some(id))
    }

    /// Compiles the program for the places as they are, and attaches it.
    pub fn attach(&mut self) {
        let Some(sink) = self.sink.and_then(|sink| u32::try_from(sink).ok()) else {
            return;
        };
        let place = |id: &ListenerId| {
            let seat = self.seat_of(*id).and_then(|seat| u32::try_from(seat).ok());
            seat.unwrap_or(sink)
        };
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(tests, id)| (tests.clone(), place(id)))
            .collect();
        self.program = program(&rules, sink, Base::Payload).unwrap_or_else(|err| {
            log::error!(address:% = self.listen; "unable to tell datagrams apart: {err}; nobody gets any");
            vec![plain(RETURN, sink)]
        });
        if let Err(err) = self.attach_again() {
            log::error!(address:% = self.listen; "unable to tell datagrams apart: {err}; nobody gets any");
            self.program = vec![plain(RETURN, sink)];
            let _ = self.attach_again();
        }
    }

    /// A server that had a socket of the group may have changed the program.
    pub fn attach_again(&self) -> std::io::Result<()> {
        match self.seats.last() {
            Some(seat) if self.seats.len() > 1 => {
                attach_reuseport_program(seat.bound.socket.as_fd(), &self.program)
            }
            _ => Ok(()),
        }
    }

    /// A filter for one socket: broadcast and multicast datagrams come to all.
    fn own(&self, id: ListenerId) -> Vec<Instruction> {
        let verdict = |of: ListenerId| if of == id { PASS } else { DROP };
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(tests, of)| (tests.clone(), verdict(*of)))
            .collect();
        program(&rules, DROP, Base::Transport).unwrap_or_else(|_| filter::nobody())
    }

    /// Keeps what `later`, this group with more seats, has bound.
    pub fn take_seats_of(&mut self, mut later: Group) {
        for seat in later.seats.drain(..).skip(self.seats.len()) {
            deafen(&seat.bound);
            self.seats.push(Seat { of: None, ..seat });
        }
        self.sink = self.sink.or(later.sink);
    }

    /// A server has connected this socket, with which the kernel let it drop
    /// out of the group (at the latest when it is untied), and has put the last
    /// one in its place. Whether it was one of the group.
    pub fn cast_out(&mut self, bound: &Rc<Bound>) -> bool {
        let Some(place) = self.place_of(bound) else {
            return false;
        };
        self.seats.swap_remove(place);
        if self.sink == Some(self.seats.len()) {
            self.sink = Some(place);
        }
        true
    }

    /// Where a socket sits.
    #[must_use]
    pub fn place_of(&self, bound: &Rc<Bound>) -> Option<usize> {
        let mut seats = self.seats.iter();
        seats.position(|seat| Rc::ptr_eq(&seat.bound, bound))
    }

    /// The whole group goes. A server may hold on to one of its sockets; what
    /// is bound here later must not come to sit beside it.
    pub fn dissolve(&self) {
        for seat in &self.seats {
            let _ = share(&seat.bound, false);
        }
    }
}

fn share(bound: &Bound, shared: bool) -> Result<(), BindError> {
    let set = bound.socket.set_reuse_port(shared);
    set.map_err(|e| BindError::Call("SO_REUSEPORT", e))
}

/// Nothing comes in any more.
fn deafen(bound: &Bound) {
    if let Err(err) = set_filter(bound.socket.as_fd(), &filter::nobody()) {
        log::error!("unable to close a datagram socket to everybody: {err}");
    }
}
