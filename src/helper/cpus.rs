//! On which CPUs helper and front run.
//!
//! A request passes through both, one after the other, and whoever is asleep has
//! to be woken. On a CPU of its own that is idle this takes longer than what either
//! does then, so the two share one (`daemon.cpus = "one"`) as long as requests come one at a
//! time. The helper has a short time slice then, so that the front makes way for it instead of
//! finishing what nobody waits for. When several wait at once there is work for more CPUs, and
//! both may run on any, with the ordinary slice, until that has been over for a while.
//!
//! What we start gets the CPUs that usherd itself was started with, whatever we have.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu};
use nix::unistd::Pid;

use crate::sandbox::confinement::mask;
use crate::sys::schedule::{self, SHORTEST_SLICE};
use crate::table::DaemonCpus;

/// So many requests that are found waiting at once are a crowd.
const CROWD: usize = 2;
/// A crowd is over when none was seen for this long.
const CALM: Duration = Duration::from_secs(1);

/// The most that any kernel knows (NR_CPUS of x86): the kernel cuts off what it does not.
const EVERY_CPU: [u64; 8192 / 64] = [u64::MAX; 8192 / 64];

/// Where we run, and where everybody else does.
#[derive(Debug)]
pub struct Cpus {
    /// By number, as found; empty if they cannot be told.
    found: Vec<u16>,
    /// As sched_setaffinity(2) takes it.
    home: Rc<[u64]>,
    /// Those of the two of us, as above; empty for anywhere.
    ours: Vec<u64>,
    /// Both on one CPU.
    together: bool,
    /// When one was seen last, while the two are not together because of it.
    crowd: Option<Instant>,
    /// Servers asked for in this turn.
    starts: usize,
}

impl Cpus {
    /// As usherd was started. Nobody may have been put anywhere yet.
    #[must_use]
    pub fn found() -> Self {
        let found = allowed();
        // Who may run anywhere goes on to when CPUs are added, or given to our
        // cpuset: no list of today's is put in the place of that.
        let is_bound = schedule::set_affinity(&EVERY_CPU).is_ok() && allowed() != found;
        let home = match is_bound {
            true => mask(&found),
            false => EVERY_CPU.to_vec(),
        };
        if is_bound {
            let _ = schedule::set_affinity(&home);
        }
        Self {
            found,
            home: home.into(),
            ours: Vec::new(),
            together: false,
            crowd: None,
            starts: 0,
        }
    }

    /// Puts the helper where the table wants it. A front is put there when it starts.
    pub fn settle(&mut self, wanted: &DaemonCpus) {
        self.leave();
        let ours = match wanted {
            DaemonCpus::All => return,
            DaemonCpus::One => self.here().into_iter().collect(),
            DaemonCpus::Listed(cpus) => cpus.clone(),
        };
        let ours = mask(&ours);
        if ours.is_empty() {
            return;
        }
        match schedule::set_affinity(&ours) {
            Ok(()) => {
                self.together = *wanted == DaemonCpus::One;
                self.ours = ours;
                if self.together {
                    hurry(true);
                }
            }
            Err(errno) => {
                let err = std::io::Error::from_raw_os_error(errno);
                log::warn!("unable to run on the CPUs that daemon.cpus names: {err}");
            }
        }
    }

    /// Back to where usherd was started: what comes next in this process finds
    /// it as we did.
    pub fn leave(&mut self) {
        if !self.ours.is_empty() {
            let _ = schedule::set_affinity(&self.home);
            hurry(false);
        }
        (self.ours, self.together, self.crowd) = (Vec::new(), false, None);
    }

    /// The front's, a bit for each; empty for those of everybody.
    #[must_use]
    pub fn of_front(&self) -> &[u64] {
        if self.crowd.is_some() {
            return &[];
        }
        &self.ours
    }

    /// What everybody else whom we start is to be given; empty if that is what we have.
    #[must_use]
    pub fn of_others(&self) -> Rc<[u64]> {
        match self.ours.is_empty() || self.crowd.is_some() {
            true => Rc::from([]),
            false => Rc::clone(&self.home),
        }
    }

    /// A server was asked for.
    pub fn count_start(&mut self) {
        self.starts += 1;
    }

    /// So much for the requests of this turn. Moves ourselves and `front` if that is
    /// called for, and says whether it was.
    #[must_use]
    pub fn end_turn(&mut self, front: i32, now: Instant) -> bool {
        let starts = std::mem::take(&mut self.starts);
        if !self.together || starts == 0 {
            return false;
        }
        let was_crowd = self.crowd.is_some();
        if starts >= CROWD {
            self.crowd = Some(now);
        } else if self.crowd.is_some_and(|seen| now >= seen + CALM) {
            self.crowd = None;
        }
        let cpus = match self.crowd {
            now if now.is_some() == was_crowd => return false,
            Some(_) => &*self.home,
            None => &*self.ours,
        };
        // Who may not move the front (without CAP_SYS_NICE) leaves it where it is.
        let _ = schedule::set_affinity_of(front, cpus);
        let _ = schedule::set_affinity(cpus);
        hurry(self.crowd.is_none());
        true
    }

    /// The CPU we are on, if there are others.
    fn here(&self) -> Option<u16> {
        let here = sched_getcpu().ok().and_then(|cpu| u16::try_from(cpu).ok());
        here.filter(|_| self.found.len() > 1)
    }
}

/// With a short slice, or the ordinary one: in a crowd it does more at a time.
fn hurry(short: bool) {
    let done = match short {
        true => schedule::shorten_slice(SHORTEST_SLICE),
        false => schedule::lengthen_slice(),
    };
    if let Err(errno) = done {
        let err = std::io::Error::from_raw_os_error(errno);
        log::debug!("unable to ask for another time slice: {err}");
    }
}

/// sched_getaffinity(2). None where the kernel has more than the C library's set holds.
fn allowed() -> Vec<u16> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    let is_set = |cpu: &u16| set.is_set(usize::from(*cpu)).unwrap_or(false);
    let most = u16::try_from(CpuSet::count()).unwrap_or(u16::MAX);
    (0..most).filter(is_set).collect()
}
