//! The front seen from here: started, told, watched, replaced.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;
use nix::sys::signal::Signal;

use crate::control::types::EventKind;
use crate::error::Fatal;
use crate::helper::core::{Helper, LINK, Phase};
use crate::helper::front_process::{Order, seal_plan};
use crate::helper::link::LinkError;
use crate::helper::logs;
use crate::helper::services::Age;
use crate::helper::wire::Notice;
use crate::ids::{InstanceId, ServiceId};
use crate::logging;

impl Helper {
    /// Keeps a front running: starts one that is due, replaces one that is silent.
    pub(super) fn tend_front(&mut self, now: Instant) -> Result<(), Fatal> {
        if let Some(front) = &self.front
            && front.patience_ends().is_some_and(|at| now >= at)
        {
            let what = match front.orders.is_empty() {
                true => "has been silent for too long",
                false => "does not do what it is told",
            };
            log::error!(pid = front.pid; "the front {what}; replacing it");
            self.end_front();
        }
        if self.front_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        if self.fronts.is_hopeless() {
            return Err(Fatal(
                "the front cannot be kept running; see the lines above".into(),
            ));
        }
        self.front_due = None;
        if self.phase == Phase::Draining {
            return Ok(());
        }
        if let Err(err) = self.start_front(now) {
            log::error!("unable to start the front: {err}");
            self.end_front();
            self.front_due = Some(now + Duration::from_secs(1));
        }
        Ok(())
    }

    /// Puts ourselves on the CPUs of the table, and nobody else.
    pub(super) fn settle(&mut self) {
        self.cpus.settle(&self.table.daemon.cpus);
        self.launcher.put_on(self.cpus.of_others());
    }

    /// After requests: for several at once it takes more than one CPU.
    pub(super) fn make_room(&mut self, now: Instant) {
        if let Some(front) = self.front.as_ref().filter(|front| !front.ended)
            && self.cpus.end_turn(front.pid, now)
        {
            self.launcher.put_on(self.cpus.of_others());
        }
    }

    /// Starts a front and tells it everything: the plan, the listeners, the
    /// instances that run.
    pub(super) fn start_front(&mut self, now: Instant) -> io::Result<()> {
        let front = self.fronts.start(
            self.table.daemon.user.as_ref(),
            self.cpus.of_front(),
            &mut self.launcher,
            now,
        )?;
        self.poll.registry().register(
            &mut SourceFd(&front.link.as_fd().as_raw_fd()),
            LINK,
            Interest::READABLE,
        )?;
        log::debug!(pid = front.pid; "front started");
        self.front = Some(front);
        self.stale_store(); // its number is taken
        self.send_log()?;
        self.send_status_socket()?;
        self.send_plan()?;
        let running: Vec<InstanceId> = self.instances.iter().map(|i| i.id).collect();
        for instance in running {
            self.tell_running(instance, now);
        }
        self.registry.listen_again();
        if let Some(front) = &mut self.front {
            front.give_listeners(self.registry.iter())?;
        }
        let pipes: Vec<_> = self.services.pipes.keys().copied().collect();
        for service in pipes {
            self.send_pipe(service)?;
        }
        self.brief_front()?;
        self.return_connections();
        Ok(())
    }

    /// To the front that is there: an instance that it did not ask for.
    pub(super) fn tell_running(&mut self, id: InstanceId, now: Instant) {
        let (Some(front), Some(instance)) = (&mut self.front, self.instances.find(id)) else {
            return;
        };
        front.link.notify(&Notice::Running {
            instance: instance.id,
            service: instance.service,
            listener: instance.listener,
            source: instance.peer,
            connection: instance.connection,
            pid: instance.pid,
            age: millis_since(instance.started, now),
        });
    }

    /// Lets those who watch events know of one that the front does not see.
    pub(super) fn tell_event(&mut self, kind: EventKind, service: Option<ServiceId>, text: &str) {
        if let Some(front) = &mut self.front {
            front.link.notify(&Notice::Event {
                kind,
                service,
                text: text.to_owned(),
            });
        }
    }

    pub(super) fn age(&self) -> Age {
        Age {
            epoch: self.fronts.epoch,
            fronts: self.fronts.lost + 1,
            uptime: millis_since(self.control.began, Instant::now()),
        }
    }

    /// Tells the front which table is in force.
    pub(super) fn send_plan(&mut self) -> io::Result<()> {
        let age = self.age();
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let listeners = self.registry.iter();
        let blocked = self.services.all_blocked();
        let plan = self
            .services
            .plan(&self.table, listeners, age, |id| blocked.get(&id).cloned());
        front.order(Order::Plan, Some(seal_plan(&plan)?));
        Ok(())
    }

    pub(super) fn send_pipe(&mut self, service: crate::ids::ServiceId) -> io::Result<()> {
        if let (Some(front), Some(pipe)) = (&mut self.front, self.services.pipes.get(&service)) {
            let read = pipe.read.try_clone()?;
            front
                .link
                .notify_with(&Notice::Stderr { service }, vec![read]);
        }
        Ok(())
    }

    pub(super) fn send_log(&mut self) -> io::Result<()> {
        // A log that cannot be had is no reason to serve nobody: the front asks again.
        let settings = &self.table.daemon.log;
        let descriptor = logs::open(settings).or_else(|_| logging::share())?;
        if let Some(front) = &mut self.front {
            front.link.notify_with(&Notice::Log, vec![descriptor]);
        }
        Ok(())
    }

    /// Sends what is queued; a front that cannot take it is replaced.
    pub(super) fn flush(&mut self) {
        let Some(front) = &mut self.front else { return };
        match front.link.flush() {
            Ok(all) if all == front.is_blocked => {
                front.is_blocked = !all;
                self.watch_link();
            }
            Ok(_) => {}
            Err(err) => self.lose_front(&err),
        }
    }

    /// Ends a front that broke the rules. It is reaped, and replaced then.
    pub(super) fn lose_front(&mut self, err: &LinkError) {
        let Some(front) = &mut self.front else { return };
        let pid = front.pid;
        front.distrusted |= matches!(err, LinkError::Malformed(_));
        match err {
            LinkError::Closed => {}
            LinkError::Malformed(err) => {
                log::error!(pid = pid; "the front is not to be trusted: {err}");
            }
            LinkError::NotReading => {
                log::error!(pid = pid; "the front does not read; replacing it");
            }
            LinkError::Io(err) => log::error!(pid = pid; "unable to speak to the front: {err}"),
        }
        self.end_front();
    }

    pub(super) fn end_front(&mut self) {
        let Some(front) = &mut self.front else {
            return;
        };
        if std::mem::replace(&mut front.ended, true) {
            return;
        }
        // Our own child, not reaped yet: the number is still its own.
        let pid = nix::unistd::Pid::from_raw(front.pid);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }

    /// Asks for the next readiness of the link; for room in it only while it
    /// lacks, or every packet that the front reads would wake us.
    pub(super) fn watch_link(&mut self) {
        let Some(front) = &self.front else { return };
        let fd = front.link.as_fd().as_raw_fd();
        let mut interest = Interest::READABLE;
        if front.is_blocked {
            interest |= Interest::WRITABLE;
        }
        if let Err(err) = self
            .poll
            .registry()
            .reregister(&mut SourceFd(&fd), LINK, interest)
        {
            log::error!("unable to watch the front: {err}");
        }
    }
}

/// Milliseconds between two moments.
pub(super) fn millis_since(then: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
}
