//! The descriptor store of a service manager, sd_notify(3): what is put there
//! is there for the next usherd, however this one ends.
//!
//! Every socket goes there once, under a name that it keeps as long as it
//! lives, for systemd knows a file again and keeps its first name. Beside them
//! lies the [`State`](super::state::State), a new one with each change; the
//! last one counts. Names: `usherd/socket/KEY`, `usherd/state/NUMBER`.
//!
//! A manager that has a store says so in `FDSTORE` (systemd from 254 on; the unit does
//! it for older ones).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::pipe2;

use super::state::{Bag, Descriptors, Key, State};
use super::takeover;
use crate::helper::core::Helper;
use crate::helper::front_process::seal;
use crate::helper::sockets::inherited::Inherited;
use crate::sys::link;

const SOCKET: &str = "usherd/socket/";
const STATE: &str = "usherd/state/";

/// A manager that does not read for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What lies in the store.
#[derive(Debug, Default)]
pub struct Store {
    /// By inode: no two sockets that are open have the same.
    known: HashMap<u64, Key>,
    next: Key,
    /// Numbers of the states there.
    states: Vec<u64>,
    /// It is not what it should be.
    pub is_stale: bool,
}

/// What was in the store at our start.
#[derive(Debug, Default)]
pub struct Found {
    /// What else the supervisor handed over.
    pub given: Vec<Inherited>,
    pub state: Option<State>,
    pub descriptors: Descriptors,
    states: Vec<u64>,
}

/// Tells ours from what the supervisor handed over for the table.
#[must_use]
pub fn sort(handed: Vec<Inherited>) -> Found {
    let mut found = Found::default();
    let mut states = Vec::new();
    for one in handed {
        let key = one.name.strip_prefix(SOCKET).map(str::parse);
        let number = one.name.strip_prefix(STATE).map(str::parse);
        match (key, number) {
            (Some(Ok(key)), _) => drop(found.descriptors.0.insert(key, one.fd)),
            (_, Some(Ok(number))) => states.push((number, one.fd)),
            _ => found.given.push(one),
        }
    }
    states.sort_by_key(|(number, _)| *number);
    found.states = states.iter().map(|(number, _)| *number).collect();
    if let Some((_, memory)) = states.pop() {
        found.state = takeover::read(memory)
            .inspect_err(|err| log::error!("unable to take over from the descriptor store: {err}"))
            .ok();
    }
    found
}

impl Store {
    /// The store of our manager, if it has one for us.
    #[must_use]
    pub fn open() -> Option<Self> {
        let has = |name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        (has("NOTIFY_SOCKET") && has("FDSTORE")).then(|| Self {
            is_stale: true,
            ..Self::default()
        })
    }

    /// Takes note of what is there already.
    pub fn remember(&mut self, found: &Found) {
        for (key, fd) in &found.descriptors.0 {
            if let Ok(inode) = inode_of(fd.as_fd()) {
                self.known.insert(inode, *key);
            }
            self.next = self.next.max(key + 1);
        }
        self.states.clone_from(&found.states);
    }

    /// For the next program in this process: all that is known.
    #[must_use]
    pub fn told(&self) -> StoreState {
        StoreState {
            known: self
                .known
                .iter()
                .map(|(inode, key)| (*inode, *key))
                .collect(),
            next: self.next,
            states: self.states.clone(),
        }
    }

    /// The reverse.
    pub fn recall(&mut self, told: StoreState) {
        self.known = told.known.into_iter().collect();
        self.next = told.next;
        self.states = told.states;
    }

    /// Puts `state` there, whose descriptors went into `bag`, and takes away all
    /// that does not belong to it.
    fn put(&mut self, state: &State, kept: &HashMap<u64, Key>) -> io::Result<()> {
        let number = self.states.last().map_or(1, |last| last + 1);
        let memory = seal(c"usherd-state", state)?;
        send_named(&format!("{STATE}{number}"), memory.as_fd())?;
        for old in std::mem::take(&mut self.states) {
            remove(&format!("{STATE}{old}"))?;
        }
        self.states.push(number);
        let gone = self.known.extract_if(|inode, _| !kept.contains_key(inode));
        for (_, key) in gone {
            remove(&format!("{SOCKET}{key}"))?;
        }
        Ok(())
    }

