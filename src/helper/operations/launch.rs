//! The process for an order: what the catalogue gives it, made for this request.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use mio::Token;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::ask::exec_of;
use super::{CGROUP, MOST_AT_WORK, Order, Source, Task};
use crate::admin::operations::{Failed, Kind, Places};
use crate::control::caller::{Sees, Who};
use crate::control::message::Reply;
use crate::helper::admin::FIRST_CALLER;
use crate::helper::core::Helper;
use crate::helper::front_process::seal;
use crate::helper::reserve;
use crate::sandbox::blueprint::STATE;
use crate::sandbox::cgroup::{Leaf, Trouble, fallback};
use crate::sandbox::confinement::{Confinement, Ground};
use crate::sandbox::launch::{Descriptors, FIRST_LISTENER, NotStarted};
use crate::sandbox::plan::ExecPlan;
use crate::sandbox::single::Orders;
use crate::sys::exec::Environment;
use crate::sys::inherit::raise_any;
use crate::table::Exec;
use crate::table::isolation::{Level, Mechanism, Resources};

/// Octets of a message beyond the result in it.
const ENVELOPE: u64 = 64 * 1024;

impl Helper {
    /// Starts whatever may be started now.
    pub(in crate::helper) fn start_operations(&mut self, now: Instant) {
        while let Some(order) = self.next_order() {
            let asked_by = order.asked_by;
            let name = order.operation.name.clone();
            // A right may have been taken away while it waited.
            if let Err(error) = self.permitted(&name, order.who, &order.asker) {
                self.reply_to(asked_by, &Reply::Error(error), now);
                continue;
            }
            if let Err(failed) = self.start_operation(order, now) {
                log::error!("unable to start operation {name}: {failed}");
                self.tell_outcome(asked_by, &name, Err(failed), now);
            }
        }
    }

    fn next_order(&mut self) -> Option<Order> {
        let departing = self.is_departing();
        let operations = &mut self.operations;
        if departing || operations.tasks.len() >= MOST_AT_WORK {
            return None;
        }
        let at_work = |name: &str| {
            let tasks = operations.tasks.values();
            tasks
                .filter(|task| task.order.operation.name == name)
                .count()
        };
        let of = |source: Source| {
            let tasks = operations.tasks.values();
            tasks.filter(|task| task.order.source() == source).count()
        };
        let waiting = operations.waiting.iter().enumerate();
        let may_start = waiting.filter(|(_, order)| {
            let most = usize::try_from(order.operation.concurrency).unwrap_or(usize::MAX);
            at_work(&order.operation.name) < most
        });
        // Whoever has most at work lets the others go first.
        let (at, _) = may_start.min_by_key(|(_, order)| of(order.source()))?;
        operations.waiting.remove(at)
    }

