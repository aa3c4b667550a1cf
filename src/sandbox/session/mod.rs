//! The process between the helper's child and the server, for what only a
//! process with memory of its own can do: to have a score of its own for the
//! kernel's OOM killer (processes that share memory share it), and to run the
//! modules of PAM, which are anybody's code.
//!
//! The child makes itself a session leader in its cgroup and, where there is one,
//! its pid namespace, and then executes our own program as
//! `usherd --session ORDERS LINK`, two numbers of descriptors. What is left of the
//! plan comes as [`Orders`], a sealed file. This process stays on the host as it is
//! while PAM's modules run, as login(1) does, for they read /etc/shadow and
//! write to the system log; then it takes the [`steps`](super::steps) that the
//! ordinary child takes and becomes the server, whose number it has had all the time.
//! Who closes the session in the end is the [`closer`]. Over the link both
//! tell the helper what it has to know.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::fcntl::{OFlag, openat};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, getgroups, setgroups};
use serde::{Deserialize, Serialize};

use super::Step;
use super::plan::{ExecPlan, PamPlan};
use super::steps::{Entry, Steps};
use crate::error::Exit;
use crate::sys::exec::{Environment, LateEnvp};
use crate::sys::pam::{self, Item, Pam};
use crate::sys::{inherit, link, process, raw};

mod closer;

/// What a child that became no server ends with.
const NOT_STARTED: u8 = 127;

/// The longest report.
pub const MAX_REPORT: usize = 8192;

/// What the child is to become. `P`: the plan, or a way to it. Descriptors
/// are numbers, which are the same as in the helper.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders<P> {
    pub plan: P,
    pub environment: Environment,
    /// The address of the peer.
    pub remote: Option<String>,
    pub entry: Option<Entry>,
    pub null: i32,
    pub stderr: Option<i32>,
    pub sockets: Vec<i32>,
    /// The host's /proc: that of a sandbox may be read-only, or none.
    pub proc: i32,
    /// A cgroup that the closer goes to, out of that of the instance.
    pub beside: Option<i32>,
}

impl<P> Orders<P> {
    /// All that have to outlive the exec of our own program.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        let entry = self.entry.iter().flat_map(Entry::descriptors);
        let own = [self.null, self.proc].into_iter().chain(self.beside);
        let servers = self.sockets.iter().copied().chain(self.stderr);
        own.chain(servers).chain(entry)
    }
}

/// What the helper is told, one JSON packet each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// All is done that is done here; the server is next.
    Going,
    Failed(Failure),
    /// By the closer: the session of PAM is still there, for this reason.
    NotClosed(String),
}

/// Why there is no server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`Step::code`].
    pub step: u8,
    pub errno: i32,
    /// What the errno does not say.
    pub why: Option<String>,
}

impl Failure {
    fn new(step: Step, errno: i32) -> Self {
        Self {
            step: step.code(),
            errno,
            why: None,
        }
    }

    fn of_io(step: Step, err: &io::Error) -> Self {
        Self::new(step, err.raw_os_error().unwrap_or(libc::EIO))
    }

    fn of_pam(what: &str, why: &str) -> Self {
        Self {
            why: Some(format!("{what}: {why}")),
            ..Self::new(Step::Pam, libc::EACCES)
        }
    }
}

/// `usherd --session ORDERS LINK`. Nobody but the helper's child has a use for it.
#[must_use]
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut descriptor = || inherit::take(args.next()?.to_str()?.parse().ok()?);
    let (Some(orders), Some(link)) = (descriptor(), descriptor()) else {
        eprintln!("usherd: --session is for usherd itself");
        return Exit::Usage.into();
    };
    let Err(failure) = become_server(orders, &link);
    tell(link.as_fd(), &Report::Failed(failure));
    NOT_STARTED.into()
}

fn become_server(orders: OwnedFd, link: &OwnedFd) -> Result<Infallible, Failure> {
    // The runtime ignores SIGPIPE, and a server would inherit that.
    process::reset_signals();
    let at_once = |errno| Failure::new(Step::SessionProcess, errno);
    raw::close_on_exec_from(3).map_err(at_once)?;
    let orders = read(orders).map_err(|err| Failure::of_io(Step::SessionProcess, &err));
    let mut orders = orders?;
    let entry = orders.entry.as_ref();
    if entry.is_some_and(|entry| entry.has(libc::CLONE_NEWUSER)) {
        raw::lay_down_capabilities().map_err(at_once)?;
    }
    let session = orders.plan.session.clone();
    if let Some(score) = session.as_ref().and_then(|session| session.oom_score) {
        set_oom_score(orders.proc, score).map_err(|err| Failure::of_io(Step::OomScore, &err))?;
    }
    if let Some(pam) = session.and_then(|session| session.pam) {
        open_session(&mut orders, &pam, link)?;
    }
    tell(link.as_fd(), &Report::Going);
    let envp = LateEnvp::default();
    envp.put(orders.environment.seal());
    let steps = Steps {
        plan: &orders.plan,
        entry: orders.entry.as_ref(),
        null: orders.null,
        stderr: orders.stderr,
        sockets: &orders.sockets,
        channel: None,
        cpus: &[],
        envp: &envp,
        program: None,
    };
    steps
        .take()
        .map_err(|(step, errno)| Failure::new(step, errno))
}

