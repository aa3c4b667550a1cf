//! What operators change while servers run: limits, until the table is read
//! again, and whether servers stand still.
#![forbid(unsafe_code)]

use std::io;
use std::rc::Rc;

use super::dir::{Dir, number_of};
use super::leaf::Leaf;
use super::limits::{Controller, Limits};
use super::{Cgroups, Lack, State, Trouble};
use crate::table::isolation::Resources;

/// Why limits did not change.
#[derive(Debug)]
pub enum NotSet {
    /// Not to be had here.
    Lack(Lack),
    Trouble(Trouble),
}

/// What a service's servers use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    pub memory: Option<u64>,
    pub cpu_micros: Option<u64>,
    pub tasks: Option<u64>,
}

impl Cgroups {
    /// Stops all servers of a service that are in cgroups, or lets them go on.
    /// The kernel takes its time: see [`Self::is_frozen`].
    pub fn freeze(&self, service: &str, frozen: bool) -> io::Result<()> {
        match self.dir_of(service) {
            Some(dir) => dir.write("cgroup.freeze", if frozen { "1" } else { "0" }),
            None => Ok(()),
        }
    }

    /// Whether all of them stand still; true where there are none.
    pub fn is_frozen(&self, service: &str) -> io::Result<bool> {
        match self.dir_of(service) {
            Some(dir) => Ok(number_of(&dir.read("cgroup.events")?, "frozen") == Some(1)),
            None => Ok(true),
        }
    }

    /// Changes the limits of a service until [`Self::prepare`].
    pub fn set_live(&mut self, service: &str, resources: &Resources) -> Result<(), NotSet> {
        let limits = self.limits_for(resources)?;
        let name: Rc<str> = service.into();
        let known = self.services.entry(name).or_default();
        if let (Some(tree), Some(dir)) = (&self.tree, &known.dir) {
            limits
                .write(dir, tree.controllers)
                .map_err(NotSet::Trouble)?;
        }
        known.live = Some(limits);
        Ok(())
    }

    /// Changes those of one instance, of what `resources` names, until it ends.
    pub fn set_leaf(&mut self, leaf: &mut Leaf, resources: &Resources) -> Result<(), NotSet> {
        let limits = self.limits_for(resources)?;
        self.hand_on_cpu(leaf, &limits).map_err(NotSet::Trouble)?;
        // The next instance would inherit what is written there.
        leaf.spend();
        for setting in limits.settings().iter().filter(|setting| setting.wanted) {
            leaf.dir.write(setting.file, &setting.text).map_err(|err| {
                NotSet::Trouble(Trouble::new(format!("set {}", setting.file), err))
            })?;
        }
        Ok(())
    }

    /// Limits a leaf that nobody is in yet, as far as this host can: what it lacks, [`Self::lacks`] tells.
    pub fn limit_leaf(&mut self, leaf: &mut Leaf, resources: &Resources) -> Result<(), Trouble> {
        let (limits, _) = self.look_up(resources);
        self.hand_on_cpu(leaf, &limits)?;
        // The next instance would inherit what is written there.
        leaf.spend();
        limits.write(&leaf.dir, self.controllers())
    }

    /// Instances are not limited one by one as a rule, so it is not handed on.
    fn hand_on_cpu(&self, leaf: &Leaf, limits: &Limits) -> Result<(), Trouble> {
        match self.dir_of(&leaf.service) {
            Some(dir) if limits.needs().has(Controller::Cpu) => dir
                .write("cgroup.subtree_control", "+cpu")
                .map_err(|err| Trouble::new("hand the cpu controller on to instances", err)),
            _ => Ok(()),
        }
    }

    fn limits_for(&mut self, resources: &Resources) -> Result<Limits, NotSet> {
        if let State::Degraded(lack) = &self.state {
            return Err(NotSet::Lack(lack.clone()));
        }
        let (limits, lacks) = self.look_up(resources);
        match lacks.into_iter().next() {
            Some(lack) => Err(NotSet::Lack(lack)),
            None => Ok(limits),
        }
    }

    /// What a service may use now: by the table, unless somebody has changed it.
    #[must_use]
    pub fn live(&self, service: &str) -> Option<&Resources> {
        let known = self.services.get(service)?;
        Some(known.live.as_ref().unwrap_or(&known.limits).resources())
    }

    #[must_use]
    pub fn in_use(&self, service: &str) -> InUse {
        let Some(dir) = self.dir_of(service) else {
            return InUse::default();
        };
        let number = |file| dir.read(file).ok()?.trim().parse::<u64>().ok();
        let cpu = dir.read("cpu.stat").ok();
        InUse {
            memory: number("memory.current"),
            cpu_micros: cpu.and_then(|text| number_of(&text, "usage_usec")),
            tasks: number("pids.current"),
        }
    }

    fn dir_of(&self, service: &str) -> Option<&Dir> {
        self.services.get(service)?.dir.as_ref()
    }
}

impl Leaf {
    /// Its own limits, as the kernel has them.
    #[must_use]
    pub fn limits(&self) -> Resources {
        let number = |file| self.dir.read(file).ok()?.trim().parse::<u64>().ok();
        let cpu = self.dir.read("cpu.max").ok();
        Resources {
            memory: number("memory.max"),
            memory_high: number("memory.high"),
            cpu: cpu.and_then(|text| percent(&text)),
            tasks: number("pids.max").and_then(|count| count.try_into().ok()),
            io: Vec::new(),
        }
    }
}

/// Of `QUOTA PERIOD`, both in microseconds; `max` is no limit.
fn percent(text: &str) -> Option<u32> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    quota.checked_mul(100)?.checked_div(period)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_time_is_read_in_hundredths_of_a_cpu() {
        assert_eq!(percent("150000 100000\n"), Some(150));
        assert_eq!(percent("max 100000\n"), None);
        assert_eq!(percent("1 0"), None);
    }
}
