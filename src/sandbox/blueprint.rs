//! What a keeper builds for a service, worked out when the table is loaded:
//! plain values, sent to it as JSON.
//!
//! Only what this kernel can do is in here. What it cannot do and the service
//! only prefers is left out; what it requires has blocked the service before.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use crate::table::Exec;
use crate::table::capability::Capability;
use crate::table::isolation::{
    Dev, Home, Isolation, Mechanism, Network, Preset, Proc, Root, Sys, Tmp,
};

/// What a minimal root has of the host: programs and libraries.
pub const SYSTEM: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// What `tmp` and `home` are about.
pub const TMP: [&str; 2] = ["/tmp", "/var/tmp"];
pub const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// Directories of /etc that a minimal root has; single files are copied into it.
const ETC_DIRECTORIES: [&str; 2] = ["/etc/alternatives", "/etc/ssl/certs"];

/// Where state directories are.
pub const STATE: &str = "/var/lib";

/// Where states are that a backup has taken the place of, and new ones until they are whole:
/// a state is its own service's, whatever it is named.
pub const FORMER_STATES: &str = "/var/lib/usherd-old";

/// What no server needs to see unless its table says so: secrets, and what is
/// usherd's own.
const SECRETS: [&str; 7] = [
    FORMER_STATES,
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/boot",
    "/run/credentials",
];

/// Sockets of those who do as root what root asks of them, and so undo all that
/// was taken from a server that is root. Directories where there are such: what covers
/// a single file goes when the file is replaced.
const CONTROL: [&str; 9] = [
    "/run/dbus",
    "/run/systemd",
    "/run/docker.sock",
    "/run/containerd",
    "/run/crio",
    "/run/podman",
    "/run/libvirt",
    "/run/incus",
    "/run/snapd.socket",
];

/// What of these is for everybody: logs, and names of hosts.
const NO_CONTROL: [&str; 2] = ["/run/systemd/journal", "/run/systemd/resolve"];

/// Where servers find the admin socket, if they may ask for something there.
pub const ADMIN_IN_SANDBOX: &str = "/run/usherd/admin.sock";

/// A sandbox, before anything of it exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// usherd is not root: all is made inside a user namespace that knows this
    /// user and group alone.
    pub own_user: Option<(u32, u32)>,
    pub pid_namespace: bool,
    pub ipc_namespace: bool,
    /// With this host name.
    pub uts_namespace: Option<String>,
    /// `Some` makes a namespace.
    pub network: Option<Network>,
    /// `Some` makes a mount namespace.
    pub tree: Option<Tree>,
    /// `Some` makes a Landlock domain in which only these places are written to,
    /// or, if empty, one that is about sockets and signals alone.
    pub landlock: Option<Vec<PathBuf>>,
    /// `Some` makes a user namespace that servers enter last.
    pub users: Option<Users>,
    /// Many of these are needed, one after the other: what they share is built once.
    pub template: bool,
    /// Nobody in it can leave anything in its network namespace: the next one may have that.
    pub network_again: bool,
}

/// Who exists in a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    pub uid: u32,
    pub gids: Vec<u32>,
}

/// The file system of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub root: Root,
    /// Set-uid programs count for nothing.
    pub no_suid: bool,
    pub private_tmp: bool,
    pub tmp_size: u64,
    pub tmp_no_exec: bool,
    pub dev: Dev,
    pub proc: Proc,
    /// In a new /proc, processes may write what is theirs: pam_loginuid(8).
    pub proc_for_log_in: bool,
    /// The new /proc belongs to a new pid namespace.
    pub own_pids: bool,
    pub shown: Vec<Shown>,
    pub hidden: Vec<PathBuf>,
    /// Group of terminals, where there are any.
    pub tty: Option<u32>,
}

/// A place of the host that a sandbox has too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub path: PathBuf,
    /// Where it is on the host, if not there as well.
    pub from: Option<PathBuf>,
    pub writable: bool,
    /// No fault if the host has no such place.
    pub optional: bool,
}

impl Shown {
    /// Where it is on the host.
    #[must_use]
    pub fn source(&self) -> &Path {
        self.from.as_deref().unwrap_or(&self.path)
    }
}

/// What belongs to usherd and to other services, and is hidden from each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Directories of usherd itself.
    pub own: Vec<PathBuf>,
    /// `state` of every service of the table.
    pub states: Vec<String>,
    /// Where the service finds its credentials, if it has any.
    pub credentials: Option<PathBuf>,
    /// The admin socket, for services that may ask for something there.
    pub admin: Option<Shown>,
    pub tty: Option<u32>,
}

