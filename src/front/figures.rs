//! The counters as the status socket tells them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::control::types::{Bucket, GetStatistics, Histogram, Source, Statistics};
use crate::front::conversation::Traffic;
use crate::front::event_loop::Front;
use crate::front::services::Service;
use crate::ids::ServiceId;
use crate::stats::counters::{Kind, Matched, Spans};
use crate::stats::sources::Counted;
use crate::stats::{Counters, Sources};
use crate::table::show_rule::show_rule;

/// The most sources that are told.
const SOURCES: usize = 64;
/// Under which names requests are told that no rule of today decided.
const FALLBACK: &str = "fallback";
const EARLIER: &str = "rules of earlier tables";

impl Front {
    /// All figures, or those of one service.
    #[must_use]
    pub fn statistics(&self, only: Option<ServiceId>) -> GetStatistics {
        let moving = self.moving();
        let of = |service: &Service| self.service_figures(service, &moving);
        if let Some(id) = only {
            let service = self.services.get(id);
            let told = service.map(|service| (service.name.to_string(), of(service)));
            return GetStatistics {
                total: told.as_ref().map(|(_, s)| s.clone()).unwrap_or_default(),
                services: told.into_iter().collect(),
                sources: Vec::new(),
            };
        }
        // A name may have been given to another service while the last server
        // of the old one runs: the new one is told.
        let (gone, there): (Vec<_>, Vec<_>) = self.services.iter().partition(|s| s.gone);
        let all = gone.into_iter().chain(there);
        GetStatistics {
            total: self.total_figures(&moving),
            services: all.map(|s| (s.name.to_string(), of(s))).collect(),
            sources: self.source_figures(),
        }
    }

    /// What conversations have moved that are not over, by service.
    pub(super) fn moving(&self) -> HashMap<ServiceId, Traffic> {
        let mut moving: HashMap<ServiceId, Traffic> = HashMap::new();
        for (_, talk) in self.talks.iter() {
            let (sum, traffic) = (moving.entry(talk.work.service).or_default(), talk.traffic());
            sum.received += traffic.received;
            sum.sent += traffic.sent;
        }
        moving
    }

    /// All zero if there is no such service.
    pub(super) fn figures_of(
        &self,
        id: ServiceId,
        moving: &HashMap<ServiceId, Traffic>,
    ) -> Statistics {
        let service = self.services.get(id);
        service.map_or_else(Statistics::default, |service| {
            self.service_figures(service, moving)
        })
    }

    fn service_figures(
        &self,
        service: &Service,
        moving: &HashMap<ServiceId, Traffic>,
    ) -> Statistics {
        let mut told = service.counters.as_deref().map(figures).unwrap_or_default();
        if let Some(counters) = &service.counters {
            let rules = counters.matched.rules();
            for (number, count) in rules {
                let rule = service.routing.rules.get(number);
                let name = rule.map_or_else(|| EARLIER.to_owned(), show_rule);
                *told.matched.entry(name).or_default() += count;
            }
        }
        let here = service.listeners.iter();
        let here = here.filter_map(|id| self.listeners.get(*id));
        told.undecided = here.map(|listener| u64::from(listener.undecided)).sum();
        told.running = service.tally.running.into();
        add(&mut told, moving.get(&service.id).copied());
        told
    }

    pub(super) fn total_figures(&self, moving: &HashMap<ServiceId, Traffic>) -> Statistics {
        let mut told = figures(&self.stats.total);
        // Rules by name are those of the services of now; the rest was of others.
        told.matched.remove(EARLIER);
        let mut others = self.stats.total.matched.earlier();
        for service in self.services.iter() {
            let Some(counters) = &service.counters else {
                continue;
            };
            for (number, count) in counters.matched.rules() {
                if let Some(rule) = service.routing.rules.get(number) {
                    *told.matched.entry(show_rule(rule)).or_default() += count;
                    others = others.saturating_sub(count);
                }
            }
        }
        put(&mut told.matched, EARLIER.to_owned(), others);
        let listeners = self.listeners.iter();
        told.undecided = listeners
            .map(|listener| u64::from(listener.undecided))
            .sum();
        let services = self.services.iter();
        told.running = services.map(|s| u64::from(s.tally.running)).sum();
        moving
            .values()
            .for_each(|traffic| add(&mut told, Some(*traffic)));
        told
    }

    fn source_figures(&self) -> Vec<Source> {
        let busiest = self.stats.sources.busiest(SOURCES);
        let mut running: HashMap<IpAddr, u64> = HashMap::new();
        let talks = self.talks.iter().map(|(_, talk)| &talk.work);
        for ip in self
            .instances
            .iter()
            .chain(talks)
            .filter_map(|work| work.ip)
        {
            *running.entry(Sources::of(ip)).or_default() += 1;
        }
        let told = busiest.into_iter().map(|counted: Counted| Source {
            prefix: prefix(counted.source),
            accepted: counted.accepted,
            refused: counted.refused,
            running: running.get(&counted.source).copied().unwrap_or(0),
        });
        told.collect()
    }
}

/// What the counters alone tell; all but rules by name.
fn figures(counters: &Counters) -> Statistics {
    let refused = counters.refused();
    let refused = refused.map(|(reason, count)| (reason.name().to_owned(), count));
    let failed = counters.failed();
    let failed = failed.map(|(step, count)| (step.to_string(), count));
    let turned_down = counters.turned_down();
    let turned_down = turned_down.map(|(why, count)| (format!("refused: {why}"), count));
    Statistics {
        accepted: counters.accepted,
        admitted: counters.admitted,
        refused: refused.collect(),
        matched: matched(&counters.matched),
        undecided: 0,
        started: counters.started,
        failed: failed.chain(turned_down).collect(),
        running: 0,
        exited: counters
            .exits()
            .map(|(kind, count)| (name(kind), count))
            .collect(),
        oom_killed: counters.oom_killed,
        received: counters.received,
        sent: counters.sent,
        user_us: counters.user_micros,
        system_us: counters.system_micros,
        memory_peak: counters.memory_peak,
        blocks_read: counters.bytes_read,
        blocks_written: counters.bytes_written,
        match_latency: histogram(&counters.match_latency),
        start_latency: histogram(&counters.start_latency),
        run_time: histogram(&counters.run_time),
    }
}

fn matched(matched: &Matched) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    put(&mut told, FALLBACK.to_owned(), matched.fallback());
    put(&mut told, EARLIER.to_owned(), matched.earlier());
    told
}

fn put(told: &mut BTreeMap<String, u64>, name: String, count: u64) {
    if count > 0 {
        told.insert(name, count);
    }
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Status(status) => format!("status {status}"),
        Kind::Signal(signal) => format!("signal {signal}"),
    }
}

fn histogram(spans: &Spans) -> Histogram {
    let Some(histogram) = spans.histogram() else {
        return Histogram::default();
    };
    let buckets = histogram.buckets();
    let buckets = buckets.map(|(up_to_us, count)| Bucket { up_to_us, count });
    Histogram {
        count: histogram.count(),
        sum_us: histogram.sum(),
        buckets: buckets.collect(),
    }
}

fn add(told: &mut Statistics, traffic: Option<Traffic>) {
    let traffic = traffic.unwrap_or_default();
    told.received += traffic.received;
    told.sent += traffic.sent;
}

/// As `allow` and `ban` take it.
fn prefix(source: IpAddr) -> String {
    match source {
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
