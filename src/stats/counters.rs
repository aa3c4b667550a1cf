//! What is counted of one service, or of all together. Counts only grow.
#![forbid(unsafe_code)]

use crate::front::admit::Reason;
use crate::helper::wire::{Outcome, Refusal};
use crate::sandbox::Step;
use crate::stats::Histogram;

/// getrusage(2) counts blocks of this many bytes, whatever the file system's are.
const BLOCK: u64 = 512;

#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub accepted: u64,
    pub admitted: u64,
    refused: [u64; Reason::ALL.len()],
    pub matched: Matched,
    /// Servers that the helper cloned.
    pub started: u64,
    /// Of steps that something failed at: they are few.
    failed: Vec<(Step, u64)>,
    turned_down: [u64; Refusal::ALL.len()],
    exits: Exits,
    /// Servers that the kernel killed, whole or in part, for want of memory.
    pub oom_killed: u64,
    pub received: u64,
    pub sent: u64,
    pub user_micros: u64,
    pub system_micros: u64,
    /// Bytes.
    pub memory_peak: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Accept to decision.
    pub match_latency: Spans,
    /// Decision to running server.
    pub start_latency: Spans,
    /// Start to end.
    pub run_time: Spans,
}

impl Counters {
    pub fn refuse(&mut self, reason: Reason, count: u64) {
        self.refused[reason as usize] += count;
    }

    /// A start came to nothing.
    pub fn fail(&mut self, step: Step) {
        match self.failed.iter_mut().find(|(known, _)| *known == step) {
            Some((_, count)) => *count += 1,
            None => self.failed.push((step, 1)),
        }
    }

    /// The helper would not start a server.
    pub fn turn_down(&mut self, reason: Refusal) {
        self.turned_down[reason as usize] += 1;
    }

    /// A server has ended.
    pub fn exit(&mut self, outcome: &Outcome) {
        if !outcome.unseen {
            self.exits.add(Kind::of(outcome));
        }
        self.oom_killed += u64::from(outcome.oom_killed);
        self.run_time.record(outcome.micros);
    }

    /// What a process used, whether or not it became a server.
    pub fn charge(&mut self, outcome: &Outcome) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.user_micros, outcome.user_micros);
        add(&mut self.system_micros, outcome.system_micros);
        let blocks = |count: u64| count.saturating_mul(BLOCK);
        add(&mut self.bytes_read, blocks(outcome.blocks_read));
        add(&mut self.bytes_written, blocks(outcome.blocks_written));
        let peak = outcome.max_rss.saturating_mul(1024);
        self.memory_peak = self.memory_peak.max(peak);
    }

    pub fn refused(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let reasons = Reason::ALL.into_iter().zip(self.refused);
        reasons.filter(|(_, count)| *count > 0)
    }

    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    pub fn failed(&self) -> impl Iterator<Item = (Step, u64)> + '_ {
        self.failed.iter().copied()
    }

    pub fn turned_down(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        let reasons = Refusal::ALL.into_iter().zip(self.turned_down);
        reasons.filter(|(_, count)| *count > 0)
    }

    /// Starts that came to nothing, for whatever reason.
    #[must_use]
    pub fn all_failed(&self) -> u64 {
        let failed = self.failed.iter().map(|(_, count)| count);
        failed.chain(&self.turned_down).sum()
    }

    pub fn exits(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.exits.0.iter().copied()
    }
}

/// A histogram that takes no memory before its first entry.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Box<Histogram>>);

impl Spans {
    pub fn record(&mut self, micros: u64) {
        self.0.get_or_insert_default().record(micros);
    }

    #[must_use]
    pub fn histogram(&self) -> Option<&Histogram> {
        self.0.as_deref()
    }
}

/// Which rule of `match` decided, by its number.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    rules: Box<[u64]>,
    /// No rule of the service: it takes what no other does, or the silent.
    fallback: u64,
    /// Rules that a reload took away.
    earlier: u64,
}

impl Matched {
    pub fn add(&mut self, rule: Option<usize>) {
        let Some(rule) = rule else {
            self.fallback += 1;
            return;
        };
        if rule >= self.rules.len() {
            let mut longer = std::mem::take(&mut self.rules).into_vec();
            longer.resize(rule + 1, 0);
            self.rules = longer.into();
        }
        self.rules[rule] += 1;
    }

    /// Counts without the number of the rule: for all services together,
    /// whose rules share no numbers.
    pub fn add_anonymous(&mut self, rule: Option<usize>) {
        match rule {
            Some(_) => self.earlier += 1,
            None => self.fallback += 1,
        }
    }

