//! Many callers on one socket, none of whom can hold the loop: no read or write
//! waits, every buffer is bounded, so is the number of callers of one user, and
//! whoever stops halfway is dropped.
//!
//! `T` is what a call waits for that cannot be answered at once: the result of
//! a reload, the next event.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::resource::{Resource, getrlimit};

use super::caller::{Sees, Who};
use super::connection::{Connection, Gone};
use super::message::{Call, CallError, Reply, read_call};
use super::room::Limits;
use super::{Interface, introspect};
use crate::front::slots::Slots;

/// Callers taken in a turn: the kernel is asked about each.
const ACCEPTS_PER_TURN: usize = 8;
/// Out of descriptors, those who wait are looked at again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Calls of one caller in a turn.
const CALLS_PER_TURN: usize = 16;
/// What the calls of one user may take of a turn, until the rest has to wait.
const TURN: Duration = Duration::from_millis(5);
/// Octets of replies that callers together may leave unread.
const MAX_UNSENT: usize = 128 * 1024 * 1024;
/// Half a call, or a reply that is not read, is waited for this long.
const HALFWAY: Duration = Duration::from_secs(10);
/// A caller that asks nothing is kept this long.
const IDLE: Duration = Duration::from_secs(300);
/// How often the two are looked for while there are callers.
const SWEEP: Duration = Duration::from_secs(5);

mod crowd;

/// What becomes of a call.
#[derive(Debug)]
pub enum Answer<T> {
    Reply(Reply),
    /// The replies come later, by [`Server::answer`].
    Later(T),
}

impl<T> From<CallError> for Answer<T> {
    fn from(error: CallError) -> Self {
        Answer::Reply(Reply::Error(error))
    }
}

/// A caller.
#[derive(Debug)]
struct Caller<T> {
    connection: Connection,
    serial: u32,
    uid: u32,
    /// `None`: the kernel has not been asked yet.
    who: Option<Who>,
    /// The call it waits for.
    waits: Option<Waiting<T>>,
    /// Only what it has been told is still to be sent.
    leaving: bool,
    heard: Heard,
    /// It was not accepted but brought: it takes nobody's room and may rest as long as it likes.
    brought: bool,
}

/// Whether a caller has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nobody has looked yet.
    Unknown,
    /// No whole call so far.
    Nothing,
    ACall,
}

#[derive(Debug)]
struct Waiting<T> {
    what: T,
    more: bool,
    oneway: bool,
}

#[derive(Debug)]
pub struct Server<T> {
    interface: Interface,
    listener: Option<UnixListener>,
    callers: Slots<Caller<T>>,
    count: usize,
    serial: u32,
    next_sweep: Option<Instant>,
    /// When to accept again without being told that somebody waits.
    retry: Option<Instant>,
    limits: Limits,
    /// What users, and those who were brought, each by its place, have taken of this turn.
    spent: HashMap<(bool, usize), Duration>,
    /// Calls of those who may ask nothing,
    denied: u64,
    /// and the last of them, until somebody logs it.
    last_denied: Option<Who>,
}

impl<T> Server<T> {
    #[must_use]
    pub fn new(interface: Interface) -> Self {
        Self {
            interface,
            listener: None,
            callers: Slots::default(),
            count: 0,
            serial: 0,
            next_sweep: None,
            retry: None,
            limits: Limits::of(u64::MAX),
            spent: HashMap::new(),
            denied: 0,
            last_denied: None,
        }
    }

    /// Serves callers of `listener`, which is non-blocking, from now on.
    pub fn listen(
        &mut self,
        listener: UnixListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let files = getrlimit(Resource::RLIMIT_NOFILE);
        let files = files.map_or(u64::MAX, |(soft, _)| soft);
        self.limits = Limits::of(files);
        let quarter = usize::try_from(files / 4).unwrap_or(usize::MAX);
        self.interface.waiting = self.interface.waiting.min(quarter);
        let fd = listener.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Where callers come in.
    #[must_use]
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Takes nobody any more, and drops those that are there.
    pub fn close(&mut self) {
        self.listener = None;
        self.callers = Slots::default();
        self.count = 0;
    }

    /// A new turn: no event of the last one is left.
    pub fn turn_over(&mut self) {
        self.spent.clear();
        self.callers.turn_over();
    }

    /// The caller's socket, for whoever asks the kernel about it.
    #[must_use]
    pub fn connection(&self, place: usize) -> Option<&Connection> {
        self.callers.get(place).map(|caller| &caller.connection)
    }

    /// Those that were accepted and are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many calls were denied.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.denied
    }

