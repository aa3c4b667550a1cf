//! Who may come in, and when: the whole decision about one request, with no
//! clock and no system call. A refused or deferred request changes nothing, so
//! strangers never use up what admitted peers count against.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::front::hours;
use crate::front::hours::WeekTime;
use crate::front::limits::{Bucket, Sources, source_of};
use crate::table::Rules;

/// Why a request is not admitted, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    AddressDenied,
    OutOfHours,
    SourceRate,
    SourceInstances,
    ServiceRate,
    Instances,
    Load,
    /// The service rests after failed starts.
    Resting,
    /// A reload took the service away while the request waited.
    Gone,
    /// No rule of the address holds.
    NoRule,
    /// A proxy sent no PROXY header, or a bad one.
    NoHeader,
    /// Had to make room for others while it was not known what it is for.
    Crowded,
    /// An operator keeps this peer out.
    Banned,
    /// An operator drained or stopped the service.
    Held,
}

impl Reason {
    pub const ALL: [Reason; 14] = [
        Reason::AddressDenied,
        Reason::OutOfHours,
        Reason::SourceRate,
        Reason::SourceInstances,
        Reason::ServiceRate,
        Reason::Instances,
        Reason::Load,
        Reason::Resting,
        Reason::Gone,
        Reason::NoRule,
        Reason::NoHeader,
        Reason::Crowded,
        Reason::Banned,
        Reason::Held,
    ];

    /// In one word, for statistics; as [`fmt::Display`] for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::AddressDenied => "address_denied",
            Reason::OutOfHours => "out_of_hours",
            Reason::SourceRate => "source_rate",
            Reason::SourceInstances => "source_instances",
            Reason::ServiceRate => "service_rate",
            Reason::Instances => "instances",
            Reason::Load => "load",
            Reason::Resting => "resting",
            Reason::Gone => "gone",
            Reason::NoRule => "no_rule",
            Reason::NoHeader => "no_header",
            Reason::Crowded => "crowded",
            Reason::Banned => "banned",
            Reason::Held => "held",
        }
    }

    /// Whether waiting helps.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            Reason::ServiceRate | Reason::Instances | Reason::Load | Reason::Resting | Reason::Held
        )
    }
}

/// What the world looks like while a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub now: Instant,
    pub local: WeekTime,
    pub load: f64,
}

/// What one service has counted so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Instances, starts under way and conversations.
    pub running: u32,
    bucket: Bucket,
    /// Only where a rule needs it.
    sources: Option<Box<Sources>>,
}

/// The load average is looked at this often.
pub const LOAD_INTERVAL: Duration = Duration::from_secs(1);

impl Tally {
    /// Whether this peer may come in, its address and the hour considered. A
    /// peer without an IP address (unix, vsock) was let in by file modes.
    pub fn judge(&self, rules: &Rules, peer: Option<IpAddr>, facts: &Facts) -> Result<(), Reason> {
        if peer.is_some_and(|ip| !rules.access.permits(ip)) {
            return Err(Reason::AddressDenied);
        }
        if !hours::is_open(&rules.hours, facts.local) {
            return Err(Reason::OutOfHours);
        }
        let Some(ip) = peer.filter(|_| counts_sources(rules)) else {
            return Ok(());
        };
        self.judge_source(rules, source_of(ip, rules.source_prefix), facts.now)
    }

    fn judge_source(&self, rules: &Rules, source: IpAddr, now: Instant) -> Result<(), Reason> {
        let Some(sources) = &self.sources else {
            return Ok(());
        };
        if let Some(rate) = &rules.rate_per_source
            && sources.next_token(source, rate, now).is_some()
        {
            return Err(Reason::SourceRate);
        }
        let too_many = |limit| sources.running(source) >= limit;
        if rules.per_source.is_some_and(too_many) || !sources.has_room(source) {
            return Err(Reason::SourceInstances);
        }
        Ok(())
    }

