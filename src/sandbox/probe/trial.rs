//! The trials: each in a process of its own, so that what it does to itself
//! goes with it, and one that hangs holds nobody up.
//!
//! Run by `usherd --probe`, which is one process of one thread, without
//! anything that a trial could spoil. Each writes one line, see [`Line`].
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid};

use super::feature::Feature;
use crate::sys::{front_calls, probe_calls as calls};

/// Nobody, on every Linux: what a trial becomes, where it becomes somebody.
const NOBODY: u32 = 65534;

/// Why a trial failed: at which step, and the error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub step: String,
    pub errno: i32,
}

/// What a trial tells: a number where the feature has one (a version), 0 otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub feature: Feature,
    pub outcome: Result<u32, Failed>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.feature.name();
        match &self.outcome {
            Ok(number) => write!(f, "{name} works {number}"),
            Err(Failed { step, errno }) => write!(f, "{name} fails {errno} {step}"),
        }
    }
}

impl Line {
    /// Reads a line back. `None`: it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let feature = Feature::from_name(words.next()?)?;
        let (verdict, number) = (words.next()?, words.next()?);
        let outcome = match verdict {
            "works" => Ok(number.parse().ok()?),
            "fails" => Err(Failed {
                errno: number.parse().ok()?,
                step: words.next()?.to_owned(),
            }),
            _ => return None,
        };
        Some(Self { feature, outcome })
    }
}

type Outcome = Result<u32, Failed>;

/// Tries everything at once, each feature in a child, and returns when all have ended.
pub fn try_all() {
    let mut children = Vec::new();
    for feature in Feature::ALL {
        let began = calls::in_child(|| {
            // Whoever gives up on us ends all of us.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            tell(feature, attempt(feature));
            0
        });
        match began {
            Ok(pid) => children.push(pid),
            Err(err) => tell(feature, Err(failed("fork")(err))),
        }
    }
    for pid in children {
        let _ = waitpid(pid, None);
    }
}

/// In one write, so that lines of several trials do not mix.
fn tell(feature: Feature, outcome: Outcome) {
    let line = format!("{}\n", Line { feature, outcome });
    let _ = nix::unistd::write(io::stdout(), line.as_bytes());
}

fn failed<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> Failed {
    let step = step.to_owned();
    move |err| Failed {
        step,
        errno: err.into().raw_os_error().unwrap_or(libc::EIO),
    }
}

fn attempt(feature: Feature) -> Outcome {
    match feature {
        Feature::UserNamespace => return try_user_namespace().map(|()| 0),
        Feature::Landlock => return calls::landlock_version().map_err(failed("landlock")),
        Feature::Clone3 => try_clone3(),
        Feature::SwitchUser => try_switch(),
        Feature::NoNewPrivs => prctl::set_no_new_privs().map_err(failed("no_new_privs")),
        Feature::Seccomp => try_seccomp(),
        Feature::Keyring => calls::new_session_keyring().map_err(failed("keyctl")),
        Feature::CapabilityBounds => gain_rights().and_then(|()| try_capabilities()),
        _ => gain_rights().and_then(|()| try_namespace(feature)),
    }
    .map(|()| 0)
}

/// An ordinary user may do none of it but in a user namespace.
fn gain_rights() -> Result<(), Failed> {
    match Uid::effective().is_root() {
        true => Ok(()),
        false => enter_user_namespace(),
    }
}

fn enter_user_namespace() -> Result<(), Failed> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(failed("user namespace"))?;
    let write = |file: &str, text: &str| {
        let path = format!("/proc/self/{file}");
        fs::write(path, text).map_err(failed(file))
    };
    write("setgroups", "deny")?;
    write("uid_map", &format!("{uid} {uid} 1"))?;
    write("gid_map", &format!("{gid} {gid} 1"))
}

/// It is of use only if one has rights in it: AppArmor lets some users in and
/// gives them none.
fn try_user_namespace() -> Result<(), Failed> {
    enter_user_namespace()?;
    unshare(CloneFlags::CLONE_NEWUTS).map_err(failed("rights in a user namespace"))
}

fn try_clone3() -> Result<(), Failed> {
    let null = fs::File::open("/dev/null").map_err(failed("/dev/null"))?;
    match calls::clone_into(null.as_fd()) {
        Err(err) if err.raw_os_error() == Some(libc::EBADF) => Ok(()),
        Err(err) => Err(failed("clone3")(err)),
        Ok(()) => Ok(()),
    }
}

fn try_switch() -> Result<(), Failed> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).map_err(failed("setgroups"))?;
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))
}

fn try_seccomp() -> Result<(), Failed> {
    /// BPF_RET | BPF_K: the instruction "return a constant".
    const RETURN: u16 = 0x06;
    for action in [libc::SECCOMP_RET_ERRNO, libc::SECCOMP_RET_KILL_PROCESS] {
        calls::has_filter_action(action).map_err(failed("seccomp"))?;
    }
    let allow_all = seccompiler::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    seccompiler::apply_filter(&[allow_all]).map_err(|err| Failed {
        step: "seccomp".to_owned(),
        errno: match err {
            seccompiler::Error::Prctl(err) | seccompiler::Error::Seccomp(err) => {
                err.raw_os_error().unwrap_or(libc::EIO)
            }
            _ => libc::EIO,
        },
    })
}

