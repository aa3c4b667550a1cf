//! The part of the host's cgroups that is usherd's.
//!
//! ```text
//! TOP                  what was delegated, or the root of all
//!   usherd             ours alone; the next usherd here takes usherd-2
//!     helper           helper and front, if TOP is no root: where controllers
//!                      are handed on no process may be; and who closes sessions
//!                      of PAM after their servers
//!     servers          daemon.resources
//!       s-SERVICE      resources
//!         i1, i2 ...   an instance each
//! ```
//!
//! Names begin so that no service can be called like one of the kernel's files.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

use super::dir::Dir;
use super::limits::{Controller, Controllers};
use super::place::Place;
use super::{Lack, Trouble};
use crate::helper::handover::state::{Bag, CgroupState};

/// So many usherds find a place under one cgroup.
const MOST: u32 = 256;
const NAME: &str = "usherd";
pub(super) const HELPER: &str = "helper";
pub(super) const SERVERS: &str = "servers";
/// Before the name of a service.
pub(super) const SERVICE: &str = "s-";
/// Before the number of an instance.
pub(super) const LEAF: &str = "i";

/// Cgroups that are ours, from the top down to that of all servers.
#[derive(Debug)]
pub struct Tree {
    top: Dir,
    top_path: String,
    base: Dir,
    base_name: String,
    pub servers: Dir,
    /// Of `servers`, as /proc/PID/cgroup says it.
    pub path: String,
    /// Those that the host gives us.
    pub controllers: Controllers,
    /// Those that the cgroups of services have by now.
    enabled: Controllers,
    /// We went out of `top` into the helper's own.
    moved: bool,
    /// Held as long as we live: tells others that `base` is taken.
    lock: Flock<OwnedFd>,
}

impl Tree {
    /// Makes them, or takes over those of a predecessor that is gone. What
    /// cannot be counted and limited is said beside.
    pub fn make(place: Place) -> Result<(Self, Option<Lack>), Trouble> {
        let claimed = claim(&place.top)?;
        Self::make_in(place, claimed)
    }

    /// The same for the next program in this process, which holds the lock.
    pub fn make_again(
        place: Place,
        name: &str,
        lock: OwnedFd,
    ) -> Result<(Self, Option<Lack>), Trouble> {
        let failed = |err| Trouble::new(format!("take over the cgroup \"{name}\""), err);
        let base = place.top.ensure(name).map_err(failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| failed(errno.into()))?;
        Self::make_in(place, (name.to_owned(), base, lock))
    }

    /// For [`Self::make_again`].
    pub fn hand_over(&self, bag: &mut dyn Bag) -> io::Result<Option<CgroupState>> {
        Ok(Some(CgroupState {
            top: self.top_path.clone(),
            moved: self.moved,
            name: self.base_name.clone(),
            lock: bag.put(self.lock.as_fd())?,
        }))
    }

    fn make_in(
        place: Place,
        (base_name, base, lock): Claim,
    ) -> Result<(Self, Option<Lack>), Trouble> {
        let servers = base
            .ensure(SERVERS)
            .map_err(|err| Trouble::new(format!("make {base_name}/{SERVERS}"), err))?;
        let mut tree = Self {
            path: format!("{}/{base_name}/{SERVERS}", place.path),
            top_path: place.path,
            top: place.top,
            base,
            base_name,
            servers,
            controllers: Controllers::default(),
            enabled: Controllers::default(),
            moved: false,
            lock,
        };
        // The host's root has no such file, and processes may stay in it.
        let is_root = !tree.top.has("cgroup.events");
        if place.is_own && !is_root {
            tree.move_to_helper()
                .map_err(|err| Trouble::new(format!("move to {}/{HELPER}", tree.base_name), err))?;
        }
        let lack = tree.take_controllers().err();
        Ok((tree, lack))
    }

    /// Finds out what can be limited.
    fn take_controllers(&mut self) -> Result<(), Lack> {
        let text = self.top.read("cgroup.controllers").unwrap_or_default();
        self.controllers = Controllers::listed(&text);
        if self.controllers.is_empty() {
            return Err(Lack::new(
                "usherd's cgroup has no controllers of cgroup version 2: no `resources`",
                "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 alone",
            ));
        }
        if self.moved {
            self.is_left_alone()?;
        }
        for controller in [Controller::Memory, Controller::Pids, Controller::Io] {
            self.enable(controller);
        }
        let missing: Vec<&str> = Controller::ALL
            .into_iter()
            .filter(|controller| !self.controllers.has(*controller))
            .map(Controller::name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Lack::new(
            format!("usherd's cgroup lacks controllers: {}", missing.join(", ")),
            "hand them on in cgroup.subtree_control of the cgroup above",
        ))
    }

    /// Nobody may be where controllers are handed on, and not only we were there.
    fn is_left_alone(&mut self) -> Result<(), Lack> {
        let others = self.top.processes().unwrap_or_default().len();
        if others == 0 {
            return Ok(());
        }
        self.controllers = Controllers::default();
        Err(Lack::new(
            format!("{others} other processes are in usherd's own cgroup: no `resources`"),
            "start usherd in a cgroup of its own, as a systemd unit with Delegate=yes does",
        ))
    }

