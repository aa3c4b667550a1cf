//! From successive readings to the rows of the screen; pure.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::readings::Reading;
use crate::control::types::{Instance, State, Statistics};
use crate::ctl::rates::{Quantile, Rates};

/// Readings that are kept. Percentiles are of what came between the first and
/// the last of them: one interval alone seldom has enough requests for any.
const KEPT: usize = 6;

/// A service, or all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub state: State,
    pub reason: String,
    pub running: u64,
    pub limit: u64,
    pub accepted: f64,
    pub refused: f64,
    pub failed: f64,
    pub started: f64,
    pub received: f64,
    pub sent: f64,
    pub p50: Option<Quantile>,
    pub p99: Option<Quantile>,
    /// Percent of a processor; `None`: the kernel did not tell, or nothing runs.
    pub cpu: Option<f64>,
    /// Of the instances that run.
    pub memory: Option<u64>,
}

/// The last readings, newest last.
#[derive(Debug, Default)]
pub struct History {
    readings: VecDeque<Reading>,
}

impl History {
    pub fn push(&mut self, reading: Reading) {
        let other = |last: &Reading| {
            last.daemon.helper_pid != reading.daemon.helper_pid
                || last.daemon.uptime_ms > reading.daemon.uptime_ms
        };
        if self.readings.back().is_some_and(other) {
            // A daemon that was started anew counts anew.
            self.readings.clear();
        }
        if self.readings.len() == KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    #[must_use]
    pub fn last(&self) -> Option<&Reading> {
        self.readings.back()
    }

    /// All together, then the services in table order.
    #[must_use]
    pub fn rows(&self) -> Option<(Row, Vec<Row>)> {
        let now = self.last()?;
        let before = self.readings.iter().rev().nth(1).unwrap_or(now);
        let oldest = self.readings.front()?;
        let (spent, used) = (Spent::of(before), Spent::of(now));
        let of = |reading: &Reading, name: &str| {
            let found = reading.statistics.services.get(name);
            found.cloned().unwrap_or_default()
        };
        let services = now.services.iter().map(|service| {
            let name = service.name.as_str();
            let interval = Interval {
                seconds: seconds(before.at, now.at),
                window: seconds(oldest.at, now.at),
                oldest: &of(oldest, name),
                before: &of(before, name),
                now: &of(now, name),
            };
            let mut row = interval.row(spent.service(name), used.service(name));
            name.clone_into(&mut row.name);
            row.state = service.state;
            row.reason = service.reason.clone().unwrap_or_default();
            row.running = service.running.into();
            row.limit = service.instances.into();
            row
        });
        let services = services.collect();
        let interval = Interval {
            seconds: seconds(before.at, now.at),
            window: seconds(oldest.at, now.at),
            oldest: &oldest.statistics.total,
            before: &before.statistics.total,
            now: &now.statistics.total,
        };
        let total = interval.row(spent.all(), used.all());
        Some((total, services))
    }
}

fn seconds(from: Option<Instant>, to: Option<Instant>) -> f64 {
    let span = from
        .zip(to)
        .map(|(from, to)| to.saturating_duration_since(from));
    span.unwrap_or_default().as_secs_f64()
}

/// The counters of a service at three moments.
struct Interval<'a> {
    seconds: f64,
    window: f64,
    oldest: &'a Statistics,
    before: &'a Statistics,
    now: &'a Statistics,
}

impl Interval<'_> {
    fn row(&self, before: Used, now: Used) -> Row {
        let rates = Rates::between(self.before, self.now, self.seconds);
        let window = Rates::between(self.oldest, self.now, self.window);
        Row {
            name: String::new(),
            state: State::Serving,
            reason: String::new(),
            running: self.now.running,
            limit: 0,
            accepted: rates.accepted,
            refused: rates.refused,
            failed: rates.failed,
            started: rates.started,
            received: rates.received,
            sent: rates.sent,
            p50: window.latency(0.5),
            p99: window.latency(0.99),
            cpu: self.cpu(before, now),
            memory: now.memory,
        }
    }

    /// Of the instances that have ended and of those that run, together: what
    /// one used is counted here while it runs and there when it has ended.
    fn cpu(&self, before: Used, now: Used) -> Option<f64> {
        let ended = |of: &Statistics| of.user_us.saturating_add(of.system_us);
        let (old, new) = (ended(self.before), ended(self.now));
        if now.cpu_us.is_none() && before.cpu_us.is_none() && old == new {
            return None;
        }
        let total = |ended: u64, used: Used| ended.saturating_add(used.cpu_us.unwrap_or(0));
        let spent = total(new, now).saturating_sub(total(old, before));
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let share = spent as f64 / 10_000.0;
        Some(if self.seconds > 0.0 {
            share / self.seconds
        } else {
            0.0
        })
    }
}