/// CAP_AUDIT_READ is one that no server needs and every root has.
fn try_capabilities() -> Result<(), Failed> {
    const AUDIT_READ: u8 = 37;
    calls::drop_bound(AUDIT_READ).map_err(failed("PR_CAPBSET_DROP"))?;
    front_calls::drop_capabilities().map_err(failed("capset"))
}

fn try_namespace(feature: Feature) -> Result<(), Failed> {
    match feature {
        Feature::IpcNamespace => enter(CloneFlags::CLONE_NEWIPC, "ipc namespace"),
        Feature::CgroupNamespace => enter(CloneFlags::CLONE_NEWCGROUP, "cgroup namespace"),
        Feature::NetworkNamespace => enter(CloneFlags::CLONE_NEWNET, "network namespace"),
        Feature::UtsNamespace => {
            enter(CloneFlags::CLONE_NEWUTS, "uts namespace")?;
            sethostname("probe").map_err(failed("sethostname"))
        }
        Feature::Loopback => {
            enter(CloneFlags::CLONE_NEWNET, "network namespace")?;
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(failed("socket"))?;
            calls::raise_loopback(socket.as_fd()).map_err(failed("SIOCSIFFLAGS"))
        }
        Feature::PidNamespace => as_first_process(|| match nix::unistd::getpid().as_raw() {
            1 => Ok(()),
            _ => Err(failed("pid 1")(io::Error::from_raw_os_error(libc::EINVAL))),
        }),
        Feature::Proc => as_first_process(try_proc),
        _ => try_mounts(feature),
    }
}

fn enter(flags: CloneFlags, step: &str) -> Result<(), Failed> {
    unshare(flags).map_err(failed(step))
}

fn enter_mounts() -> Result<(), Failed> {
    enter(CloneFlags::CLONE_NEWNS, "mount namespace")?;
    calls::make_private().map_err(failed("private mounts"))
}

/// Runs `work` as the first process of a pid namespace. An errno fits into an exit status.
fn as_first_process(work: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    enter(CloneFlags::CLONE_NEWPID, "pid namespace")?;
    let first = calls::in_child(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        match work() {
            Ok(()) => 0,
            Err(Failed { errno, .. }) => errno,
        }
    })
    .map_err(failed("fork"))?;
    match waitpid(first, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, errno)) => Err(Failed {
            step: "mounting".to_owned(),
            errno,
        }),
        Ok(_) => Err(failed("first process")(io::Error::from_raw_os_error(
            libc::EINTR,
        ))),
        Err(err) => Err(failed("waitpid")(err)),
    }
}

fn try_proc() -> Result<(), Failed> {
    enter_mounts()?;
    let own = calls::detached(c"proc", &[(c"hidepid", c"invisible")]).map_err(failed("hidepid"))?;
    calls::attach(own.as_fd(), c"/proc").map_err(failed("move_mount"))?;
    calls::detached(c"proc", &[(c"subset", c"pid")]).map_err(failed("subset"))?;
    Ok(())
}

fn try_mounts(feature: Feature) -> Result<(), Failed> {
    enter_mounts()?;
    match feature {
        Feature::Tmpfs => calls::mount_new(c"tmpfs", c"/tmp").map_err(failed("tmpfs")),
        Feature::MountApi => {
            let tmp = calls::detached(c"tmpfs", &[(c"mode", c"0755")]).map_err(failed("fsopen"))?;
            calls::attach(tmp.as_fd(), c"/tmp").map_err(failed("move_mount"))?;
            let copy = calls::copy_tree(c"/tmp", false).map_err(failed("open_tree"))?;
            calls::attach(copy.as_fd(), c"/tmp").map_err(failed("move_mount"))
        }
        Feature::ReadOnlyTree => {
            let tree = calls::copy_tree(c"/", true).map_err(failed("open_tree"))?;
            calls::make_read_only(tree.as_fd()).map_err(failed("mount_setattr"))
        }
        Feature::TreeNamespace => calls::tree_namespace(c"/")
            .map(drop)
            .map_err(failed("open_tree")),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for feature in Feature::ALL {
            let no = Failed {
                step: "rights in a user namespace".into(),
                errno: 1,
            };
            for outcome in [Ok(0), Ok(7), Err(no.clone())] {
                let line = Line { feature, outcome };
                assert_eq!(Line::parse(&line.to_string()).unwrap(), line);
            }
        }
    }

    #[test]
    fn other_lines_are_nothing() {
        for line in [
            "",
            "landlock",
            "landlock works",
            "landlock works x",
            "landlock fails 1",
            "landlock breaks 1 x",
            "moon works 1",
        ] {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
    }
}
