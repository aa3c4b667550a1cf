//! A sandbox for one process, which builds it itself and then becomes our own
//! program in it: how administrative servers come to be.
//!
//! Nobody waits in such a sandbox and nobody follows into it, so there is no keeper. The
//! helper's child executes our program as `usherd --operation`, with a link to the
//! helper on descriptor 3 and its [`Orders`], a sealed file, on 4. Until the sandbox stands it
//! reads nothing but these; what was asked for comes over the link afterwards.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Step;
use super::blueprint::Blueprint;
use super::keeper::{Failure, build, to};
use super::plan::ExecPlan;
use super::steps::{Entry, Steps};
use crate::error::Exit;
use crate::sys::exec::{Environment, LateEnvp};
use crate::sys::front_calls::{drop_capabilities, drop_capability_bounds};
use crate::sys::{inherit, process, raw};

/// What ends with this status was ended by signal `status - SIGNALLED`, as shells say it.
pub const SIGNALLED: u8 = 128;

/// What the child is to become. `P`: the plan, or a way to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders<P> {
    /// `None`: on the host as it is.
    pub blueprint: Option<Blueprint>,
    pub plan: P,
    pub environment: Environment,
}

/// `usherd --operation`. Nobody but the helper's child has a use for it. `tell` is to
/// say over the link why there will be no server.
#[must_use]
pub fn run(tell: impl Fn(OwnedFd, &str)) -> ExitCode {
    let mut inherited = inherit::take_from_three(2).into_iter();
    let (Some(link), Some(orders)) = (inherited.next(), inherited.next()) else {
        eprintln!("usherd: --operation is for usherd itself");
        return Exit::Usage.into();
    };
    // The runtime ignores SIGPIPE, and whatever we become would inherit that.
    process::reset_signals();
    match separate(orders) {
        Ok(Side::Outside(child)) => {
            drop(link);
            ExitCode::from(wait(child))
        }
        Ok(Side::Inside(orders)) => {
            let why = match become_server(&orders, &link) {
                Ok(never) => match never {},
                Err(why) => why,
            };
            tell(link, &why);
            Exit::System.into()
        }
        Err(why) => {
            tell(link, &why);
            Exit::System.into()
        }
    }
}

/// Which of the two processes this is.
enum Side {
    /// The one that the helper knows. It waits for the other and ends as that does.
    Outside(i32),
    Inside(Box<Orders<ExecPlan>>),
}

fn separate(orders: OwnedFd) -> Result<Side, String> {
    let told = |err: io::Error| format!("unable to read the orders: {err}");
    let mut file = File::from(orders);
    // The helper's place in it, which is ours too, is the end.
    file.rewind().map_err(told)?;
    let read = serde_json::from_reader(io::BufReader::new(file));
    let orders: Box<Orders<ExecPlan>> = read.map_err(|err| told(err.into()))?;
    die_with_parent()?;
    let Some(blueprint) = &orders.blueprint else {
        return Ok(Side::Inside(orders));
    };
    let failed = |failure: Failure| failure.to_string();
    build::make_namespaces(blueprint).map_err(failed)?;
    if !blueprint.pid_namespace {
        return Ok(Side::Inside(orders));
    }
    let forked = to("make the first process", process::fork_alone());
    match forked.map_err(failed)? {
        Some(child) => Ok(Side::Outside(child)),
        None => {
            die_with_parent()?;
            Ok(Side::Inside(orders))
        }
    }
}

/// Without a helper nobody bounds what an administrative server does.
fn die_with_parent() -> Result<(), String> {
    let set = prctl::set_pdeathsig(Signal::SIGKILL);
    set.map_err(|errno| format!("unable to tie a process to its parent: {errno}"))
}

fn become_server(orders: &Orders<ExecPlan>, link: &OwnedFd) -> Result<Infallible, String> {
    // Its tree may have neither /proc nor the place where we are.
    let program = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/proc/self/exe")
        .map_err(|err| format!("unable to find our own program: {err}"))?;
    let built = match &orders.blueprint {
        Some(blueprint) => {
            let built = build::furnish(blueprint, None);
            Some(built.map_err(|failure| failure.to_string())?)
        }
        None => None,
    };
    let entry = built.as_ref().map(|built| Entry {
        keeper: -1, // we are where a keeper would be
        namespaces: 0,
        landlock: built.landlock().map(|fd| fd.as_raw_fd()),
        users: built.users().map(|fd| fd.as_raw_fd()),
    });
    let envp = LateEnvp::default();
    envp.put(orders.environment.clone().seal());
    let steps = Steps {
        plan: &orders.plan,
        entry: entry.as_ref(),
        null: 2,
        stderr: Some(2),
        sockets: &[link.as_raw_fd()],
        channel: None,
        cpus: &[],
        envp: &envp,
        program: Some(program.as_raw_fd()),
    };
    let Err((step, errno)) = steps.take();
    let err = io::Error::from_raw_os_error(errno);
    Err(match step {
        Step::Exec => format!("unable to execute usherd in its sandbox: {err}"),
        step => format!("{step}: {err}"),
    })
}

/// The first process of the pid namespace is its end, so nothing is left after it.
fn wait(child: i32) -> u8 {
    // What is left to do takes no right.
    let _ = drop_capability_bounds();
    let _ = drop_capabilities();
    let _ = raw::forbid_new_privileges();
    loop {
        let (number, base) = match waitpid(Pid::from_raw(child), None) {
            Ok(WaitStatus::Exited(_, status)) => (status, 0),
            Ok(WaitStatus::Signaled(_, signal, _)) => (signal as i32, SIGNALLED),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return SIGNALLED,
        };
        return base.saturating_add(u8::try_from(number).unwrap_or(u8::MAX));
    }
}