    fn start_operation(&mut self, order: Order, now: Instant) -> Result<(), Failed> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |err: io::Error| Failed::new(Kind::Unavailable, format!("unable to {what}: {err}"))
        };
        let exec = self.exec_for(&order)?;
        let orders = self.orders_for(&exec, &order)?;
        // Both of the child's lie above where they are put there: one would replace the other.
        let raise = |fd: BorrowedFd<'_>| raise_any(fd, FIRST_LISTENER);
        let sealed = seal(c"usherd-operation", &orders).and_then(|sealed| raise(sealed.as_fd()));
        let sealed = sealed.map_err(failed("write its orders"))?;
        let link = pair().and_then(|(ours, theirs)| Ok((ours, raise(theirs.as_fd())?)));
        let (ours, theirs) = link.map_err(failed("make its link"))?;
        let leaf = match exec.isolation.level(Mechanism::Cgroup) {
            Level::Off => None,
            _ => self.leaf_for_operation(&exec.resources)?,
        };
        let argv = vec![c"usherd-operation".to_owned(), c"--operation".to_owned()];
        let plan = ExecPlan::of_ourselves(argv, self.fronts.inheritance().files, 0o022);
        let fds = Descriptors {
            null: self.null.as_fd(),
            // Whoever takes it over writes no line of our log.
            stderr: Some(self.null.as_fd()),
            cgroup: leaf.as_ref().map(AsFd::as_fd),
            sockets: &[theirs.as_fd(), sealed.as_fd()],
            sandbox: None,
        };
        let environment = Environment::default().seal();
        let launched = self.launcher.launch(&Rc::new(plan), environment, &fds);
        let pid = match launched {
            Ok(pid) => pid,
            Err(NotStarted { step, errno, .. }) => {
                leaf.into_iter().for_each(|leaf| self.cgroups.retire(leaf));
                let err = io::Error::from_raw_os_error(errno);
                return Err(failed(&format!("start its process ({step})"))(err));
            }
        };
        let link = self.bring_link(ours, &exec, pid, &order, now);
        let task = Task {
            until: now + order.operation.time_limit,
            pid,
            leaf,
            link: *link.as_ref().unwrap_or(&u64::MAX),
            begun: false,
            outcome: None,
            killed: false,
            order,
        };
        let id = task.order.id;
        self.operations.tasks.insert(id, task);
        if let Err(err) = link {
            let failed = failed("watch its link")(err);
            self.kill_operation(id, failed);
        }
        Ok(())
    }

    /// Its end of the pair becomes a caller of the admin server, with rights of its own.
    fn bring_link(
        &mut self,
        ours: UnixStream,
        exec: &Exec,
        pid: i32,
        order: &Order,
        now: Instant,
    ) -> io::Result<u64> {
        let who = Who {
            uid: exec.user.as_ref().map_or(0, |user| user.uid),
            pid,
            sees: Sees::Operation(order.id),
        };
        let longest = order.operation.output_limit.saturating_add(ENVELOPE);
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        let token_of = |place: usize| Token(FIRST_CALLER + place);
        let registry = self.poll.registry();
        let server = &mut self.control.server;
        let place = server.bring(ours, who, longest, registry, token_of, now)?;
        let number = server.number(place);
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A cgroup of its own, with limits of its own. What these lack was told when the
    /// catalogue was loaded; the rest may not be missed, for outside of it nothing would hold.
    fn leaf_for_operation(&mut self, resources: &Resources) -> Result<Option<Leaf>, Failed> {
        let is_limited = *resources != Resources::default();
        let refuse = |trouble: Trouble| {
            let why = format!("unable to limit its resources: {trouble}");
            Failed::new(Kind::Unavailable, why)
        };
        let name: Rc<str> = CGROUP.into();
        let mut leaf = match self.cgroups.leaf(&name) {
            Ok(leaf) => leaf,
            Err(trouble) if is_limited => return Err(refuse(trouble)),
            Err(trouble) => {
                log::warn!("an operation has no cgroup of its own: {trouble}");
                None
            }
        };
        let Some(ours) = leaf.as_mut().filter(|_| is_limited) else {
            return Ok(leaf);
        };
        match self.cgroups.limit_leaf(ours, resources) {
            Ok(()) => Ok(leaf),
            Err(trouble) => {
                leaf.into_iter().for_each(|leaf| self.cgroups.retire(leaf));
                Err(refuse(trouble))
            }
        }
    }

    /// The catalogue's, with its placeholders filled in.
    fn exec_for(&self, order: &Order) -> Result<Exec, Failed> {
        let mut exec = order.operation.exec.clone();
        if let Some(rights) = rights_of_root(&exec).filter(|_| self.foundation.is_user()) {
            let why = format!("this usherd is an ordinary user's, and it takes {rights} of root");
            return Err(Failed::new(Kind::Unavailable, why));
        }
        let fill = |paths: &[PathBuf]| {
            let filled = paths.iter().map(|path| self.fill(path, order));
            filled.collect::<Result<Vec<_>, _>>()
        };
        let isolation = &mut exec.isolation;
        let flat = |paths: Vec<Option<PathBuf>>| paths.into_iter().flatten().collect();
        isolation.visible = flat(fill(&isolation.visible)?);
        isolation.writable = flat(fill(&isolation.writable)?);
        // Folders of usherd's own are there when somebody first needs them.
        let own = self.places().state_dir;
        let shown = isolation.visible.iter().chain(&isolation.writable);
        let has_own = !own.as_os_str().is_empty();
        for folder in shown.filter(|path| has_own && **path != own && path.starts_with(&own)) {
            make_own(folder)?;
        }
        if order.dry_run {
            let writable = std::mem::take(&mut isolation.writable);
            isolation.visible.extend(writable);
        }
        Ok(exec)
    }

    /// `None`: its parameter was not given.
    fn fill(&self, path: &Path, order: &Order) -> Result<Option<PathBuf>, Failed> {
        let text = path.to_string_lossy();
        let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}'))
        else {
            return Ok(Some(path.to_owned()));
        };
        let places = self.places();
        let start = match name {
            "state_dir" => places.state_dir,
            "runtime_dir" => places.runtime_dir,
            "config_dir" => {
                let table = places.table.as_deref().and_then(Path::parent);
                let why = "the table in force came from no file";
                let none = || Failed::new(Kind::Unavailable, why);
                table.ok_or_else(none)?.to_owned()
            }
            parameter => match self.fill_parameter(parameter, order)? {
                Some(start) => start,
                None => return Ok(None),
            },
        };
        let mut filled = start.into_os_string();
        filled.push(rest);
        Ok(Some(filled.into()))
    }

    fn fill_parameter(&self, parameter: &str, order: &Order) -> Result<Option<PathBuf>, Failed> {
        let (name, part) = parameter.split_once('.').unwrap_or((parameter, ""));
        let Some(value) = order.parameters.some_text(name) else {
            return Ok(None);
        };
        let missing = |why: String| Failed::new(Kind::NotFound, why);
        match part {
            "" => Ok(Some(PathBuf::from(value))),
            "parent" => Ok(Path::new(value).parent().map(Path::to_owned)),
            "state" => {
                let state = exec_of(self, value).and_then(|exec| exec.state.as_ref());
                let why = || missing(format!("service \"{value}\" has no `state`"));
                Ok(Some(Path::new(STATE).join(state.ok_or_else(why)?)))
            }
            "home" => {
                let home = home_of(value)?;
                Ok(Some(home))
            }
            other => Err(Failed::new(
                Kind::Failed,
                format!("{{{name}.{other}}} stands for nothing"),
            )),
        }
    }

    /// Where things of this usherd are.
    pub(super) fn places(&self) -> Places {
        let control = &self.control;
        Places {
            state_dir: control.state_dir().map(Path::to_owned).unwrap_or_default(),
            runtime_dir: self
                .foundation
                .runtime_dir()
                .map(Path::to_owned)
                .unwrap_or_default(),
            table: self.source.file().map(Path::to_owned),
            host: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    }

    fn orders_for(&self, exec: &Exec, order: &Order) -> Result<Orders<ExecPlan>, Failed> {
        let wrong = |why: String| Failed::new(Kind::Failed, why);
        let ground = Ground::of_operations(
            &self.foundation.probe,
            &self.table,
            self.foundation.own(),
            &self.operations.calls,
        );
        let name = &order.operation.name;
        let confinement = Confinement::of(name, exec, &ground).map_err(wrong)?;
        if let Some(why) = confinement.blocked {
            return Err(Failed::new(Kind::Unavailable, why));
        }
        let inheritance = self.fronts.inheritance();
        let plan = ExecPlan::compile(
            name,
            exec,
            &inheritance.environment,
            inheritance.files,
            confinement.cage,
        );
        let mut plan = plan.map_err(|err| wrong(err.to_string()))?;
        plan.limits
            .extend(fallback::limits(exec, inheritance.controllers));
        Ok(Orders {
            blueprint: confinement.blueprint.map(|blueprint| {
                let mut blueprint = (*blueprint).clone();
                blueprint.template = false; // there is no second one like it
                blueprint
            }),
            environment: plan.environment.clone(),
            plan,
        })
    }
}

