//! What sandboxes stand on: the host as it was probed, directories that belong
//! to services, and the keepers that are started for them.
#![forbid(unsafe_code)]

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::control::ADMIN_SOCKET;
use crate::helper::belongings;
use crate::helper::core::Helper;
use crate::helper::front_process::seal;
use crate::helper::reserve;
use crate::helper::sandboxes::{Outcome, Template};
use crate::helper::start::{Answer, Ask};
use crate::ids::ServiceId;
use crate::sandbox::Step;
use crate::sandbox::blueprint::{ADMIN_IN_SANDBOX, Blueprint};
use crate::sandbox::cgroup;
use crate::sandbox::confinement::Ground;
use crate::sandbox::launch::{Descriptors, NotStarted};
use crate::sandbox::plan::ExecPlan;
use crate::sandbox::probe::{Missing, Probe, Role};
use crate::sys::exec::Environment;
use crate::sys::link;
use crate::sys::process::pidfd_open;
use crate::table::{Serve, Table};

/// Tokens of the links to keepers, with the numbers of their descriptors.
pub const FIRST_KEEPER: usize = 1 << 24;

/// What is found out once, at the start.
#[derive(Debug)]
pub struct Foundation {
    pub probe: Probe,
    runtime_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

impl Foundation {
    #[must_use]
    pub fn new(
        runtime_dir: Option<PathBuf>,
        state_dir: Option<PathBuf>,
        cgroups: &cgroup::State,
    ) -> Self {
        let mut probe = Probe::take();
        probe.set_cgroup(match cgroups {
            cgroup::State::Ready { .. } => Ok("version 2".to_owned()),
            cgroup::State::Degraded(lack) => Err(Missing {
                reason: lack.why.clone(),
                remedy: lack.remedy.clone(),
            }),
        });
        Self {
            probe,
            runtime_dir,
            state_dir,
        }
    }

    /// What the services of `table` have in common; makes what belongs to single ones.
    #[must_use]
    pub fn ground(&self, table: &Table) -> Ground<'_> {
        let credentials = self.credentials();
        let unprepared = belongings::lay(table, credentials.as_deref());
        let admin = self.runtime_dir().map(|dir| dir.join(ADMIN_SOCKET));
        if !self.is_user() && admin.is_some() && asks_for_something(table) {
            make_admin_folder();
        }
        let own = self.own();
        Ground::new(&self.probe, table, own, credentials, admin, unprepared)
    }

    /// Directories that are usherd's own.
    #[must_use]
    pub fn own(&self) -> Vec<PathBuf> {
        let own = self.runtime_dir.iter().chain(&self.state_dir);
        own.cloned().collect()
    }

    #[must_use]
    pub fn runtime_dir(&self) -> Option<&Path> {
        self.runtime_dir.as_deref()
    }

    /// Whether usherd is an ordinary user, whose servers are his as well.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.probe.role == Role::User
    }

    /// usherd ends, and no secret stays behind.
    pub fn clear(&self) {
        belongings::clear(self.credentials().as_ref());
    }

    fn credentials(&self) -> Option<PathBuf> {
        let dir = self.runtime_dir.as_ref();
        dir.map(|dir| dir.join("credentials"))
    }
}

impl Helper {
    /// Says once for each table what a service has to do without.
    pub(super) fn tell_confinement(&self) {
        for (name, program) in self.services.programs() {
            if let Some(why) = &program.blocked {
                log::error!(service = name; "blocked: {why}");
            }
            for what in &program.degraded {
                log::debug!(service = name; "degraded: no {what}");
            }
        }
    }

    /// Starts keepers for what is missing.
    pub(super) fn build_sandboxes(&mut self, now: Instant) {
        while let Some((service, blueprint)) = self.sandboxes.to_build(|id| self.lot.count(id)) {
            if let Err(err) = self.start_keeper(service, blueprint, now) {
                let asks = self.sandboxes.gave_up(service);
                log::error!("unable to start the keeper of a sandbox: {err}");
                // This one lacks nothing now; it may be the next one's turn.
                self.fail(asks, err.raw_os_error().unwrap_or(libc::EIO), now);
            }
        }
    }

    fn start_keeper(
        &mut self,
        service: ServiceId,
        blueprint: Rc<Blueprint>,
        now: Instant,
    ) -> io::Result<()> {
        let ours = if blueprint.template {
            self.order_sandbox(service, &blueprint)?
        } else {
            self.new_keeper(&blueprint)?.0
        };
        let number = self.sandboxes.began(service, blueprint, ours, now);
        let token = Token(FIRST_KEEPER + usize::try_from(number).unwrap_or(0));
        self.poll
            .registry()
            .register(&mut SourceFd(&number), token, Interest::READABLE)
    }

