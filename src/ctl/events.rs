//! `log` and `events`: what happened, and what happens from now on.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::arguments::Recent;
use super::console::Console;
use super::failure::Failure;
use super::grid::Paint;
use super::text::escape;
use crate::control::types::{Event, EventKind, Watch, WatchEvents};

/// Prints the last events, and new ones for as long as that is wanted.
pub fn events(
    console: &Console,
    recent: Recent,
    service: Option<String>,
    kinds: Vec<EventKind>,
) -> Result<(), Failure> {
    let mut link = console.status()?;
    let asked = Watch {
        service,
        kinds: (!kinds.is_empty()).then_some(kinds),
        backlog: Some(recent.last),
    };
    if recent.follow {
        return link.watch("WatchEvents", &asked, |reply| print(console, &reply));
    }
    print(console, &link.call("WatchEvents", &asked)?)
}

fn print(console: &Console, reply: &WatchEvents) -> Result<(), Failure> {
    if reply.lost > 0 {
        lost(console, reply.lost)?;
    }
    if console.json {
        return reply
            .events
            .iter()
            .try_for_each(|event| console.say_json_line(event));
    }
    let lines: String = reply
        .events
        .iter()
        .map(|event| line(console, event))
        .collect();
    console.say(&lines)
}

/// In the place where the lost ones would be.
fn lost(console: &Console, number: u64) -> Result<(), Failure> {
    if console.json {
        return console.say_json_line(&json!({ "lost": number }));
    }
    let note = format!("-- {number} lost: events came faster than they were read");
    console.say(&(console.paint(Paint::Doubtful, &note) + "\n"))
}

/// As in the daemon's log: time, kind, fields, text.
fn line(console: &Console, event: &Event) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_micros(event.time_us));
    let time = humantime::format_rfc3339_millis(time.unwrap_or(UNIX_EPOCH)).to_string();
    let kind = console.paint(paint(event.kind), event.kind.name());
    let mut out = format!("{} {kind}", console.paint(Paint::Faint, &time));
    let fields = [
        ("service", &event.service),
        ("conn", &event.connection),
        ("peer", &event.peer),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = write!(out, " {name}={}", escape(value));
        }
    }
    let _ = writeln!(out, " {}", escape(&event.text));
    out
}

fn paint(kind: EventKind) -> Paint {
    match kind {
        EventKind::Accepted | EventKind::Started | EventKind::Exited => Paint::Plain,
        EventKind::Changed => Paint::Good,
        EventKind::Refused | EventKind::Banned | EventKind::Stderr => Paint::Doubtful,
        EventKind::Failed | EventKind::Resting | EventKind::Degraded => Paint::Bad,
    }
}