    /// The rules are others: the count of one that stays goes with it.
    pub fn follow<R: PartialEq>(&mut self, old: &[R], new: &[R]) {
        if self.rules.is_empty() || old == new {
            return;
        }
        let counts = std::mem::take(&mut self.rules);
        for (number, count) in counts.into_iter().enumerate() {
            let rule = old.get(number);
            let place = rule.and_then(|rule| new.iter().position(|other| other == rule));
            match place {
                Some(place) if count > 0 => self.put(place, count),
                _ => self.earlier += count,
            }
        }
    }

    fn put(&mut self, place: usize, count: u64) {
        self.add(Some(place));
        self.rules[place] += count - 1;
    }

    /// Rules that have held, by number.
    pub fn rules(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.rules.iter().copied().enumerate();
        all.filter(|(_, count)| *count > 0)
    }

    #[must_use]
    pub fn fallback(&self) -> u64 {
        self.fallback
    }

    #[must_use]
    pub fn earlier(&self) -> u64 {
        self.earlier
    }
}

/// How a server ended: an exit status, or a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Status(u8),
    Signal(u8),
}

impl Kind {
    fn of(outcome: &Outcome) -> Self {
        let number = u8::try_from(outcome.status).unwrap_or(u8::MAX);
        if outcome.signalled {
            Kind::Signal(number)
        } else {
            Kind::Status(number)
        }
    }
}

/// Most servers know one or two ways to end, so a short sorted list does.
#[derive(Clone, Debug, Default)]
struct Exits(Vec<(Kind, u64)>);

impl Exits {
    fn add(&mut self, kind: Kind) {
        match self.0.binary_search_by_key(&kind, |(kind, _)| *kind) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (kind, 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_step_has_a_place_of_its_own() {
        let mut counters = Counters::default();
        for reason in Reason::ALL {
            counters.refuse(reason, reason as u64 + 1);
        }
        for (reason, count) in counters.refused() {
            assert_eq!(count, reason as u64 + 1);
        }
        assert_eq!(counters.refused().count(), Reason::ALL.len());
        Step::ALL.iter().for_each(|step| counters.fail(*step));
        assert!(counters.failed().eq(Step::ALL.map(|step| (step, 1))));
        Refusal::ALL.iter().for_each(|why| counters.turn_down(*why));
        assert!(counters.turned_down().eq(Refusal::ALL.map(|r| (r, 1))));
        assert_eq!(
            counters.all_failed(),
            (Step::ALL.len() + Refusal::ALL.len()) as u64
        );
    }

    #[test]
    fn ends_are_told_apart_by_kind_and_number() {
        let mut counters = Counters::default();
        for (status, signalled) in [(1, false), (9, true), (0, false), (1, false), (1, true)] {
            let outcome = Outcome {
                status,
                signalled,
                micros: 3,
                ..Outcome::default()
            };
            counters.exit(&outcome);
        }
        let exits: Vec<_> = counters.exits().collect();
        let expected = [
            (Kind::Status(0), 1),
            (Kind::Status(1), 2),
            (Kind::Signal(1), 1),
            (Kind::Signal(9), 1),
        ];
        assert_eq!(exits, expected);
        let spans = counters.run_time.histogram();
        assert_eq!(
            spans.map(|spans| (spans.count(), spans.sum())),
            Some((5, 15))
        );
    }

    #[test]
    fn memory_is_a_peak_and_the_rest_adds_up_without_overflow() {
        let mut counters = Counters::default();
        let outcome = Outcome {
            user_micros: 10,
            max_rss: 2048,
            blocks_read: 2,
            blocks_written: 1,
            ..Outcome::default()
        };
        counters.charge(&outcome);
        counters.charge(&Outcome {
            max_rss: 1,
            system_micros: u64::MAX,
            ..outcome
        });
        counters.charge(&Outcome {
            system_micros: 1,
            ..Outcome::default()
        });
        assert_eq!(counters.memory_peak, 2 << 20);
        assert_eq!(
            (counters.user_micros, counters.system_micros),
            (20, u64::MAX)
        );
        assert_eq!((counters.bytes_read, counters.bytes_written), (2048, 1024));
    }

    #[test]
    fn counts_follow_their_rules_through_a_reload() {
        let mut matched = Matched::default();
        for rule in [Some(0), Some(2), Some(2), None, Some(1)] {
            matched.add(rule);
        }
        matched.follow(&["a", "b", "c"], &["c", "x", "a"]);
        assert!(matched.rules().eq([(0, 2), (2, 1)]));
        assert_eq!((matched.fallback(), matched.earlier()), (1, 1));
        matched.follow(&["c", "x", "a"], &[]);
        assert_eq!(matched.rules().count(), 0);
        assert_eq!((matched.fallback(), matched.earlier()), (1, 4));
    }

    #[test]
    fn an_idle_service_pays_for_a_pointer_only() {
        assert_eq!(size_of::<Option<Box<Counters>>>(), size_of::<usize>());
        assert!(size_of::<Counters>() <= 512);
    }
}
