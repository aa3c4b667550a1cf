//! Figures as text for Prometheus (exposition format 0.0.4).
//!
//! Names follow its conventions: base units, `_total` for what only grows. What
//! is of all requests together (`usherd_...`) and what is of one service
//! (`usherd_service_...`) have names of their own, so that no sum counts
//! anything twice. Sources are left out: there is no bound to their number.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

use crate::control::types::{Daemon, GetStatistics, Histogram, Statistics};

/// Everything there is to tell.
#[must_use]
pub fn text(daemon: &Daemon, statistics: &GetStatistics) -> String {
    let mut out = String::new();
    tell_daemon(&mut out, daemon);
    for family in FAMILIES {
        let all = [(&[] as Labels<'_>, &statistics.total)];
        family.tell_all(&mut out, "usherd", all.into_iter());
        let services = statistics.services.iter();
        let services: Vec<_> = services
            .map(|(name, s)| ([("service", name.as_str())], s))
            .collect();
        let services = services.iter().map(|(labels, s)| (&labels[..], *s));
        family.tell_all(&mut out, "usherd_service", services);
    }
    out
}

fn tell_daemon(out: &mut String, daemon: &Daemon) {
    let mut gauge = |name: &str, help: &str, labels: Labels<'_>, value: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        sample(out, name, labels, value);
    };
    let version = [("version", daemon.version.as_str())];
    gauge(
        "usherd_build_info",
        "Constant 1, with the version.",
        &version,
        "1",
    );
    let uptime = seconds(daemon.uptime_ms.saturating_mul(1_000));
    let uptime_help = "How long the daemon runs.";
    gauge("usherd_uptime_seconds", uptime_help, &[], &uptime);
    for (name, help, value) in [
        (
            "usherd_fronts",
            "Fronts so far; more than one says that one has died.",
            u64::from(daemon.fronts),
        ),
        (
            "usherd_draining",
            "1 while nothing new is taken.",
            u64::from(daemon.draining),
        ),
        ("usherd_services", "Services in the table.", daemon.services),
        (
            "usherd_listeners",
            "Addresses listened on.",
            daemon.listeners,
        ),
        (
            "usherd_degraded",
            "How many things this host does not let the daemon do.",
            daemon.degraded.len() as u64,
        ),
    ] {
        gauge(name, help, &[], &value.to_string());
    }
}

/// A metric that both the whole and every service has.
struct Family {
    name: &'static str,
    help: &'static str,
    value: Value,
    /// Also of services that nobody asked for yet: a thousand of them must not fill pages.
    told_of_unused: bool,
}

enum Value {
    Counter(fn(&Statistics) -> u64),
    Gauge(fn(&Statistics) -> u64),
    /// A counter for each value of a label.
    By(&'static str, fn(&Statistics) -> &BTreeMap<String, u64>),
    Cpu,
    /// Microseconds, with bounds at these powers of two.
    Spans(fn(&Statistics) -> &Histogram, RangeInclusive<u32>, usize),
}

const FAMILIES: &[Family] = &[
    Family {
        name: "accepted_requests_total",
        help: "Requests that came in.",
        value: Value::Counter(|s| s.accepted),
        told_of_unused: true,
    },
    Family::new(
        "admitted_requests_total",
        "Requests that were let in.",
        Value::Counter(|s| s.admitted),
    ),
    Family::new(
        "refused_requests_total",
        "Requests that were turned away, by reason.",
        Value::By("reason", |s| &s.refused),
    ),
    Family::new(
        "matched_requests_total",
        "Requests whose service was told by a rule, by rule.",
        Value::By("rule", |s| &s.matched),
    ),
    Family::new(
        "undecided_connections",
        "Connections that may be for it and have not said enough yet.",
        Value::Gauge(|s| s.undecided),
    ),
    Family::new(
        "started_instances_total",
        "Servers started.",
        Value::Counter(|s| s.started),
    ),
    Family::new(
        "failed_starts_total",
        "Starts that came to nothing, by step.",
        Value::By("step", |s| &s.failed),
    ),
    Family {
        name: "running",
        help: "Servers, relays and conversations that run.",
        value: Value::Gauge(|s| s.running),
        told_of_unused: true,
    },
    Family::new(
        "exited_instances_total",
        "Servers that have ended, by status or signal.",
        Value::By("exit", |s| &s.exited),
    ),
    Family::new(
        "oom_killed_instances_total",
        "Servers that the kernel killed for want of memory.",
        Value::Counter(|s| s.oom_killed),
    ),
    Family::new(
        "received_bytes_total",
        "Bytes from peers, of built-in services and relays.",
        Value::Counter(|s| s.received),
    ),
    Family::new(
        "sent_bytes_total",
        "Bytes to peers, of built-in services and relays.",
        Value::Counter(|s| s.sent),
    ),
    Family::new(
        "cpu_seconds_total",
        "CPU time of servers that have ended.",
        Value::Cpu,
    ),
    Family::new(
        "memory_peak_bytes",
        "The greatest resident set of a server that has ended.",
        Value::Gauge(|s| s.memory_peak),
    ),
    Family::new(
        "disk_read_bytes_total",
        "Bytes that servers read from disk, of those that have ended.",
        Value::Counter(|s| s.blocks_read),
    ),
    Family::new(
        "disk_written_bytes_total",
        "Bytes that servers wrote to disk, of those that have ended.",
        Value::Counter(|s| s.blocks_written),
    ),
    // 16 us to 17 s: from less than a turn of the loop to more than any deadline.
    Family::new(
        "match_duration_seconds",
        "Accept to the decision which service it is for.",
        Value::Spans(|s| &s.match_latency, 4..=24, 1),
    ),
    Family::new(
        "start_duration_seconds",
        "Decision to running server.",
        Value::Spans(|s| &s.start_latency, 4..=24, 1),
    ),
    // 256 us to 72 minutes.
    Family::new(
        "run_duration_seconds",
        "Start to end of servers, relays and conversations.",
        Value::Spans(|s| &s.run_time, 8..=32, 2),
    ),
];

impl Family {
    const fn new(name: &'static str, help: &'static str, value: Value) -> Self {
        Self {
            name,
            help,
            value,
            told_of_unused: false,
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Counter(_) | Value::By(..) | Value::Cpu => "counter",
            Value::Gauge(_) => "gauge",
            Value::Spans(..) => "histogram",
        }
    }

    /// All samples of one name; no word about it if there are none.
    fn tell_all<'a>(
        &self,
        out: &mut String,
        scope: &str,
        of: impl Iterator<Item = (Labels<'a>, &'a Statistics)>,
    ) {
        let name = format!("{scope}_{}", self.name);
        let mut of = of
            .filter(|(labels, statistics)| self.is_told(labels, statistics))
            .peekable();
        if of.peek().is_some() {
            let _ = writeln!(out, "# HELP {name} {}", self.help);
            let _ = writeln!(out, "# TYPE {name} {}", self.kind());
        }
        for (labels, statistics) in of {
            self.tell(out, &name, labels, statistics);
        }
    }

    fn is_told(&self, labels: Labels<'_>, statistics: &Statistics) -> bool {
        match &self.value {
            Value::By(_, values) => !values(statistics).is_empty(),
            Value::Spans(of, ..) => of(statistics).count > 0,
            Value::Counter(_) | Value::Gauge(_) | Value::Cpu => {
                labels.is_empty() || self.told_of_unused || *statistics != Statistics::default()
            }
        }
    }

    fn tell(&self, out: &mut String, name: &str, labels: Labels<'_>, statistics: &Statistics) {
        match &self.value {
            Value::Counter(value) | Value::Gauge(value) => {
                sample(out, name, labels, &value(statistics).to_string());
            }
            Value::By(label, values) => {
                for (key, value) in values(statistics) {
                    let labels = [labels, &[(*label, key.as_str())]].concat();
                    sample(out, name, &labels, &value.to_string());
                }
            }
            Value::Cpu => {
                let modes = [
                    ("user", statistics.user_us),
                    ("system", statistics.system_us),
                ];
                for (mode, micros) in modes {
                    let labels = [labels, &[("mode", mode)]].concat();
                    sample(out, name, &labels, &seconds(micros));
                }
            }
            Value::Spans(of, octaves, step) => {
                let bounds = octaves.clone().step_by(*step).map(|octave| 1 << octave);
                tell_histogram(out, name, labels, of(statistics), bounds);
            }
        }
    }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Every bound is one of the histogram's own, so no count is a guess.
fn tell_histogram(
    out: &mut String,
    name: &str,
    labels: Labels<'_>,
    histogram: &Histogram,
    bounds: impl Iterator<Item = u64>,
) {
    let bucket = format!("{name}_bucket");
    for bound in bounds {
        let below = histogram.buckets.iter();
        let below = below.filter(|bucket| bucket.up_to_us.is_some_and(|up_to| up_to <= bound));
        let count: u64 = below.map(|bucket| bucket.count).sum();
        let bound = seconds(bound);
        let labels = [labels, &[("le", bound.as_str())]].concat();
        sample(out, &bucket, &labels, &count.to_string());
    }
    let count = histogram.count.to_string();
    sample(out, &bucket, &[labels, &[("le", "+Inf")]].concat(), &count);
    let sum = seconds(histogram.sum_us);
    sample(out, &format!("{name}_sum"), labels, &sum);
    sample(out, &format!("{name}_count"), labels, &count);
}

fn sample(out: &mut String, name: &str, labels: Labels<'_>, value: &str) {
    out.push_str(name);
    for (place, (label, value)) in labels.iter().enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        let _ = write!(out, "{before}{label}=\"");
        push_escaped(out, value);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Microseconds as decimal seconds, exact, without zeros at the end.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