fn make_own(folder: &Path) -> Result<(), Failed> {
    let mut builder = std::fs::DirBuilder::new();
    let made = std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700)
        .recursive(true)
        .create(folder);
    made.map_err(|err| {
        let why = format!("unable to make {}: {err}", folder.display());
        Failed::new(Kind::Unavailable, why)
    })
}

/// What the process is to have that nobody but root can give it.
fn rights_of_root(exec: &Exec) -> Option<String> {
    match &exec.isolation.capabilities {
        None => Some("all rights".to_owned()),
        Some(none) if none.is_empty() => None,
        Some(some) => {
            let names: Vec<&str> = some.iter().map(|one| one.name()).collect();
            Some(names.join(", "))
        }
    }
}

/// A connection that only the two have. Ours is non-blocking.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    if reserve::is_of_the_last(&ours) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    let ours = UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}

/// From passwd(5) itself: to ask the name service could take as long as it likes.
///
/// Only of who is no part of the system, and only a folder of his: the homes of the others are
/// those of programs (`/usr/sbin`), or the root directory.
fn home_of(user: &str) -> Result<PathBuf, Failed> {
    const SYSTEM: std::ops::Range<u32> = 0..1000;
    const NOBODY: u32 = 65_534;
    let failed = |kind, why: &str| Failed::new(kind, format!("user \"{user}\": {why}"));
    let text = std::fs::read_to_string("/etc/passwd");
    let text = text.map_err(|err| failed(Kind::Failed, &err.to_string()))?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let fields = lines.find(|fields| fields.clone().next() == Some(user));
    let fields: Vec<&str> = fields
        .ok_or_else(|| failed(Kind::NotFound, "there is none in /etc/passwd"))?
        .collect();
    let uid = fields.get(2).and_then(|uid| uid.parse::<u32>().ok());
    let is_ordinary = uid.is_some_and(|uid| !SYSTEM.contains(&uid) && uid != NOBODY);
    let home = fields.get(5).map(PathBuf::from);
    let is_his = |home: &PathBuf| home.is_absolute() && home.components().count() > 2;
    let home = home.filter(|home| is_ordinary && is_his(home));
    home.ok_or_else(|| {
        failed(
            Kind::Forbidden,
            "it is no ordinary account with a home of its own",
        )
    })
}
