//! From a blueprint to a sandbox: namespaces, then what is in them.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use super::known::{self, KnownFile};
use super::{Failure, Report, report, to, tree, users};
use crate::sandbox::blueprint::Blueprint;
use crate::sys::{interface, process};
use crate::table::isolation::Network;

/// What the helper needs to let servers in.
pub struct Built {
    landlock: Option<OwnedFd>,
    users: Option<OwnedFd>,
    files: Vec<KnownFile>,
}

impl Built {
    pub fn landlock(&self) -> Option<BorrowedFd<'_>> {
        self.landlock.as_ref().map(AsFd::as_fd)
    }

    pub fn users(&self) -> Option<BorrowedFd<'_>> {
        self.users.as_ref().map(AsFd::as_fd)
    }

    pub fn ready(&self) -> Report {
        Report::Ready {
            landlock: self.landlock.is_some(),
            users: self.users.is_some(),
            files: self.files.clone(),
        }
    }

    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let both = [&self.landlock, &self.users];
        both.into_iter().flatten().map(AsFd::as_fd)
    }
}

/// Makes the namespaces. `false` in the process that stays outside of them: that
/// of pids begins with a child.
pub fn separate(blueprint: &Blueprint, link: BorrowedFd<'_>) -> Result<bool, Failure> {
    make_namespaces(blueprint)?;
    match to("make the first process", process::fork_alone())? {
        Some(child) => {
            report(link, &Report::Born(child), &[]);
            Ok(false)
        }
        None => Ok(true),
    }
}

/// Leaves those of the host. That of pids begins with the next child.
pub fn make_namespaces(blueprint: &Blueprint) -> Result<(), Failure> {
    if let Some((uid, gid)) = blueprint.own_user {
        enter_user_namespace(uid, gid)?;
    }
    to("make namespaces", unshare(blueprint.namespaces()))
}

/// Fills them. `common`: there is a tree already, which lacks what is our own.
pub fn furnish(blueprint: &Blueprint, common: Option<&Common>) -> Result<Built, Failure> {
    if let Some(name) = &blueprint.uts_namespace {
        to("set the host name", sethostname(name))?;
    }
    if blueprint.network == Some(Network::Loopback) {
        to("bring up the loopback interface", interface::bring_up("lo"))?;
    }
    let users = match (&blueprint.users, common) {
        (_, Some(common)) => common.users()?,
        (Some(who), None) => Some(users::namespace(who, blueprint.pid_namespace)?),
        (None, None) => None,
    };
    let files = match (&blueprint.tree, common) {
        (Some(tree), None) => {
            let files = known::files(tree);
            tree::raise(tree, blueprint.own_user.is_none(), tree::Part::All)?;
            files
        }
        (Some(tree), Some(common)) => {
            tree::add_own(tree)?;
            common.files.clone()
        }
        (None, _) => Vec::new(),
    };
    let landlock = match &blueprint.landlock {
        Some(places) => Some(domain(places, blueprint.network == Some(Network::None))?),
        None => None,
    };
    Ok(Built {
        landlock,
        users,
        files,
    })
}

/// What all sandboxes of a service have in common.
pub struct Common {
    users: Option<OwnedFd>,
    files: Vec<KnownFile>,
}

impl Common {
    /// Makes it in a mount namespace of its own.
    pub fn make(blueprint: &Blueprint) -> Result<Self, Failure> {
        let users = match &blueprint.users {
            Some(who) => Some(users::namespace(who, false)?),
            None => None,
        };
        let files = blueprint.tree.as_ref().map_or_else(Vec::new, known::files);
        if let Some(tree) = &blueprint.tree {
            to("make namespaces", unshare(CloneFlags::CLONE_NEWNS))?;
            tree::raise(tree, true, tree::Part::Common)?;
        }
        Ok(Self { users, files })
    }

    fn users(&self) -> Result<Option<OwnedFd>, Failure> {
        let copy = self.users.as_ref().map(OwnedFd::try_clone).transpose();
        to("share a user namespace", copy)
    }
}

/// user_namespaces(7): who is not root may map himself and nobody else.
fn enter_user_namespace(uid: u32, gid: u32) -> Result<(), Failure> {
    let flags = CloneFlags::CLONE_NEWUSER;
    to("make a user namespace", unshare(flags))?;
    to(
        "close the list of groups",
        fs::write("/proc/self/setgroups", "deny"),
    )?;
    let map = |id: u32| format!("{id} {id} 1");
    to("map the user", fs::write("/proc/self/uid_map", map(uid)))?;
    to("map the group", fs::write("/proc/self/gid_map", map(gid)))
}

/// A Landlock ruleset that servers restrict themselves with. Paths are those
/// of the new tree: a rule is tied to what lies there, not to its name.
/// `no_network`: a socket of the host's network that the server is given is not
/// to be connected or bound anew, wherever it was before.
fn domain(places: &[PathBuf], no_network: bool) -> Result<OwnedFd, Failure> {
    let what = "make a Landlock ruleset";
    let made = ruleset(places, no_network).map_err(|err| io::Error::other(err.to_string()));
    let fd = to(what, made)?;
    to(
        what,
        fd.ok_or(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    )
}

fn ruleset(places: &[PathBuf], no_network: bool) -> Result<Option<OwnedFd>, RulesetError> {
    let abi = ABI::V7;
    let write = AccessFs::from_write(abi) & !AccessFs::IoctlDev;
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if !places.is_empty() {
        ruleset = ruleset.handle_access(write)?;
    }
    if no_network {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let created = ruleset
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?;
    Ok(created.add_rules(path_beneath_rules(places, write))?.into())
}