/// What running instances have used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu_us: Option<u64>,
    memory: Option<u64>,
}

impl Used {
    fn add(&mut self, instance: &Instance) {
        let sum = |so_far: Option<u64>, more: Option<u64>| match (so_far, more) {
            (Some(so_far), Some(more)) => Some(so_far.saturating_add(more)),
            (one, other) => one.or(other),
        };
        self.cpu_us = sum(self.cpu_us, instance.cpu_us);
        self.memory = sum(self.memory, instance.memory);
    }
}

/// By service.
struct Spent<'a>(HashMap<&'a str, Used>, Used);

impl<'a> Spent<'a> {
    fn of(reading: &'a Reading) -> Self {
        let mut spent = Self(HashMap::new(), Used::default());
        for instance in &reading.instances {
            spent.0.entry(&instance.service).or_default().add(instance);
            spent.1.add(instance);
        }
        spent
    }

    fn service(&self, name: &str) -> Used {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn all(&self) -> Used {
        self.1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::samples::{counted, instance, reading};
    use super::*;

    #[test]
    fn rates_are_of_the_last_interval_and_percentiles_of_all() {
        let start = Instant::now();
        let mut history = History::default();
        assert_eq!(history.rows(), None);
        for (second, accepted, slow) in [(0, 100, 0), (1, 150, 1), (3, 190, 1)] {
            history.push(reading(start, second, &[("git", counted(accepted, slow))]));
        }
        let (_, rows) = history.rows().unwrap();
        assert_eq!(rows[0].accepted, 20.0);
        assert_eq!(rows[0].p50, Some(Quantile::UpTo(100)));
        assert_eq!(rows[0].p99, Some(Quantile::UpTo(9_000)));
        assert_eq!((rows[0].running, rows[0].limit), (1, 10));
    }

    #[test]
    fn a_single_reading_has_no_rates() {
        let mut history = History::default();
        history.push(reading(Instant::now(), 0, &[("git", counted(100, 0))]));
        let (_, rows) = history.rows().unwrap();
        assert_eq!((rows[0].accepted, rows[0].p50), (0.0, None));
    }

    #[test]
    fn cpu_is_of_ended_and_running_instances() {
        let start = Instant::now();
        let spent = |us| Statistics {
            user_us: us,
            ..Statistics::default()
        };
        let mut before = reading(start, 0, &[("git", spent(0)), ("web", spent(0))]);
        before.instances = vec![instance(1, "git", 300_000), instance(2, "git", 100_000)];
        // The first has ended meanwhile, the second went on.
        let mut now = reading(start, 1, &[("git", spent(500_000)), ("web", spent(0))]);
        now.instances = vec![instance(2, "git", 150_000)];
        let mut history = History::default();
        history.push(before);
        history.push(now);
        let (total, rows) = history.rows().unwrap();
        assert_eq!(rows[0].cpu, Some(25.0));
        assert_eq!(rows[0].memory, Some(1 << 20));
        assert_eq!((rows[1].cpu, rows[1].memory), (None, None));
        assert_eq!(total.memory, Some(1 << 20));
    }

    #[test]
    fn a_new_daemon_begins_a_new_history() {
        let start = Instant::now();
        let mut history = History::default();
        history.push(reading(start, 5, &[("git", counted(100, 0))]));
        let mut other = reading(start, 6, &[("git", counted(3, 0))]);
        other.daemon.helper_pid = 9;
        history.push(other);
        let (_, rows) = history.rows().unwrap();
        assert_eq!(rows[0].accepted, 0.0);
    }
}
