//! What the isolation of a service comes to on this host: what is built for
//! it, what its servers take from themselves, what it has to do without.
#![forbid(unsafe_code)]

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sandbox::blueprint::{ADMIN_IN_SANDBOX, Blueprint, Shown, Surroundings};
use crate::sandbox::calls;
use crate::sandbox::plan::{Cage, Label};
use crate::sandbox::probe::{Probe, Role};
use crate::sys::pam;
use crate::table::isolation::{IoPriority, Isolation, Level, Mechanism};
use crate::table::{Exec, Serve, Table};

/// What is the same for all services of a table.
#[derive(Debug)]
pub struct Ground<'a> {
    pub probe: &'a Probe,
    /// usherd's user and group, if it is not root.
    pub own_user: Option<(u32, u32)>,
    /// Directories that are usherd's own.
    pub own: Vec<PathBuf>,
    /// Where credentials are, by service.
    pub credentials: Option<PathBuf>,
    pub states: Vec<String>,
    /// The admin socket on the host, for services that may ask for something there.
    pub admin: Option<PathBuf>,
    pub tty: Option<u32>,
    /// `daemon.resources` has a limit of memory.
    limits_memory: bool,
    /// What a service was to own and could not be given, by name.
    unprepared: HashMap<String, String>,
    /// Services of equal settings share a program.
    calls: Rc<RefCell<calls::Compiled>>,
    /// Why no session of PAM can be opened, once it was asked.
    pam: OnceCell<Option<String>>,
}

/// The isolation of one service, ready for use.
#[derive(Debug, Default)]
pub struct Confinement {
    /// What a keeper builds; `None` if servers run on the host as it is.
    pub blueprint: Option<Rc<Blueprint>>,
    /// Every instance has one of its own.
    pub per_instance: bool,
    pub cage: Cage,
    /// Why no server may be started.
    pub blocked: Option<String>,
    /// What it would prefer and does not have.
    pub degraded: Vec<String>,
}

impl<'a> Ground<'a> {
    #[must_use]
    pub fn new(
        probe: &'a Probe,
        table: &Table,
        own: Vec<PathBuf>,
        credentials: Option<PathBuf>,
        admin: Option<PathBuf>,
        unprepared: HashMap<String, String>,
    ) -> Self {
        Self {
            probe,
            own_user: own_user(probe),
            own,
            credentials,
            states: states(table),
            admin,
            tty: nix::unistd::Group::from_name("tty")
                .ok()
                .flatten()
                .map(|group| group.gid.as_raw()),
            limits_memory: table.daemon.resources.memory.is_some(),
            unprepared,
            calls: Rc::default(),
            pam: OnceCell::new(),
        }
    }

    /// For the processes of operations, which own nothing and have no terminals. Looks
    /// nothing up; `calls` keeps programs from one to the next.
    #[must_use]
    pub fn of_operations(
        probe: &'a Probe,
        table: &Table,
        own: Vec<PathBuf>,
        calls: &Rc<RefCell<calls::Compiled>>,
    ) -> Self {
        Self {
            probe,
            own_user: own_user(probe),
            own,
            credentials: None,
            states: states(table),
            admin: None,
            tty: None,
            limits_memory: table.daemon.resources.memory.is_some(),
            unprepared: HashMap::new(),
            calls: Rc::clone(calls),
            pam: OnceCell::new(),
        }
    }

    fn lack_of_pam(&self) -> Option<String> {
        const REMEDY: &str = "install it (Debian: libpam0g) and reload";
        let tell = |why| format!("a PAM session: {why}; {REMEDY}");
        self.pam.get_or_init(|| pam::lack().map(tell)).clone()
    }
}

fn own_user(probe: &Probe) -> Option<(u32, u32)> {
    (probe.role == Role::User).then(|| {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        (uid.as_raw(), gid.as_raw())
    })
}

/// `state` of every service.
fn states(table: &Table) -> Vec<String> {
    let states = table
        .services
        .iter()
        .filter_map(|service| match &service.serve {
            Serve::Exec(exec) => exec.state.clone(),
            Serve::Builtin(_) | Serve::Forward(_) => None,
        });
    states.collect()
}

