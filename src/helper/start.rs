//! One request to start a server: looked at, judged, carried out.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use socket2::{Domain, Type};

use crate::admin::bans::Banned;
use crate::helper::cgroups::leaf_for;
use crate::helper::found::{Found, look_at, waiting_at};
use crate::helper::instances::{Instance, Instances, Phase};
use crate::helper::lot::Lot;
use crate::helper::policy::{self, Load};
use crate::helper::reserve;
use crate::helper::sandbox::Sandbox;
use crate::helper::sandboxes::{Found as Sandboxed, MOST_WAITS, Sandboxes};
use crate::helper::services::{Active, Program, Services, StderrPipe};
use crate::helper::sessions::Session;
use crate::helper::sockets::bind::Bound;
use crate::helper::sockets::registry::Registry;
use crate::helper::told::Told;
use crate::helper::wire::{Peer, Refusal};
use crate::ids::{ConnectionId, InstanceId, ListenerId, ServiceId};
use crate::sandbox::Step;
use crate::sandbox::cgroup::{Cgroups, Leaf};
use crate::sandbox::facts::{Facts, environment};
use crate::sandbox::launch::{Descriptors, Extras, Launcher, NotStarted};
use crate::table::{Activation, Stderr};

/// Which server, on what.
#[derive(Debug)]
pub struct Ask {
    pub connection: ConnectionId,
    pub service: ServiceId,
    pub listener: ListenerId,
    pub on: On,
    /// How often it has had to wait for a sandbox.
    pub waits: u8,
}

impl Ask {
    fn is_of_the_upper_half(&self) -> bool {
        match &self.on {
            On::Connection(fd, _) => reserve::is_of_the_upper_half(fd),
            On::Listener(_) => false,
        }
    }
}

#[derive(Debug)]
pub enum On {
    /// The connection the front accepted, and what it says about it.
    Connection(OwnedFd, Option<Box<Told>>),
    /// The listener itself, where a datagram of this peer (so the front says) waits.
    Listener(Option<Peer>),
}

/// The three ways to answer.
#[derive(Debug)]
pub enum Answer {
    Started(InstanceId),
    Refused(Refusal),
    Failed(NotStarted),
    /// It may be started, and waits for its sandbox.
    Later,
}

/// Everything a start touches.
#[derive(Debug)]
pub struct Starter<'a> {
    pub services: &'a mut Services,
    pub registry: &'a Registry,
    pub instances: &'a mut Instances,
    pub launcher: &'a mut Launcher,
    pub sandboxes: &'a mut Sandboxes,
    pub lot: &'a mut Lot,
    pub cgroups: &'a mut Cgroups,
    pub null: BorrowedFd<'a>,
    pub draining: bool,
    /// An operator drained the service, and the front knows.
    pub halted: bool,
    pub banned: &'a Banned,
}

