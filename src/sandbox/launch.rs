//! The recipe: clone, then every [`Step`] in order, then exec. What the child
//! does in its sandbox and to itself is in [`steps`](super::steps).
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::helper::front_process::seal;
use crate::sandbox::Step;
use crate::sandbox::plan::ExecPlan;
use crate::sandbox::session::Orders;
pub use crate::sandbox::steps::FIRST_LISTENER;
use crate::sandbox::steps::{Entry, Steps, go_home};
use crate::sys::child::{Berths, Errand, Memory};
use crate::sys::exec::{Argv, Environment, Envp, LateEnvp};
use crate::sys::inherit::raise_any;
use crate::sys::link;
use crate::sys::raw::{self, Errno};

/// The descriptors of one child.
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    pub null: BorrowedFd<'a>,
    /// `None`: the socket itself, the classic way.
    pub stderr: Option<BorrowedFd<'a>>,
    /// The directory of the cgroup to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// None for who is parked. With [`Activation::Inetd`](crate::table::Activation) exactly one; with `ListenFds` all of them, from 3 on.
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
    /// What the errno does not say.
    pub why: Option<String>,
}

impl NotStarted {
    #[must_use]
    pub fn new(step: Step, errno: i32) -> Self {
        Self {
            step,
            errno,
            why: None,
        }
    }
}

/// What a session ([`crate::sandbox::session`]) is told beyond the plan.
#[derive(Debug)]
pub struct Extras<'a> {
    pub environment: Environment,
    pub remote: Option<String>,
    /// The directory of a cgroup for who closes it.
    pub beside: Option<BorrowedFd<'a>>,
}

/// Makes children, and hears of their failures.
#[derive(Debug)]
pub struct Launcher {
    berths: Berths<Start>,
    /// Our own pid namespace, to come back to.
    own_pids: OwnedFd,
    /// Our own program and the host's /proc, above all targets.
    own_program: OwnedFd,
    proc: OwnedFd,
    /// What children get, a bit for each; empty if that is what we have.
    cpus: Rc<[u64]>,
}

impl Launcher {
    pub fn new() -> io::Result<Self> {
        let open = |path| {
            let mut options = OpenOptions::new();
            let opened = options.read(true).custom_flags(libc::O_PATH).open(path)?;
            raise_any(opened.as_fd(), FIRST_LISTENER)
        };
        Ok(Self {
            berths: Berths::default(),
            own_pids: File::open("/proc/self/ns/pid")?.into(),
            own_program: open("/proc/self/exe")?,
            proc: open("/proc")?,
            cpus: Rc::from([]),
        })
    }

    /// On which CPUs children run, if not on ours. Those of their plan go first.
    pub fn put_on(&mut self, cpus: Rc<[u64]>) {
        self.cpus = cpus;
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

    /// The same for a child that becomes our own program first. Beside its pid
    /// there is the link on which it tells how it fares.
    pub fn launch_session(
        &mut self,
        plan: &Rc<ExecPlan>,
        extras: Extras,
        fds: &Descriptors,
    ) -> Result<(i32, OwnedFd), NotStarted> {
        let failed = |err: io::Error| {
            let errno = err.raw_os_error().unwrap_or(libc::EIO);
            NotStarted::new(Step::SessionProcess, errno)
        };
        let mut start = Start::new(plan, Rc::default(), fds, None);
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (ours, theirs) = pair.map_err(|errno| failed(errno.into()))?;
        let raise = |fd: BorrowedFd<'_>| raise_any(fd, FIRST_LISTENER).map_err(failed);
        let beside = extras.beside.map(raise).transpose()?;
        let orders = Orders {
            plan: &**plan,
            environment: extras.environment,
            remote: extras.remote,
            entry: start.entry.clone(),
            null: start.null,
            stderr: start.stderr,
            sockets: start.sockets.clone(),
            proc: self.proc.as_raw_fd(),
            beside: beside.as_ref().map(AsRawFd::as_raw_fd),
        };
        let sealed = raise(seal(c"usherd-session", &orders).map_err(failed)?.as_fd())?;
        let theirs = raise(theirs.as_fd())?;
        start.handing = Some(Handing::new(&self.own_program, &sealed, &theirs, &orders));
        let pid = self.send(start, fds)?;
        Ok((pid, ours))
    }

    /// Clones a child that goes as far as it can without a request, and waits
    /// for one. `fds` has no sockets.
    pub fn park(&mut self, plan: &Rc<ExecPlan>, fds: &Descriptors) -> Result<Parked, NotStarted> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (ours, theirs) = pair.map_err(|errno| NotStarted::new(Step::Clone, errno as i32))?;
        let envp = Rc::new(LateEnvp::default());
        let channel = Some(theirs.as_raw_fd());
        let pid = self.send(Start::new(plan, Rc::clone(&envp), fds, channel), fds)?;
        Ok(Parked {
            pid,
            channel: ours,
            envp,
        })
    }

