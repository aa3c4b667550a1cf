//! Leaves: made for instances, kept for the next ones of the same service, and
//! taken away, each with the cgroup of its service.
#![forbid(unsafe_code)]

use std::io;
use std::rc::Rc;

use super::dir::Dir;
use super::leaf::Leaf;
use super::limits::{Controller, Limits};
use super::tree::{self, Tree};
use super::{Cgroups, Service, Trouble};

/// Empty leaves that are kept for the next instances: of one service, of all.
const SPARE_EACH: usize = 32;
const SPARE_ALL: usize = 256;
/// Leaves looked at in one sweep.
const SWEPT: usize = 64;

impl Cgroups {
    /// A cgroup for one more instance; `None` where there are none.
    pub fn leaf(&mut self, name: &Rc<str>) -> Result<Option<Leaf>, Trouble> {
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        let service = self.services.entry(Rc::clone(name)).or_default();
        if let Some(leaf) = service.spare.pop() {
            self.spare -= 1;
            service.living += 1;
            return Ok(Some(leaf));
        }
        let dir = match &mut service.dir {
            Some(dir) => dir,
            none => none
                .insert(tree.make_service(name, service.live.as_ref().unwrap_or(&service.limits))?),
        };
        let (file, made) = make_leaf(dir, &mut self.next)?;
        service.living += 1;
        Ok(Some(Leaf::new(
            made,
            file,
            Rc::clone(name),
            tree.controllers,
        )))
    }

    /// An instance has ended: its cgroup is kept for the next one, or goes. If
    /// processes are left in it, that is tried again by [`Self::sweep`].
    pub fn retire(&mut self, mut leaf: Leaf) {
        match leaf.is_populated() {
            Ok(false) => self.put_back(leaf),
            _ => {
                leaf.spend();
                self.lingering.push_back(leaf);
            }
        }
    }

    /// Tries again. Returns whether there is something left to try.
    pub fn sweep(&mut self) -> bool {
        for _ in 0..self.lingering.len().min(SWEPT) {
            if let Some(leaf) = self.lingering.pop_front() {
                self.retire(leaf);
            }
        }
        !self.lingering.is_empty()
    }

    /// Leaves whose instances have ended and that processes are still in.
    pub fn lingering(&self) -> impl Iterator<Item = &Leaf> {
        self.lingering.iter()
    }

    fn put_back(&mut self, mut leaf: Leaf) {
        let Some(service) = self.services.get_mut(&leaf.service) else {
            return;
        };
        let has_room = service.known && service.spare.len() < SPARE_EACH && self.spare < SPARE_ALL;
        if has_room && leaf.renew() {
            service.living = service.living.saturating_sub(1);
            service.spare.push(leaf);
            self.spare += 1;
            return;
        }
        if leaf.is_divided() {
            let _ = leaf.dir.prune(0);
        }
        let removed = match &service.dir {
            Some(dir) => dir.remove(&leaf.name),
            None => Ok(()),
        };
        match removed {
            // Still dying: counted as empty, and not let go yet.
            Err(err) if err.kind() == io::ErrorKind::ResourceBusy => {
                self.lingering.push_back(leaf);
            }
            _ => {
                service.living = service.living.saturating_sub(1);
                self.drop_unused(&Rc::clone(&leaf.service));
            }
        }
    }

    /// Takes the cgroup of a service away in which there is no leaf.
    fn drop_unused(&mut self, name: &Rc<str>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if service.living > 0 || !service.spare.is_empty() {
            return;
        }
        if let (Some(_), Some(tree)) = (service.dir.take(), &self.tree) {
            let _ = tree.servers.remove(&format!("{}{name}", tree::SERVICE));
        }
        if !service.known {
            self.services.remove(name);
        }
    }

    /// Forgets services that are not in the table any more as their servers end.
    pub fn keep(&mut self, is_in_table: impl Fn(&str) -> bool) {
        let all: Vec<Rc<str>> = self.services.keys().cloned().collect();
        for name in all.into_iter().filter(|name| !is_in_table(name)) {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            service.known = false;
            let spare = std::mem::take(&mut service.spare);
            self.spare -= spare.len();
            if let Some(dir) = &service.dir {
                for leaf in spare {
                    let _ = dir.remove(&leaf.name);
                }
            }
            self.drop_unused(&name);
        }
    }

    /// A leaf of a predecessor in which a server of its goes on. `number`: of its directory, if
    /// that is known. Of two usherds that were gone at the same time either may have taken over
    /// what the other one left, where services and leaves are called the same.
    pub fn adopt(&mut self, service: &str, name: &str, number: Option<u64>) -> Option<Leaf> {
        let is_it = |leaf: &Leaf| {
            leaf.is(service, name) && number.is_none_or(|number| leaf.number() == number)
        };
        let at = self.lingering.iter().position(is_it)?;
        self.lingering.remove(at)
    }

    /// What a predecessor that is gone left: its servers go on, in their
    /// cgroups; what is empty goes.
    pub(super) fn take_over(&mut self) {
        let Some(tree) = &self.tree else { return };
        for file in tree.servers.children().unwrap_or_default() {
            let (Some(name), Ok(dir)) =
                (file.strip_prefix(tree::SERVICE), tree.servers.child(&file))
            else {
                continue;
            };
            let name: Rc<str> = name.into();
            let mut service = Service::default();
            for leaf in dir.children().unwrap_or_default() {
                if dir.remove(&leaf).is_ok() {
                    continue;
                }
                if let Ok(found) = dir.child(&leaf) {
                    service.living += 1;
                    let mut leaf = Leaf::new(found, leaf, Rc::clone(&name), tree.controllers);
                    leaf.spend();
                    self.lingering.push_back(leaf);
                }
            }
            if service.living == 0 {
                let _ = tree.servers.remove(&file);
            } else {
                // Its usherd may have died while it was frozen.
                let _ = dir.write("cgroup.freeze", "0");
                // It may have been released since.
                if let Err(err) = tree.hand_on(&dir) {
                    log::warn!("unable to take over the cgroup {file}: {err}");
                }
                service.dir = Some(dir);
                self.services.insert(name, service);
            }
        }
    }
}

impl Tree {
    /// With its limits, before anything can be in it.
    fn make_service(&self, name: &str, limits: &Limits) -> Result<Dir, Trouble> {
        let file = format!("{}{name}", tree::SERVICE);
        let failed = |err| Trouble::new(format!("make the cgroup {file}"), err);
        let dir = self.servers.ensure(&file).map_err(failed)?;
        limits.write(&dir, self.controllers)?;
        self.hand_on(&dir).map_err(failed)?;
        Ok(dir)
    }

    /// Instances are counted one by one, and limited together.
    fn hand_on(&self, service: &Dir) -> io::Result<()> {
        for controller in [Controller::Memory, Controller::Pids, Controller::Io] {
            if self.controllers.has(controller) {
                let word = format!("+{}", controller.name());
                service.write("cgroup.subtree_control", &word)?;
            }
        }
        Ok(())
    }
}

/// The next number that is free: some may be taken by a predecessor's servers.
fn make_leaf(dir: &Dir, next: &mut u64) -> Result<(String, Dir), Trouble> {
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        let name = format!("{}{next}", tree::LEAF);
        *next += 1;
        match dir.make(&name) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(Trouble::new(format!("make the cgroup {name}"), err)),
            Ok(made) => return Ok((name, made)),
        }
    }
    let error = io::ErrorKind::AlreadyExists.into();
    Err(Trouble::new("find a name for a cgroup", error))
}
