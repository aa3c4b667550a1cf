//! What this kernel and host have of what a sandbox is made of, found out once
//! by trying it, in processes that may hang or be killed without harm.
//!
//! - [`feature`]: what is tried
//! - [`trial`]: trying it
//! - [`remedy`]: what a failure means and what to do about it
//! - [`host`]: what is read rather than tried
//!
//! The helper takes a probe when it starts; `usherd doctor` prints one.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::error::Exit;
use crate::table::isolation::{Isolation, Level, Mechanism, Network, Proc};

pub mod feature;
pub mod host;
pub mod remedy;
pub mod trial;

pub use feature::Feature;
pub use host::Host;
use trial::Line;

/// What has not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last line, if no trial is left.
const ENDED: &str = "ended";
/// Who stands for all ordinary users: nobody.
const ORDINARY: u32 = 65534;

/// Why something cannot be had, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub reason: String,
    pub remedy: String,
}

/// As whom it was tried: an ordinary user has to make a user namespace first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Root,
    User,
}

/// How one feature fared: a version where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub feature: Feature,
    pub outcome: Result<Option<u32>, Missing>,
}

/// What a service wants and this host does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack<'a> {
    pub mechanism: Mechanism,
    pub level: Level,
    pub missing: &'a Missing,
}

/// Everything that was found out.
#[derive(Clone, Debug)]
pub struct Probe {
    pub role: Role,
    pub host: Host,
    findings: Vec<Finding>,
    cgroup: Result<String, Missing>,
}

impl Probe {
    /// Tries everything as who we are. Takes some tens of milliseconds, and
    /// two seconds where something hangs.
    #[must_use]
    pub fn take() -> Self {
        let role = match Uid::effective().is_root() {
            true => Role::Root,
            false => Role::User,
        };
        Self::of(role, Host::read(), &try_all(&[]))
    }

    /// The same as an ordinary user, for root. Fails if root may not become one.
    pub fn take_as_user() -> io::Result<Self> {
        let who = ORDINARY.to_string();
        let told = try_all(&[&who, &who])?;
        Ok(Self::of(Role::User, Host::read(), &Ok(told)))
    }

    /// What the trials told, understood. `told` ends with [`ENDED`] if none is left.
    #[must_use]
    pub fn of(role: Role, host: Host, told: &Result<String, io::Error>) -> Self {
        let text = told.as_deref().unwrap_or_default();
        let lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
        let ended = text.lines().any(|line| line == ENDED);
        let tried = Feature::ALL
            .into_iter()
            .filter(|feature| role == Role::Root || *feature != Feature::SwitchUser);
        let findings = tried.map(|feature| {
            let line = lines.iter().find(|line| line.feature == feature);
            let outcome = match (line, told) {
                (Some(line), _) => match &line.outcome {
                    Ok(version) => Ok(Some(*version).filter(|version| *version > 0)),
                    Err(failed) => Err(remedy::missing(feature, failed, role, &host)),
                },
                (None, Ok(_)) if ended => Err(remedy::killed()),
                (None, Ok(_)) => Err(remedy::hangs(feature, PATIENCE)),
                (None, Err(err)) => Err(remedy::untried(err)),
            };
            Finding { feature, outcome }
        });
        Self {
            role,
            findings: findings.collect(),
            cgroup: host.cgroup(),
            host,
        }
    }

    /// Whoever really makes cgroups knows better than what was read here.
    pub fn set_cgroup(&mut self, state: Result<String, Missing>) {
        self.cgroup = state;
    }

    /// How it is with cgroups, in a few words.
    pub fn cgroup(&self) -> Result<&str, &Missing> {
        self.cgroup.as_deref()
    }

    /// Why `mechanism` cannot be had. What single settings need beyond it is
    /// in [`Self::lacks`].
    #[must_use]
    pub fn missing(&self, mechanism: Mechanism) -> Option<&Missing> {
        if mechanism == Mechanism::Cgroup {
            return self.cgroup.as_ref().err();
        }
        let mut features = feature::made_of(mechanism).iter();
        features.find_map(|feature| self.lack(*feature))
    }

    /// Why a single feature cannot be had.
    #[must_use]
    pub fn lack(&self, feature: Feature) -> Option<&Missing> {
        let finding = self.findings.iter().find(|found| found.feature == feature);
        finding.and_then(|found| found.outcome.as_ref().err())
    }

    /// What a service of this isolation would have to do without.
    #[must_use]
    pub fn lacks(&self, isolation: &Isolation) -> Vec<Lack<'_>> {
        let wanted = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| isolation.wants(*mechanism));
        let lacking = wanted.filter_map(|mechanism| {
            let setting = feature_of_setting(isolation, mechanism);
            let missing = self
                .missing(mechanism)
                .or_else(|| setting.and_then(|feature| self.lack(feature)))?;
            Some(Lack {
                mechanism,
                level: isolation.level(mechanism),
                missing,
            })
        });
        lacking.collect()
    }

    /// All that was tried, in the order of [`Feature::ALL`].
    #[must_use]
    pub fn facts(&self) -> &[Finding] {
        &self.findings
    }

    /// Landlock's version, if there is Landlock.
    #[must_use]
    pub fn landlock(&self) -> Option<u32> {
        let mut findings = self.findings.iter();
        let found = findings.find(|found| found.feature == Feature::Landlock)?;
        found.outcome.as_ref().ok().copied().flatten()
    }
}

/// What a setting needs that not every use of its mechanism does.
#[must_use]
pub fn feature_of_setting(isolation: &Isolation, mechanism: Mechanism) -> Option<Feature> {
    match (mechanism, isolation.proc, isolation.network) {
        (Mechanism::MountNamespace, Proc::Own | Proc::Subset, _) => Some(Feature::Proc),
        (Mechanism::NetworkNamespace, _, Network::Loopback) => Some(Feature::Loopback),
        _ => None,
    }
}

/// Runs the trials in a process of our own program and gathers what they tell.
fn try_all(who: &[&str]) -> io::Result<String> {
    let mut trials = Command::new("/proc/self/exe")
        .arg0("usherd-probe")
        .arg("--probe")
        .args(who)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let told = match trials.stdout.take() {
        Some(pipe) => gather(pipe, Instant::now() + PATIENCE),
        None => Ok(String::new()),
    };
    // It only waits for its children, who end with it; nothing here can hang.
    let _ = trials.kill();
    match trials.wait()?.code() {
        Some(code) if code == i32::from(Exit::NotPermitted.code()) => {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
        _ => told,
    }
}

/// Reads until every trial has told, all have ended, or the time is over.
fn gather(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<String> {
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let lines = told.iter().filter(|byte| **byte == b'\n').count();
        let left = deadline.saturating_duration_since(Instant::now());
        if lines >= Feature::ALL.len() || left.is_zero() {
            break;
        }
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, limit) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(err) => return Err(err.into()),
        }
        match pipe.read(&mut buffer)? {
            0 => {
                told.extend_from_slice(ENDED.as_bytes());
                break;
            }
            n => told.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&told).into_owned())
}

/// `usherd --probe [UID GID]`: how [`Probe::take`] starts the trials. Nobody
/// else has a use for it.
#[must_use]
pub fn run(identity: Option<(u32, u32)>) -> Exit {
    if let Some((uid, gid)) = identity
        && become_user(Uid::from_raw(uid), Gid::from_raw(gid)).is_err()
    {
        return Exit::NotPermitted;
    }
    trial::try_all();
    Exit::Ok
}

fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // Our own files in /proc are root's otherwise, and so are the maps of user namespaces.
    set_dumpable(true)
}

#[cfg(test)]
mod tests;