    fn send(&mut self, mut start: Start, fds: &Descriptors) -> Result<i32, NotStarted> {
        start.cpus = Rc::clone(&self.cpus);
        let failed = |errno| NotStarted::new(Step::Clone, errno);
        let memory = match start.plan.cage.own_memory {
            true => Memory::Own,
            false => Memory::Shared,
        };
        let has = |namespace| {
            start
                .entry
                .as_ref()
                .is_some_and(|entry| entry.has(namespace))
        };
        if has(libc::CLONE_NEWUSER) {
            // Only from inside of it, for who is not root outside.
            let sent = self.berths.send_through(start, memory, fds.cgroup);
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
        let sent = self.berths.send(start, memory, fds.cgroup);
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

    /// Whether every child has become its server, or has ended and was reaped:
    /// nobody is in our memory.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.berths.are_empty()
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
    NotStarted::new(
        Step::from_code(code).unwrap_or(Step::Exec),
        i32::try_from(left & 0x00ff_ffff).unwrap_or(0),
    )
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
    /// See [`Launcher::put_on`].
    cpus: Rc<[u64]>,
    /// It becomes our own program before it becomes the server.
    handing: Option<Handing>,
}

/// How to execute our own program, and what has to be open then.
#[derive(Debug)]
struct Handing {
    program: i32,
    argv: Argv,
    envp: Envp,
    open: Vec<i32>,
}

impl Handing {
    fn new<P>(program: &OwnedFd, sealed: &OwnedFd, link: &OwnedFd, orders: &Orders<P>) -> Self {
        let own = [sealed.as_raw_fd(), link.as_raw_fd()];
        let number = |fd: i32| CString::new(fd.to_string()).unwrap_or_default();
        let words = [c"usherd-session", c"--session"].map(CStr::to_owned);
        Self {
            program: program.as_raw_fd(),
            argv: Argv::new(words.into_iter().chain(own.map(number)).collect()),
            envp: Environment::default().seal(),
            open: orders.descriptors().chain(own).collect(),
        }
    }
}

/// A [`Door`] by numbers.
fn entry(door: &Door) -> Entry {
    Entry {
        keeper: door.keeper.as_raw_fd(),
        namespaces: door.namespaces,
        landlock: door.landlock.as_ref().map(AsRawFd::as_raw_fd),
        users: door.users.as_ref().map(AsRawFd::as_raw_fd),
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
            entry: fds.sandbox.map(entry),
            channel,
            cpus: Rc::from([]),
            handing: None,
        }
    }

    /// The child's whole life before exec, in our memory.
    fn become_server(&mut self, enter: Option<i32>) -> Result<Infallible, (Step, Errno)> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        if let Some(cgroup) = enter {
            raw::enter_cgroup(cgroup).map_err(at(Step::Cgroup))?;
        }
        // Dispositions: the helper ignores nothing, and exec resets its handlers.
        raw::unblock_signals().map_err(at(Step::Signals))?;
        raw::new_session().map_err(at(Step::Session))?;
        if self.channel.is_none() {
            go_home(&self.cpus).map_err(at(Step::Priority))?;
        }
        if let Some(handing) = &self.handing {
            return self.hand_over(handing).map_err(at(Step::SessionProcess));
        }
        let steps = Steps {
            plan: &self.plan,
            entry: self.entry.as_ref(),
            null: self.null,
            stderr: self.stderr,
            sockets: &self.sockets,
            channel: self.channel,
            cpus: &self.cpus,
            envp: &self.envp,
            program: None,
        };
        steps.take()
    }

    /// What our own program needs keeps its number.
    fn hand_over(&self, to: &Handing) -> Result<Infallible, Errno> {
        if self
            .entry
            .as_ref()
            .is_some_and(|entry| entry.has(libc::CLONE_NEWUSER))
        {
            raw::carry_capabilities()?;
        }
        raw::close_on_exec_from(3)?;
        for fd in &to.open {
            raw::place(*fd, *fd)?;
        }
        raw::place(self.null, 0)?;
        raw::place(self.stderr.unwrap_or(self.null), 1)?;
        raw::place(self.stderr.unwrap_or(self.null), 2)?;
        Err(raw::exec_descriptor(to.program, &to.argv, &to.envp))
    }
}

/// The null device for servers that get no input.
pub fn open_null() -> io::Result<OwnedFd> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(null.into())
}
