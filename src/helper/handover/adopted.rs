//! Servers that another usherd started and that are no children of ours: found
//! again by its journal, counted and limited as our own. Their end is seen on a
//! pidfd; how they ended, only their new parent knows.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};

use super::journal::Noted;
use crate::helper::core::Helper;
use crate::helper::instances::{Instance, Phase};
use crate::helper::timers::Due;
use crate::helper::tree;
use crate::sys::process::{Reaped, pidfd_open, pidfd_signal};

/// Tokens of their pidfds, with the numbers of the descriptors.
const FIRST_ADOPTED: usize = 1 << 26;

impl Helper {
    /// Those that still run count as instances from now on.
    pub(in crate::helper) fn adopt_servers(&mut self, noted: Vec<Noted>, now: Instant) {
        let told = noted.len();
        for noted in noted {
            let next = noted.instance.id.0 + 1;
            self.instances.count_from(next);
            let Some(pidfd) = find(&noted) else {
                // Nobody has seen its end; what it left goes as of any server.
                let leaf = noted.instance.leaf.as_deref();
                let number = noted.instance.leaf_number;
                let leaf =
                    leaf.and_then(|leaf| self.cgroups.adopt(&noted.instance.service, leaf, number));
                leaf.into_iter().for_each(|leaf| self.cgroups.retire(leaf));
                continue;
            };
            if let Err(err) = self.adopt_server(noted, pidfd, now) {
                log::error!("unable to watch a running server: {err}");
            }
        }
        if told > 0 {
            let running = self.instances.len();
            log::info!("{running} of {told} servers of the usherd before this one run on");
        }
    }

    fn adopt_server(&mut self, noted: Noted, pidfd: OwnedFd, now: Instant) -> io::Result<()> {
        self.watch_adopted(&pidfd)?;
        let instance = Instance {
            adopted: Some(pidfd),
            ..self.instance_of(noted.instance)
        };
        let service = self.services.find(instance.service);
        let limit = service.and_then(|service| service.rules.max_runtime);
        if let Some(limit) = limit {
            self.timers
                .set(instance.started + limit, Due::Stop(instance.id));
        }
        if instance.phase == Phase::Stopping {
            self.timers
                .set(now + instance.stop.grace, Due::Kill(instance.id));
        }
        // The usherd that died may have stopped it, for somebody who read its state.
        let stopped = tree::Snapshot::take().members(instance.pid);
        stopped
            .iter()
            .for_each(|member| member.signal(libc::SIGCONT));
        self.instances.add(instance);
        Ok(())
    }

    pub(super) fn watch_adopted(&self, pidfd: &OwnedFd) -> io::Result<()> {
        let number = pidfd.as_raw_fd();
        let token = Token(FIRST_ADOPTED + usize::try_from(number).unwrap_or(0));
        self.poll
            .registry()
            .register(&mut SourceFd(&number), token, Interest::READABLE)
    }

    pub(in crate::helper) fn hear_adopted(&mut self, events: &Events, now: Instant) {
        for event in events {
            let number = event.token().0.checked_sub(FIRST_ADOPTED);
            let number = number.and_then(|number| i32::try_from(number).ok());
            let is_it = |instance: &&Instance| {
                let pidfd = instance.adopted.as_ref().map(AsRawFd::as_raw_fd);
                pidfd.is_some() && pidfd == number
            };
            let ended = self.instances.iter().find(is_it).map(|found| found.pid);
            let Some(mut instance) = ended.and_then(|pid| self.instances.remove(pid)) else {
                continue;
            };
            let unseen = Reaped::unseen(instance.pid);
            self.instance_ended(&mut instance, &unseen, now);
            instance.end_sandbox();
            self.end_leftovers(vec![(instance, false)], now);
        }
    }
}

impl Instance {
    /// Whether its number is still its own.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let adopted = self.adopted.as_ref();
        // Our own child is reaped by us, and not yet.
        adopted.is_none_or(|pidfd| pidfd_signal(pidfd.as_fd(), 0).is_ok())
    }
}

/// The process that is meant, if it still runs. It is looked at while it is held.
fn find(noted: &Noted) -> Option<OwnedFd> {
    let pidfd = pidfd_open(noted.instance.pid).ok()?;
    let stat = fs::read(format!("/proc/{}/stat", noted.instance.pid)).ok()?;
    let process = tree::parse(&stat)?;
    let is_it = !process.is_dead() && noted.is(began(&stat)?, process.session);
    (is_it && pidfd_signal(pidfd.as_fd(), 0).is_ok()).then_some(pidfd)
}

/// When a process began, since the boot: field 22 of /proc/PID/stat, in ticks
/// of which a second has a hundred on every Linux target.
fn began(stat: &[u8]) -> Option<Duration> {
    const BEHIND_THE_NAME: usize = 19;
    let text = String::from_utf8_lossy(stat);
    let (_, rest) = text.rsplit_once(')')?;
    let ticks: u64 = rest
        .split_ascii_whitespace()
        .nth(BEHIND_THE_NAME)?
        .parse()
        .ok()?;
    Some(Duration::from_millis(ticks.checked_mul(10)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::sys::clock::since_boot;

    #[test]
    fn a_process_began_before_now() {
        let stat = fs::read("/proc/self/stat").unwrap();
        let (began, now) = (began(&stat).unwrap(), since_boot());
        assert!(
            began <= now && now - began < Duration::from_secs(3600),
            "{began:?} {now:?}"
        );
    }
}
