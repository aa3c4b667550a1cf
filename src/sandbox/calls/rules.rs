//! What becomes of each system call of one service.
#![forbid(unsafe_code)]

use super::table::{self, Architecture, Call, Fate, Group};
use crate::table::isolation::{Family, Isolation, Mechanism, SystemCalls};

/// The group that stands for flags of other calls as well.
const NAMESPACE: &str = "@namespace";

/// `CLONE_NEW*`, all but `CLONE_NEWTIME`.
const NEW_NAMESPACE: u32 = bits(&[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
]);

/// For unshare(2) only: clone(2) has the exit signal in these bits.
const NEW_TIME_NAMESPACE: u32 = 0x80;

/// Requests by which a server could type on a terminal that it shares with its caller.
const TERMINAL_INPUT: [u32; 2] = [0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */];

/// Connects as it sends, and asks nobody who is asked at connect(2): Landlock
/// above all.
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// The ordinary persona, and the question which one it is.
const PERSONAS: [u32; 2] = [0, u32::MAX];

/// Memory that is written to and executed; and memory that becomes executable.
const WRITABLE_CODE: u32 = bits(&[libc::PROT_WRITE, libc::PROT_EXEC]);
const CODE: u32 = bits(&[libc::PROT_EXEC]);
const SHARED_CODE: u32 = bits(&[libc::SHM_EXEC]);

/// Calls older than the common numbers that libraries do without if, and only
/// if, the kernel seems not to have them.
const OPTIONAL: [&str; 13] = [
    "copy_file_range",
    "execveat",
    "getrandom",
    "membarrier",
    "memfd_create",
    "mlock2",
    "pkey_alloc",
    "preadv2",
    "pwritev2",
    "renameat2",
    "rseq",
    "seccomp",
    "statx",
];

/// What of an isolation decides about calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    system_calls: SystemCalls,
    allow: Vec<String>,
    deny: Vec<String>,
    families: Option<Vec<Family>>,
    /// No memory is to be both writable and executable.
    no_writable_code: bool,
}

impl Settings {
    pub fn of(isolation: &Isolation) -> Self {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names.dedup();
            names
        };
        Self {
            system_calls: isolation.system_calls,
            allow: sorted(&isolation.allow_calls),
            deny: sorted(&isolation.deny_calls),
            families: isolation.address_families.clone().map(|mut families| {
                families.sort_unstable();
                families.dedup();
                families
            }),
            no_writable_code: isolation.wants(Mechanism::MemoryDenyWriteExecute),
        }
    }

    fn allows(&self, name: &str) -> bool {
        self.allow.iter().any(|known| known == name)
    }

    fn denies(&self, name: &str) -> bool {
        self.deny.iter().any(|known| known == name)
    }

    /// Whether `call` may make namespaces.
    fn allows_namespaces(&self, call: &str) -> bool {
        !self.denies(NAMESPACE) && (self.allows(NAMESPACE) || self.allows(call))
    }
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// With this errno.
    Refuse(i32),
    /// Allowed if an argument fits.
    Look(Look),
}

/// A question about the lower half of one argument. The kernel takes no more
/// of it, so whatever stands in the upper half must not matter here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    pub argument: u32,
    pub wanted: Wanted,
    /// If it does not fit.
    pub errno: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    OneOf(Vec<u32>),
    NoneOf(Vec<u32>),
    /// None of these bits.
    Without(u32),
    /// Not all of these bits.
    NotAll(u32),
}

/// The verdicts by number, each from its number up to the next one's. Numbers
/// beyond the table, x32's among them, are refused as unknown.
pub fn rules(on: Architecture, settings: &Settings) -> Result<Vec<(u32, Verdict)>, String> {
    let mut named = settings.allow.iter().chain(&settings.deny);
    if let Some(unknown) = named.find(|name| !table::is_known(name)) {
        return Err(format!("no system call is named \"{unknown}\""));
    }
    let mut calls: Vec<(u32, Verdict)> = table::calls()
        .filter_map(|(group, call)| Some((call.number(on)?, verdict(group, call, settings))))
        .collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges: Vec<(u32, Verdict)> = Vec::with_capacity(calls.len());
    let mut next = 0;
    for (number, verdict) in calls {
        if number > next {
            begin(&mut ranges, next, Verdict::Refuse(libc::ENOSYS));
        }
        begin(&mut ranges, number, verdict);
        next = number + 1;
    }
    begin(&mut ranges, next, Verdict::Refuse(libc::ENOSYS));
    Ok(ranges)
}