    /// Whose call was denied since this was last asked.
    pub fn take_denied(&mut self) -> Option<Who> {
        self.last_denied.take()
    }

    /// What the kernel says; from now on its calls are read.
    /// Its place, if it is still there.
    pub fn know(&mut self, number: u64, who: Who) -> Option<usize> {
        let place = self.place(number)?;
        let caller = self.callers.get_mut(place)?;
        caller.who = Some(who);
        Some(place)
    }

    /// The places of those who were accepted.
    pub fn accepted(&self) -> impl Iterator<Item = usize> {
        let accepted = self.callers.iter().filter(|(_, caller)| !caller.brought);
        accepted.map(|(place, _)| place)
    }

    /// Where the caller with this number is, if it is still there.
    #[must_use]
    pub fn place(&self, number: u64) -> Option<usize> {
        let place = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let caller = self.callers.get(place)?;
        (caller.number(place) == number).then_some(place)
    }

    /// Whether a call waits there that wants as many replies as there are.
    #[must_use]
    pub fn wants_more(&self, place: usize) -> bool {
        let caller = self.callers.get(place);
        let waits = caller.and_then(|caller| caller.waits.as_ref());
        waits.is_some_and(|waiting| waiting.more)
    }

    /// The call that waits there waits for something else now.
    pub fn wait_on(&mut self, place: usize, what: T) {
        let caller = self.callers.get_mut(place);
        if let Some(waiting) = caller.and_then(|caller| caller.waits.as_mut()) {
            waiting.what = what;
        }
    }

    /// A number that no other caller has had, for those who look into who it is.
    #[must_use]
    pub fn number(&self, place: usize) -> Option<u64> {
        let caller = self.callers.get(place)?;
        Some(caller.number(place))
    }

    /// Goes on with a caller: sends what waits, answers what it asks. `true`:
    /// it has more to ask than its share of a turn.
    pub fn serve(
        &mut self,
        place: usize,
        registry: &Registry,
        now: Instant,
        answer: &mut dyn FnMut(Who, Call) -> Answer<T>,
    ) -> bool {
        let whose = match self.callers.get(place) {
            Some(caller) if caller.brought => (true, place),
            Some(caller) => (false, usize::try_from(caller.uid).unwrap_or(usize::MAX)),
            None => return false,
        };
        if self.spent.get(&whose).is_some_and(|spent| *spent > TURN) {
            return true;
        }
        let began = Instant::now();
        let turn = self.turn(place, now, answer);
        *self.spent.entry(whose).or_default() += began.elapsed();
        match turn {
            Ok(more) => {
                self.bound_unsent(place, registry);
                more
            }
            Err(gone) => {
                if let (Gone::Misbehaved(what), Some(caller)) = (gone, self.callers.get(place)) {
                    log::debug!(uid = caller.uid; "closed a caller: {what}");
                }
                self.drop_caller(place, registry);
                false
            }
        }
    }

    fn turn(
        &mut self,
        place: usize,
        now: Instant,
        answer: &mut dyn FnMut(Who, Call) -> Answer<T>,
    ) -> Result<bool, Gone> {
        let Some(caller) = self.callers.get_mut(place) else {
            return Ok(false);
        };
        caller.connection.flush(now)?;
        let Some(who) = caller.who else {
            return Ok(false);
        };
        let began = Instant::now();
        for calls in 0..CALLS_PER_TURN {
            if calls > 0 && began.elapsed() > TURN {
                return Ok(true);
            }
            if caller.leaving {
                return match caller.connection.is_flushed() {
                    true => Err(Gone::Left),
                    false => Ok(false),
                };
            }
            if caller.waits.is_some() {
                // Whoever leaves is noticed, and nothing else it says is listened to.
                return caller.connection.check_for_end(now).map(|()| false);
            }
            let Some(message) = caller.connection.next_call(now)? else {
                if caller.heard == Heard::Unknown {
                    caller.heard = Heard::Nothing;
                }
                return Ok(false);
            };
            caller.heard = Heard::ACall;
            if who.sees == Sees::Nothing {
                // What it asks for makes no difference, so it is not parsed.
                self.denied += 1;
                self.last_denied = Some(who);
                let denied = Reply::Error(CallError::PermissionDenied);
                caller.connection.push(&denied);
                caller.leaving = true;
            } else {
                let call = read_call(&message)
                    .map_err(|_| Gone::Misbehaved("a message that is no call"))?;
                caller.take(call, self.interface, who, answer);
            }
            caller.connection.flush(now)?;
        }
        Ok(true)
    }

