//! Children that ended: counted out, logged, reported to the front.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::helper::core::{Helper, Phase};
use crate::helper::instances::Instance;
use crate::helper::reload::Change;
use crate::helper::start::take_back;
use crate::helper::timers::Due;
use crate::helper::wire::{Notice, Outcome};
use crate::ids::{ConnectionId, InstanceId, ServiceId};
use crate::sandbox::Step;
use crate::sandbox::launch::NotStarted;
use crate::sys::process::{Reaped, reap};

impl Helper {
    /// Reaps until nobody is left: one SIGCHLD may stand for many ends.
    pub(super) fn reap_all(&mut self, now: Instant) {
        let mut ended = Vec::new();
        while let Some(reaped) = reap() {
            if self
                .front
                .as_ref()
                .is_some_and(|front| front.pid == reaped.pid)
            {
                self.front_ended(&reaped, now);
            } else if let Some(mut instance) = self.instances.remove(reaped.pid) {
                self.instance_ended(&mut instance, &reaped, now);
                self.sandboxes.let_go(instance.service);
                self.close_session(&mut instance, now);
                // What it left in a sandbox of its own would be counted by nobody.
                instance.end_sandbox();
                ended.push((instance, reaped.signalled && reaped.status == libc::SIGKILL));
            } else if self.operation_ended(&reaped, now) || self.program_answered(&reaped, now) {
            } else if self.retired_ended(reaped.pid) {
                log::debug!(pid = reaped.pid; "a front that had retired is done");
            } else if let Some(place) = self.lot.ended(reaped.pid) {
                let failed = self.launcher.failure(reaped.pid);
                let step = failed.map(|failed| failed.step.to_string());
                log::debug!(pid = reaped.pid, step = step; "a parked child ended");
                let leaf = place.leaf.into_iter();
                leaf.for_each(|leaf| self.cgroups.retire(leaf));
            }
            // A parked child that nobody needed any more.
            else if self.launcher.failure(reaped.pid).is_some() {
            }
            // Anything else is a keeper, or an orphan that some server left to us.
            else if self.sandboxes.keeper_ended(reaped.pid) {
                log::warn!(pid = reaped.pid; "the keeper of a sandbox ended, and all that ran in it");
            }
        }
        self.end_leftovers(ended, now);
    }

    fn front_ended(&mut self, reaped: &Reaped, now: Instant) {
        if let Some(front) = &mut self.front {
            front.ended = true; // its number may be another's from now on
        }
        self.hear_out(now);
        let Some(front) = self.front.take() else {
            return;
        };
        if self.phase == Phase::Draining {
            return self.drained(now);
        }
        if self.is_between_fronts() {
            return self.front_retired(now);
        }
        self.commit_change(now);
        if let Some(NotStarted { step, errno, .. }) = self.launcher.failure(reaped.pid) {
            let err = io::Error::from_raw_os_error(errno);
            log::error!("unable to start the front: {step}: {err}");
        }
        let how = if reaped.signalled { "signal" } else { "status" };
        self.fronts.lost += 1;
        let pause = self.fronts.pause_after(&front, now);
        log::error!(pid = reaped.pid; "the front ended ({how} {}); starting another", reaped.status);
        self.front_due = Some(now + pause);
    }

    pub(super) fn instance_ended(
        &mut self,
        instance: &mut Instance,
        reaped: &Reaped,
        now: Instant,
    ) {
        if instance.wait {
            self.take_listeners_back(instance);
            self.replace_sockets(now);
        }
        let failure = self.launcher.failure(reaped.pid);
        let failure = failure.or_else(|| instance.session_failure(reaped));
        let oom = self.out_of_memory(instance);
        let lasted = now.duration_since(instance.started);
        if let Some(failed) = &failure {
            self.log_failure(instance.service, instance.connection, failed);
        } else if instance.log.exit {
            let oom = oom.as_deref();
            log_exit(instance, reaped, oom, lasted.as_millis());
        }
        self.tell_ended(instance.service, now);
        let Some(front) = &mut self.front else { return };
        if let Some(failed) = failure {
            let NotStarted { step, errno, .. } = failed;
            front.link.notify(&Notice::Failed {
                connection: instance.connection,
                step,
                errno,
            });
        }
        let outcome = Outcome {
            unseen: !reaped.seen,
            status: reaped.status,
            signalled: reaped.signalled,
            core: reaped.core,
            micros: micros(lasted),
            user_micros: micros(reaped.user_time),
            system_micros: micros(reaped.system_time),
            max_rss: reaped.max_rss,
            blocks_read: reaped.blocks_read,
            blocks_written: reaped.blocks_written,
            oom_killed: oom.is_some(),
        };
        front.link.notify(&Notice::Exited {
            instance: instance.id,
            outcome,
        });
    }

