//! Cgroups, version 2: every instance in one of its own, below that of its
//! service, below that of all servers. See cgroups(7), and
//! Documentation/admin-guide/cgroup-v2.rst of the kernel.
//!
//! [`place`] finds where we may make any, [`tree`] makes those that are always
//! there, [`pool`] those of services and instances, [`limits`] says what `resources`
//! mean. Nothing here waits: a cgroup that cannot be taken away yet is tried again later
//! ([`Cgroups::sweep`]). Cgroups of services are made when their first server starts.
#![forbid(unsafe_code)]

mod device;
mod dir;
pub mod fallback;
mod leaf;
mod limits;
mod live;
mod place;
mod pool;
mod pressure;
mod tree;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

pub use leaf::{Leaf, Usage};
pub use limits::{Controller, Controllers};
pub use live::{InUse, NotSet};
pub use place::own_path;
pub use pressure::{Pressure, Stalled};

use crate::helper::handover::state::{Bag, CgroupState};
use crate::table::isolation::Resources;
use dir::{Dir, number_of};
use limits::Limits;
use place::Place;
use tree::Tree;

/// What is not to be had here, and what an operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub why: String,
    pub remedy: String,
}

impl Lack {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

/// What could not be done to a cgroup.
#[derive(Debug)]
pub struct Trouble {
    what: String,
    pub error: io::Error,
}

impl Trouble {
    fn new(what: impl Into<String>, error: io::Error) -> Self {
        Self {
            what: what.into(),
            error,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unable to {}: {}", self.what, self.error)
    }
}

/// Whether instances get cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// They do. `lack` says why `controllers` are not all there are.
    Ready {
        controllers: Controllers,
        lack: Option<Lack>,
    },
    /// They do not.
    Degraded(Lack),
}

/// All cgroups of this usherd.
#[derive(Debug)]
pub struct Cgroups {
    state: State,
    tree: Option<Tree>,
    /// `daemon.resources`.
    all: Limits,
    unenforced: Vec<Lack>,
    services: HashMap<Rc<str>, Service>,
    /// Leaves whose instance has ended and that are still populated.
    lingering: VecDeque<Leaf>,
    spare: usize,
    next: u64,
}

#[derive(Debug, Default)]
struct Service {
    /// It is in the table in force.
    known: bool,
    limits: Limits,
    /// An operator's, until the table is read again.
    live: Option<Limits>,
    unenforced: Vec<Lack>,
    /// Made with the first leaf.
    dir: Option<Dir>,
    spare: Vec<Leaf>,
    /// Leaves that are in use, or were and are still populated.
    living: usize,
}

impl Cgroups {
    /// None at all: nothing is looked for, and nothing made.
    #[must_use]
    pub fn none(why: &str, remedy: &str) -> Self {
        Self {
            state: State::Degraded(Lack::new(why, remedy)),
            tree: None,
            all: Limits::default(),
            unenforced: Vec::new(),
            services: HashMap::new(),
            lingering: VecDeque::new(),
            spare: 0,
            next: 1,
        }
    }

    /// Finds out what this host lets us have, and takes it. The process that
    /// calls it may be moved to another cgroup.
    #[must_use]
    pub fn open() -> Self {
        match Place::find() {
            Ok(place) => Self::at(place),
            Err(lack) => Self::none(&lack.why, &lack.remedy),
        }
    }

    /// The same for the next program in this process, which is in the cgroups
    /// of the one before already.
    #[must_use]
    pub fn open_again(state: &CgroupState, lock: OwnedFd) -> Self {
        match Place::at(&state.top, state.moved) {
            Ok(place) => Self::made(Tree::make_again(place, &state.name, lock)),
            Err(lack) => Self::none(&lack.why, &lack.remedy),
        }
    }

    /// For the next program in this process. `None`: it finds the same by itself.
    pub fn hand_over(&self, bag: &mut dyn Bag) -> io::Result<Option<CgroupState>> {
        match &self.tree {
            Some(tree) => tree.hand_over(bag),
            None => Ok(None),
        }
    }

    fn at(place: Place) -> Self {
        Self::made(Tree::make(place))
    }

    fn made(made: Result<(Tree, Option<Lack>), Trouble>) -> Self {
        let (tree, lack) = match made {
            Ok(made) => made,
            Err(trouble) => {
                let remedy = "start usherd as a systemd unit with Delegate=yes";
                return Self::none(&trouble.to_string(), remedy);
            }
        };
        let mut all = Self::none("", "");
        all.state = State::Ready {
            controllers: tree.controllers,
            lack,
        };
        all.tree = Some(tree);
        all.take_over();
        all
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.tree
            .as_ref()
            .map_or_else(Controllers::default, |tree| tree.controllers)
    }

