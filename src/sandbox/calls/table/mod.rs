//! Every system call of Linux 6.17 on x86_64 and aarch64, with its numbers, in
//! groups. Each call is in one group, and each group has one fate.
//!
//! Groups have the names that systemd.exec(5) gives them where it has one. Ours
//! differ where systemd puts a call into several groups or into none.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::LazyLock;

mod files;
mod processes;
mod restricted;

/// What becomes of a group's calls where the table says nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Refused in both modes: changes the host, watches others or widens the kernel's surface.
    Denied,
    /// Refused in an allow-list only: nothing that servers usually call.
    Rare,
    /// What servers need.
    Served,
}

#[derive(Debug)]
pub struct Group {
    /// With its `@`.
    pub name: &'static str,
    pub fate: Fate,
    pub about: &'static str,
    pub calls: &'static [Call],
}

#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    x86_64: Option<u32>,
    aarch64: Option<u32>,
}

/// How the calls are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// Those that have a table here.
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

    pub fn of_this_machine() -> Result<Self, String> {
        match std::env::consts::ARCH {
            "x86_64" if cfg!(target_pointer_width = "64") => Ok(Architecture::X86_64),
            "aarch64" if cfg!(all(target_pointer_width = "64", target_endian = "little")) => {
                Ok(Architecture::Aarch64)
            }
            other => Err(format!("there is no table of system calls for {other}")),
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, which the kernel gives with every call.
    #[must_use]
    pub fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 => 0xc000_003e,
            Architecture::Aarch64 => 0xc000_00b7,
        }
    }
}

impl Call {
    /// `None` where this architecture never had it.
    #[must_use]
    pub fn number(&self, on: Architecture) -> Option<u32> {
        match on {
            Architecture::X86_64 => self.x86_64,
            Architecture::Aarch64 => self.aarch64,
        }
    }

    /// Whether it is younger than the common numbers of all architectures
    /// (Linux 5.1). Programs that call it can do without.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        const FIRST_COMMON: u32 = 424;
        self.aarch64.is_some_and(|number| number >= FIRST_COMMON)
    }
}

const fn call(name: &'static str, x86_64: u32, aarch64: u32) -> Call {
    Call {
        name,
        x86_64: Some(x86_64),
        aarch64: Some(aarch64),
    }
}

/// The same number on both.
const fn common(name: &'static str, number: u32) -> Call {
    call(name, number, number)
}

/// What newer architectures do by another call, such as open(2) by openat(2).
const fn only_x86_64(name: &'static str, number: u32) -> Call {
    Call {
        name,
        x86_64: Some(number),
        aarch64: None,
    }
}

/// All groups, those that are refused first.
pub fn groups() -> impl Iterator<Item = &'static Group> {
    let all = [restricted::GROUPS, files::GROUPS, processes::GROUPS];
    all.into_iter().flatten()
}

/// Every call with its group.
pub fn calls() -> impl Iterator<Item = (&'static Group, &'static Call)> {
    groups().flat_map(|group| group.calls.iter().map(move |call| (group, call)))
}

/// A call by its name.
#[must_use]
pub fn find(name: &str) -> Option<(&'static Group, &'static Call)> {
    type Found = (&'static Group, &'static Call);
    static BY_NAME: LazyLock<HashMap<&str, Found>> = LazyLock::new(|| {
        let named = calls().map(|found @ (_, call)| (call.name, found));
        named.collect()
    });
    BY_NAME.get(name).copied()
}

/// Whether `name` is a call, or a group with its `@`.
#[must_use]
pub fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Everything that `allow_calls` and `deny_calls` may say.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of_groups = groups().map(|group| group.name);
    of_groups.chain(calls().map(|(_, call)| call.name))
}