impl Starter<'_> {
    /// Judges and starts. Also tells when the service's stderr pipe is new, so
    /// that the front can be given its reading end.
    pub fn answer(&mut self, ask: Ask, now: Instant) -> (Answer, bool) {
        match self.judge(&ask, now) {
            Ok((program, found)) => {
                if let Some(answer) = self.start_parked(&ask, &program, &found, now) {
                    return (answer, false);
                }
                let sandbox = match &program.blueprint {
                    None => None,
                    Some(blueprint) => {
                        let (service, alone) = (ask.service, program.per_instance);
                        match self.sandboxes.take(service, blueprint, alone, now) {
                            Sandboxed::Sandbox(sandbox) => Some(sandbox),
                            Sandboxed::Nothing if ask.is_of_the_upper_half() => {
                                return (Answer::Refused(Refusal::TooManyInAll), false);
                            }
                            Sandboxed::Nothing if ask.waits >= MOST_WAITS => {
                                let failed = NotStarted::new(Step::Sandbox, libc::ESTALE);
                                return (Answer::Failed(failed), false);
                            }
                            Sandboxed::Nothing => {
                                self.sandboxes.wait(ask);
                                return (Answer::Later, false);
                            }
                        }
                    }
                };
                let new_pipe = program.stderr == Stderr::Log && self.ensure_pipe(ask.service);
                let answer = match self.start(&ask, &program, &found, sandbox, now) {
                    Ok(instance) => Answer::Started(instance),
                    Err(failed) => Answer::Failed(failed),
                };
                (answer, new_pipe)
            }
            Err(refusal) => (Answer::Refused(refusal), false),
        }
    }

    fn judge(&self, ask: &Ask, now: Instant) -> Result<(Rc<Program>, Found), Refusal> {
        let service = self
            .services
            .find(ask.service)
            .ok_or(Refusal::UnknownService)?;
        let program = service.program.as_ref().ok_or(Refusal::UnknownService)?;
        if program.blocked.is_some() {
            return Err(Refusal::Blocked);
        }
        if !self.services.leads_to(ask.listener, service) {
            return Err(Refusal::UnknownListener);
        }
        let listener = self
            .registry
            .find(ask.listener)
            .ok_or(Refusal::UnknownListener)?;
        let bound = listener.bound().ok_or(Refusal::UnknownListener)?;
        let found = match (&ask.on, service.rules.wait) {
            (On::Connection(fd, _), false) if reserve::is_of_the_last(fd) => {
                return Err(Refusal::TooManyInAll);
            }
            (On::Connection(fd, told), false) => {
                let found = look_at(fd, bound)?;
                self.permits(found.ip, now)?;
                let proxied = told.as_ref().and_then(|told| told.proxy.as_ref());
                let owner = self.services.find(listener.service);
                let routing = owner.map_or(&service.routing, |owner| &owner.routing);
                policy::vouches(routing, found.ip, proxied)?;
                found.brought(proxied)
            }
            (On::Listener(peer), true) => waiting_at(bound, *peer),
            (On::Connection(..), true) | (On::Listener(_), false) => {
                return Err(Refusal::WrongDescriptor);
            }
        };
        self.permits(found.ip, now)?;
        policy::permits(&service.rules, found.ip, self.load(ask, service, found.ip))?;
        Ok((Rc::clone(program), found))
    }

    /// What operators forbid, whatever the table says.
    fn permits(&self, ip: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        if self.halted {
            return Err(Refusal::Held);
        }
        match ip.is_some_and(|ip| self.banned.holds(ip, now)) {
            true => Err(Refusal::Banned),
            false => Ok(()),
        }
    }

    fn load(&self, ask: &Ask, service: &Active, ip: Option<IpAddr>) -> Load {
        let source = ip.map(|ip| policy::source(&service.rules, ip));
        let taken = if service.rules.whole {
            service
                .listeners
                .iter()
                .any(|id| self.instances.is_taken(*id))
        } else {
            self.instances.is_taken(ask.listener)
        };
        // Those that wait for their sandbox will be instances too.
        let waiting = u32::try_from(self.sandboxes.waiting(ask.service)).unwrap_or(u32::MAX);
        Load {
            service: self
                .instances
                .of_service(ask.service)
                .saturating_add(waiting),
            source: source.map_or(0, |source| self.instances.of_source(ask.service, source)),
            all: self.instances.len(),
            taken,
            draining: self.draining,
        }
    }

    /// Makes the service's stderr pipe if it has none yet.
    fn ensure_pipe(&mut self, service: ServiceId) -> bool {
        if self.services.pipes.contains_key(&service) {
            return false;
        }
        match StderrPipe::new() {
            Ok(pipe) => self.services.pipes.insert(service, pipe).is_none(),
            Err(err) => {
                log::warn!("unable to make a pipe for a server's stderr: {err}");
                false
            }
        }
    }

    fn start(
        &mut self,
        ask: &Ask,
        program: &Program,
        found: &Found,
        sandbox: Option<Rc<Sandbox>>,
        now: Instant,
    ) -> Result<InstanceId, NotStarted> {
        let Some(service) = self.services.find(ask.service) else {
            unreachable!("judged a moment ago");
        };
        let leaf = leaf_for(self.cgroups, &service.name, program)?;
        let handed = self.handed_over(ask, service);
        let connection = match &ask.on {
            On::Connection(fd, _) => Some(fd.as_fd()),
            On::Listener(_) => None,
        };
        let sockets: Vec<BorrowedFd> = connection
            .into_iter()
            .chain(handed.iter().map(|(_, b)| b.socket.as_fd()))
            .collect();
        for (_, bound) in handed.iter().filter(|(_, bound)| bound.kind != Type::DGRAM) {
            // The server expects a listener that blocks; taken back when it ends.
            let _ = bound.socket.set_nonblocking(false);
        }
        for (_, bound) in handed.iter().filter(|(_, bound)| bound.kind == Type::DGRAM) {
            // Some servers bind a socket of their own beside the one they get, as
            // every inetd lets them. Only now, for it lets anybody share the port.
            let _ = bound.socket.set_reuse_address(true);
        }
        let names = listen_names(program, service, &handed, ask);
        let facts = facts(ask, service, found, names.as_deref());
        let environment = environment(&program.plan, &facts);
        let stderr = stderr_of(program, self.services, ask.service, self.null);
        let fds = Descriptors {
            null: self.null,
            stderr,
            cgroup: leaf.as_ref().map(AsFd::as_fd),
            sockets: &sockets,
            sandbox: sandbox.as_ref().map(|sandbox| &sandbox.door),
        };
        let launched = match &program.plan.session {
            None => {
                let launched = self
                    .launcher
                    .launch(&program.plan, environment.seal(), &fds);
                launched.map(|pid| (pid, None))
            }
            Some(session) => {
                let beside = session.pam.is_some().then(|| self.cgroups.beside());
                let beside = beside.flatten();
                let extras = Extras {
                    environment,
                    remote: found.ip.map(|ip| ip.to_string()),
                    beside: beside.as_ref().map(AsFd::as_fd),
                };
                let launched = self.launcher.launch_session(&program.plan, extras, &fds);
                launched.map(|(pid, link)| (pid, Some(Session::new(link))))
            }
        };
        let (pid, session) = match launched {
            Ok(launched) => launched,
            Err(failed) => {
                take_back(&handed);
                leaf.into_iter().for_each(|leaf| self.cgroups.retire(leaf));
                return Err(failed);
            }
        };
        let place = Room {
            pid,
            sandbox,
            leaf,
            session,
        };
        Ok(self.add(ask, program, found, place, now))
    }

    /// Wakes a child that waits for a request of this service.
    fn start_parked(
        &mut self,
        ask: &Ask,
        program: &Rc<Program>,
        found: &Found,
        now: Instant,
    ) -> Option<Answer> {
        let On::Connection(connection, _) = &ask.on else {
            return None;
        };
        // A session is of one request: nobody can wait in it for the next.
        if program.plan.session.is_some() {
            return None;
        }
        let place = loop {
            let place = self.lot.take(ask.service, &program.plan, now)?;
            if place.sandbox.as_ref().is_none_or(|one| one.is_current(now)) {
                break place;
            }
            drop(place.parked);
            place
                .leaf
                .into_iter()
                .for_each(|leaf| self.cgroups.retire(leaf));
        };
        self.sandboxes.touch(ask.service, now);
        let service = self.services.find(ask.service)?;
        let names = listen_names(program, service, &[], ask);
        let facts = facts(ask, service, found, names.as_deref());
        let envp = environment(&program.plan, &facts).seal();
        match place.parked.wake(envp, connection.as_fd()) {
            Ok(pid) => {
                let room = Room {
                    pid,
                    sandbox: place.sandbox,
                    leaf: place.leaf,
                    session: None,
                };
                Some(Answer::Started(self.add(ask, program, found, room, now)))
            }
            Err(_) => {
                // It has died; the long way tells why, or does without it.
                place
                    .leaf
                    .into_iter()
                    .for_each(|leaf| self.cgroups.retire(leaf));
                None
            }
        }
    }

    /// Takes note of a server that was started.
    fn add(
        &mut self,
        ask: &Ask,
        program: &Program,
        found: &Found,
        room: Room,
        now: Instant,
    ) -> InstanceId {
        let Some(service) = self.services.find(ask.service) else {
            unreachable!("judged a moment ago");
        };
        let id = self.instances.next_id();
        let log = service.rules.log;
        let pid = room.pid;
        if log.start {
            log::info!(
                service = &*service.name, conn:% = ask.connection, peer = found.peer.as_str(), pid = pid;
                "started"
            );
        }
        self.instances.add(Instance {
            id,
            pid,
            service: ask.service,
            name: Rc::clone(&service.name),
            connection: ask.connection,
            listener: ask.listener,
            wait: service.rules.wait,
            source: found.ip.map(|ip| policy::source(&service.rules, ip)),
            peer: found.ip,
            started: now,
            stop: program.stop.clone(),
            log,
            phase: Phase::Running,
            sandbox: room.sandbox,
            alone: program.per_instance,
            leaf: room.leaf,
            isolated: program.isolated,
            session: room.session,
            adopted: None,
        });
        id
    }

    /// The listeners a wait server gets: its own, or all of the service.
    fn handed_over(&self, ask: &Ask, service: &Active) -> Vec<(ListenerId, Rc<Bound>)> {
        if matches!(ask.on, On::Connection(..)) {
            return Vec::new();
        }
        let ids: &[ListenerId] = if service.rules.whole {
            &service.listeners
        } else {
            std::slice::from_ref(&ask.listener)
        };
        ids.iter()
            .filter_map(|id| Some((*id, Rc::clone(self.registry.find(*id)?.bound()?))))
            .collect()
    }
}

