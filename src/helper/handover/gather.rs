//! This usherd, told to the next.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use nix::unistd::execve;

use super::state::{
    Bag, FORMAT, InstanceState, Moment, Numbers, NumbersState, PipeState, ProcessState,
    ReturnedState, RunningState, SandboxState, State, TimerState,
};
use super::store::Store;
use super::takeover::VARIABLE;
use crate::helper::core::Helper;
use crate::helper::front_process::seal;
use crate::helper::instances::{Instance, Phase};
use crate::helper::sandbox::Sandbox;
use crate::helper::timers::Due;
use crate::helper::told::Told;
use crate::ids::ServiceId;
use crate::sandbox::cgroup::Leaf;
use crate::sys::inherit::keep_over_exec;

impl Helper {
    /// Executes the program that is there now in our place, with all that we
    /// have. If that fails nothing has changed.
    pub(super) fn become_next(&mut self, caller: Option<u64>) -> io::Result<Infallible> {
        let mut bag = Numbers::default();
        let process = self.gather_process(&mut bag, caller)?;
        let mut state = self.gather(&mut bag)?;
        state.process = Some(process);
        state.open = bag.0.iter().map(|number| number.unsigned_abs()).collect();
        let memory = seal(c"usherd-state", &state)?;
        bag.0.push(memory.as_raw_fd());
        let word = |word: &[u8]| CString::new(word).map_err(io::Error::other);
        let path = word(self.executable.path().as_os_str().as_bytes())?;
        let argv = self.executable.arguments().iter();
        let argv: Vec<CString> = argv
            .map(|argument| word(argument.as_bytes()))
            .collect::<io::Result<_>>()?;
        let environment = self.fronts.inheritance().environment.iter();
        let mut environment: Vec<CString> = environment
            .map(|(name, value)| word(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<io::Result<_>>()?;
        environment.push(word(
            format!("{VARIABLE}={}", memory.as_raw_fd()).as_bytes(),
        )?);
        log::info!(
            "handing over to {}: {} listeners, {} running, {} not served yet",
            self.executable.path().display(),
            state.sockets.listeners.len(),
            self.instances.len(),
            self.returned.len()
        );
        let kept = bag.0.iter().try_for_each(|n| keep_over_exec(*n, true));
        self.cpus.leave();
        let done = kept.and_then(|()| execve(&path, &argv, &environment).map_err(Into::into));
        for number in &bag.0 {
            let _ = keep_over_exec(*number, false);
        }
        self.settle();
        done
    }

    /// What any next usherd can go on with.
    pub(super) fn gather(&self, bag: &mut dyn Bag) -> io::Result<State> {
        let names = self.services.names();
        let name_of = |id: ServiceId| names.get(&id).map_or_else(String::new, |n| (*n).to_owned());
        let returned = self.returned.iter().map(|returned| {
            let mut told = Vec::new();
            Told::put(returned.told.as_deref(), &mut told);
            Ok(ReturnedState {
                listener: returned.listener,
                told,
                key: bag.put(returned.connection.as_fd())?,
            })
        });
        let returned = returned.collect::<io::Result<_>>()?;
        Ok(State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            open: Vec::new(),
            sockets: self.registry.hand_over(bag, &name_of)?,
            numbers: NumbersState {
                epoch: self.fronts.epoch,
                lost: self.fronts.lost,
                next_instance: self.instances.next_number(),
                starts: self.control.starts(),
            },
            held: self.control.held().map(name_of).collect(),
            returned,
            process: None,
        })
    }

    fn gather_process(&self, bag: &mut Numbers, caller: Option<u64>) -> io::Result<ProcessState> {
        let mut sandboxes = Sandboxes::default();
        let mut instances = Vec::new();
        for instance in self.instances.iter() {
            let session = instance.session.as_ref();
            instances.push(RunningState {
                instance: instance.state(),
                sandbox: match &instance.sandbox {
                    Some(sandbox) => Some(sandboxes.place_of(sandbox, bag)?),
                    None => None,
                },
                session: match session {
                    Some(session) => Some((bag.put(session.link())?, session.is_going())),
                    None => None,
                },
                adopted: match &instance.adopted {
                    Some(pidfd) => Some(bag.put(pidfd.as_fd())?),
                    None => None,
                },
            });
        }
        let timers = self.timers.iter().filter_map(|(at, due)| {
            let (instance, kill) = match due {
                Due::Stop(instance) => (instance, false),
                Due::Kill(instance) => (instance, true),
                _ => return None,
            };
            let at = Moment::of(at);
            self.instances
                .find(instance)
                .map(|_| TimerState { at, instance, kill })
        });
        let timers = timers.collect();
        let names = self.services.names();
        let pipes = self.services.pipes.iter();
        let pipes = pipes.filter_map(|(id, pipe)| Some((*names.get(id)?, pipe)));
        let pipes = pipes.map(|(name, pipe)| {
            Ok(PipeState {
                service: name.to_owned(),
                read: bag.put(pipe.read.as_fd())?,
                write: bag.put(pipe.write.as_fd())?,
            })
        });
        let pipes = pipes.collect::<io::Result<_>>()?;
        let inherited = self.registry.inherited().iter();
        let inherited = inherited.map(|one| Ok((one.name.clone(), bag.put(one.fd.as_fd())?)));
        let inherited = inherited.collect::<io::Result<_>>()?;
        let asked = caller.and_then(|caller| self.control.asked_of(caller));
        let caller = caller.and_then(|caller| self.control.socket_of(caller));
        Ok(ProcessState {
            program: self.executable.path().to_owned(),
            files: self.fronts.inheritance().files,
            began: Moment::of(self.control.began),
            pid_file: match &self.pid_file {
                Some(file) => Some((bag.put(file.as_fd())?, file.path().to_owned())),
                None => None,
            },
            cgroup: self.cgroups.hand_over(bag)?,
            control: self.control.hand_over(bag)?,
            caller: caller.map(|socket| bag.put(socket)).transpose()?,
            asked: asked.map(|(entry, since)| (entry, Moment::of(since))),
            inherited,
            sandboxes: sandboxes.told,
            instances,
            timers,
            pipes,
            fronts: self.retired.clone(),
            store: self.store.as_ref().map(Store::told),
        })
    }
}

/// Each but once, however many run in it.
#[derive(Default)]
struct Sandboxes {
    told: Vec<SandboxState>,
    known: HashMap<*const Sandbox, usize>,
}

impl Sandboxes {
    fn place_of(&mut self, sandbox: &Rc<Sandbox>, bag: &mut Numbers) -> io::Result<usize> {
        if let Some(place) = self.known.get(&Rc::as_ptr(sandbox)) {
            return Ok(*place);
        }
        self.told.push(sandbox.hand_over(bag)?);
        let place = self.told.len() - 1;
        self.known.insert(Rc::as_ptr(sandbox), place);
        Ok(place)
    }
}

impl Instance {
    /// What the next usherd has to know of it.
    #[must_use]
    pub fn state(&self) -> InstanceState {
        InstanceState {
            id: self.id,
            pid: self.pid,
            service: self.name.to_string(),
            connection: self.connection,
            listener: self.listener,
            wait: self.wait,
            source: self.source,
            peer: self.peer,
            started: Moment::of(self.started),
            stop: self.stop.clone(),
            stopping: self.phase == Phase::Stopping,
            alone: self.alone,
            leaf: self.leaf.as_ref().map(|leaf| leaf.name().to_owned()),
            leaf_number: self.leaf.as_ref().map(Leaf::number),
            isolated: self.isolated,
        }
    }
}