    /// One more of what a template makes; a template, if there is none or it has died.
    fn order_sandbox(
        &mut self,
        service: ServiceId,
        blueprint: &Rc<Blueprint>,
    ) -> io::Result<OwnedFd> {
        let (ours, theirs) = pair()?;
        if let Some(template) = self.sandboxes.template(service, blueprint)
            && link::send(template, b"one", &[theirs.as_fd()]).is_ok()
        {
            return Ok(ours);
        }
        let (link, pid) = self.new_keeper(blueprint)?;
        // Not reaped yet, so the number is its own.
        let pidfd = pidfd_open(pid)?;
        link::send(link.as_fd(), b"one", &[theirs.as_fd()])?;
        self.sandboxes
            .set_template(service, Template { link, pidfd });
        Ok(ours)
    }

    /// Starts a keeper and tells it what to build. Returns our end of the link, and its pid.
    fn new_keeper(&mut self, blueprint: &Blueprint) -> io::Result<(OwnedFd, i32)> {
        let (ours, theirs) = pair()?;
        let argv = vec![c"usherd-keeper".to_owned(), c"--keeper".to_owned()];
        let files = self.fronts.inheritance().files;
        let plan = ExecPlan::of_ourselves(argv, files, 0o022);
        let stderr = io::stderr();
        let fds = Descriptors {
            null: self.null.as_fd(),
            stderr: Some(stderr.as_fd()),
            cgroup: None,
            sockets: &[theirs.as_fd()],
            sandbox: None,
        };
        let pid = self
            .launcher
            .launch(&Rc::new(plan), Environment::default().seal(), &fds)
            .map_err(|NotStarted { errno, .. }| io::Error::from_raw_os_error(errno))?;
        let sealed = seal(c"usherd-blueprint", blueprint)?;
        link::send(ours.as_fd(), b"build", &[sealed.as_fd()])?;
        Ok((ours, pid))
    }

    /// Whatever keepers have to say.
    pub(super) fn hear_keepers(&mut self, events: &Events, now: Instant) {
        for event in events {
            let number = event.token().0.checked_sub(FIRST_KEEPER);
            let number = number.and_then(|number| i32::try_from(number).ok());
            if let Some((service, outcome)) = number.and_then(|n| self.sandboxes.hear(n)) {
                self.keeper_is_done(service, outcome, now);
            }
        }
    }

    pub(super) fn expire_sandboxes(&mut self, now: Instant) {
        self.clear_lot(Some(now));
        for (service, outcome) in self.sandboxes.expire(now) {
            self.keeper_is_done(service, outcome, now);
        }
    }

    fn keeper_is_done(&mut self, service: ServiceId, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Stands => {
                while let Some(ask) = self.sandboxes.next_ask(service) {
                    self.start_late(ask, now);
                }
            }
            Outcome::Failed(failure, asks) => {
                let name = self
                    .services
                    .find(service)
                    .map_or("?", |service| &service.name);
                log::error!(
                    service = name, step:% = Step::Sandbox, errno = failure.errno;
                    "unable to build its sandbox: {failure}"
                );
                self.fail(asks, failure.errno, now);
            }
            Outcome::Dropped => {}
        }
    }

    /// A request that had to wait; judged anew, for much may have changed.
    fn start_late(&mut self, ask: Ask, now: Instant) {
        let (connection, service) = (ask.connection, ask.service);
        let answer = self.carry_out(ask, now);
        self.tell_late(connection, service, answer, now);
    }

    fn fail(&mut self, asks: Vec<Ask>, errno: i32, now: Instant) {
        for ask in asks {
            let failed = NotStarted::new(Step::Sandbox, errno);
            self.tell_late(ask.connection, ask.service, Answer::Failed(failed), now);
        }
    }
}

fn asks_for_something(table: &Table) -> bool {
    table.services.iter().any(|service| match &service.serve {
        Serve::Exec(exec) => !exec.admin.is_empty(),
        Serve::Builtin(_) | Serve::Forward(_) => false,
    })
}

/// Where sandboxes on the host's tree have the admin socket, wherever it is.
fn make_admin_folder() {
    let Some(folder) = Path::new(ADMIN_IN_SANDBOX).parent() else {
        return;
    };
    let made = DirBuilder::new().mode(0o755).create(folder);
    if let Err(err) = made
        && err.kind() != io::ErrorKind::AlreadyExists
    {
        log::error!("unable to make {}: {err}", folder.display());
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    match reserve::is_of_the_last(&pair.0) {
        true => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        false => Ok(pair),
    }
}