    /// Into a new cgroup: what is cloned by a process in one that was ever
    /// killed as a whole, into one that was not, is killed at birth (Linux 6.14 and on).
    fn move_to_helper(&mut self) -> io::Result<()> {
        let _ = self.base.remove(HELPER);
        let helper = self.base.ensure(HELPER)?;
        helper.write("cgroup.procs", &std::process::id().to_string())?;
        self.moved = true;
        Ok(())
    }

    /// The directory of the helper's own, made if we are in none.
    pub fn beside(&self) -> io::Result<OwnedFd> {
        self.base.ensure(HELPER)?.as_fd().try_clone_to_owned()
    }

    /// Lets the cgroups of services have a controller. One that cannot be had
    /// is none of ours from then on.
    pub fn enable(&mut self, controller: Controller) {
        if !self.controllers.has(controller) || self.enabled.has(controller) {
            return;
        }
        let word = format!("+{}", controller.name());
        for dir in [&self.top, &self.base, &self.servers] {
            if let Err(err) = dir.write("cgroup.subtree_control", &word) {
                log::warn!(
                    "unable to use the {} controller of cgroups: {err}",
                    controller.name()
                );
                return self.controllers.drop(controller);
            }
        }
        self.enabled.add(controller);
    }

    /// As if we had died: lets go of the name, and of nothing else.
    #[cfg(test)]
    pub(super) fn forsake(self) {}

    /// Leaves nothing behind but what servers are still in, and the top cgroup
    /// as it was.
    pub fn leave(&self) {
        let _ = self.servers.prune(1);
        disable_below(&self.base);
        if self.moved {
            disable_all(&self.top);
            let own = std::process::id().to_string();
            let _ = self.top.write("cgroup.procs", &own);
        }
        let _ = self.base.remove(HELPER);
        let _ = self.base.remove(SERVERS);
        let _ = self.top.remove(&self.base_name);
    }
}

/// Opens the top cgroup for a process again, if no usherd lives below it.
/// systemd puts a unit's next process there, and cannot while servers of the
/// last one are below it and controllers are handed on to them.
pub fn release(place: &Place) {
    let mut is_free = true;
    for name in place.top.children().unwrap_or_default() {
        let ours = name == NAME || name.starts_with(&format!("{NAME}-"));
        let Some(base) = ours.then(|| place.top.child(&name).ok()).flatten() else {
            continue;
        };
        match lock(&base) {
            Ok(Some(_held)) => disable_below(&base),
            _ => is_free = false,
        }
    }
    // The root of all is not ours alone.
    if is_free && !place.is_own {
        disable_all(&place.top);
    }
}

/// From the services up: a controller can be taken away only where it is not handed on.
fn disable_below(base: &Dir) {
    if let Ok(servers) = base.child(SERVERS) {
        for name in servers.children().unwrap_or_default() {
            if let Ok(service) = servers.child(&name) {
                disable_all(&service);
            }
        }
        disable_all(&servers);
    }
    disable_all(base);
}

fn disable_all(dir: &Dir) {
    for name in dir
        .read("cgroup.subtree_control")
        .unwrap_or_default()
        .split_ascii_whitespace()
    {
        if Controller::ALL.iter().any(|ours| ours.name() == name) {
            let _ = dir.write("cgroup.subtree_control", &format!("-{name}"));
        }
    }
}

/// A name of ours, its directory, and the lock on it.
type Claim = (String, Dir, Flock<OwnedFd>);

/// The first of our names that no living usherd has.
fn claim(top: &Dir) -> Result<Claim, Trouble> {
    for number in 1..=MOST {
        let name = match number {
            1 => NAME.to_owned(),
            more => format!("{NAME}-{more}"),
        };
        let failed = |err| Trouble::new(format!("make a cgroup \"{name}\""), err);
        // Once more, if it was taken away between the opening and the lock.
        for _ in 0..2 {
            let dir = top.ensure(&name).map_err(failed)?;
            let owner = dir.stat().map_err(failed)?.st_uid;
            let Some(lock) = lock(&dir).map_err(failed)? else {
                break;
            };
            if owner == Uid::effective().as_raw() && dir.read("cgroup.procs").is_ok() {
                return Ok((name, dir, lock));
            }
        }
    }
    let all_taken = io::Error::from(Errno::EEXIST);
    Err(Trouble::new(
        format!("make one of {MOST} cgroups"),
        all_taken,
    ))
}

/// `None`: another one lives there.
fn lock(dir: &Dir) -> io::Result<Option<Flock<OwnedFd>>> {
    // By a descriptor of its own: what we open below `dir` must not share it.
    let dir = dir.child(".")?.as_fd().try_clone_to_owned()?;
    match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, err)) => Err(err.into()),
    }
}