/// Where a server runs.
struct Room {
    pid: i32,
    sandbox: Option<Rc<Sandbox>>,
    leaf: Option<Leaf>,
    session: Option<Session>,
}

/// Where descriptor 2 of a server goes; `None` is its socket.
pub fn stderr_of<'a>(
    program: &Program,
    services: &'a Services,
    service: ServiceId,
    null: BorrowedFd<'a>,
) -> Option<BorrowedFd<'a>> {
    match program.stderr {
        Stderr::Socket => None,
        Stderr::Null => Some(null),
        Stderr::Log => {
            let pipe = services.pipes.get(&service);
            Some(pipe.map_or(null, |pipe| pipe.write.as_fd()))
        }
    }
}

fn facts<'a>(
    ask: &'a Ask,
    service: &'a Active,
    found: &'a Found,
    listen_names: Option<&'a [String]>,
) -> Facts<'a> {
    let told = match &ask.on {
        On::Connection(_, told) => told.as_deref(),
        On::Listener(_) => None,
    };
    Facts {
        service: &service.name,
        connection: ask.connection,
        ends: &found.ends,
        listen_names,
        told,
        rule: told.and_then(|told| service.rule(told.rule)),
        proxy: found.proxy,
    }
}

/// `LISTEN_FDNAMES`: systemd calls an accepted connection "connection".
fn listen_names(
    program: &Program,
    service: &Active,
    handed: &[(ListenerId, Rc<Bound>)],
    ask: &Ask,
) -> Option<Vec<String>> {
    if program.plan.activation != Activation::ListenFds {
        return None;
    }
    if matches!(ask.on, On::Connection(..)) {
        return Some(vec!["connection".to_owned()]);
    }
    let name_of = |id: &ListenerId| {
        let at = service.listeners.iter().position(|known| known == id);
        at.and_then(|at| service.names.get(at))
            .cloned()
            .unwrap_or_default()
    };
    Some(handed.iter().map(|(id, _)| name_of(id)).collect())
}

/// Makes listeners non-blocking again and unties datagram sockets that a
/// server connected to one peer.
pub fn take_back(handed: &[(ListenerId, Rc<Bound>)]) {
    for (_, bound) in handed {
        if bound.kind != Type::DGRAM {
            let _ = bound.socket.set_nonblocking(true);
        } else if bound.domain != Domain::UNIX {
            let _ = bound.socket.set_reuse_address(false);
            if bound.socket.peer_addr().is_ok() {
                let _ = crate::sys::socket::dissolve_connection(bound.socket.as_fd());
            }
        }
    }
}

impl StderrPipe {
    /// The reading end does not block; the writing end, which servers get, does.
    fn new() -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { read, write })
    }
}
