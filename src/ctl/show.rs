//! `show SERVICE`: what the table says of it, and what has come of that.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::figures::figures;
use super::grid::Paint;
use super::security;
use super::status::{last_exit, running, state};
use super::text::{escape, micros};
use crate::control::types::{
    Describe, GetServices, GetStatistics, Isolation, Key, OfService, Service, State, Statistics,
};
use crate::error::Exit;

#[derive(Debug, Serialize)]
struct Shown {
    service: Service,
    statistics: Statistics,
    /// `null`: the caller may not see the table.
    keys: Option<Vec<Key>>,
    /// The same.
    isolation: Option<Isolation>,
}

pub fn show(console: &Console, name: String) -> Result<(), Failure> {
    let asked = OfService {
        service: Some(name),
    };
    let mut link = console.status()?;
    let GetServices { services } = link.call("GetServices", &asked)?;
    let Some(service) = services.into_iter().next() else {
        let text = "usherd knows the service and says nothing about it";
        return Err(Failure::new(Exit::Unavailable, text));
    };
    // What is switched off has counted nothing, and is kept in no sandbox.
    let is_off = service.state == State::Disabled;
    let total = match is_off {
        true => Statistics::default(),
        false => link.call::<GetStatistics>("GetStatistics", &asked)?.total,
    };
    let (keys, note) = match describe(console, &asked) {
        Ok(keys) => (Some(keys), None),
        // Most who may look may not change; the rest of the page is theirs.
        Err(failure) if failure.exit == Exit::NotPermitted => (
            None,
            Some("to see it takes rights on admin.sock".to_owned()),
        ),
        Err(failure) if failure.exit == Exit::Unavailable => {
            let first = failure.text.lines().next().unwrap_or("").to_owned();
            (None, Some(format!("it is told on admin.sock: {first}")))
        }
        Err(failure) => return Err(failure),
    };
    let shown = Shown {
        isolation: match is_off {
            true => None,
            false => isolation(console, &service.name)?,
        },
        service,
        statistics: total,
        keys,
    };
    console.answer(&shown, |shown| page(console, shown, note.as_deref()))
}

fn describe(console: &Console, asked: &OfService) -> Result<Vec<Key>, Failure> {
    let Describe { keys, .. } = console.admin()?.call("Describe", asked)?;
    Ok(keys)
}

/// `None`: the caller may not see it, or there is nobody to ask.
fn isolation(console: &Console, service: &str) -> Result<Option<Isolation>, Failure> {
    match security::ask(console, service) {
        Ok(isolation) => Ok(Some(isolation)),
        Err(failure) if matches!(failure.exit, Exit::NotPermitted | Exit::Unavailable) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn page(console: &Console, shown: &Shown, note: Option<&str>) -> String {
    let Shown {
        service,
        statistics,
        keys,
        isolation,
    } = shown;
    let mut out = head(console, service);
    heading(console, &mut out, "table");
    for key in keys.iter().flatten() {
        let _ = writeln!(out, "  {} = {}", escape(&key.key), escape(&key.value));
    }
    if let Some(note) = note {
        let _ = writeln!(out, "  {}", console.paint(Paint::Faint, note));
    }
    if let Some(isolation) = isolation.as_ref().filter(|known| known.preset.is_some()) {
        heading(console, &mut out, &security::headline(isolation));
        out.push_str(&security::side_by_side(console, isolation));
    }
    heading(console, &mut out, "since usherd was started");
    out.push_str(&figures(console, statistics));
    out
}

fn head(console: &Console, service: &Service) -> String {
    let state = state(service.state);
    let mut out = format!(
        "{}: {}, {} instances\n",
        console.paint(Paint::Heading, &escape(&service.name)),
        console.paint(state.paint, &state.text),
        running(service)
    );
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<12} {}", escape(value));
    };
    if let Some(reason) = &service.reason {
        line("why", reason);
    }
    if let Some(description) = &service.description {
        line("description", description);
    }
    line("serves by", &service.serves);
    for listener in &service.listeners {
        let note = if listener.bound { "" } else { " (not bound)" };
        line("listens at", &format!("{}{note}", listener.address));
    }
    if let Some(last) = &service.last_exit {
        let text = format!(
            "{}, it ran {}",
            last_exit(service).text,
            micros(last.ran_us)
        );
        line("last exit", &text);
    }
    out
}

pub(super) fn heading(console: &Console, out: &mut String, text: &str) {
    let _ = writeln!(out, "\n{}", console.paint(Paint::Heading, text));
}
