//! The next usherd, put together from what the last one told.
#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use super::Returned;
use super::state::{Descriptors, FORMAT, InstanceState, Key, ProcessState, RunningState, State};
use crate::control::message::Reply;
use crate::control::types;
use crate::error::Fatal;
use crate::helper::core::Helper;
use crate::helper::instances::{Instance, Phase};
use crate::helper::sandbox::Sandbox;
use crate::helper::services::StderrPipe;
use crate::helper::sessions::Session;
use crate::helper::sockets::inherited::Inherited;
use crate::helper::timers::Due;
use crate::helper::told::Told;
use crate::sys::inherit;
use crate::table::LogEvents;

/// Where the number of the descriptor with the state stands.
pub const VARIABLE: &str = "USHERD_HANDOVER";

/// Of a service that is gone: what it was is not known any more.
const ALL: LogEvents = LogEvents {
    accept: true,
    start: true,
    exit: true,
    refuse: true,
};

/// What was handed over.
#[derive(Debug)]
pub struct Taken {
    pub state: State,
    pub descriptors: Descriptors,
}

/// What a usherd finds out about itself before it is whole: only over execve(2).
#[derive(Debug)]
pub struct Upgraded {
    caller: Option<UnixStream>,
    asked: Option<(u64, Instant)>,
    from: String,
}

/// Takes what the program before us in this process has left. To be called at
/// the start, before any descriptor is opened.
pub fn take() -> Result<Option<Taken>, Fatal> {
    let number = env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let Some(memory) = number.and_then(inherit::take) else {
        return Ok(None);
    };
    let failed = |err: io::Error| Fatal(format!("unable to take over: {err}"));
    let state = read(memory).map_err(failed)?;
    let numbers = state.open.iter();
    let numbers = numbers.filter_map(|key| Some((*key, i32::try_from(*key).ok()?)));
    let open = numbers.filter_map(|(key, number)| Some((key, inherit::take(number)?)));
    let descriptors = Descriptors(open.collect());
    Ok(Some(Taken { state, descriptors }))
}

/// A state in a memfd. Of a format that we do not know only the number is read.
pub fn read(memory: OwnedFd) -> io::Result<State> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let mut file = File::from(memory);
    file.rewind()?;
    let text = io::read_to_string(file)?;
    let Head { format } = serde_json::from_str(&text)?;
    if format != FORMAT {
        let why = format!("it was handed over in format {format}, this program reads {FORMAT}");
        return Err(io::Error::other(why));
    }
    Ok(serde_json::from_str(&text)?)
}

impl Taken {
    /// Sockets of a supervisor, for `listen = "fd:NAME"`.
    pub fn inherited(&mut self) -> Vec<Inherited> {
        let process = self.state.process.as_mut();
        let named = process.map(|process| std::mem::take(&mut process.inherited));
        let named = named.unwrap_or_default().into_iter();
        let taken = named.filter_map(|(name, key)| {
            let fd = self.descriptors.take(key)?;
            Some(Inherited { name, fd })
        });
        taken.collect()
    }
}

impl Helper {
    /// Goes on with what the last usherd had beyond its listeners.
    pub(in crate::helper) fn take_over(&mut self, taken: Taken, now: Instant) {
        let Taken {
            state,
            mut descriptors,
        } = taken;
        self.fronts.epoch = state.numbers.epoch;
        if state.process.is_some() {
            self.fronts.lost = state.numbers.lost;
        }
        self.instances.count_from(state.numbers.next_instance);
        self.control.count_starts_from(state.numbers.starts);
        for name in &state.held {
            if let Some(service) = self.services.known(name) {
                self.control.keep_held(service);
            }
        }
        for returned in state.returned {
            if let Some(connection) = descriptors.take(returned.key) {
                self.returned.push(Returned {
                    listener: returned.listener,
                    told: Told::read(&returned.told).ok().flatten(),
                    connection,
                });
            }
        }
        if let Some(process) = state.process {
            self.take_over_process(process, state.version, &mut descriptors, now);
        }
    }

