//! Takes from the front all that its loop does not need: rights first, then
//! the file system, then every system call that it never makes.
//!
//! What a kernel cannot take away is said in the log, once for each thing, and
//! the front goes on without it.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, chdir, geteuid, setgroups, setresgid, setresuid};

use crate::sys::front_calls::{drop_capabilities, drop_capability_bounds};

mod calls;

/// The AppArmor profile of the front, which packages load
/// (config/debian/usherd.apparmor).
const PROFILE: &str = "usherd-front";

/// What the plan needs beyond serving what is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// To make connections of its own: a forward service.
    pub connect: bool,
    /// To reach an abstract unix socket of somebody else.
    pub connect_abstract: bool,
}

/// The step without which no peer may be looked at.
#[derive(Debug)]
pub enum RightsError {
    Groups(io::Error),
    Group(io::Error),
    User(io::Error),
    Capabilities(io::Error),
    NoNewPrivileges(io::Error),
    Undumpable(io::Error),
    Directory(io::Error),
}

/// Becomes an ordinary process without any privilege, for good. Returns what
/// could not be given up and is only less good than it should be.
pub fn give_up_rights(identity: Option<(u32, u32)>) -> Result<Vec<&'static str>, RightsError> {
    use RightsError as E;
    let mut kept = Vec::new();
    let was_root = geteuid().is_root();
    // First, because a process that may gain no privileges may not change to a profile from every other.
    if enter_profile().is_err() {
        kept.push("the front runs without its AppArmor profile, though that is loaded");
    }
    if let Some((_, gid)) = identity {
        // Groups while still root: afterwards nobody may change them.
        setgroups(&[]).map_err(|err| E::Groups(err.into()))?;
        let gid = Gid::from_raw(gid);
        setresgid(gid, gid, gid).map_err(|err| E::Group(err.into()))?;
    }
    // The bounding set needs a capability to shrink, so it goes before the user does.
    if was_root && drop_capability_bounds() > 0 {
        kept.push("the front keeps capabilities in its bounding set");
    }
    if let Some((uid, _)) = identity {
        let uid = Uid::from_raw(uid);
        setresuid(uid, uid, uid).map_err(|err| E::User(err.into()))?;
    } else if was_root {
        kept.push("the front runs as root, though without its capabilities");
    }
    drop_capabilities().map_err(E::Capabilities)?;
    prctl::set_no_new_privs().map_err(|err| E::NoNewPrivileges(err.into()))?;
    // Last of these: a change of user sets it anew. No core file, no ptrace(2) by the same user.
    prctl::set_dumpable(false).map_err(|err| E::Undumpable(err.into()))?;
    chdir("/").map_err(|err| E::Directory(err.into()))?;
    Ok(kept)
}

/// Enters the front's AppArmor profile if the host has it loaded. It is asked
/// for first, since the kernel reports each attempt to enter one that is not.
fn enter_profile() -> io::Result<()> {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let mut names = loaded.lines().filter_map(|line| line.split_once(' '));
    if !names.any(|(name, _mode)| name == PROFILE) {
        return Ok(());
    }
    let order = format!("changeprofile {PROFILE}");
    fs::write("/proc/self/attr/apparmor/current", order)
}

/// Closes the cage. Afterwards nothing can be opened, listened on or executed,
/// but for what is returned.
#[must_use]
pub fn close(needs: Needs) -> Vec<String> {
    let mut degraded = Vec::new();
    match restrict_files(needs).map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            // Files are closed since the first version; later ones add to it.
            log::debug!("this kernel knows only a part of Landlock's rights");
        }
        Ok(RulesetStatus::NotEnforced) => {
            let what = "this kernel has no Landlock; files are guarded by seccomp alone";
            degraded.push(what.to_owned());
        }
        Err(err) => degraded.push(format!("unable to restrict file access: {err}")),
    }
    if let Err(why) = calls::restrict(needs) {
        degraded.push(format!("unable to restrict system calls: {why}"));
    }
    degraded
}

/// A Landlock domain that permits nothing: no file, no bind, no signal to others.
fn restrict_files(needs: Needs) -> Result<RestrictionStatus, RulesetError> {
    let abi = ABI::V7;
    let mut net = BitFlags::from(AccessNet::BindTcp);
    if !needs.connect {
        net |= AccessNet::ConnectTcp;
    }
    let mut scopes = BitFlags::from(Scope::Signal);
    if !needs.connect_abstract {
        scopes |= Scope::AbstractUnixSocket;
    }
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(net)?
        .scope(scopes)?
        .create()?
        .restrict_self()
}

impl fmt::Display for RightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, err) = match self {
            RightsError::Groups(err) => ("leave all supplementary groups", err),
            RightsError::Group(err) => ("switch the group of the front", err),
            RightsError::User(err) => ("switch the user of the front", err),
            RightsError::Capabilities(err) => ("drop all capabilities", err),
            RightsError::NoNewPrivileges(err) => ("forbid new privileges", err),
            RightsError::Undumpable(err) => ("make the front undumpable", err),
            RightsError::Directory(err) => ("enter /", err),
        };
        write!(f, "unable to {what}: {err}")
    }
}

impl std::error::Error for RightsError {}