    /// Calls that wait for something, each with its place.
    pub fn waiting(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.callers.iter_mut().filter_map(|(place, caller)| {
            let has_room = caller.connection.has_room();
            let waiting = caller.waits.as_mut().filter(|_| has_room)?;
            Some((place, &mut waiting.what))
        })
    }

    /// Whether a call waits for something.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.callers
            .iter()
            .any(|(_, caller)| caller.waits.is_some())
    }

    /// One more reply to the call that waits; if it is the last one, further
    /// calls are answered again ([`Server::serve`] must be called for it).
    pub fn answer(&mut self, place: usize, reply: &Reply, registry: &Registry, now: Instant) {
        let Some(caller) = self.callers.get_mut(place) else {
            return;
        };
        let Some(waiting) = &caller.waits else { return };
        let (oneway, more) = (waiting.oneway, waiting.more);
        if !more || !matches!(reply, Reply::Continues(_)) {
            caller.waits = None;
        }
        if !oneway {
            match reply {
                Reply::Continues(value) if !more => {
                    caller.connection.push(&Reply::Last(value.clone()));
                }
                reply => caller.connection.push(reply),
            }
        }
        match caller.connection.flush(now) {
            Ok(()) => self.bound_unsent(place, registry),
            Err(_) => self.drop_caller(place, registry),
        }
    }

    /// A reply is as long as the table has services, and a caller that does not
    /// read keeps it here: beyond the limit those that keep the most are dropped,
    /// the one that was answered just now last.
    fn bound_unsent(&mut self, place: usize, registry: &Registry) {
        let unsent = |place| {
            self.callers
                .get(place)
                .map_or(0, |c: &Caller<T>| c.connection.unsent())
        };
        if unsent(place) == 0 {
            return;
        }
        let callers = self.callers.iter();
        let mut kept: Vec<_> = callers
            .map(|(at, c)| (at != place, c.connection.unsent(), at))
            .collect();
        kept.sort_unstable();
        let mut total: usize = kept.iter().map(|(_, unsent, _)| unsent).sum();
        while total > MAX_UNSENT
            && kept.len() > 1
            && let Some((_, unsent, at)) = kept.pop()
        {
            total -= unsent;
            self.drop_caller(at, registry);
        }
    }

    /// When there is something to do without an event: to sweep, or to accept.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.next_sweep.into_iter().chain(self.retry).min()
    }

    /// Closes a connection.
    pub fn drop_caller(&mut self, place: usize, registry: &Registry) {
        if let Some(caller) = self.callers.remove(place) {
            self.count -= usize::from(!caller.brought);
            let fd = caller.connection.as_fd().as_raw_fd();
            // Whoever asked the kernel about it may still hold a copy.
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
    }
}

impl<T> Caller<T> {
    fn number(&self, place: usize) -> u64 {
        u64::from(self.serial) << 32 | place as u64
    }

    fn take(
        &mut self,
        mut call: Call,
        interface: Interface,
        who: Who,
        answer: &mut dyn FnMut(Who, Call) -> Answer<T>,
    ) {
        let (more, oneway) = (call.more, call.oneway);
        let answer = if call.upgrade {
            CallError::MethodNotImplemented(call.method).into()
        } else {
            let reply = match who.sees {
                Sees::Operation(_) => None, // it speaks an interface of its own as well
                _ => introspect::answer(&mut call, interface),
            };
            match reply {
                Some(reply) => Answer::Reply(reply),
                None => answer(who, call),
            }
        };
        match answer {
            Answer::Reply(_) if oneway => {}
            Answer::Reply(reply) => self.connection.push(&reply),
            Answer::Later(what) => self.waits = Some(Waiting { what, more, oneway }),
        }
    }
}