    /// Whether the service has room for one more, whoever it is. The moment
    /// says when to ask again; without one it is when an instance ends.
    pub fn room(&self, rules: &Rules, facts: &Facts) -> Result<(), (Reason, Option<Instant>)> {
        if let Some(rate) = &rules.rate
            && let Some(due) = self.bucket.next_token(rate, facts.now)
        {
            return Err((Reason::ServiceRate, Some(due)));
        }
        if self.running >= rules.instances {
            return Err((Reason::Instances, None));
        }
        if rules.max_load.is_some_and(|limit| facts.load >= limit) {
            return Err((Reason::Load, facts.now.checked_add(LOAD_INTERVAL)));
        }
        Ok(())
    }

    /// Counts an admitted request that will run until [`Tally::end`].
    pub fn begin(&mut self, rules: &Rules, peer: Option<IpAddr>, now: Instant) {
        self.running += 1;
        self.take_tokens(rules, now);
        if let Some(ip) = peer.filter(|_| counts_sources(rules)) {
            let source = source_of(ip, rules.source_prefix);
            let rate = rules.rate_per_source.as_ref();
            self.sources_mut().begin(source, rate, now);
        }
    }

    /// Counts an admitted datagram that is answered at once.
    pub fn pass(&mut self, rules: &Rules, peer: IpAddr, now: Instant) {
        self.take_tokens(rules, now);
        if let Some(rate) = &rules.rate_per_source {
            let source = source_of(peer, rules.source_prefix);
            self.sources_mut().take(source, rate, now);
        }
    }

    /// Counts an instance that an earlier front started.
    pub fn adopt(&mut self, rules: &Rules, peer: Option<IpAddr>) {
        self.running += 1;
        if let Some(ip) = peer.filter(|_| counts_sources(rules)) {
            let source = source_of(ip, rules.source_prefix);
            // No token is taken, so the moment does not matter.
            self.sources_mut().begin(source, None, Instant::now());
        }
    }

    /// A request counted by [`Tally::begin`] is over.
    pub fn end(&mut self, rules: &Rules, peer: Option<IpAddr>) {
        self.running = self.running.saturating_sub(1);
        if let (Some(sources), Some(ip)) = (&mut self.sources, peer) {
            sources.end(source_of(ip, rules.source_prefix));
        }
    }

    /// Counts the running requests of each source again, after a reload that
    /// changed what a source is or whether they are counted.
    pub fn recount(&mut self, rules: &Rules, peers: impl Iterator<Item = IpAddr>) {
        self.sources = None;
        if counts_sources(rules) {
            let now = Instant::now();
            for ip in peers {
                let source = source_of(ip, rules.source_prefix);
                self.sources_mut().begin(source, None, now);
            }
        }
    }

    /// Drops what is as good as never seen.
    pub fn forget_idle(&mut self, now: Instant) {
        if let Some(sources) = &mut self.sources {
            sources.forget_idle(now);
        }
    }

    fn take_tokens(&mut self, rules: &Rules, now: Instant) {
        if let Some(rate) = &rules.rate {
            self.bucket.take(rate, now);
        }
    }

    fn sources_mut(&mut self) -> &mut Sources {
        self.sources.get_or_insert_default()
    }
}

fn counts_sources(rules: &Rules) -> bool {
    rules.per_source.is_some() || rules.rate_per_source.is_some()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::AddressDenied => "address denied",
            Reason::OutOfHours => "out of hours",
            Reason::SourceRate => "too many requests of this source at once",
            Reason::SourceInstances => "too many instances for this source",
            Reason::ServiceRate => "too many requests at once",
            Reason::Instances => "too many instances",
            Reason::Load => "load too high",
            Reason::Resting => "resting after failed starts",
            Reason::Gone => "the service is no longer there",
            Reason::NoRule => "no rule of `match` holds",
            Reason::NoHeader => "no good PROXY header from a source that must send one",
            Reason::Crowded => "too many undecided connections",
            Reason::Banned => "banned",
            Reason::Held => "drained or stopped by an operator",
        })
    }
}

#[cfg(test)]
mod tests;
