//! The front as a child: started from our own executable, replaced when it
//! dies, never trusted.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

use crate::front::plan::Plan;
use crate::helper::link::Link;
use crate::helper::services::Inheritance;
use crate::helper::sockets::listener::Listener;
use crate::helper::wire::{MAX_DESCRIPTORS, Notice};
use crate::ids::ServiceId;
use crate::sandbox::launch::{Descriptors, Launcher, NotStarted, open_null};
use crate::sandbox::plan::ExecPlan;
use crate::sys::exec::Environment;
use crate::table::FrontUser;

/// A front that lives this long was no failure of the start.
const SETTLED: Duration = Duration::from_secs(5);
/// So many fronts in a row that did not settle are replaced at once.
const NO_PAUSE: u32 = 5;
/// Pause before the next one; doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);
/// A front says it is alive every 10 s.
const SILENCE: Duration = Duration::from_secs(35);
/// One that serves and has not taken the next order by then is replaced: an
/// operator who stops a service must not depend on it.
const OBEDIENCE: Duration = Duration::from_secs(5);

/// What the front sees of usherd's own environment: the time zone for
/// `hours`, and where its log lines go.
const PASSED: [&str; 2] = ["TZ", "JOURNAL_STREAM"];

/// What a front answers when it has carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Plan,
    Drain,
    /// Make room for the next one.
    Retire,
    /// A service takes no request any more, or takes them again.
    Hold(ServiceId, bool),
    Bans,
}

/// A running front.
#[derive(Debug)]
pub struct Front {
    pub pid: i32,
    pub link: Link,
    pub started: Instant,
    last_heard: Instant,
    /// It has taken a plan and serves.
    pub ready: bool,
    /// It has been killed, or has died, and only its pid and what it asked for before are left.
    pub ended: bool,
    /// It broke the rules: nothing it asked for counts.
    pub distrusted: bool,
    /// It has not taken all that was sent.
    pub is_blocked: bool,
    /// What it has been told and has not said [`Taken`](crate::helper::wire::Request::Taken) to, oldest first.
    pub orders: VecDeque<Order>,
    /// Since when it could have taken the oldest of them.
    told: Instant,
}

impl Front {
    /// Notes that a request came.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Tells it to do something that it will answer.
    pub fn order(&mut self, order: Order, descriptor: Option<OwnedFd>) {
        let notice = match order {
            Order::Plan => Notice::Plan,
            Order::Drain => Notice::Drain,
            Order::Retire => Notice::Retire,
            Order::Hold(service, held) => Notice::Hold { service, held },
            Order::Bans => Notice::Bans,
        };
        if self.orders.is_empty() {
            self.told = Instant::now();
        }
        self.orders.push_back(order);
        match descriptor {
            Some(descriptor) => self.link.notify_with(&notice, vec![descriptor]),
            None => self.link.notify(&notice),
        }
    }

    /// It says that it has taken the oldest order.
    pub fn take_order(&mut self, now: Instant) -> Option<Order> {
        self.told = now;
        self.orders.pop_front()
    }

    /// Gives it copies of those listeners that are bound.
    pub fn give_listeners<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a Listener>,
    ) -> io::Result<()> {
        let (mut ids, mut copies) = (Vec::new(), Vec::new());
        let mut bound = listeners
            .filter(|listener| listener.bound().is_some())
            .peekable();
        while let Some(listener) = bound.next() {
            ids.push(listener.id);
            copies.extend(listener.share()?);
            if ids.len() == MAX_DESCRIPTORS || bound.peek().is_none() {
                let (ids, copies) = (mem::take(&mut ids), mem::take(&mut copies));
                self.link.notify_with(&Notice::Listeners(ids), copies);
                // Hold no more copies than one packet's; what cannot be sent
                // now is found out when the turn's packets are.
                let _ = self.link.flush();
            }
        }
        Ok(())
    }

    /// When it counts as hung unless it is heard before, and does what it is told.
    #[must_use]
    pub fn patience_ends(&self) -> Option<Instant> {
        let heard = self.last_heard + SILENCE;
        let owes = self.ready && !self.orders.is_empty();
        let obeys = owes.then(|| self.told + OBEDIENCE);
        (!self.ended).then(|| obeys.map_or(heard, |at| heard.min(at)))
    }
}

