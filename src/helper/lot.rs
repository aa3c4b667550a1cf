//! Children that wait, parked, for the next request of their service: cloned,
//! in their sandbox, with everything done that needs no request. To start one
//! costs the way of a descriptor and an exec.
//!
//! There are none of a service that nobody asks for, and after a request as
//! many as were lately missed. They are made when there is nothing else to do.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::helper::cgroups::leaf_for;
use crate::helper::core::{Helper, Phase};
use crate::helper::sandbox::Sandbox;
use crate::helper::start::stderr_of;
use crate::ids::ServiceId;
use crate::sandbox::cgroup::Leaf;
use crate::sandbox::launch::{Descriptors, Parked};
use crate::sandbox::plan::ExecPlan;

/// Parked children of one service.
const MOST: usize = 8;
/// A service that nobody has asked for as long has none.
const IDLE: Duration = Duration::from_secs(60);

/// A parked child and what it is in.
#[derive(Debug)]
pub struct Place {
    pub parked: Parked,
    pub sandbox: Option<Rc<Sandbox>>,
    pub leaf: Option<Leaf>,
}

#[derive(Debug)]
struct Bay {
    plan: Rc<ExecPlan>,
    places: Vec<Place>,
    want: usize,
    last_asked: Instant,
}

/// Why a child is not parked.
enum Unparked {
    /// Its sandbox does not stand yet.
    NotNow,
    /// Not before the next request.
    Never,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Lot {
    bays: HashMap<ServiceId, Bay>,
}

impl Lot {
    /// One for a request, if there is one; in any case it was asked for.
    pub fn take(&mut self, service: ServiceId, plan: &Rc<ExecPlan>, now: Instant) -> Option<Place> {
        let bay = self.bays.entry(service).or_insert_with(|| Bay {
            plan: Rc::clone(plan),
            places: Vec::new(),
            want: 0,
            last_asked: now,
        });
        bay.last_asked = now;
        let found = bay.places.pop();
        if found.is_none() {
            bay.want = (bay.want + 1).min(MOST);
        }
        found
    }

    /// Services that lack some.
    fn lacking(&self) -> Vec<(ServiceId, Rc<ExecPlan>)> {
        let lacking = self
            .bays
            .iter()
            .filter(|(_, bay)| bay.places.len() < bay.want);
        lacking
            .map(|(id, bay)| (*id, Rc::clone(&bay.plan)))
            .collect()
    }

    /// Parked children of a service.
    #[must_use]
    pub fn count(&self, service: ServiceId) -> usize {
        self.bays.get(&service).map_or(0, |bay| bay.places.len())
    }

    fn add(&mut self, service: ServiceId, place: Place) {
        if let Some(bay) = self.bays.get_mut(&service) {
            bay.places.push(place);
        }
    }

    /// It cannot be done now: not before the next request.
    fn give_up(&mut self, service: ServiceId) {
        if let Some(bay) = self.bays.get_mut(&service) {
            bay.want = bay.places.len();
        }
    }

    /// A child that was reaped: one of ours, which nobody has used?
    pub fn ended(&mut self, pid: i32) -> Option<Place> {
        for bay in self.bays.values_mut() {
            if let Some(at) = bay.places.iter().position(|place| place.parked.pid == pid) {
                // Whatever ended it would end the next one.
                bay.want = 0;
                return Some(bay.places.swap_remove(at));
            }
        }
        None
    }

    /// Those that nobody has asked for lately; all of them, if `now` is `None`.
    pub fn clear(&mut self, now: Option<Instant>) -> Vec<Place> {
        let is_idle = |bay: &Bay| now.is_none_or(|now| now >= bay.last_asked + IDLE);
        let idle = self.bays.extract_if(|_, bay| is_idle(bay));
        idle.flat_map(|(_, bay)| bay.places).collect()
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.bays.values().map(|bay| bay.last_asked + IDLE).min()
    }
}

impl Helper {
    /// Parks one child, if one is lacking: there will be other turns.
    pub(super) fn park(&mut self) {
        // An ordinary user's servers could meddle with what is parked: it is his too.
        if self.phase == Phase::Draining || self.foundation.is_user() {
            return;
        }
        for (service, plan) in self.lot.lacking() {
            match self.park_one(service, &plan) {
                Ok(place) => return self.lot.add(service, place),
                Err(Unparked::NotNow) => {}
                Err(Unparked::Never) => self.lot.give_up(service),
            }
        }
    }

    fn park_one(&mut self, service: ServiceId, plan: &Rc<ExecPlan>) -> Result<Place, Unparked> {
        let active = self.services.find(service).ok_or(Unparked::Never)?;
        let program = active.program.as_ref().ok_or(Unparked::Never)?;
        let (name, program) = (Rc::clone(&active.name), Rc::clone(program));
        if !Rc::ptr_eq(&program.plan, plan) || !plan.cage.may_park {
            return Err(Unparked::Never);
        }
        let sandbox = match &program.blueprint {
            Some(blueprint) => {
                let spare = self.sandboxes.spare(service, blueprint);
                Some(spare.ok_or(Unparked::NotNow)?)
            }
            None => None,
        };
        let leaf = leaf_for(&mut self.cgroups, &name, &program).map_err(|_| Unparked::Never)?;
        let fds = Descriptors {
            null: self.null.as_fd(),
            stderr: stderr_of(&program, &self.services, service, self.null.as_fd()),
            cgroup: leaf.as_ref().map(AsFd::as_fd),
            sockets: &[],
            sandbox: sandbox.as_ref().map(|sandbox| &sandbox.door),
        };
        match self.launcher.park(plan, &fds) {
            Ok(parked) => Ok(Place {
                parked,
                sandbox,
                leaf,
            }),
            Err(_) => {
                leaf.into_iter().for_each(|leaf| self.cgroups.retire(leaf));
                Err(Unparked::Never)
            }
        }
    }

    /// Lets parked children go; they end by themselves.
    pub(super) fn clear_lot(&mut self, now: Option<Instant>) {
        for place in self.lot.clear(now) {
            drop(place.parked);
            place
                .leaf
                .into_iter()
                .for_each(|leaf| self.cgroups.retire(leaf));
        }
    }
}