/// Begins a range, unless the one before goes on with the same verdict.
fn begin(ranges: &mut Vec<(u32, Verdict)>, number: u32, verdict: Verdict) {
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((number, verdict));
    }
}

pub fn verdict(group: &Group, call: &Call, settings: &Settings) -> Verdict {
    // `@namespace` has calls of other groups too, which it takes no more than their flags.
    if settings.denies(call.name) || settings.denies(group.name) {
        return Verdict::Refuse(refusal(group, call));
    }
    let listed = match settings.system_calls {
        SystemCalls::DenyList => group.fate != Fate::Denied,
        SystemCalls::AllowList => group.fate == Fate::Served,
    };
    if !listed && !settings.allows(call.name) && !settings.allows(group.name) {
        return Verdict::Refuse(refusal(group, call));
    }
    look(call, settings)
}

/// Allowed: with which arguments?
fn look(call: &Call, settings: &Settings) -> Verdict {
    let look = |argument, wanted, errno| {
        Verdict::Look(Look {
            argument,
            wanted,
            errno,
        })
    };
    if settings.no_writable_code {
        // What PR_SET_MDWE(2const) does, which cannot be used: it would hold for
        // the helper too, whose memory the child shares when it is set.
        match call.name {
            "mmap" => return look(2, Wanted::NotAll(WRITABLE_CODE), libc::EACCES),
            "mprotect" | "pkey_mprotect" => {
                return look(2, Wanted::Without(CODE), libc::EACCES);
            }
            "shmat" => return look(2, Wanted::Without(SHARED_CODE), libc::EACCES),
            _ => {}
        }
    }
    match call.name {
        "clone" | "clone3" | "unshare" if settings.allows_namespaces(call.name) => Verdict::Allow,
        "clone" => look(0, Wanted::Without(NEW_NAMESPACE), libc::EPERM),
        "unshare" => {
            let flags = NEW_NAMESPACE | NEW_TIME_NAMESPACE;
            look(0, Wanted::Without(flags), libc::EPERM)
        }
        // Its flags lie in memory, where no filter can see them. The C
        // libraries then take clone(2).
        "clone3" => Verdict::Refuse(libc::ENOSYS),
        "socket" | "socketpair" => match &settings.families {
            Some(families) => {
                let numbers = families
                    .iter()
                    .map(|family| family.number().cast_unsigned());
                look(0, Wanted::OneOf(numbers.collect()), libc::EAFNOSUPPORT)
            }
            None => Verdict::Allow,
        },
        "sendto" | "sendmmsg" => look(3, Wanted::Without(MSG_FASTOPEN), libc::EOPNOTSUPP),
        "sendmsg" => look(2, Wanted::Without(MSG_FASTOPEN), libc::EOPNOTSUPP),
        "ioctl" => look(1, Wanted::NoneOf(TERMINAL_INPUT.to_vec()), libc::EPERM),
        "personality" if !settings.allows(call.name) => {
            look(0, Wanted::OneOf(PERSONAS.to_vec()), libc::EPERM)
        }
        _ => Verdict::Allow,
    }
}

/// EPERM for what is forbidden, ENOSYS for what programs can do without.
fn refusal(group: &Group, call: &Call) -> i32 {
    let forbidden = group.fate == Fate::Denied && group.name != "@obsolete";
    let absent = call.is_recent() || OPTIONAL.contains(&call.name);
    if !forbidden && (absent || group.name == "@obsolete") {
        libc::ENOSYS
    } else {
        libc::EPERM
    }
}

const fn bits(flags: &[i32]) -> u32 {
    let (mut sum, mut at) = (0, 0);
    while at < flags.len() {
        sum |= flags[at].cast_unsigned();
        at += 1;
    }
    sum
}
