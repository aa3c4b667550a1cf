//! Counts what happens, each thing twice: for its service and for all
//! together, so that the sum keeps what a removed service did.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::demux::plan::Route;
use crate::front::admit::Reason;
use crate::front::conversation::Traffic;
use crate::front::event_loop::Front;
use crate::helper::wire::{Outcome, Refusal};
use crate::ids::ServiceId;
use crate::sandbox::Step;
use crate::stats::Counters;

/// Requests of one datagram listener, as far as one turn went.
#[derive(Debug, Default)]
pub struct Batch {
    pub admitted: u64,
    pub refused: [u64; Reason::ALL.len()],
    pub traffic: Traffic,
}

impl Front {
    /// Does `note` with both sets of counters.
    fn count(&mut self, id: ServiceId, note: impl Fn(&mut Counters)) {
        note(&mut self.stats.total);
        if let Some(service) = self.services.get_mut(id) {
            note(service.counters.get_or_insert_default());
        }
    }

    /// A request for this service, and nobody else.
    pub(super) fn count_accepted(&mut self, id: ServiceId, ip: Option<IpAddr>, now: Instant) {
        self.count(id, |counters| counters.accepted += 1);
        self.count_source(ip, now);
    }

    /// A connection whose service is not known yet; its source may not be either.
    pub(super) fn count_undecided(&mut self) {
        self.stats.total.accepted += 1;
    }

    pub(super) fn count_source(&mut self, ip: Option<IpAddr>, now: Instant) {
        if let Some(ip) = ip {
            self.stats.sources.accept(ip, now);
        }
    }

    /// It is known now: `waited` after it was accepted.
    pub(super) fn count_decided(&mut self, id: ServiceId, route: Route, waited: Duration) {
        let total = &mut self.stats.total;
        total.matched.add_anonymous(route.rule);
        total.match_latency.record(micros(waited));
        if let Some(service) = self.services.get_mut(id) {
            let counters = service.counters.get_or_insert_default();
            counters.accepted += 1;
            counters.matched.add(route.rule);
            counters.match_latency.record(micros(waited));
        }
    }

    pub(super) fn count_admitted(&mut self, id: ServiceId) {
        self.count(id, |counters| counters.admitted += 1);
    }

    /// `id` is `None` where no service was found.
    pub(super) fn count_refused(
        &mut self,
        id: Option<ServiceId>,
        ip: Option<IpAddr>,
        reason: Reason,
    ) {
        match id {
            Some(id) => self.count(id, |counters| counters.refuse(reason, 1)),
            None => self.stats.total.refuse(reason, 1),
        }
        if let Some(ip) = ip {
            self.stats.sources.refuse(ip);
        }
    }

    pub(super) fn count_batch(&mut self, id: ServiceId, batch: &Batch) {
        let refused: u64 = batch.refused.iter().sum();
        self.count(id, |counters| {
            counters.accepted += batch.admitted + refused;
            counters.admitted += batch.admitted;
            for (reason, count) in Reason::ALL.into_iter().zip(batch.refused) {
                counters.refuse(reason, count);
            }
            add_traffic(counters, batch.traffic);
        });
    }

    /// The helper has cloned a server, `waited` after it was asked to.
    pub(super) fn count_started(&mut self, id: ServiceId, waited: Duration) {
        self.count(id, |counters| {
            counters.started += 1;
            counters.start_latency.record(micros(waited));
        });
    }

    pub(super) fn count_failed(&mut self, id: ServiceId, step: Step) {
        self.count(id, |counters| counters.fail(step));
    }

    pub(super) fn count_turned_down(&mut self, id: ServiceId, reason: Refusal) {
        self.count(id, |counters| counters.turn_down(reason));
    }

    /// `failed`: it was a process, but never a server.
    pub(super) fn count_exited(&mut self, id: ServiceId, failed: bool, outcome: &Outcome) {
        self.count(id, |counters| {
            counters.charge(outcome);
            if !failed {
                counters.exit(outcome);
            }
        });
    }

    /// A conversation is over.
    pub(super) fn count_talk(&mut self, id: ServiceId, traffic: Traffic, lasted: Duration) {
        self.count(id, |counters| {
            add_traffic(counters, traffic);
            counters.run_time.record(micros(lasted));
        });
    }
}

pub(super) fn add_traffic(counters: &mut Counters, traffic: Traffic) {
    counters.received += traffic.received;
    counters.sent += traffic.sent;
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
