//! The recipe: clone, then every [`Step`] in order, then exec.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};

use crate::logging::Bytes;
use crate::sandbox::Step;
use crate::sandbox::plan::ExecPlan;
use crate::sys::process::ChildStack;
use crate::sys::shared::SharedCells;
use crate::sys::{exec, process};
use crate::table::Activation;

/// Status of a child that never became a server; the cell says why.
const NOT_STARTED: u8 = 127;

/// How long we sleep for a child that shares our memory. It takes less than a
/// millisecond; but a file system may be slow, and from the change of user on
/// other processes of that user may stop the child, and with it us.
const PATIENCE: Duration = Duration::from_secs(2);
/// A program whose start took longer than this is not slept for again.
const SLOW: Duration = Duration::from_millis(250);

/// The descriptors of one child.
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    pub null: BorrowedFd<'a>,
    /// `None`: the socket itself, the classic way.
    pub stderr: Option<BorrowedFd<'a>>,
    /// With [`Activation::Inetd`] exactly one; with [`Activation::ListenFds`] all of them, from 3 on.
    pub sockets: &'a [BorrowedFd<'a>],
}

/// Why there is no server.
#[derive(Debug)]
pub struct NotStarted {
    pub step: Step,
    pub errno: i32,
}

/// Makes children, and remembers where their failures are written.
#[derive(Debug)]
pub struct Launcher {
    cells: SharedCells,
    stack: ChildStack,
}

impl Launcher {
    /// For children with cells `0..=last_cell`.
    pub fn new(last_cell: usize) -> io::Result<Self> {
        Ok(Self {
            cells: SharedCells::new(last_cell + 1)?,
            stack: ChildStack::default(),
        })
    }

    /// Clones and returns the child's pid. A step that fails in the child is
    /// left in its cell as `code << 24 | errno`.
    ///
    /// Usually the child borrows our memory and we sleep until it has become
    /// the server, so a failure is known on return. Where that could take for
    /// ever (`plan.may_hang`) the child gets a copy, we go on at once, and a
    /// failure is found by [`Self::failure`] when the child is reaped.
    pub fn launch(
        &mut self,
        plan: &ExecPlan,
        mut envp: exec::Envp,
        fds: &Descriptors,
        cell: usize,
    ) -> Result<i32, NotStarted> {
        let word = self.cells.cell(cell);
        word.store(0, Ordering::Relaxed);
        let child = || {
            if !plan.may_hang.get() {
                // Without it there is only no limit.
                let _ = process::end_without_exec(PATIENCE);
            }
            let Err(failed) = become_server(plan, &mut envp, fds);
            word.store(encode(&failed), Ordering::Release);
            NOT_STARTED
        };
        let cloned = if plan.may_hang.get() {
            process::spawn_copy(child)
        } else {
            let began = Instant::now();
            let cloned = process::spawn_sharing(&mut self.stack, child);
            if began.elapsed() > SLOW {
                log::warn!(program:% = Bytes(plan.program.to_bytes()); "slow to start: its next starts are not waited for");
                plan.may_hang.set(true);
            }
            cloned
        };
        cloned.map_err(|err| NotStarted {
            step: Step::Clone,
            errno: errno(&err),
        })
    }

    /// What a child left in its cell, if it failed before exec.
    #[must_use]
    pub fn failure(&self, cell: usize) -> Option<NotStarted> {
        let word = self.cells.take(cell);
        let code = u8::try_from(word >> 24).unwrap_or(0);
        let errno = i32::try_from(word & 0x00ff_ffff).unwrap_or(0);
        (word != 0).then(|| NotStarted {
            step: Step::from_code(code).unwrap_or(Step::Exec),
            errno,
        })
    }
}

fn encode(failed: &NotStarted) -> u32 {
    // A clone never fails in the child, so the code is never zero.
    u32::from(failed.step.code()) << 24 | failed.errno.unsigned_abs() & 0x00ff_ffff
}

/// The child's whole life before exec. It may run in our own memory: no
/// allocation, no logging, only system calls, in the order that [`Step`] gives reasons for.
fn become_server(
    plan: &ExecPlan,
    envp: &mut exec::Envp,
    fds: &Descriptors,
) -> Result<Infallible, NotStarted> {
    let at = |step: Step| {
        move |err: io::Error| NotStarted {
            step,
            errno: errno(&err),
        }
    };

    // Dispositions: the helper ignores nothing, and exec resets its handlers.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|err| at(Step::Signals)(err.into()))?;
    setsid().map_err(|err| at(Step::Session)(err.into()))?;
    place_descriptors(plan.activation, fds).map_err(at(Step::Descriptors))?;
    let (soft, hard) = plan.inherited_files;
    process::set_limit(NOFILE, soft, hard).map_err(at(Step::Limits))?;
    for limit in &plan.limits {
        process::set_limit(limit.resource, limit.soft, limit.hard).map_err(at(Step::Limits))?;
    }
    if let Some(nice) = plan.nice {
        process::set_nice(nice).map_err(at(Step::Nice))?;
    }
    if let Some(who) = &plan.credentials {
        process::become_user(who.uid, who.gid, &who.groups).map_err(at(Step::Credentials))?;
    }
    umask(Mode::from_bits_truncate(plan.umask));
    chdir(plan.dir.as_c_str()).map_err(|err| at(Step::Directory)(err.into()))?;
    envp.fill_listen_pid();
    Err(at(Step::Exec)(exec::exec(&plan.program, &plan.argv, envp)))
}

#[allow(
    clippy::cast_possible_wrap,
    reason = "a small constant whose type differs between libcs"
)]
const NOFILE: i32 = libc::RLIMIT_NOFILE as i32;

/// Listeners live from this number on, so that none of them sits where
/// another one of the same service is to be placed.
pub const FIRST_LISTENER: i32 = 64;

/// The helper keeps 0, 1 and 2 open all its life, so no socket ever has one of
/// these numbers and nothing is overwritten before it is copied.
fn place_descriptors(activation: Activation, fds: &Descriptors) -> io::Result<()> {
    match (activation, fds.sockets) {
        (Activation::Inetd, [socket, ..]) => {
            process::place(*socket, 0)?;
            process::place(*socket, 1)?;
            process::place(fds.stderr.unwrap_or(*socket), 2)?;
            process::close_on_exec_from(3)
        }
        (Activation::Inetd, []) => Err(io::Error::from_raw_os_error(libc::EBADF)),
        (Activation::ListenFds, sockets) => {
            let stderr = fds.stderr.unwrap_or(fds.null);
            process::place(fds.null, 0)?;
            process::place(stderr, 1)?;
            process::place(stderr, 2)?;
            place_from_three(sockets)
        }
    }
}

/// Puts `sockets` on 3, 4, ... A single one may come from anywhere, several
/// are listeners and lie above all targets.
fn place_from_three(sockets: &[BorrowedFd]) -> io::Result<()> {
    process::close_on_exec_from(3)?;
    for (target, socket) in (3..).zip(sockets) {
        if target >= FIRST_LISTENER {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        process::place(*socket, target)?;
    }
    Ok(())
}

fn errno(err: &io::Error) -> i32 {
    err.raw_os_error().unwrap_or(libc::EIO)
}

/// The null device for servers that get no input.
pub fn open_null() -> io::Result<OwnedFd> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(null.into())
}
