//! `resources` as the kernel's files want them.
#![forbid(unsafe_code)]

use std::io;

use super::device::{Device, disk_of};
use super::dir::Dir;
use super::{Lack, Trouble};
use crate::table::isolation::{IoLimit, Resources};

/// The controllers that limits are made of; each is a file name's first part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Controller {
    Cpu,
    Io,
    Memory,
    Pids,
}

impl Controller {
    pub const ALL: [Controller; 4] = [
        Controller::Cpu,
        Controller::Io,
        Controller::Memory,
        Controller::Pids,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Io => "io",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers(u8);

impl Controllers {
    /// Those of ours that cgroup.controllers names.
    #[must_use]
    pub fn listed(text: &str) -> Self {
        let named = |controller: &Controller| {
            let mut words = text.split_ascii_whitespace();
            words.any(|word| word == controller.name())
        };
        Controller::ALL.into_iter().filter(named).collect()
    }

    #[must_use]
    pub fn has(self, controller: Controller) -> bool {
        self.0 & 1 << controller as u8 != 0
    }

    pub fn add(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u8;
    }

    pub fn drop(&mut self, controller: Controller) {
        self.0 &= !(1 << controller as u8);
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Controller> {
        let all = Controller::ALL.into_iter();
        all.filter(move |controller| self.has(*controller))
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(all: I) -> Self {
        let mut set = Self::default();
        all.into_iter().for_each(|controller| set.add(controller));
        set
    }
}

/// The limits of one cgroup, with the devices looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    resources: Resources,
    io: Vec<(Device, IoLimit)>,
}

/// What a controller's file is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub controller: Controller,
    pub file: &'static str,
    pub text: String,
    /// Not only the kernel's own default.
    pub wanted: bool,
}

impl Limits {
    /// Looks up devices. Whatever cannot be limited with these controllers is said.
    #[must_use]
    pub fn new(resources: &Resources, available: Controllers) -> (Self, Vec<Lack>) {
        let mut limits = Self {
            resources: resources.clone(),
            io: Vec::new(),
        };
        let mut lacks = Vec::new();
        for controller in limits.needs().iter().filter(|it| !available.has(*it)) {
            let why = format!("there is no {} controller to limit it", controller.name());
            let keys = limits.keys_of(controller);
            lacks.push(Lack::new(format!("{keys}: {why}"), remedy()));
        }
        for limit in &resources.io {
            match disk_of(&limit.path) {
                Ok(device) => limits.io.push((device, limit.clone())),
                Err(why) => lacks.push(Lack::new(
                    format!("io.\"{}\": {why}", limit.path.display()),
                    "name a block device, or a file on one",
                )),
            }
        }
        (limits, lacks)
    }

    /// The controllers that these limits need.
    #[must_use]
    pub fn needs(&self) -> Controllers {
        let has = |controller: &Controller| !self.keys_of(*controller).is_empty();
        Controller::ALL.into_iter().filter(has).collect()
    }

    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.resources.memory
    }

    fn keys_of(&self, controller: Controller) -> &'static str {
        let of = &self.resources;
        match (controller, of.memory, of.memory_high) {
            (Controller::Memory, Some(_), Some(_)) => "memory, memory_high",
            (Controller::Memory, Some(_), None) => "memory",
            (Controller::Memory, None, Some(_)) => "memory_high",
            (Controller::Cpu, ..) if of.cpu.is_some() => "cpu",
            (Controller::Pids, ..) if of.tasks.is_some() => "tasks",
            (Controller::Io, ..) if !of.io.is_empty() => "io",
            _ => "",
        }
    }

