//! Sandboxes that stand, are being built, or are waited for.
//!
//! They are built by keepers, beside the loop and never in it. A request that
//! finds none waits for one here. With `isolation = "standard"` a service has
//! one for all its instances; with `"strict"` every instance uses one up, and a
//! few stand ready, as many as were lately missed. All are dropped at a reload
//! and when the service rests.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::helper::sandbox::{Announced, Sandbox};
use crate::helper::start::Ask;
use crate::ids::ServiceId;
use crate::sandbox::blueprint::Blueprint;
use crate::sandbox::keeper::known::{Known, KnownFile};
use crate::sandbox::keeper::{Failure, MAX_REPORT, Report};
use crate::sandbox::launch::Door;
use crate::sys::link;
use crate::sys::process::{pidfd_open, pidfd_signal};

/// A keeper that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keepers at work at once.
const MOST_AT_WORK: usize = 4;
/// Sandboxes that stand ready for a service whose instances use them up.
const FEWEST_READY: usize = 2;
const MOST_READY: usize = 8;
/// A request that has waited so often is given up: whatever is built for it is out of date at once.
pub const MOST_WAITS: u8 = 8;
/// So long a server that was just started has the CPUs to itself, before what is only for later
/// ones is built: many have answered by then.
const HEAD_START: Duration = Duration::from_millis(2);
/// A service that nobody has asked for as long has its sandboxes taken down.
const IDLE: Duration = Duration::from_secs(60);

/// The keeper that makes keepers for a service. It ends when the link is closed.
#[derive(Debug)]
pub struct Template {
    pub link: OwnedFd,
    pub pidfd: OwnedFd,
}

/// The sandboxes of one service.
#[derive(Debug)]
struct Home {
    blueprint: Rc<Blueprint>,
    per_instance: bool,
    template: Option<Template>,
    ready: Vec<Rc<Sandbox>>,
    /// The files of the last sandbox, which are those of the next if nobody replaces one.
    files: Option<(Vec<KnownFile>, Rc<Known>)>,
    at_work: usize,
    waiting: VecDeque<Ask>,
    /// So many are to stand ready.
    want: usize,
    last_asked: Instant,
    /// Until then a server has its head start.
    held_until: Option<Instant>,
    /// When its last keeper was started.
    last_began: Option<Instant>,
}

impl Home {
    /// One that stands.
    fn next(&mut self) -> Option<Rc<Sandbox>> {
        match self.per_instance {
            true => self.ready.pop(),
            false => self.ready.last().map(Rc::clone),
        }
    }

    /// One that stands and is current; the others are taken down.
    fn next_current(&mut self, now: Instant) -> Option<Rc<Sandbox>> {
        while let Some(sandbox) = self.next() {
            if sandbox.is_current(now) {
                return Some(sandbox);
            }
            self.ready.retain(|one| !Rc::ptr_eq(one, &sandbox));
            // Whatever more it made would be as old.
            self.template = None;
        }
        None
    }

    /// What is known of these files already, if they are the same.
    fn known(&mut self, files: Vec<KnownFile>) -> Rc<Known> {
        match &self.files {
            Some((same, known)) if *same == files => Rc::clone(known),
            _ => {
                let known = Rc::new(Known::new(files.clone()));
                self.files = Some((files, Rc::clone(&known)));
                known
            }
        }
    }

    /// `parked` children wait in sandboxes of their own, and are as good as one that stands.
    fn lacks(&self, parked: usize) -> usize {
        let spare = match self.per_instance && self.held_until.is_none() {
            true => self.want.saturating_sub(parked),
            false => 0,
        };
        let needed = match self.per_instance {
            true => self.waiting.len(),
            false => usize::from(!self.waiting.is_empty()),
        };
        (spare + needed).saturating_sub(self.ready.len() + self.at_work)
    }
}

/// A keeper at work.
#[derive(Debug)]
struct Work {
    service: ServiceId,
    blueprint: Rc<Blueprint>,
    link: OwnedFd,
    /// The keeper proper, once it is known.
    keeper: Option<i32>,
    /// It may be ready before we hear who it is.
    ready: Option<(Vec<OwnedFd>, Announced, Vec<KnownFile>)>,
    until: Instant,
    /// Another one of the same template has failed, and was told of: whatever
    /// becomes of this one is no news.
    doomed: bool,
}

