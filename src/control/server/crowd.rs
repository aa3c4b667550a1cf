//! Who is there: callers that come, make room for one another, and go.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::{ACCEPTS_PER_TURN, Caller, HALFWAY, Heard, IDLE, RETRY, SWEEP, Server};
use crate::control::caller::Who;
use crate::control::connection::Connection;
use crate::control::room::{self, Standing};

impl<T> Server<T> {
    /// Takes those who wait; their places. `true`: there may be more.
    pub fn accept(
        &mut self,
        registry: &Registry,
        token_of: impl Fn(usize) -> Token,
        now: Instant,
    ) -> (Vec<usize>, bool) {
        let mut places = Vec::new();
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else {
                return (places, false);
            };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return (places, false),
                // Out of descriptors: no event will tell of those who wait already.
                Err(_) => {
                    self.retry = Some(now + RETRY);
                    return (places, false);
                }
            };
            let uid = match nix::sys::socket::getsockopt(
                &stream,
                nix::sys::socket::sockopt::PeerCredentials,
            ) {
                Ok(who) if stream.set_nonblocking(true).is_ok() => who.uid(),
                _ => continue,
            };
            if !self.make_room(uid, registry) {
                continue;
            }
            let fd = stream.as_fd().as_raw_fd();
            let place = self.callers.insert(Caller {
                connection: Connection::new(stream, now),
                serial: self.serial,
                uid,
                who: None,
                waits: None,
                leaving: false,
                heard: Heard::Unknown,
                brought: false,
            });
            self.count += 1;
            self.serial = self.serial.wrapping_add(1);
            let both = Interest::READABLE | Interest::WRITABLE;
            if registry
                .register(&mut SourceFd(&fd), token_of(place), both)
                .is_err()
            {
                self.drop_caller(place, registry);
                continue;
            }
            self.next_sweep.get_or_insert(now + SWEEP);
            places.push(place);
        }
        (places, true)
    }

    /// Takes in a caller who comes by a connection of ours, non-blocking, whose messages
    /// have up to `longest` octets. Its place.
    pub fn bring(
        &mut self,
        stream: UnixStream,
        who: Who,
        longest: usize,
        registry: &Registry,
        token_of: impl Fn(usize) -> Token,
        now: Instant,
    ) -> io::Result<usize> {
        let fd = stream.as_fd().as_raw_fd();
        let place = self.callers.insert(Caller {
            connection: Connection::with_limit(stream, longest, now),
            serial: self.serial,
            uid: who.uid,
            who: Some(who),
            waits: None,
            leaving: false,
            heard: Heard::Unknown,
            brought: true,
        });
        self.serial = self.serial.wrapping_add(1);
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = registry.register(&mut SourceFd(&fd), token_of(place), both);
        if let Err(err) = registered {
            self.drop_caller(place, registry);
            return Err(err);
        }
        Ok(place)
    }

    /// Whether [`Server::accept`] is to be called although nothing happened.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.retry.take_if(|at| *at <= now).is_some()
    }

    /// Drops those who stopped halfway or have long asked nothing. The next time to do so.
    pub fn sweep(&mut self, registry: &Registry, now: Instant) -> Option<Instant> {
        if self.next_sweep.is_none_or(|at| at > now) {
            return self.next_due();
        }
        let overdue: Vec<usize> = self
            .callers
            .iter()
            .filter(|(_, caller)| {
                if caller.brought {
                    return false;
                }
                let rests = now.saturating_duration_since(caller.connection.moved);
                let halfway = caller.connection.is_halfway() || caller.leaving;
                halfway && rests >= HALFWAY || caller.waits.is_none() && rests >= IDLE
            })
            .map(|(place, _)| place)
            .collect();
        for place in overdue {
            self.drop_caller(place, registry);
        }
        self.next_sweep = (self.count > 0).then(|| now + SWEEP);
        self.next_due()
    }

    /// Beyond the limits somebody has to go. `false`: the one who comes.
    fn make_room(&mut self, uid: u32, registry: &Registry) -> bool {
        let accepted = || self.callers.iter().filter(|(_, caller)| !caller.brought);
        let apart = self.interface.waiting;
        let waits = |caller: &Caller<T>| {
            apart > 0 && (caller.waits.is_some() || caller.heard == Heard::Unknown)
        };
        let (mut waiting, mut of_his) = (0, 0);
        for (_, caller) in accepted().filter(|(_, caller)| waits(caller)) {
            waiting += 1;
            of_his += usize::from(caller.uid == uid);
        }
        if apart > 0 && (waiting >= apart || of_his >= apart / 4) {
            return false;
        }
        let others = accepted().filter(|(_, caller)| !waits(caller));
        let standing = others.map(|(place, caller)| Standing {
            place,
            uid: caller.uid,
            sees: caller.who.map(|who| who.sees),
            waits: caller.waits.is_some(),
            asked: caller.heard == Heard::ACall,
            moved: caller.connection.moved,
        });
        let count = self.count - waiting;
        if let Some(place) = room::who_goes(standing, count, uid, self.limits) {
            self.drop_caller(place, registry);
        }
        true
    }
}