    /// The sockets that a wait server had are the front's to watch again.
    fn take_listeners_back(&mut self, instance: &Instance) {
        // A service that left and came back meanwhile has the socket under another number.
        let came_back = self.registry.find(instance.listener).is_none();
        let whole = self
            .services
            .find(instance.service)
            .filter(|service| service.rules.whole || came_back);
        let ids = whole.map_or(vec![instance.listener], |service| service.listeners.clone());
        let mut bound = Vec::new();
        for id in ids {
            let pending = self.change.as_mut().map(Change::prepared);
            if self.registry.put_aside(id, pending) {
                log::warn!(
                    service = &*instance.name;
                    "the server connected its datagram socket, which is one of a group; binding another"
                );
            } else {
                bound.push(id);
            }
        }
        let bound: Vec<_> = bound
            .into_iter()
            .filter_map(|id| Some((id, self.registry.find(id)?.bound()?.clone())))
            .collect();
        take_back(&bound);
        for (id, _) in &bound {
            self.registry.guard(*id);
        }
    }

    /// A server that never came to be: which step, why, and of which program.
    pub(super) fn log_failure(
        &self,
        service: ServiceId,
        connection: ConnectionId,
        failed: &NotStarted,
    ) {
        let reason = match &failed.why {
            Some(why) => why.clone(),
            None => io::Error::from_raw_os_error(failed.errno).to_string(),
        };
        let active = self.services.find(service);
        let name = active.map_or("?", |active| &active.name);
        let program = active.and_then(|active| active.program.as_ref());
        let path = program.map_or("?", |program| &program.path);
        let about = match (failed.step, program) {
            (Step::Directory, Some(program)) => format!(" {}", program.plan.dir.to_string_lossy()),
            _ => String::new(),
        };
        let hint = hint(failed).map_or(String::new(), |hint| format!("; {hint}"));
        let hidden = match (failed.step, Errno::from_raw(failed.errno)) {
            (Step::Exec | Step::Directory, Errno::ENOENT | Errno::EACCES)
                if program.is_some_and(|program| program.blueprint.is_some()) =>
            {
                ". If it is there on the host, the service's sandbox does not show it: see isolation.visible"
            }
            _ => "",
        };
        log::error!(
            service = name, conn:% = connection, step:% = failed.step, errno = failed.errno;
            "unable to start {path}: {}{about}: {reason}{hint}{hidden}", failed.step
        );
    }

    /// Arms `max_runtime` for a new instance.
    pub(super) fn set_runtime_limit(&mut self, service: ServiceId, id: InstanceId, now: Instant) {
        let limit = self
            .services
            .find(service)
            .and_then(|service| service.rules.max_runtime);
        if let Some(limit) = limit {
            self.timers.set(now + limit, Due::Stop(id));
            let instances = &self.instances;
            self.timers.tidy(instances.len(), |due| match due {
                Due::Stop(id) | Due::Kill(id) => instances.find(id).is_some(),
                _ => true,
            });
        }
    }
}

/// Where to look, if the kernel's word alone does not tell.
fn hint(failed: &NotStarted) -> Option<&'static str> {
    match (failed.step, Errno::from_raw(failed.errno)) {
        (Step::Exec, Errno::ENOENT) => Some("the program is not there, or what its #! line names"),
        (Step::Exec, Errno::EACCES) => {
            Some("the service's user may not execute it, or not enter a folder on the way")
        }
        (Step::Exec, Errno::EAGAIN) => {
            Some("its user has more processes on this host than limits.nproc allows")
        }
        (Step::Exec, Errno::ENOEXEC) => Some("a script needs a first line such as #!/bin/sh"),
        (Step::Directory, Errno::EACCES) => Some("the service's user may not enter it"),
        (Step::Label, Errno::ENOENT) => Some(
            "no such AppArmor profile is loaded (aa-status lists them), or this kernel has no AppArmor",
        ),
        (Step::Label, Errno::EINVAL) => {
            Some("this kernel has no SELinux, or its policy no such context")
        }
        (Step::Clone, Errno::EAGAIN) => Some("too many processes: see nproc, pids.max"),
        _ => None,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// `oom`: which memory was full.
fn log_exit(instance: &Instance, reaped: &Reaped, oom: Option<&str>, millis: u128) {
    if !reaped.seen {
        return log::info!(
            service = &*instance.name, conn:% = instance.connection, pid = reaped.pid, ms = millis;
            "ended; how is not known, for another usherd has started it"
        );
    }
    let how = match (reaped.signalled, reaped.core) {
        (true, true) => "killed, core dumped",
        (true, false) => "killed",
        (false, _) => "exited",
    };
    let how = match (oom, reaped.status) {
        (Some(limit), libc::SIGKILL) if reaped.signalled => {
            format!("killed by the kernel: out of memory ({limit})")
        }
        (Some(limit), _) => {
            format!("{how}, processes of it killed by the kernel: out of memory ({limit})")
        }
        (None, _) => how.to_owned(),
    };
    let (status, signal) = if reaped.signalled {
        (None, Some(reaped.status))
    } else {
        (Some(reaped.status), None)
    };
    log::info!(
        service = &*instance.name, conn:% = instance.connection, pid = reaped.pid,
        status = status, signal = signal, ms = millis,
        user_ms = reaped.user_time.as_millis(), system_ms = reaped.system_time.as_millis(),
        rss_kb = reaped.max_rss;
        "{how}"
    );
}