    fn take_over_process(
        &mut self,
        process: ProcessState,
        from: String,
        descriptors: &mut Descriptors,
        now: Instant,
    ) {
        self.control.began = process.began.instant();
        self.retired = process.fronts;
        if let (Some(store), Some(told)) = (&mut self.store, process.store) {
            store.recall(told);
        }
        for pipe in process.pipes {
            let ends = descriptors
                .take(pipe.read)
                .zip(descriptors.take(pipe.write));
            if let Some((read, write)) = ends {
                let service = self.services.id(&pipe.service);
                self.services
                    .pipes
                    .insert(service, StderrPipe { read, write });
            }
        }
        let sandboxes = process.sandboxes.into_iter();
        let sandboxes: Vec<Option<Rc<Sandbox>>> = sandboxes
            .map(|sandbox| Sandbox::taken_over(&sandbox, descriptors).map(Rc::new))
            .collect();
        let count = process.instances.len();
        for running in process.instances {
            self.take_over_instance(running, &sandboxes, descriptors);
        }
        for timer in process.timers {
            let due = match timer.kill {
                true => Due::Kill(timer.instance),
                false => Due::Stop(timer.instance),
            };
            self.timers.set(timer.at.instant(), due);
        }
        let caller = process.caller.and_then(|key| descriptors.take(key));
        self.upgraded = Some(Upgraded {
            caller: caller.map(UnixStream::from),
            asked: process.asked.map(|(entry, since)| (entry, since.instant())),
            from,
        });
        let listeners = self.registry.bound().count();
        log::info!(
            "usherd {} has taken over {listeners} listeners and {count} running servers",
            env!("CARGO_PKG_VERSION")
        );
        // Who has ended in between has told the program before us.
        self.reap_all(now);
    }

    fn take_over_instance(
        &mut self,
        running: RunningState,
        sandboxes: &[Option<Rc<Sandbox>>],
        descriptors: &mut Descriptors,
    ) {
        let sandbox = running.sandbox.and_then(|at| sandboxes.get(at)?.clone());
        let session = running.session.and_then(|(key, going): (Key, bool)| {
            Some(Session::again(descriptors.take(key)?, going))
        });
        let adopted = running.adopted.and_then(|key| descriptors.take(key));
        if let Some(pidfd) = &adopted
            && let Err(err) = self.watch_adopted(pidfd)
        {
            return log::error!("unable to watch a running server: {err}");
        }
        let instance = self.instance_of(running.instance);
        self.instances.add(Instance {
            sandbox,
            session,
            adopted,
            ..instance
        });
    }

    /// A server as the last usherd told it, by the table in force.
    pub(super) fn instance_of(&mut self, state: InstanceState) -> Instance {
        let service = self.services.id(&state.service);
        let active = self.services.find(service);
        let log = active.map_or(ALL, |active| active.rules.log);
        let name: Rc<str> = match active {
            Some(active) => Rc::clone(&active.name),
            None => state.service.into(),
        };
        let leaf = state.leaf.and_then(|leaf| {
            let mut leaf = self.cgroups.adopt(&name, &leaf, state.leaf_number)?;
            leaf.isolated = state.isolated;
            Some(leaf)
        });
        Instance {
            id: state.id,
            pid: state.pid,
            service,
            name,
            connection: state.connection,
            listener: state.listener,
            wait: state.wait,
            source: state.source,
            peer: state.peer,
            started: state.started.instant(),
            stop: state.stop,
            log,
            phase: match state.stopping {
                true => Phase::Stopping,
                false => Phase::Running,
            },
            sandbox: None,
            alone: state.alone,
            leaf,
            isolated: state.isolated,
            session: None,
            adopted: None,
        }
    }

    /// Tells who asked for the upgrade that it is done.
    pub(in crate::helper) fn tell_upgraded(&mut self) {
        let Some(upgraded) = self.upgraded.take() else {
            return;
        };
        let reply = Reply::last(&types::Upgrade {
            from: upgraded.from,
            to: env!("CARGO_PKG_VERSION").to_owned(),
        });
        if let Some(asked) = upgraded.asked {
            self.audit_upgraded(asked, &reply, Instant::now());
        }
        let Some(mut caller) = upgraded.caller else {
            return;
        };
        let mut octets = Vec::new();
        reply.encode(&mut octets);
        // A line or two: there is room for it, or nobody reads.
        if let Err(err) = caller.write_all(&octets) {
            log::debug!("unable to tell who asked for the upgrade: {err}");
        }
    }
}