impl Blueprint {
    /// `None` if there is nothing to build. `has` says what this kernel can do.
    #[must_use]
    pub fn of(
        exec: &Exec,
        around: &Surroundings,
        own_user: Option<(u32, u32)>,
        has: impl Fn(Mechanism) -> bool,
    ) -> Option<Self> {
        let isolation = &exec.isolation;
        let use_of = |mechanism| isolation.wants(mechanism) && has(mechanism);
        let pid_namespace = use_of(Mechanism::PidNamespace);
        let tree = use_of(Mechanism::MountNamespace).then(|| Tree::of(exec, around, pid_namespace));
        let landlock = use_of(Mechanism::Landlock)
            .then(|| tree.as_ref().map_or_else(Vec::new, Tree::places_to_write));
        let user = exec.user.as_ref();
        let users = user
            .filter(|_| use_of(Mechanism::UserNamespace))
            .map(|user| Users {
                uid: user.uid,
                gids: gids(user.gid, &user.groups),
            });
        let network = use_of(Mechanism::NetworkNamespace).then_some(isolation.network);
        let blueprint = Self {
            own_user,
            pid_namespace,
            ipc_namespace: use_of(Mechanism::IpcNamespace),
            uts_namespace: use_of(Mechanism::UtsNamespace).then(|| HOST_NAME.to_owned()),
            network: network.filter(|network| *network != Network::Host),
            tree,
            landlock,
            users,
            template: false,
            network_again: false,
        };
        let template = isolation.per_instance() && blueprint.has_common_parts();
        // Nor gains one, whoever he is.
        let has_no_right = use_of(Mechanism::NoNewPrivs)
            && use_of(Mechanism::CapabilityBounds)
            && isolation.capabilities.as_ref().is_some_and(Vec::is_empty);
        let blueprint = Self {
            template,
            network_again: template && has_no_right && blueprint.leaves_its_network_alone(),
            ..blueprint
        };
        blueprint.makes_something().then_some(blueprint)
    }

    /// Whether what is each instance's own lies on top of what is the same for all.
    fn has_common_parts(&self) -> bool {
        const OWN: [&str; 4] = ["/tmp", "/var/tmp", "/proc", "/dev"];
        let Some(tree) = &self.tree else { return false };
        let is_apart = |path: &Path| !OWN.iter().any(|own| path.starts_with(own));
        let mut shown = tree.shown.iter().map(|shown| &*shown.path);
        // A /proc that is hidden gets nothing of its own.
        let mut hidden = tree
            .hidden
            .iter()
            .filter(|path| **path != Path::new("/proc"));
        // Terminals are part of /dev, and each instance's own.
        self.own_user.is_none()
            && tree.dev == Dev::Bare
            && shown.all(is_apart)
            && hidden.all(|path| is_apart(path))
    }

    /// Whether a server without any right finds nothing there that outlives it: no interface
    /// that is up, so no connection that the kernel would have to see to its end, and no settings.
    fn leaves_its_network_alone(&self) -> bool {
        let proc = self.tree.as_ref().map(|tree| tree.proc);
        self.pid_namespace
            && self.network == Some(Network::None)
            && matches!(proc, Some(Proc::Subset | Proc::None))
    }

    fn makes_something(&self) -> bool {
        self.has_namespaces() || self.landlock.is_some() || self.users.is_some()
    }

    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        !self.namespaces().is_empty()
    }

    /// Which ones a keeper makes, beside that of users.
    #[must_use]
    pub fn namespaces(&self) -> CloneFlags {
        let mut flags = CloneFlags::empty();
        flags.set(CloneFlags::CLONE_NEWPID, self.pid_namespace);
        flags.set(CloneFlags::CLONE_NEWIPC, self.ipc_namespace);
        flags.set(CloneFlags::CLONE_NEWUTS, self.uts_namespace.is_some());
        flags.set(CloneFlags::CLONE_NEWNET, self.network.is_some());
        flags.set(CloneFlags::CLONE_NEWNS, self.tree.is_some());
        flags
    }
}

/// What a server in a sandbox takes for the name of its host: that of no other.
const HOST_NAME: &str = "localhost";

