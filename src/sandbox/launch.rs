//! The recipe: clone, then every [`Step`] in order, then exec.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::sandbox::Step;
use crate::sandbox::plan::ExecPlan;
use crate::sys::child::{Berths, Errand};
use crate::sys::exec::{Envp, LateEnvp};
use crate::sys::link;
use crate::sys::raw::{self, Errno};
use crate::table::Activation;

/// Listeners live from this number on, so that none of them sits where
/// another one of the same service is to be placed.
pub const FIRST_LISTENER: i32 = 64;

/// The descriptors of one child.
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    pub null: BorrowedFd<'a>,
    /// `None`: the socket itself, the classic way.
    pub stderr: Option<BorrowedFd<'a>>,
    /// The directory of the cgroup to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// None for who is parked. With [`Activation::Inetd`] exactly one; with [`Activation::ListenFds`] all of them, from 3 on.
    pub sockets: &'a [BorrowedFd<'a>],
    /// What the server runs in, if there is anything.
    pub sandbox: Option<&'a Door>,
}

/// The way into a sandbox that stands. Its descriptors are from
/// [`FIRST_LISTENER`] on, as listeners are.
#[derive(Debug)]
pub struct Door {
    /// Of its keeper.
    pub keeper: OwnedFd,
    /// `CLONE_NEW*` of what the keeper has of its own.
    pub namespaces: i32,
    pub landlock: Option<OwnedFd>,
    pub users: Option<OwnedFd>,
}

/// Why there is no server.
#[derive(Debug)]
pub struct NotStarted {
    pub step: Step,
    pub errno: i32,
}

/// Makes children, and hears of their failures.
#[derive(Debug)]
pub struct Launcher {
    berths: Berths<Start>,
    /// Our own pid namespace, to come back to.
    own_pids: OwnedFd,
}