fn read(orders: OwnedFd) -> io::Result<Orders<ExecPlan>> {
    let mut file = File::from(orders);
    // The helper's place in it, which is ours too, is the end.
    file.rewind()?;
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

fn tell(link: BorrowedFd<'_>, report: &Report) {
    if let Ok(text) = serde_json::to_vec(report) {
        // A helper that is gone hears nothing; the server is started all the same.
        let _ = link::send(link, &text, &[]);
    }
}

fn set_oom_score(proc: i32, score: i32) -> io::Result<()> {
    let proc = inherit::take(proc).ok_or(io::Error::from_raw_os_error(libc::EBADF))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(&proc, "self/oom_score_adj", flags, Mode::empty())?;
    File::from(file).write_all(score.to_string().as_bytes())
}

/// On return the server is in a session of PAM, and somebody waits to close it.
fn open_session(
    orders: &mut Orders<ExecPlan>,
    plan: &PamPlan,
    link: &OwnedFd,
) -> Result<(), Failure> {
    // A neighbour of the server's in a sandbox, and not yet in it: nobody's to look at.
    let hidden = prctl::set_dumpable(false);
    hidden.map_err(|errno| Failure::new(Step::Pam, errno as i32))?;
    // To end between the opening and the closer would leave the session open.
    process::hold_signals();
    let steps = Steps {
        plan: &orders.plan,
        entry: None,
        null: orders.null,
        stderr: orders.stderr,
        sockets: &[],
        channel: None,
        cpus: &[],
        envp: &LateEnvp::default(),
        program: None,
    };
    let restored = steps.restore_files();
    restored.map_err(|errno| Failure::new(Step::Limits, errno))?;
    let opened = opened(orders, plan)?;
    for (name, value) in opened.environment() {
        if plan.loose.contains(&name) {
            orders.environment.remove(&name);
        }
        if !orders.environment.has(&name) {
            orders.environment.push(&name, value.as_bytes());
        }
    }
    closer::leave_behind(opened, orders, link)
        .map_err(|err| Failure::of_pam("nobody can be left to close the session", &err))?;
    process::let_signals_through();
    Ok(())
}

fn opened(orders: &mut Orders<ExecPlan>, plan: &PamPlan) -> Result<Pam, Failure> {
    let groups = orders.plan.credentials.as_mut().map(|who| &mut who.groups);
    if let Some(groups) = &groups {
        // Modules add to them, see pam_setcred(3).
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        setgroups(&groups).map_err(|errno| Failure::new(Step::Pam, errno as i32))?;
    }
    let failed = |what: &'static str| move |why: String| Failure::of_pam(what, &why);
    let mut pam = Pam::start(&plan.service, &plan.user, None).map_err(failed("no PAM"))?;
    pam.set(Item::Tty, &plan.tty).map_err(failed("no PAM"))?;
    if let Some(remote) = &orders.remote {
        let remote = pam.set(Item::RemoteHost, &pam::text(remote));
        remote.map_err(failed("no PAM"))?;
    }
    pam.account().map_err(failed("the account is refused"))?;
    let established = pam.establish_credentials();
    established.map_err(failed("its credentials are refused"))?;
    if let Err(why) = pam.open_session() {
        let _ = pam.delete_credentials();
        return Err(failed("the session is refused")(why));
    }
    // In a user namespace there are none but those of the table.
    let is_confined = orders
        .entry
        .as_ref()
        .is_some_and(|entry| entry.users.is_some());
    if let (false, Some(groups), Ok(now)) = (is_confined, groups, getgroups()) {
        *groups = now.into_iter().map(Gid::as_raw).collect();
    }
    Ok(pam)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sandbox::plan::{Cage, Credentials, SessionPlan};
    use crate::sys::bpf::{RETURN, plain};
    use crate::table::Limit;

    #[test]
    fn orders_arrive_as_they_were_given() {
        let cage = Cage {
            cpus: vec![u64::MAX],
            capabilities: Some(1 << 63),
            filter: Some(Arc::from([plain(RETURN, 7)])),
            ..Cage::default()
        };
        let mut plan = ExecPlan::of_ourselves(vec![c"\xff".into()], (1, u64::MAX), 0o77);
        plan.cage = cage;
        plan.credentials = Some(Credentials {
            uid: u32::MAX - 1,
            gid: 5,
            groups: vec![6, 7],
        });
        plan.limits.push(Limit {
            name: "core",
            resource: 4,
            soft: 0,
            hard: u64::MAX,
        });
        plan.session = Some(SessionPlan {
            oom_score: Some(-1),
            pam: None,
        });
        let mut environment = Environment::default();
        environment.push("A", b"\xfe\n");
        environment.push_listen_pid();
        let orders = Orders {
            plan: &plan,
            environment,
            remote: None,
            entry: Some(Entry {
                keeper: 64,
                namespaces: libc::CLONE_NEWPID,
                landlock: Some(65),
                users: None,
            }),
            null: 9,
            stderr: None,
            sockets: vec![10],
            proc: 66,
            beside: Some(67),
        };
        let text = serde_json::to_string(&orders).unwrap();
        let read: Orders<ExecPlan> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let filter = read.plan.cage.filter.as_deref().unwrap();
        assert!(filter.len() == 1 && filter[0].k == 7);
        assert_eq!(read.plan.limits[0].hard, u64::MAX);
        let all: Vec<i32> = read.descriptors().collect();
        assert_eq!(all, [9, 66, 67, 10, 64, 65]);
    }
}