    /// A cgroup for what belongs to servers and is to outlive theirs.
    #[must_use]
    pub fn beside(&self) -> Option<OwnedFd> {
        self.tree.as_ref()?.beside().ok()
    }

    /// Of a service's `resources`, or (`None`) of those of all: what is not in force.
    #[must_use]
    pub fn unenforced(&self, service: Option<&str>) -> &[Lack] {
        match service {
            None => &self.unenforced,
            Some(name) => self
                .services
                .get(name)
                .map_or(&[], |known| &known.unenforced),
        }
    }

    /// What would not be in force of these.
    pub fn lacks(&mut self, resources: &Resources) -> Vec<Lack> {
        self.look_up(resources).1
    }

    /// Puts the limits of all servers together in force.
    pub fn limit_all(&mut self, resources: &Resources) -> Result<(), Trouble> {
        let (limits, lacks) = self.look_up(resources);
        self.unenforced = lacks;
        self.all = limits;
        match &self.tree {
            Some(tree) => self.all.write(&tree.servers, tree.controllers),
            None => Ok(()),
        }
    }

    /// Takes note of a service of the table and its limits, and puts these in
    /// force for the servers that run already.
    pub fn prepare(&mut self, name: &Rc<str>, resources: &Resources) -> Result<(), Trouble> {
        let (limits, lacks) = self.look_up(resources);
        let service = self.services.entry(Rc::clone(name)).or_default();
        service.known = true;
        service.unenforced = lacks;
        service.limits = limits;
        service.live = None;
        match (&self.tree, &service.dir) {
            (Some(tree), Some(dir)) => service.limits.write(dir, tree.controllers),
            _ => Ok(()),
        }
    }

    fn look_up(&mut self, resources: &Resources) -> (Limits, Vec<Lack>) {
        let (limits, lacks) = Limits::new(resources, self.controllers());
        let Some(tree) = &mut self.tree else {
            return (limits, lacks);
        };
        limits
            .needs()
            .iter()
            .for_each(|controller| tree.enable(controller));
        // One of them may have turned out not to be had.
        match &mut self.state {
            State::Ready { controllers, .. } if *controllers != tree.controllers => {
                *controllers = tree.controllers;
                Limits::new(resources, tree.controllers)
            }
            _ => (limits, lacks),
        }
    }

    /// Which service's leaf a process is in, by what /proc/PID/cgroup says of it:
    /// its name, and the leaf's.
    #[must_use]
    pub fn owner_of<'a>(&self, cgroup: &'a str) -> Option<(&'a str, &'a str)> {
        let path = own_path(cgroup)?;
        split_path(path, &self.tree.as_ref()?.path)
    }

    /// How long the servers of a service had to wait for something.
    #[must_use]
    pub fn pressure(&self, service: &str) -> Option<Pressure> {
        let dir = self.services.get(service)?.dir.as_ref()?;
        Some(Pressure::read(dir))
    }

    /// Which limit an instance of this service was killed for, as far as the
    /// kernel tells: octets, and whether it is that of all servers.
    #[must_use]
    pub fn full(&self, service: &str) -> Option<(u64, bool)> {
        let is_full = |dir: &Dir| {
            let events = dir.read("memory.events.local").ok();
            events.and_then(|text| number_of(&text, "oom")).unwrap_or(0) > 0
        };
        let known = self.services.get(service)?;
        let own = known
            .limits
            .memory()
            .filter(|_| known.dir.as_ref().is_some_and(is_full));
        let all = || {
            let tree = self.tree.as_ref()?;
            self.all.memory().filter(|_| is_full(&tree.servers))
        };
        own.map(|limit| (limit, false))
            .or_else(|| Some((all()?, true)))
    }
}

/// usherd ends: nothing is left behind but what servers are still in.
impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Some(tree) = &self.tree {
            tree.leave();
        }
    }
}

/// `usherd --release`: systemd runs it after a usherd that died, to be able to start the next one.
pub fn release() {
    if let Ok(place) = Place::find() {
        tree::release(&place);
    }
}

/// Service and leaf in the path of a cgroup below that of all servers.
fn split_path<'a>(path: &'a str, servers: &str) -> Option<(&'a str, &'a str)> {
    let rest = path.strip_prefix(servers)?.strip_prefix('/')?;
    let (service, rest) = rest.strip_prefix(tree::SERVICE)?.split_once('/')?;
    // A server may have made others below its own.
    let leaf = rest.split('/').next()?;
    Some((service, leaf))
}

#[cfg(test)]
mod tests;