impl Launcher {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            berths: Berths::default(),
            own_pids: File::open("/proc/self/ns/pid")?.into(),
        })
    }

    /// Clones and returns the child's pid at once. The caller may close the
    /// descriptors: the child has its own. Whether it became the server is
    /// known when it is reaped, by [`Self::failure`].
    pub fn launch(
        &mut self,
        plan: &Rc<ExecPlan>,
        envp: Envp,
        fds: &Descriptors,
    ) -> Result<i32, NotStarted> {
        let late = LateEnvp::default();
        late.put(envp);
        self.send(Start::new(plan, Rc::new(late), fds, None), fds)
    }

    /// Clones a child that goes as far as it can without a request, and waits
    /// for one. `fds` has no sockets.
    pub fn park(&mut self, plan: &Rc<ExecPlan>, fds: &Descriptors) -> Result<Parked, NotStarted> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (ours, theirs) = pair.map_err(|errno| NotStarted {
            step: Step::Clone,
            errno: errno as i32,
        })?;
        let envp = Rc::new(LateEnvp::default());
        let channel = Some(theirs.as_raw_fd());
        let pid = self.send(Start::new(plan, Rc::clone(&envp), fds, channel), fds)?;
        Ok(Parked {
            pid,
            channel: ours,
            envp,
        })
    }

    fn send(&mut self, start: Start, fds: &Descriptors) -> Result<i32, NotStarted> {
        let failed = |errno| NotStarted {
            step: Step::Clone,
            errno,
        };
        let has = |namespace| {
            start
                .entry
                .as_ref()
                .is_some_and(|entry| entry.has(namespace))
        };
        if has(libc::CLONE_NEWUSER) {
            // Only from inside of it, for who is not root outside.
            let sent = self.berths.send_through(start, fds.cgroup);
            let sent = sent.map_err(|err| failed(err.raw_os_error().unwrap_or(libc::EIO)))?;
            return sent.map_err(not_started);
        }
        let entry = start.entry.as_ref();
        let keeper = entry
            .filter(|_| has(libc::CLONE_NEWPID))
            .map(|entry| entry.keeper);
        if let Some(keeper) = keeper {
            raw::enter(keeper, libc::CLONE_NEWPID).map_err(failed)?;
        }
        let sent = self.berths.send(start, 0, fds.cgroup);
        if keeper.is_some()
            && let Err(errno) = raw::enter(self.own_pids.as_raw_fd(), libc::CLONE_NEWPID)
        {
            // Whatever we start from now on would be inside of that sandbox.
            let err = io::Error::from_raw_os_error(errno);
            log::error!("unable to come back to the own pid namespace: {err}");
            std::process::abort();
        }
        sent.map_err(|err| failed(err.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Which step the child that was just reaped as `pid` failed at, if it
    /// never became a server.
    pub fn failure(&mut self, pid: i32) -> Option<NotStarted> {
        self.berths.left_behind(pid).map(not_started)
    }
}

/// What an errand leaves behind, read.
fn not_started(left: u32) -> NotStarted {
    let code = u8::try_from(left >> 24).unwrap_or(0);
    NotStarted {
        step: Step::from_code(code).unwrap_or(Step::Exec),
        errno: i32::try_from(left & 0x00ff_ffff).unwrap_or(0),
    }
}

/// The reverse. The clone is behind us, so the step's code is not zero.
fn leave(step: Step, errno: Errno) -> u32 {
    u32::from(step.code()) << 24 | errno.unsigned_abs() & 0x00ff_ffff
}

/// A child that waits for its request. Dropping it ends the child.
#[derive(Debug)]
pub struct Parked {
    pub pid: i32,
    channel: OwnedFd,
    envp: Rc<LateEnvp>,
}

impl Parked {
    /// Gives the child its request: from now on it is a server like any other.
    /// Fails if it is gone.
    pub fn wake(self, envp: Envp, socket: BorrowedFd<'_>) -> io::Result<i32> {
        self.envp.put(envp);
        link::send(self.channel.as_fd(), b"!", &[socket])?;
        Ok(self.pid)
    }
}

/// All that a child needs, with the descriptors as numbers of its own table,
/// which is a copy of ours.
#[derive(Debug)]
struct Start {
    plan: Rc<ExecPlan>,
    envp: Rc<LateEnvp>,
    null: i32,
    stderr: Option<i32>,
    sockets: Vec<i32>,
    entry: Option<Entry>,
    /// Where a parked child hears of its request.
    channel: Option<i32>,
}

/// A [`Door`] by numbers.
#[derive(Debug)]
struct Entry {
    keeper: i32,
    namespaces: i32,
    landlock: Option<i32>,
    users: Option<i32>,
}

impl Entry {
    fn of(door: &Door) -> Self {
        Self {
            keeper: door.keeper.as_raw_fd(),
            namespaces: door.namespaces,
            landlock: door.landlock.as_ref().map(AsRawFd::as_raw_fd),
            users: door.users.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    fn has(&self, namespace: i32) -> bool {
        self.namespaces & namespace != 0
    }
}

impl Errand for Start {
    fn run(&mut self, enter: Option<i32>) -> u32 {
        let Err((step, errno)) = self.become_server(enter);
        leave(step, errno)
    }

    fn pass(&mut self) -> u32 {
        let Some(entry) = &self.entry else { return 0 };
        match raw::enter(entry.keeper, entry.namespaces) {
            Ok(()) => 0,
            Err(errno) => leave(Step::Namespaces, errno),
        }
    }
}

impl Start {
    fn new(
        plan: &Rc<ExecPlan>,
        envp: Rc<LateEnvp>,
        fds: &Descriptors,
        channel: Option<i32>,
    ) -> Self {
        Self {
            plan: Rc::clone(plan),
            envp,
            null: fds.null.as_raw_fd(),
            stderr: fds.stderr.map(|fd| fd.as_raw_fd()),
            sockets: fds.sockets.iter().map(AsRawFd::as_raw_fd).collect(),
            entry: fds.sandbox.map(Entry::of),
            channel,
        }
    }

    /// The child's whole life before exec, in our memory: no allocation, no
    /// logging, nothing that can panic, only system calls, in the order that
    /// [`Step`] gives reasons for.
    fn become_server(&mut self, enter: Option<i32>) -> Result<Infallible, (Step, Errno)> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        let plan = &*self.plan;
        if let Some(cgroup) = enter {
            raw::enter_cgroup(cgroup).map_err(at(Step::Cgroup))?;
        }
        // Dispositions: the helper ignores nothing, and exec resets its handlers.
        raw::unblock_signals().map_err(at(Step::Signals))?;
        raw::new_session().map_err(at(Step::Session))?;
        if let Some(label) = &plan.cage.label {
            raw::write_to(label.file, label.text.as_bytes()).map_err(at(Step::Label))?;
        }
        if plan.cage.cgroup_namespace {
            raw::unshare(libc::CLONE_NEWCGROUP).map_err(at(Step::CgroupNamespace))?;
        }
        if let Some(entry) = &self.entry {
            // The one of pids is entered by being born into it; all of them, if a
            // go-between was needed.
            let others = entry.namespaces & !libc::CLONE_NEWPID;
            if others != 0 && !entry.has(libc::CLONE_NEWUSER) {
                raw::enter(entry.keeper, others).map_err(at(Step::Namespaces))?;
            }
        }
        let (soft, hard) = plan.inherited_files;
        raw::set_limit(NOFILE, soft, hard).map_err(at(Step::Limits))?;
        for limit in &plan.limits {
            raw::set_limit(limit.resource, limit.soft, limit.hard).map_err(at(Step::Limits))?;
        }
        self.set_priorities().map_err(at(Step::Priority))?;
        self.close_cage()?;
        match self.channel {
            None => self.place_descriptors().map_err(at(Step::Descriptors))?,
            Some(channel) => self.await_request(channel).map_err(at(Step::Descriptors))?,
        }
        self.become_user().map_err(at(Step::Credentials))?;
        raw::set_umask(plan.umask);
        raw::change_directory(&plan.dir).map_err(at(Step::Directory))?;
        let Some(envp) = self.envp.take_in_child() else {
            return Err((Step::Exec, libc::EFAULT));
        };
        envp.fill_listen_pid();
        Err((Step::Exec, raw::exec(&plan.program, &plan.argv, envp)))
    }

    /// What the child can never undo. While it is root: without no_new_privs
    /// nobody else may, and a parked child must not be one that its service's
    /// user can stop or kill.
    fn close_cage(&self) -> Result<(), (Step, Errno)> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        let cage = &self.plan.cage;
        if let Some(users) = self.entry.as_ref().and_then(|entry| entry.users) {
            raw::enter(users, libc::CLONE_NEWUSER).map_err(at(Step::UserNamespace))?;
        }
        if let Some(keep) = cage.capabilities {
            raw::drop_bounds(keep).map_err(at(Step::Capabilities))?;
        }
        if cage.keyring {
            raw::new_session_keyring().map_err(at(Step::Keyring))?;
        }
        if cage.no_new_privs {
            raw::forbid_new_privileges().map_err(at(Step::NoNewPrivs))?;
        }
        if let Some(landlock) = self.entry.as_ref().and_then(|entry| entry.landlock) {
            raw::restrict_self(landlock).map_err(at(Step::Landlock))?;
        }
        if let Some(filter) = &cage.filter {
            raw::set_filter(filter).map_err(at(Step::Seccomp))?;
        }
        Ok(())
    }

    /// Lets go of everything that is the helper's, listeners and connections
    /// above all, and waits. Who waited for nothing ends.
    fn await_request(&self, channel: i32) -> Result<(), Errno> {
        const CHANNEL: i32 = 3;
        // For ps(1) and killall(1), which would take it for the helper.
        raw::set_name(c"usherd-parked");
        raw::place(self.null, 0)?;
        raw::place(self.stderr.unwrap_or(self.null), 1)?;
        raw::place(self.stderr.unwrap_or(self.null), 2)?;
        raw::place(channel, CHANNEL)?;
        raw::close_from(CHANNEL + 1)?;
        let socket = raw::receive_descriptor(CHANNEL)?;
        match self.plan.activation {
            Activation::Inetd => {
                raw::place(socket, 0)?;
                raw::place(socket, 1)?;
                if self.stderr.is_none() {
                    raw::place(socket, 2)?;
                }
                raw::close_on_exec_from(CHANNEL)
            }
            Activation::ListenFds => {
                raw::place(socket, CHANNEL)?;
                raw::close_on_exec_from(CHANNEL + 1)
            }
        }
    }

    fn set_priorities(&self) -> Result<(), Errno> {
        if let Some(nice) = self.plan.nice {
            raw::set_nice(nice)?;
        }
        if !self.plan.cage.cpus.is_empty() {
            raw::set_affinity(&self.plan.cage.cpus)?;
        }
        if let Some(priority) = self.plan.cage.io_priority {
            raw::set_io_priority(priority)?;
        }
        Ok(())
    }

    /// What the server may keep goes with it over the change of user and the exec.
    fn become_user(&self) -> Result<(), Errno> {
        let Some(who) = &self.plan.credentials else {
            return match self.plan.cage.capabilities {
                Some(keep) if self.entry.is_some() => raw::set_capabilities(keep),
                _ => Ok(()),
            };
        };
        let Some(keep) = self.plan.cage.capabilities else {
            return raw::become_user(who.uid, who.gid, &who.groups);
        };
        if keep != 0 {
            raw::keep_capabilities()?;
        }
        raw::become_user(who.uid, who.gid, &who.groups)?;
        raw::set_capabilities(keep)
    }

    /// The helper keeps 0, 1 and 2 open all its life, so no socket ever has one
    /// of these numbers and nothing is overwritten before it is copied.
    fn place_descriptors(&self) -> Result<(), Errno> {
        match (self.plan.activation, self.sockets.as_slice()) {
            (Activation::Inetd, [socket, ..]) => {
                raw::place(*socket, 0)?;
                raw::place(*socket, 1)?;
                raw::place(self.stderr.unwrap_or(*socket), 2)?;
                raw::close_on_exec_from(3)
            }
            (Activation::Inetd, []) => Err(libc::EBADF),
            (Activation::ListenFds, sockets) => {
                let stderr = self.stderr.unwrap_or(self.null);
                raw::place(self.null, 0)?;
                raw::place(stderr, 1)?;
                raw::place(stderr, 2)?;
                place_from_three(sockets)
            }
        }
    }
}

/// Puts `sockets` on 3, 4, ... A single one may come from anywhere, several
/// are listeners and lie above all targets.
fn place_from_three(sockets: &[i32]) -> Result<(), Errno> {
    raw::close_on_exec_from(3)?;
    for (target, socket) in (3..).zip(sockets) {
        if target >= FIRST_LISTENER {
            return Err(libc::EMFILE);
        }
        raw::place(*socket, target)?;
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_wrap,
    reason = "a small constant whose type differs between libcs"
)]
const NOFILE: i32 = libc::RLIMIT_NOFILE as i32;

/// The null device for servers that get no input.
pub fn open_null() -> io::Result<OwnedFd> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(null.into())
}