impl Confinement {
    /// Fails with a text about a filter that cannot be made.
    pub fn of(service: &str, exec: &Exec, ground: &Ground<'_>) -> Result<Self, String> {
        let isolation = &exec.isolation;
        let lacks = ground.probe.lacks(isolation);
        let tell = |lack: &crate::sandbox::probe::Lack<'_>| {
            let (reason, remedy) = (&lack.missing.reason, &lack.missing.remedy);
            format!("{}: {reason}; {remedy}", lack.mechanism.name())
        };
        let unprepared = ground.unprepared.get(service).cloned();
        let required = lacks
            .iter()
            .filter(|lack| lack.level == Level::Require)
            .map(tell);
        let required: Vec<String> = required.collect();
        let required = (!required.is_empty())
            .then(|| format!("its isolation requires {}", required.join("; ")));
        let pam = exec.pam.as_ref().and_then(|_| ground.lack_of_pam());
        let blocked: Vec<String> = required.into_iter().chain(unprepared).chain(pam).collect();
        let degraded = lacks.iter().filter(|lack| lack.level == Level::Prefer);
        let degraded: Vec<String> = degraded.map(tell).collect();
        let has = |mechanism| !lacks.iter().any(|lack| lack.mechanism == mechanism);
        let around = Surroundings {
            own: ground.own.clone(),
            states: ground.states.clone(),
            credentials: ground
                .credentials
                .as_ref()
                .filter(|_| !exec.credentials.is_empty())
                .map(|dir| dir.join(service)),
            admin: (ground.admin.as_ref())
                .filter(|_| !exec.admin.is_empty())
                .map(|socket| admin_socket(socket, ground.own_user.is_none())),
            tty: ground.tty,
        };
        let blueprint = Blueprint::of(exec, &around, ground.own_user, has);
        Ok(Self {
            per_instance: isolation.per_instance() && blueprint.is_some(),
            cage: Cage {
                credentials: around.credentials,
                admin: around.admin.map(|shown| {
                    let has_tree = blueprint.as_ref().is_some_and(|b| b.tree.is_some());
                    match has_tree {
                        true => shown.path,
                        false => shown.source().to_owned(),
                    }
                }),
                ..cage(exec, ground, blueprint.is_some(), has)?
            },
            blueprint: blueprint.map(Rc::new),
            blocked: (!blocked.is_empty()).then(|| blocked.join("; ")),
            degraded,
        })
    }
}

fn cage(
    exec: &Exec,
    ground: &Ground<'_>,
    has_sandbox: bool,
    has: impl Fn(Mechanism) -> bool,
) -> Result<Cage, String> {
    let isolation = &exec.isolation;
    let use_of = |mechanism| isolation.wants(mechanism) && has(mechanism);
    // Who is not root has capabilities to lose in a user namespace only.
    let may_cut = ground.own_user.is_none() || has_sandbox;
    let bounds = use_of(Mechanism::CapabilityBounds) && may_cut;
    let own_memory = ground.limits_memory || exec.resources.memory.is_some();
    let kept = isolation.capabilities.as_ref().filter(|_| bounds);
    Ok(Cage {
        label: label(isolation),
        cgroup_namespace: use_of(Mechanism::CgroupNamespace) && may_cut,
        cpus: mask(&exec.cpus),
        io_priority: exec.io_priority.map(number),
        capabilities: kept.map(|kept| kept.iter().fold(0, |set, one| set | one.bit())),
        keyring: use_of(Mechanism::Keyring),
        no_new_privs: use_of(Mechanism::NoNewPrivs),
        filter: use_of(Mechanism::Seccomp)
            .then(|| ground.calls.borrow_mut().program(isolation))
            .transpose()?,
        own_memory,
        may_park: !own_memory
            && (!use_of(Mechanism::Seccomp) || calls::permits(isolation, "recvmsg")),
        credentials: None,
        admin: None,
    })
}

/// Where servers find it: root's always at the same place.
fn admin_socket(socket: &Path, privileged: bool) -> Shown {
    let (usual, socket) = (Path::new(ADMIN_IN_SANDBOX), socket.to_owned());
    let (path, from) = match privileged && socket != usual {
        true => (usual.to_owned(), Some(socket)),
        false => (socket, None),
    };
    Shown {
        path,
        from,
        writable: false,
        optional: false,
    }
}

fn label(isolation: &Isolation) -> Option<Label> {
    if let Some(profile) = &isolation.apparmor {
        return Some(Label {
            file: c"/proc/self/attr/apparmor/exec".to_owned(),
            text: CString::new(format!("exec {profile}")).ok()?,
        });
    }
    isolation.selinux.as_ref().and_then(|context| {
        Some(Label {
            file: c"/proc/self/attr/exec".to_owned(),
            text: CString::new(context.as_str()).ok()?,
        })
    })
}

/// As sched_setaffinity(2) takes it.
#[must_use]
pub fn mask(cpus: &[u16]) -> Vec<u64> {
    let words = cpus
        .iter()
        .max()
        .map_or(0, |last| usize::from(*last) / 64 + 1);
    let mut mask = vec![0; words];
    for cpu in cpus {
        mask[usize::from(*cpu) / 64] |= 1 << (cpu % 64);
    }
    mask
}

/// `IOPRIO_PRIO_VALUE` of ioprio_set(2).
fn number(priority: IoPriority) -> i32 {
    let (class, level) = match priority {
        IoPriority::Realtime(level) => (1, level),
        IoPriority::BestEffort(level) => (2, level),
        IoPriority::Idle => (3, 0),
    };
    class << 13 | i32::from(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_and_priorities_are_what_the_kernel_takes() {
        assert_eq!(mask(&[0, 3, 64]), [0b1001, 1]);
        assert!(mask(&[]).is_empty());
        assert_eq!(number(IoPriority::BestEffort(4)), 2 << 13 | 4);
    }
}