/// Starts fronts, with growing pauses while they keep dying young.
#[derive(Debug)]
pub struct Fronts {
    inheritance: Inheritance,
    /// NOFILE for the front: as much as for us.
    files: (u64, u64),
    /// How many there were, also of the usherds before this one.
    pub epoch: u32,
    /// Those of this program.
    begun: u32,
    /// Those that ended before they were told to.
    pub lost: u32,
    /// Fronts in a row that died before they had settled.
    died_young: u32,
    /// Of them, those that never served.
    never_ready: u32,
}

impl Fronts {
    #[must_use]
    pub fn new(inheritance: Inheritance, files: (u64, u64)) -> Self {
        Self {
            inheritance,
            files,
            epoch: 0,
            begun: 0,
            lost: 0,
            died_young: 0,
            never_ready: 0,
        }
    }

    /// Starts a front on `cpus`; it waits for its plan on the link.
    pub fn start(
        &mut self,
        user: Option<&FrontUser>,
        cpus: &[u64],
        launcher: &mut Launcher,
        now: Instant,
    ) -> io::Result<Front> {
        self.epoch += 1;
        self.begun += 1;
        let (link, theirs) = Link::pair()?;
        let mut plan = self.exec_plan(user);
        plan.cage.cpus = cpus.to_vec();
        let mut environment = Environment::default();
        for (name, value) in &self.inheritance.environment {
            if let Some(name) = name.to_str().filter(|name| PASSED.contains(name)) {
                environment.push(name, value.as_encoded_bytes());
            }
        }
        let null = open_null()?;
        let stderr = io::stderr();
        let fds = Descriptors {
            null: null.as_fd(),
            stderr: Some(stderr.as_fd()),
            cgroup: None,
            sockets: &[theirs.as_fd()],
            sandbox: None,
        };
        let pid = launcher
            .launch(&Rc::new(plan), environment.seal(), &fds)
            .map_err(|NotStarted { errno, .. }| io::Error::from_raw_os_error(errno))?;
        Ok(Front {
            pid,
            link,
            started: now,
            last_heard: now,
            ready: false,
            ended: false,
            distrusted: false,
            is_blocked: false,
            orders: VecDeque::new(),
            told: now,
        })
    }

    /// How long to wait before the next start, given that `front` has died.
    pub fn pause_after(&mut self, front: &Front, now: Instant) -> Duration {
        if now.duration_since(front.started) >= SETTLED {
            self.died_young = 0;
            return Duration::ZERO;
        }
        self.died_young += 1;
        self.never_ready = if front.ready { 0 } else { self.never_ready + 1 };
        match self.died_young.checked_sub(NO_PAUSE + 1) {
            None => Duration::ZERO,
            Some(more) => PAUSE_FIRST
                .saturating_mul(1 << more.min(10))
                .min(PAUSE_LAST),
        }
    }

    /// What usherd was started with.
    #[must_use]
    pub fn inheritance(&self) -> &Inheritance {
        &self.inheritance
    }

    /// Whether no front ever came to serve: the host does not let it.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.never_ready >= 3 && self.never_ready == self.begun
    }

    fn exec_plan(&self, user: Option<&FrontUser>) -> ExecPlan {
        let mut argv = vec![c"usherd-front".to_owned(), c"--front".to_owned()];
        if let Some(user) = user {
            argv.extend([user.uid, user.gid].map(decimal));
        }
        ExecPlan::of_ourselves(argv, self.files, 0o077)
    }
}

fn decimal(number: u32) -> CString {
    CString::new(number.to_string()).unwrap_or_default()
}

/// The plan in a sealed memfd.
pub fn seal_plan(plan: &Plan) -> io::Result<OwnedFd> {
    seal(c"usherd-plan", plan)
}

/// A value as JSON in a sealed memfd: the front can read it, and nobody can change it.
pub fn seal(name: &CStr, value: &impl Serialize) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};

    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(name, flags)?;
    let mut file = io::BufWriter::new(std::fs::File::from(fd));
    serde_json::to_writer(&mut file, value)?;
    file.flush()?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
