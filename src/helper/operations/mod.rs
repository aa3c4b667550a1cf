//! Administrative operations: asked for on the admin socket, each carried out by a
//! process of its own.
//!
//! - `ask`: may he, and does it make sense; if so it is written down
//! - `power`: users and groups that are not for others to give away
//! - `launch`: the process, with what the catalogue gives it and no more
//! - `link`: what that process says
//! - `tell`: what there is, and for whom
//! - `end`: its result, its time limit, a caller who has left
//!
//! Whatever a request needs of the catalogue goes with it, so a reload changes
//! nothing that was asked for before it.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::admin::catalogue::Operation;
use crate::admin::operations::{Caller, Failed, Parameters};
use crate::control::caller::{Sees, Who};
use crate::front::limits::Bucket;
use crate::ids::{InstanceId, ServiceId};
use crate::logging::Pace;
use crate::sandbox::calls;
use crate::sandbox::cgroup::Leaf;
use crate::table::Rate;

mod ask;
mod end;
mod launch;
mod link;
mod power;
mod tell;

/// Where their processes are among the cgroups of services: no service has such a name.
pub const CGROUP: &str = "@operations";

/// At work at once, whatever the catalogue says.
const MOST_AT_WORK: usize = 64;
/// That may wait for their turn, in all,
const MOST_WAITING: usize = 2048;
/// and of one caller, if that is a service or may not do everything.
const MOST_WAITING_OF_ONE: usize = 64;
/// Requests of one caller for one operation whose entry says nothing of it, unless he may
/// do everything.
const USUAL_RATE: Rate = Rate {
    count: 300,
    per: Duration::from_secs(60),
    burst: 100,
};
/// Refusals of one caller in the logs per minute.
const REFUSALS_TOLD: u32 = 10;

/// The parameters of a method that takes none.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What was asked for and may be done.
#[derive(Debug)]
struct Order {
    id: u32,
    /// The number of who asked, on the admin socket.
    asked_by: u64,
    operation: Box<Operation>,
    parameters: Parameters,
    dry_run: bool,
    caller: Caller,
    who: Who,
    asker: Asker,
}

impl Order {
    fn source(&self) -> Source {
        Source::of(self.who)
    }
}

/// An order that is being carried out.
#[derive(Debug)]
struct Task {
    order: Order,
    pid: i32,
    leaf: Option<Leaf>,
    /// The number of its process, on the admin server.
    link: u64,
    until: Instant,
    /// It has been told what to do.
    begun: bool,
    outcome: Option<Result<serde_json::Value, Failed>>,
    /// It was told to end.
    killed: bool,
}

/// What the kernel says of a caller, beyond [`crate::control::caller::Who`].
#[derive(Clone, Debug, Default)]
pub struct Asker {
    pub groups: Vec<u32>,
    /// Which of its service's instances it belongs to, if that runs.
    pub instance: Option<InstanceId>,
    /// Its process, where the socket itself cannot tell of it later on; that it could not be
    /// had is remembered too.
    pub pidfd: Option<Option<Rc<OwnedFd>>>,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    User(u32),
    Service(ServiceId),
}

impl Source {
    fn of(who: Who) -> Self {
        match who.sees {
            Sees::Service(service) => Self::Service(service),
            _ => Self::User(who.uid),
        }
    }
}

#[derive(Debug, Default)]
pub struct Operations {
    tasks: HashMap<u32, Task>,
    waiting: VecDeque<Order>,
    last: u32,
    /// By the numbers of callers of the admin socket.
    askers: HashMap<u64, Asker>,
    buckets: HashMap<(String, Source), Bucket>,
    /// How often each was told that something is not for him (`true`), or cannot be done so.
    refusals: HashMap<(Source, bool), Pace>,
    /// Operations of equal settings share a program.
    calls: Rc<RefCell<calls::Compiled>>,
}

impl Operations {
    /// At work, or waiting for it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.waiting.is_empty()
    }

    /// The names of those at work.
    pub fn at_work(&self) -> impl Iterator<Item = &str> {
        let tasks = self.tasks.values();
        tasks.map(|task| task.order.operation.name.as_str())
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let running = self.tasks.values().filter(|task| !task.killed);
        running.map(|task| task.until).min()
    }

    /// For whom the process that calls works, if it carries out an operation.
    #[must_use]
    pub fn caller_of(&self, who: Who) -> Option<&Caller> {
        let Sees::Operation(id) = who.sees else {
            return None;
        };
        self.tasks.get(&id).map(|task| &task.order.caller)
    }

    /// Whether something goes on that this caller has asked for.
    #[must_use]
    pub fn is_asked_by(&self, number: u64) -> bool {
        let tasks = self.tasks.values().map(|task| &task.order);
        tasks
            .chain(&self.waiting)
            .any(|order| order.asked_by == number)
    }

    /// Whether a refusal is told; if so, how many of his were not since the last.
    pub fn admit_refusal(&mut self, who: Who, denied: bool, now: Instant) -> Option<u64> {
        let new = || Pace::new(REFUSALS_TOLD, Duration::from_secs(60));
        let pace = self.refusals.entry((Source::of(who), denied));
        pace.or_insert_with(new).admit(now)
    }

    /// What is known of the caller with this number.
    pub fn asker(&self, number: u64) -> Option<&Asker> {
        self.askers.get(&number)
    }

    pub fn know(&mut self, number: u64, asker: Asker) {
        self.askers.insert(number, asker);
    }

    /// Which operation a process that usherd has started carries out.
    #[must_use]
    pub fn of_process(&self, pid: i32, session: i32) -> Option<u32> {
        let found = self
            .tasks
            .iter()
            .find(|(_, task)| task.pid == pid || task.pid == session);
        found.map(|(id, _)| *id)
    }

    /// The same for one in a cgroup of [`CGROUP`].
    #[must_use]
    pub fn of_leaf(&self, leaf: &str) -> Option<u32> {
        let is_it = |task: &Task| task.leaf.as_ref().is_some_and(|one| one.is(CGROUP, leaf));
        let found = self.tasks.iter().find(|(_, task)| is_it(task));
        found.map(|(id, _)| *id)
    }
}
