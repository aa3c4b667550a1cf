//! All figures of one moment, and their JSON.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use crate::control::types::{Daemon, Event, Histogram, Service, Statistics};

/// Of a histogram: the inclusive upper bound in microseconds (none for the last) and the count.
pub type Spans = Vec<(Option<u64>, u64)>;

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Microseconds since 1970.
    pub time_us: u64,
    pub daemon: Daemon,
    pub total: Total,
    /// In the order of the table, those that are switched off last.
    pub services: Vec<Row>,
}

/// Of all requests together.
#[derive(Debug, Default, Serialize)]
pub struct Total {
    pub accepted: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

/// What the running instances of a service use, as the helper last told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_us: u64,
    pub memory: u64,
}

/// A service and its figures. What is empty is left out: most services are never asked for.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub service: Service,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_by: BTreeMap<String, u64>,
    /// Microseconds of CPU of all its instances so far.
    pub cpu_us: u64,
    /// Resident octets of the first processes of those that run.
    pub memory: u64,
    /// Accept to decision, decision to running server, start to end.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matching: Spans,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start: Spans,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Spans,
}

/// Events that happened since the last ones.
#[derive(Debug, Serialize)]
pub struct News {
    pub events: Vec<Event>,
    pub lost: u64,
}

impl Row {
    #[must_use]
    pub fn new(service: Service, figures: Statistics, usage: Usage) -> Self {
        let ended = figures.user_us.saturating_add(figures.system_us);
        Self {
            service,
            cpu_us: ended.saturating_add(usage.cpu_us),
            memory: usage.memory,
            refused_by: figures.refused,
            failed_by: figures.failed,
            matching: spans(&figures.match_latency),
            start: spans(&figures.start_latency),
            run: spans(&figures.run_time),
        }
    }
}

impl Snapshot {
    /// Why requests were refused or failed: service, reason, count. Those that
    /// found no service come last.
    #[must_use]
    pub fn reasons(&self) -> Vec<(Option<&str>, String, u64)> {
        let mut found = Vec::new();
        let mut rest = self.total.refused.clone();
        for row in &self.services {
            let name = Some(row.service.name.as_str());
            for (reason, count) in &row.refused_by {
                found.push((name, format!("refused: {reason}"), *count));
                let left = rest.entry(reason.clone()).or_default();
                *left = left.saturating_sub(*count);
            }
            let failed = row.failed_by.iter();
            found.extend(failed.map(|(step, count)| (name, format!("failed: {step}"), *count)));
        }
        let rest = rest.into_iter().filter(|(_, count)| *count > 0);
        found.extend(rest.map(|(reason, count)| (None, format!("refused: {reason}"), count)));
        found
    }
}

fn spans(histogram: &Histogram) -> Spans {
    let buckets = histogram.buckets.iter();
    buckets
        .map(|bucket| (bucket.up_to_us, bucket.count))
        .collect()
}

/// JSON that is harmless wherever it ends up: no `<` that could end a script
/// element, no line separator that JavaScript once took for the end of a line.
#[must_use]
pub fn json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Harmless(CompactFormatter));
    // Maps have keys of text and nothing here can fail to be written.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(bytes).unwrap_or_default()
}

struct Harmless(CompactFormatter);

impl Formatter for Harmless {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '\u{2028}', '\u{2029}']) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut after = after.chars();
            if let Some(c) = after.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = after.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        self.0.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::control::types::{Bucket, Listener, State};

    /// What a hostile table or peer could put anywhere.
    pub const NASTY: &str = "</script><!--<img src=x onerror=alert(1)>\"'&\u{2028}\r\n\0";

    pub fn sample() -> Snapshot {
        let service = Service {
            name: NASTY.to_owned(),
            description: Some(NASTY.to_owned()),
            state: State::Full,
            reason: Some(NASTY.to_owned()),
            serves: NASTY.to_owned(),
            listeners: vec![Listener {
                address: NASTY.to_owned(),
                bound: true,
            }],
            running: 1,
            instances: 2,
            accepted: 1234,
            refused: 7,
            failed: 3,
            last_exit: None,
        };
        let counts = |count| [(NASTY.to_owned(), count)].into_iter().collect();
        let figures = Statistics {
            refused: counts(7),
            failed: counts(3),
            start_latency: Histogram {
                count: 100,
                sum_us: 1,
                buckets: [(Some(96), 50), (Some(1536), 49), (None, 1)]
                    .map(|(up_to_us, count)| Bucket { up_to_us, count })
                    .into(),
            },
            ..Statistics::default()
        };
        Snapshot {
            time_us: 1,
            daemon: Daemon {
                version: NASTY.to_owned(),
                helper_pid: 1,
                front_pid: 2,
                uptime_ms: 3,
                fronts: 1,
                draining: false,
                services: 1,
                listeners: 1,
                undecided: 0,
                running: 1,
                denied: 0,
                degraded: vec![NASTY.to_owned()],
            },
            total: Total {
                accepted: 1240,
                refused: counts(9),
            },
            services: vec![Row::new(service, figures, Usage::default())],
        }
    }

    #[test]
    fn json_says_the_same_without_a_dangerous_character() {
        let snapshot = sample();
        let json = json(&snapshot);
        assert!(
            !json.contains(['<', '\u{2028}', '\n', '\r', '\0']),
            "{json}"
        );
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::to_value(&snapshot).unwrap());
        assert_eq!(read["services"][0]["name"], NASTY);
        assert_eq!(read["services"][0]["refused"], 7);
        assert_eq!(read["services"][0]["start"][2][0], Value::Null);
    }

    #[test]
    fn reasons_of_services_and_of_nobody_add_up_to_the_total() {
        let snapshot = sample();
        let refused = format!("refused: {NASTY}");
        let expected = [
            (Some(NASTY), refused.clone(), 7),
            (Some(NASTY), format!("failed: {NASTY}"), 3),
            (None, refused, 2),
        ];
        assert_eq!(snapshot.reasons(), expected);
    }
}
