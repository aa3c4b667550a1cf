//! What one usherd tells the next: format, numbers of descriptors, moments.
//!
//! It is JSON in a sealed memfd. Descriptors go beside it and are named by
//! [`Key`]s. [`FORMAT`] grows with every change that an older reader would not
//! understand; the next program says beforehand which one it reads.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::store::StoreState;
use crate::helper::sockets::rpcbind::Program;
use crate::helper::sockets::unix::SocketFile;
use crate::ids::{ConnectionId, InstanceId, ListenerId};
use crate::sys::clock::monotonic;
use crate::table::Stop;
use crate::table::address::Listen;

/// Of [`State`].
pub const FORMAT: u32 = 1;

/// Stands for a descriptor.
pub type Key = u32;

/// Takes in descriptors that are handed over.
pub trait Bag {
    /// `fd` stays open until all of it is handed over.
    fn put(&mut self, fd: BorrowedFd<'_>) -> io::Result<Key>;
}

/// For execve(2): descriptors keep their numbers.
#[derive(Debug, Default)]
pub struct Numbers(pub Vec<i32>);

impl Bag for Numbers {
    fn put(&mut self, fd: BorrowedFd<'_>) -> io::Result<Key> {
        let number = fd.as_raw_fd();
        self.0.push(number);
        Key::try_from(number).map_err(io::Error::other)
    }
}

/// Descriptors that were handed over and that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Descriptors(pub HashMap<Key, OwnedFd>);

impl Descriptors {
    pub fn take(&mut self, key: Key) -> Option<OwnedFd> {
        self.0.remove(&key)
    }
}

/// A moment, in microseconds of the clock that [`Instant`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    #[must_use]
    pub fn of(at: Instant) -> Self {
        let (now, clock) = (Instant::now(), monotonic());
        let at = match at.checked_duration_since(now) {
            Some(ahead) => clock.saturating_add(ahead),
            None => clock.saturating_sub(now.duration_since(at)),
        };
        Self(u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
    }

    #[must_use]
    pub fn instant(self) -> Instant {
        let (now, clock) = (Instant::now(), monotonic());
        let at = Duration::from_micros(self.0);
        let there = match at.checked_sub(clock) {
            Some(ahead) => now.checked_add(ahead),
            None => now.checked_sub(clock.saturating_sub(at)),
        };
        there.unwrap_or(now)
    }
}

/// Everything.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub format: u32,
    /// The version that wrote it.
    pub version: String,
    /// Descriptors that are open beside it; only over execve(2).
    pub open: Vec<Key>,
    pub sockets: SocketsState,
    pub numbers: NumbersState,
    /// Services that take no request, because an operator said so.
    pub held: Vec<String>,
    /// Connections that nobody serves yet.
    pub returned: Vec<ReturnedState>,
    /// What only the same process can go on with.
    pub process: Option<ProcessState>,
}

/// So that no number is given out twice.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NumbersState {
    /// Fronts so far: the first half of connections' numbers.
    pub epoch: u32,
    /// Those of them that died.
    pub lost: u32,
    pub next_instance: u64,
    /// Starts that operators asked for.
    pub starts: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SocketsState {
    pub next: u32,
    pub listeners: Vec<ListenerState>,
    pub groups: Vec<GroupState>,
}

/// One bound listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListenerState {
    pub id: ListenerId,
    pub service: String,
    pub listen: Listen,
    /// Which of several inherited descriptors with one name.
    pub index: usize,
    /// Options that it was bound with.
    pub freebind: bool,
    pub transparent: bool,
    pub device: Option<String>,
    pub grouped: bool,
    /// Its registration with rpcbind.
    pub program: Option<Program>,
    pub socket: SocketState,
}

/// A socket, and what it must turn out to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketState {
    pub key: Key,
    /// As getsockname(2) told it, for comparison only.
    pub local: String,
    pub file: Option<SocketFile>,
}

/// A group of datagram sockets, in the kernel's order.
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupState {
    pub listen: Listen,
    pub device: Option<String>,
    pub seats: Vec<SeatState>,
    pub sink: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum SeatState {
    Listener(ListenerId),
    /// The sink, or one whose service has left.
    Spare {
        socket: SocketState,
        was: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReturnedState {
    pub listener: ListenerId,
    /// As in a packet of the front.
    pub told: Vec<u8>,
    pub key: Key,
}

/// A server that runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct InstanceState {
    pub id: InstanceId,
    pub pid: i32,
    pub service: String,
    pub connection: ConnectionId,
    pub listener: ListenerId,
    pub wait: bool,
    pub source: Option<IpAddr>,
    pub peer: Option<IpAddr>,
    pub started: Moment,
    pub stop: Stop,
    pub stopping: bool,
    /// Nobody else runs in its sandbox.
    pub alone: bool,
    /// The name of its cgroup in that of the service.
    pub leaf: Option<String>,
    /// That of the cgroup's directory; earlier programs do not tell it.
    #[serde(default)]
    pub leaf_number: Option<u64>,
    pub isolated: bool,
}

/// What goes from a program to the next one in the same process.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessState {
    /// Where the program is.
    pub program: PathBuf,
    /// NOFILE as usherd found it, soft and hard.
    pub files: (u64, u64),
    pub began: Moment,
    /// The locked pid file, and its path.
    pub pid_file: Option<(Key, PathBuf)>,
    pub cgroup: Option<CgroupState>,
    pub control: Option<ControlState>,
    /// Who asked for it, and waits for the answer.
    pub caller: Option<Key>,
    /// Where the audit log says that, and since when.
    pub asked: Option<(u64, Moment)>,
    pub inherited: Vec<(String, Key)>,
    pub sandboxes: Vec<SandboxState>,
    pub instances: Vec<RunningState>,
    pub timers: Vec<TimerState>,
    pub pipes: Vec<PipeState>,
    /// Fronts that go on with what they serve.
    pub fronts: Vec<i32>,
    /// What the service manager keeps for us.
    pub store: Option<StoreState>,
}

/// An instance of this process, and what it runs in.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunningState {
    pub instance: InstanceState,
    /// Which of the sandboxes.
    pub sandbox: Option<usize>,
    /// The link to its session process, and whether that has said that it goes.
    pub session: Option<(Key, bool)>,
    /// The pidfd that tells of its end, if it is no child of ours.
    pub adopted: Option<Key>,
}

/// The cgroup that is ours to divide.
#[derive(Debug, Serialize, Deserialize)]
pub struct CgroupState {
    /// As /proc/PID/cgroup says it.
    pub top: String,
    /// We were in it, and are in one below it now.
    pub moved: bool,
    /// Of what is ours in it.
    pub name: String,
    pub lock: Key,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ControlState {
    pub status: (Key, SocketFile),
    pub admin: (Key, SocketFile),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SandboxState {
    pub keeper: i32,
    pub pidfd: Key,
    pub own_pids: bool,
    /// Its keeper ends when nobody holds this, and nobody is in it.
    pub link: Key,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TimerState {
    pub at: Moment,
    pub instance: InstanceId,
    /// To be killed, not only to be stopped.
    pub kill: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PipeState {
    pub service: String,
    pub read: Key,
    pub write: Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_on_both_sides() {
        let now = Instant::now();
        for at in [now, now + Duration::from_secs(3600)] {
            let back = Moment::of(at).instant();
            let off = back.max(at) - back.min(at);
            assert!(off < Duration::from_millis(100), "{off:?} off");
        }
        assert!(Moment::of(now) < Moment::of(now + Duration::from_secs(1)));
    }
}