    /// Every file with what it is to say, also where that is "no limit": there
    /// may have been one before.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let of = &self.resources;
        let setting = |controller, file, text: Option<String>| Setting {
            controller,
            file,
            wanted: text.is_some(),
            text: text.unwrap_or_else(|| "max".into()),
        };
        vec![
            setting(
                Controller::Memory,
                "memory.high",
                of.memory_high.map(|octets| octets.to_string()),
            ),
            // Memory that is full is full: nothing is moved to swap instead.
            setting(
                Controller::Memory,
                "memory.swap.max",
                of.memory.map(|_| "0".into()),
            ),
            setting(
                Controller::Memory,
                "memory.max",
                of.memory.map(|octets| octets.to_string()),
            ),
            setting(
                Controller::Pids,
                "pids.max",
                of.tasks.map(|count| count.to_string()),
            ),
            setting(Controller::Cpu, "cpu.max", of.cpu.map(cpu_max)),
        ]
    }

    /// The lines of io.max, given what is there now: a device that is not
    /// limited any more gets all its limits taken away.
    #[must_use]
    pub fn io_lines(&self, now: &str) -> Vec<String> {
        let mut lines: Vec<String> = self
            .io
            .iter()
            .map(|(at, limit)| io_max(*at, limit))
            .collect();
        for device in now.lines().filter_map(|line| line.split(' ').next()) {
            if !self.io.iter().any(|(known, _)| known.to_string() == device) {
                lines.push(format!("{device} rbps=max wbps=max riops=max wiops=max"));
            }
        }
        lines
    }

    /// Puts them in force for a cgroup.
    pub fn write(&self, dir: &Dir, available: Controllers) -> Result<(), Trouble> {
        for setting in self.settings() {
            if !available.has(setting.controller) {
                continue;
            }
            match dir.write(setting.file, &setting.text) {
                // A kernel without accounting of swap, or a controller that nobody wants yet.
                Err(err)
                    if err.kind() == io::ErrorKind::NotFound
                        && (!setting.wanted || setting.file == "memory.swap.max") => {}
                Err(err) => return Err(about(setting.file, &setting.text, err)),
                Ok(()) => {}
            }
        }
        let Ok(now) = dir.read("io.max") else {
            return Ok(());
        };
        for line in self.io_lines(&now) {
            dir.write("io.max", &line)
                .map_err(|err| about("io.max", &line, err))?;
        }
        Ok(())
    }
}

fn about(file: &str, text: &str, error: io::Error) -> Trouble {
    Trouble::new(format!("set {file} to \"{text}\""), error)
}

fn remedy() -> &'static str {
    "see what `usherd` says about cgroups as it starts"
}

/// Hundredths of a CPU as microseconds in a tenth of a second.
fn cpu_max(percent: u32) -> String {
    format!("{} 100000", u64::from(percent) * 1_000)
}

fn io_max(device: Device, limit: &IoLimit) -> String {
    let mut line = device.to_string();
    for (key, value) in [
        ("rbps", limit.read),
        ("wbps", limit.write),
        ("riops", limit.read_iops),
        ("wiops", limit.write_iops),
    ] {
        let value = value.map_or("max".to_owned(), |number| number.to_string());
        line.push_str(&format!(" {key}={value}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(limits: &Limits) -> Vec<(&'static str, String)> {
        let all = limits.settings().into_iter();
        all.map(|setting| (setting.file, setting.text)).collect()
    }

    #[test]
    fn every_key_has_its_file_and_no_limit_is_said_too() {
        let resources = Resources {
            memory: Some(20 << 20),
            memory_high: None,
            cpu: Some(150),
            tasks: Some(8),
            io: Vec::new(),
        };
        let all = Controllers::listed("cpuset cpu io memory pids rdma");
        let (limits, lacks) = Limits::new(&resources, all);
        assert_eq!(lacks, []);
        let text = |file, text: &str| (file, text.to_owned());
        assert_eq!(
            settings(&limits),
            [
                text("memory.high", "max"),
                text("memory.swap.max", "0"),
                text("memory.max", "20971520"),
                text("pids.max", "8"),
                text("cpu.max", "150000 100000"),
            ]
        );
        assert_eq!(settings(&Limits::default())[4], text("cpu.max", "max"));
    }

    #[test]
    fn what_no_controller_can_limit_is_said() {
        let resources = Resources {
            memory: Some(1),
            tasks: Some(1),
            ..Resources::default()
        };
        let (_, lacks) = Limits::new(&resources, Controllers::listed("pids"));
        let whys: Vec<_> = lacks.into_iter().map(|lack| lack.why).collect();
        assert_eq!(whys, ["memory: there is no memory controller to limit it"]);
    }

    #[test]
    fn a_device_that_is_not_limited_any_more_is_set_free() {
        let limit = IoLimit {
            path: "/dev/null".into(),
            read: Some(1),
            write: None,
            read_iops: None,
            write_iops: Some(9),
        };
        let limits = Limits {
            io: vec![(
                Device {
                    major: 8,
                    minor: 16,
                },
                limit,
            )],
            ..Limits::default()
        };
        let lines = limits.io_lines("8:0 rbps=5 wbps=max riops=max wiops=max\n8:16 rbps=7\n");
        assert_eq!(
            lines,
            [
                "8:16 rbps=1 wbps=max riops=max wiops=9",
                "8:0 rbps=max wbps=max riops=max wiops=max",
            ]
        );
    }
}
