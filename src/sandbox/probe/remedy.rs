//! What it means that a trial failed, and what an operator can do about it.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::feature::Feature;
use super::host::Host;
use super::trial::Failed;
use super::{Missing, Role};
use crate::table::capability::Capability;

/// The reason names the step and the error, the remedy what is most likely to help.
pub(super) fn missing(feature: Feature, failed: &Failed, role: Role, host: &Host) -> Missing {
    let errno = Errno::from_raw(failed.errno);
    Missing {
        reason: format!("{}: {}", failed.step, errno.desc()),
        remedy: remedy(feature, failed, errno, role, host),
    }
}

pub(super) fn hangs(feature: Feature, limit: Duration) -> Missing {
    Missing {
        reason: format!("no answer within {} s", limit.as_secs()),
        remedy: match feature {
            Feature::MountApi | Feature::ReadOnlyTree | Feature::TreeNamespace => {
                "look for a mounted network file system whose server is gone".to_owned()
            }
            _ => "look into the kernel's log; a security module or a full host may be the cause"
                .to_owned(),
        },
    }
}

/// It ended without a word.
pub(super) fn killed() -> Missing {
    Missing {
        reason: "whoever tries it is killed".to_owned(),
        remedy: "look for a seccomp filter that kills, such as SystemCallFilter= of a unit"
            .to_owned(),
    }
}

pub(super) fn untried(err: &io::Error) -> Missing {
    Missing {
        reason: format!("unable to run the trials: {err}"),
        remedy: "let usherd execute its own program: /proc must be mounted".to_owned(),
    }
}

fn remedy(feature: Feature, failed: &Failed, errno: Errno, role: Role, host: &Host) -> String {
    match errno {
        // A seccomp profile may say so of a call that the kernel has.
        Errno::ENOSYS => match &host.container {
            Some(name) => format!(
                "{}; or let {name}'s seccomp profile allow it",
                newer(feature)
            ),
            None => newer(feature),
        },
        Errno::EOPNOTSUPP if feature == Feature::Landlock => {
            "add landlock to the kernel's list of security modules: lsm=landlock,... at boot"
                .to_owned()
        }
        Errno::ENODEV => option(feature),
        // A flag or an option that this kernel does not know, or a namespace that it lacks.
        Errno::EINVAL if feature.since().is_some() => newer(feature),
        Errno::EINVAL => option(feature),
        Errno::ENOSPC | Errno::EUSERS => match feature.limit() {
            Some(name) => format!("raise the limit: sysctl {name}"),
            None => "free some space".to_owned(),
        },
        Errno::EPERM | Errno::EACCES => forbidden(feature, failed, role, host),
        _ => "look into the kernel's log".to_owned(),
    }
}

fn newer(feature: Feature) -> String {
    match (feature.since(), feature.option()) {
        (Some(version), Some(option)) => format!("Linux {version} or later with {option}"),
        (Some(version), None) => format!("Linux {version} or later"),
        (None, Some(option)) => format!("a kernel with {option}"),
        (None, None) => "a newer kernel".to_owned(),
    }
}

fn option(feature: Feature) -> String {
    match feature.option() {
        Some(option) => format!("a kernel with {option}"),
        None => "a newer kernel".to_owned(),
    }
}

/// Somebody forbids it: who is told by how far it came.
fn forbidden(feature: Feature, failed: &Failed, role: Role, host: &Host) -> String {
    let in_user_namespace = role == Role::User || feature == Feature::UserNamespace;
    if in_user_namespace {
        if host.userns_limit == Some(0) {
            return "sysctl user.max_user_namespaces=10000".to_owned();
        }
        if role == Role::User && host.userns_clone == Some(0) {
            return "sysctl kernel.unprivileged_userns_clone=1".to_owned();
        }
        if role == Role::User && host.apparmor_restricts.is_some_and(|value| value > 0) {
            return "give usherd an AppArmor profile with \"userns,\", \
                    or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
                .to_owned();
        }
    }
    if feature == Feature::Proc && failed.step == "mounting" {
        return "unmask /proc for the container (systempaths=unconfined, unmask=ALL), \
                or say proc = \"host\" or \"none\""
            .to_owned();
    }
    if role == Role::Root
        && let Some(lacking) = lacking(feature, host)
    {
        return match &host.container {
            Some(name) => format!("let {name} give usherd the capability {lacking}"),
            None => format!(
                "give usherd the capability {lacking}: see CapabilityBoundingSet= of its unit"
            ),
        };
    }
    match (&host.container, role) {
        (Some(name), _) => format!("let {name} allow it: see its seccomp profile"),
        (None, _) if host.selinux_enforces => {
            "see what SELinux says: ausearch -m avc -ts recent".to_owned()
        }
        (None, Role::Root) => "start usherd without a filter that forbids it: \
             see SystemCallFilter= and RestrictNamespaces= of its unit"
            .to_owned(),
        (None, Role::User) => "start usherd outside of another sandbox, or as root".to_owned(),
    }
}

/// The capability that root needs for it and does not have.
fn lacking(feature: Feature, host: &Host) -> Option<&'static str> {
    let needed: &[&str] = match feature {
        Feature::SwitchUser => &["setgid", "setuid"],
        // To map root itself takes the last of them.
        Feature::UserNamespace => &["setuid", "setgid", "setfcap"],
        Feature::CapabilityBounds => &["setpcap"],
        _ => &["sys_admin"],
    };
    let held = host.capabilities?;
    let has = |name: &str| Capability::named(name).is_some_and(|one| held & one.bit() != 0);
    needed.iter().copied().find(|name| !has(name))
}