/// What came of a keeper.
#[derive(Debug)]
pub enum Outcome {
    /// A sandbox stands.
    Stands,
    /// None does, and these requests wait for it no longer.
    Failed(Failure, Vec<Ask>),
    /// Nobody needs it any more.
    Dropped,
}

#[derive(Debug, Default)]
pub struct Sandboxes {
    homes: HashMap<ServiceId, Home>,
    /// By the number of the descriptor of the link, which is its token too.
    work: HashMap<i32, Work>,
}

/// What a request finds.
#[derive(Debug)]
pub enum Found {
    Nothing,
    Sandbox(Rc<Sandbox>),
}

impl Sandboxes {
    /// A sandbox for one start, if one stands.
    pub fn take(
        &mut self,
        service: ServiceId,
        blueprint: &Rc<Blueprint>,
        per_instance: bool,
        now: Instant,
    ) -> Found {
        let home = self.homes.entry(service).or_insert_with(|| Home {
            blueprint: Rc::clone(blueprint),
            per_instance,
            template: None,
            ready: Vec::new(),
            files: None,
            at_work: 0,
            waiting: VecDeque::new(),
            want: 0,
            last_asked: now,
            held_until: None,
            last_began: None,
        });
        if !Rc::ptr_eq(&home.blueprint, blueprint) {
            home.blueprint = Rc::clone(blueprint);
            home.per_instance = per_instance;
            home.ready.clear();
            home.template = None;
            // What is being built is of the old table and finds no home.
            home.at_work = 0;
        }
        home.last_asked = now;
        if per_instance {
            home.want = home.want.max(FEWEST_READY);
        }
        home.next_current(now)
            .map_or(Found::Nothing, Found::Sandbox)
    }

    /// A sandbox to park a child in, if one stands that nobody waits for. Whether it is
    /// current is asked when the child is used.
    pub fn spare(&mut self, service: ServiceId, blueprint: &Rc<Blueprint>) -> Option<Rc<Sandbox>> {
        let home = self.homes.get_mut(&service)?;
        if !Rc::ptr_eq(&home.blueprint, blueprint) || !home.waiting.is_empty() {
            return None;
        }
        home.next()
    }

    /// A request was served by a parked child.
    pub fn touch(&mut self, service: ServiceId, now: Instant) {
        if let Some(home) = self.homes.get_mut(&service) {
            home.last_asked = now;
            if home.per_instance {
                // The first of several decides: they must not put it off for ever.
                home.held_until.get_or_insert(now + HEAD_START);
            }
        }
    }

    /// A server has ended.
    pub fn let_go(&mut self, service: ServiceId) {
        if let Some(home) = self.homes.get_mut(&service) {
            home.held_until = None;
        }
    }

    /// Keeps a request until a sandbox stands.
    pub fn wait(&mut self, mut ask: Ask) {
        ask.waits += 1;
        let Some(home) = self.homes.get_mut(&ask.service) else {
            unreachable!("take() has made it");
        };
        if home.per_instance {
            home.want = (home.want + 1).min(MOST_READY);
        }
        home.waiting.push_back(ask);
    }

    /// All requests that wait, of all services: nothing will be built for them.
    pub fn give_up_all(&mut self) -> Vec<Ask> {
        let homes = self.homes.values_mut();
        homes.flat_map(|home| home.waiting.drain(..)).collect()
    }

    /// Requests of a service that wait.
    #[must_use]
    pub fn waiting(&self, service: ServiceId) -> usize {
        self.homes
            .get(&service)
            .map_or(0, |home| home.waiting.len())
    }

    /// A request that can be tried again: something stands for it.
    pub fn next_ask(&mut self, service: ServiceId) -> Option<Ask> {
        let home = self.homes.get_mut(&service)?;
        match home.ready.is_empty() {
            true => None,
            false => home.waiting.pop_front(),
        }
    }