fn gids(gid: u32, groups: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = groups.iter().copied().chain([gid]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Tree {
    fn of(exec: &Exec, around: &Surroundings, own_pids: bool) -> Self {
        let isolation: &Isolation = &exec.isolation;
        let state = exec.state.as_ref().map(|name| Path::new(STATE).join(name));
        let mut shown = shown(isolation, around, state.as_ref());
        let is_bare_root = exec.user.as_ref().is_some_and(|user| user.uid == 0)
            && isolation.capabilities.as_ref().is_some_and(Vec::is_empty);
        let without_control = isolation.root == Root::ReadOnly && is_bare_root;
        if without_control {
            shown.splice(
                0..0,
                NO_CONTROL.map(|path| Shown {
                    path: PathBuf::from(path),
                    from: None,
                    writable: false,
                    optional: true,
                }),
            );
            shown.sort_by_key(|shown| shown.path.components().count());
        }
        let is_shown = |path: &Path| {
            let mut paths = shown.iter().map(|shown| &shown.path);
            paths.any(|known| known.starts_with(path) || path.starts_with(known))
        };
        let mut hidden = isolation.hidden.clone();
        if isolation.root == Root::ReadOnly {
            let secrets = SECRETS.iter().map(PathBuf::from);
            let others = around.states.iter().map(|name| Path::new(STATE).join(name));
            let others = others.filter(|path| Some(path) != state.as_ref());
            hidden.extend(secrets.chain(others).filter(|path| !is_shown(path)));
            hidden.extend(around.own.iter().cloned());
            // It is covered, so that the socket can be put there; see also `shown`.
            let admin = around.admin.as_ref().filter(|admin| admin.from.is_some());
            let folder = admin.and_then(|admin| admin.path.parent());
            hidden.extend(folder.map(Path::to_owned));
        }
        if without_control {
            let named = |path: &&str| {
                isolation
                    .visible
                    .iter()
                    .any(|shown| shown.starts_with(path))
            };
            let control = CONTROL.iter().filter(|path| !named(path));
            hidden.extend(control.map(PathBuf::from));
        }
        if isolation.root != Root::Minimal {
            if isolation.home == Home::Hidden {
                hidden.extend(HOMES.iter().map(PathBuf::from));
            }
            if isolation.sys == Sys::None {
                hidden.push(PathBuf::from("/sys"));
            }
            if isolation.proc == Proc::None {
                hidden.push(PathBuf::from("/proc"));
            }
        }
        hidden.sort();
        hidden.dedup();
        Self {
            root: isolation.root,
            no_suid: isolation.wants(Mechanism::NoNewPrivs),
            private_tmp: isolation.tmp == Tmp::Private,
            tmp_size: isolation.tmp_size,
            tmp_no_exec: isolation.preset == Preset::Strict,
            dev: isolation.dev,
            proc: isolation.proc,
            proc_for_log_in: isolation.capabilities.as_ref().is_none_or(|kept| {
                let writes = Capability::named("audit_control");
                writes.is_some_and(|writes| kept.contains(&writes))
            }),
            own_pids,
            shown,
            hidden,
            tty: around.tty,
        }
    }

    /// For Landlock; empty if the whole tree may be written to.
    fn places_to_write(&self) -> Vec<PathBuf> {
        if self.root == Root::Host {
            return Vec::new();
        }
        let usual = ["/tmp", "/var/tmp", "/dev", "/proc"].map(PathBuf::from);
        let writable = self.shown.iter().filter(|shown| shown.writable);
        let writable = writable.map(|shown| shown.path.clone());
        usual.into_iter().chain(writable).collect()
    }
}

/// Places of the host that are seen as they are, or read-only, whatever else
/// is done to the tree. In the order of their depth, so that one may lie in another.
fn shown(isolation: &Isolation, around: &Surroundings, state: Option<&PathBuf>) -> Vec<Shown> {
    let mut all = Vec::new();
    let mut show = |path: &Path, writable, optional| {
        all.push(Shown {
            path: path.to_owned(),
            from: None,
            writable,
            optional,
        });
    };
    // What a minimal root lacks, or a read-only one has made read-only.
    let minimal = isolation.root == Root::Minimal;
    let home = match isolation.home {
        Home::Host => isolation.root != Root::Host,
        Home::ReadOnly => isolation.root != Root::ReadOnly,
        Home::Hidden => false,
    };
    if home {
        let writable = isolation.home == Home::Host;
        HOMES
            .iter()
            .for_each(|path| show(Path::new(path), writable, true));
    }
    if isolation.tmp == Tmp::Host && isolation.root != Root::Host {
        TMP.iter()
            .for_each(|path| show(Path::new(path), true, true));
    }
    if isolation.dev == Dev::Host && isolation.root != Root::Host {
        show(Path::new("/dev"), true, true);
    }
    match isolation.sys {
        Sys::Host if isolation.root != Root::Host => show(Path::new("/sys"), true, true),
        Sys::ReadOnly if isolation.root != Root::ReadOnly => show(Path::new("/sys"), false, true),
        _ => {}
    }
    if isolation.proc == Proc::Host && minimal {
        show(Path::new("/proc"), true, true);
    }
    if minimal {
        ETC_DIRECTORIES
            .iter()
            .for_each(|path| show(Path::new(path), false, true));
    }
    isolation
        .visible
        .iter()
        .for_each(|path| show(path, false, false));
    isolation
        .writable
        .iter()
        .for_each(|path| show(path, true, false));
    if let Some(credentials) = &around.credentials {
        show(credentials, false, false);
    }
    if let Some(state) = state {
        show(state, true, false);
    }
    all.extend(around.admin.clone());
    all.sort_by_key(|shown| shown.path.components().count());
    all
}

#[cfg(test)]
#[path = "blueprint_tests.rs"]
mod tests;
