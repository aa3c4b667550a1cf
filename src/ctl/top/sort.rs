//! The order of the rows; pure.
#![forbid(unsafe_code)]

use super::rows::Row;
use crate::control::types::Instance;

/// By what the rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Accepted,
    Refused,
    Failed,
    Running,
    Latency,
    Cpu,
    Memory,
    Name,
}

impl Sort {
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Sort::Accepted => Sort::Refused,
            Sort::Refused => Sort::Failed,
            Sort::Failed => Sort::Running,
            Sort::Running => Sort::Latency,
            Sort::Latency => Sort::Cpu,
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Name,
            Sort::Name => Sort::Accepted,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Sort::Accepted => "accepted",
            Sort::Refused => "refused",
            Sort::Failed => "failed",
            Sort::Running => "running",
            Sort::Latency => "p99",
            Sort::Cpu => "cpu",
            Sort::Memory => "memory",
            Sort::Name => "name",
        }
    }

    /// The greatest first, names from a to z; equals stay in table order.
    pub fn sort(self, rows: &mut [Row], reversed: bool) {
        rows.sort_by(|a, b| {
            let order = match self {
                Sort::Accepted => b.accepted.total_cmp(&a.accepted),
                Sort::Refused => b.refused.total_cmp(&a.refused),
                Sort::Failed => b.failed.total_cmp(&a.failed),
                Sort::Running => b.running.cmp(&a.running),
                Sort::Latency => b.p99.cmp(&a.p99),
                Sort::Cpu => b.cpu.unwrap_or(0.0).total_cmp(&a.cpu.unwrap_or(0.0)),
                Sort::Memory => b.memory.cmp(&a.memory),
                Sort::Name => a.name.cmp(&b.name),
            };
            if reversed { order.reverse() } else { order }
        });
    }

    /// The same for instances, by what they have of it; else the oldest first.
    pub fn sort_instances(self, instances: &mut [Instance], reversed: bool) {
        instances.sort_by(|a, b| {
            let order = match self {
                Sort::Cpu => b.cpu_us.cmp(&a.cpu_us),
                Sort::Memory => b.memory.cmp(&a.memory),
                _ => a.id.cmp(&b.id),
            };
            if reversed { order.reverse() } else { order }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

    use super::super::rows::History;
    use super::super::samples::{counted, reading};
    use super::*;

    #[test]
    fn every_order_is_reached_and_can_be_reversed() {
        let start = Instant::now();
        let mut history = History::default();
        let names = ["b", "a", "c"];
        history.push(reading(start, 0, &names.map(|name| (name, counted(0, 0)))));
        let counts = [
            ("b", counted(5, 0)),
            ("a", counted(9, 0)),
            ("c", counted(5, 0)),
        ];
        history.push(reading(start, 1, &counts));
        let (_, mut rows) = history.rows().unwrap();
        let mut order = |sort: Sort, reversed| {
            sort.sort(&mut rows, reversed);
            rows.iter().map(|row| row.name.clone()).collect::<String>()
        };
        assert_eq!(order(Sort::Accepted, false), "abc");
        assert_eq!(order(Sort::Accepted, true), "bca");
        assert_eq!(order(Sort::Name, false), "abc");
        assert_eq!(order(Sort::Name, true), "cba");
        let mut sort = Sort::default();
        for _ in 0..8 {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::default());
    }
}