    /// The next service that lacks a sandbox, and may have one built now.
    pub fn to_build(
        &self,
        parked: impl Fn(ServiceId) -> usize,
    ) -> Option<(ServiceId, Rc<Blueprint>)> {
        if self.work.len() >= MOST_AT_WORK {
            return None;
        }
        let lacking = self
            .homes
            .iter()
            .filter(|(id, home)| home.lacks(parked(**id)) > 0);
        // Those that are waited for come first; among them whoever has got least, so that
        // a service with many that wait holds up no other.
        let (id, home) = lacking
            .min_by_key(|(_, home)| (home.waiting.is_empty(), home.at_work, home.last_began))?;
        Some((*id, Rc::clone(&home.blueprint)))
    }

    /// The link to a template of this service that makes sandboxes like `blueprint`.
    pub fn template(
        &self,
        service: ServiceId,
        blueprint: &Rc<Blueprint>,
    ) -> Option<BorrowedFd<'_>> {
        let home = self.homes.get(&service)?;
        let same = Rc::ptr_eq(&home.blueprint, blueprint);
        let template = home.template.as_ref().filter(|_| same);
        template.map(|template| template.link.as_fd())
    }

    /// There is a template now.
    pub fn set_template(&mut self, service: ServiceId, template: Template) {
        if let Some(home) = self.homes.get_mut(&service) {
            home.template = Some(template);
        }
    }

    /// A keeper is at work for `service` and reports on `link`. Returns what to watch.
    pub fn began(
        &mut self,
        service: ServiceId,
        blueprint: Rc<Blueprint>,
        link: OwnedFd,
        now: Instant,
    ) -> i32 {
        if let Some(home) = self.homes.get_mut(&service) {
            home.at_work += 1;
            home.last_began = Some(now);
        }
        let number = link.as_raw_fd();
        let until = now + PATIENCE;
        self.work.insert(
            number,
            Work {
                service,
                blueprint,
                link,
                keeper: None,
                ready: None,
                until,
                doomed: false,
            },
        );
        number
    }

    /// No keeper could be started for `service`.
    pub fn gave_up(&mut self, service: ServiceId) -> Vec<Ask> {
        self.homes.get_mut(&service).map_or_else(Vec::new, |home| {
            home.want = 0;
            home.waiting.drain(..).collect()
        })
    }

    /// Hears the keeper behind link `number`. `None` while it is still at work.
    pub fn hear(&mut self, number: i32) -> Option<(ServiceId, Outcome)> {
        let work = self.work.get_mut(&number)?;
        let mut buffer = [0; MAX_REPORT];
        loop {
            let packet = match link::receive(work.link.as_fd(), &mut buffer) {
                Ok(packet) if packet.length > 0 => packet,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(_) | Err(_) => {
                    let failure = Failure {
                        what: "keep the keeper of a sandbox running".to_owned(),
                        errno: libc::ECHILD,
                    };
                    return self.finished(number, Err(failure));
                }
            };
            let report = serde_json::from_slice(buffer.get(..packet.length).unwrap_or_default());
            match report {
                Ok(Report::Born(pid)) => work.keeper = Some(pid),
                Ok(Report::Ready {
                    landlock,
                    users,
                    files,
                }) => {
                    let announced = Announced { landlock, users };
                    work.ready = Some((packet.descriptors, announced, files));
                }
                Ok(Report::Failed(failure)) => return self.finished(number, Err(failure)),
                Err(_) => {
                    let failure = Failure {
                        what: "understand the keeper of a sandbox".to_owned(),
                        errno: libc::EPROTO,
                    };
                    return self.finished(number, Err(failure));
                }
            }
            if let Some(keeper) = work.keeper
                && let Some((descriptors, announced, files)) = work.ready.take()
            {
                let door = announced.open_door(keeper, &work.blueprint, descriptors);
                let stands = door
                    .map(|door| (door, keeper, files))
                    .map_err(|err| Failure {
                        what: "enter a sandbox".to_owned(),
                        errno: err.raw_os_error().unwrap_or(libc::EIO),
                    });
                return self.finished(number, stands);
            }
        }
    }

    fn finished(
        &mut self,
        number: i32,
        result: Result<(Door, i32, Vec<KnownFile>), Failure>,
    ) -> Option<(ServiceId, Outcome)> {
        let work = self.work.remove(&number)?;
        let home = self.homes.get_mut(&work.service);
        let Some(home) = home.filter(|home| Rc::ptr_eq(&home.blueprint, &work.blueprint)) else {
            return Some((work.service, Outcome::Dropped));
        };
        home.at_work = home.at_work.saturating_sub(1);
        let outcome = match result {
            Ok((door, keeper, files)) => {
                let own_pids = work.blueprint.pid_namespace;
                let files = home.known(files);
                let sandbox = Sandbox::new(door, keeper, own_pids, files, work.link);
                home.ready.push(Rc::new(sandbox));
                Outcome::Stands
            }
            Err(failure) => {
                // The next request tries again; nothing else does.
                home.want = 0;
                home.template = None;
                let waiting: Vec<Ask> = home.waiting.drain(..).collect();
                for other in self.work.values_mut() {
                    other.doomed |= other.service == work.service;
                }
                match work.doomed && waiting.is_empty() {
                    true => Outcome::Dropped,
                    false => Outcome::Failed(failure, waiting),
                }
            }
        };
        Some((work.service, outcome))
    }

    /// A process that is none of ours otherwise has ended: perhaps a keeper.
    pub fn keeper_ended(&mut self, pid: i32) -> bool {
        let mut found = false;
        for home in self.homes.values_mut() {
            let before = home.ready.len();
            home.ready.retain(|sandbox| !sandbox.is_kept_by(pid));
            found |= home.ready.len() < before;
        }
        found
    }

    /// The table has changed: whatever stands was built for the old one. What
    /// runs in it goes on.
    pub fn drop_all(&mut self) {
        for home in self.homes.values_mut() {
            home.ready.clear();
            home.template = None;
            home.want = 0;
        }
        self.homes.retain(|_, home| !home.waiting.is_empty());
    }

    /// The same, of one service: what its sandboxes show has been replaced.
    pub fn drop_of(&mut self, service: ServiceId) {
        if let Some(home) = self.homes.get_mut(&service) {
            home.ready.clear();
            home.template = None;
            home.want = 0;
        }
    }

    /// When something has to be looked at.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let work = self.work.values().map(|work| work.until);
        let idle = self.homes.values().map(|home| home.last_asked + IDLE);
        let held = self.homes.values().filter_map(|home| home.held_until);
        work.chain(idle).chain(held).min()
    }

    /// Takes down what nobody has asked for, and gives up keepers that take too long.
    pub fn expire(&mut self, now: Instant) -> Vec<(ServiceId, Outcome)> {
        self.homes.retain(|_, home| {
            now < home.last_asked + IDLE || home.at_work > 0 || !home.waiting.is_empty()
        });
        for home in self.homes.values_mut() {
            home.held_until.take_if(|until| *until <= now);
        }
        let late = self.work.iter().filter(|(_, work)| work.until <= now);
        let late: Vec<i32> = late.map(|(number, _)| *number).collect();
        let failed = late.into_iter().filter_map(|number| {
            self.end_late(number);
            let failure = Failure {
                what: format!("build a sandbox within {} s", PATIENCE.as_secs()),
                errno: libc::ETIMEDOUT,
            };
            self.finished(number, Err(failure))
        });
        failed.collect()
    }

    /// Kills whoever is late: the keeper, or a template that has not begun it.
    fn end_late(&self, number: i32) {
        let Some(work) = self.work.get(&number) else {
            return;
        };
        if let Some(pid) = work.keeper {
            if let Ok(pidfd) = pidfd_open(pid) {
                let _ = pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            }
            return;
        }
        let home = self.homes.get(&work.service);
        let home = home.filter(|home| Rc::ptr_eq(&home.blueprint, &work.blueprint));
        if let Some(template) = home.and_then(|home| home.template.as_ref()) {
            let _ = pidfd_signal(template.pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

#[cfg(test)]
#[path = "sandboxes_tests.rs"]
mod tests;