    /// Nobody takes over.
    pub fn clear(&mut self) {
        let states = self
            .states
            .drain(..)
            .map(|number| format!("{STATE}{number}"));
        let sockets = self.known.drain().map(|(_, key)| format!("{SOCKET}{key}"));
        for name in states.chain(sockets) {
            if remove(&name).is_err() {
                return;
            }
        }
    }
}

/// For the next program in this process.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct StoreState {
    known: Vec<(u64, Key)>,
    next: Key,
    states: Vec<u64>,
}

/// Puts descriptors into the store that are not there yet.
struct ToStore<'a> {
    store: &'a mut Store,
    kept: HashMap<u64, Key>,
}

impl Bag for ToStore<'_> {
    fn put(&mut self, fd: BorrowedFd<'_>) -> io::Result<Key> {
        let inode = inode_of(fd)?;
        let key = match self.store.known.get(&inode) {
            Some(key) => *key,
            None => {
                let key = self.store.next;
                send_named(&format!("{SOCKET}{key}"), fd)?;
                self.store.next += 1;
                self.store.known.insert(inode, key);
                key
            }
        };
        self.kept.insert(inode, key);
        Ok(key)
    }
}

impl Helper {
    /// Listeners, or what is told beside them, are others.
    pub(in crate::helper) fn stale_store(&mut self) {
        if let Some(store) = &mut self.store {
            store.is_stale = true;
        }
    }

    /// Brings the store to what is so, if that is something else.
    pub(in crate::helper) fn tend_store(&mut self) {
        if !self.store.as_ref().is_some_and(|store| store.is_stale) {
            return;
        }
        if let Err(err) = self.fill_store() {
            log::error!(
                "unable to use the descriptor store: {err}; a restart may lose connections"
            );
        }
    }

    fn fill_store(&mut self) -> io::Result<()> {
        let Some(mut store) = self.store.take() else {
            return Ok(());
        };
        store.is_stale = false;
        let mut bag = ToStore {
            store: &mut store,
            kept: HashMap::new(),
        };
        let state = self.gather(&mut bag);
        let kept = bag.kept;
        let done = state.and_then(|state| store.put(&state, &kept));
        self.store = Some(store);
        done
    }

    /// The last that this usherd does: all that nobody serves yet goes there too.
    pub(super) fn leave_to_store(&mut self) {
        if self.store.is_none() {
            if !self.returned.is_empty() {
                let count = self.returned.len();
                log::warn!("there is no descriptor store: {count} connections are closed unserved");
            }
            return;
        }
        let done = self.fill_store().and_then(|()| wait_for_manager());
        if let Err(err) = done {
            log::error!("unable to leave the listeners to the service manager: {err}");
        }
    }
}

fn inode_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(fstat(fd)?.st_ino)
}

fn send_named(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    // Not to be watched: a listener that was shut down is opened again.
    tell(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[fd])
}

fn remove(name: &str) -> io::Result<()> {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
}

/// Comes back when the manager has read all that was sent: from a process
/// that is gone it takes nothing.
fn wait_for_manager() -> io::Result<()> {
    let (reader, writer): (OwnedFd, OwnedFd) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    tell("BARRIER=1", &[writer.as_fd()])?;
    drop(writer);
    let mut closed = [PollFd::new(reader.as_fd(), PollFlags::empty())];
    match poll(&mut closed, timeout(PATIENCE))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn tell(text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let path = env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match link::send(socket.as_fd(), text.as_bytes(), fds) {
            Err(err) if link::is_passing(&err) => {
                let left = until.saturating_duration_since(Instant::now());
                let mut room = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                if left.is_zero() || poll(&mut room, timeout(left))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            sent => return sent,
        }
    }
}

fn timeout(span: Duration) -> PollTimeout {
    PollTimeout::try_from(span).unwrap_or(PollTimeout::MAX)
}
