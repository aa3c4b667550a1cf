//! `security`: scores, their reasons, and what this host lacks. Of the daemon
//! or, without one, of a table.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::grid::{Cell, Grid, Paint, elastic, left, right};
use super::offline;
use super::text::escape;
use crate::commands::arguments::default_table;
use crate::control::types::{
    Exposure, GetIsolation, GetServices, Isolation, Level, Mechanism, Missing, OfService,
    SeenInstance, TheService,
};
use crate::error::Exit;
use crate::sandbox::report;
use crate::table::complaint::did_you_mean;

#[derive(Debug, Serialize)]
struct Scores {
    services: Vec<Isolation>,
}

pub fn security(
    console: &Console,
    service: Option<String>,
    config: Option<PathBuf>,
    offline: bool,
) -> Result<(), Failure> {
    let read = match (offline, config) {
        (_, Some(file)) => Some(Some(file)),
        (true, None) => Some(default_table(false)),
        (false, None) => None,
    };
    let services = match (read, &service) {
        (Some(file), _) => of_table(file, service.as_deref())?,
        (None, Some(name)) => vec![ask(console, name)?],
        (None, None) => all(console)?,
    };
    match (service, services.as_slice()) {
        (Some(_), [isolation]) => {
            let reply = GetIsolation {
                isolation: isolation.clone(),
            };
            console.answer(&reply, |reply| page(console, &reply.isolation))
        }
        _ => console.answer(&Scores { services }, |scores| {
            table(console, &scores.services)
        }),
    }
}

/// What the daemon says of one service.
pub(super) fn ask(console: &Console, service: &str) -> Result<Isolation, Failure> {
    let asked = TheService {
        service: service.to_owned(),
    };
    let GetIsolation { isolation } = console.admin()?.call("GetIsolation", &asked)?;
    Ok(isolation)
}

/// The same of all, in table order.
fn all(console: &Console) -> Result<Vec<Isolation>, Failure> {
    let none = OfService::default();
    let GetServices { services } = console.status()?.call("GetServices", &none)?;
    let mut link = console.admin()?;
    let mut found = Vec::with_capacity(services.len());
    for service in services {
        let asked = TheService {
            service: service.name,
        };
        match link.call("GetIsolation", &asked) {
            Ok(GetIsolation { isolation }) => found.push(isolation),
            // A reload came in between.
            Err(failure) if failure.error_name() == Some("NoSuchService") => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// The same of a table that nobody has put in force: nothing of the host is known.
fn of_table(file: Option<PathBuf>, only: Option<&str>) -> Result<Vec<Isolation>, Failure> {
    let loaded = offline::read(file.as_deref())?;
    let services = &loaded.table.services;
    let wanted = services
        .iter()
        .filter(|service| only.is_none_or(|name| service.name == name));
    let found: Vec<Isolation> = wanted
        .map(|service| report::isolation(service, &[], None))
        .collect();
    match only {
        Some(name) if found.is_empty() => {
            let names = services.iter().map(|service| service.name.as_str());
            let meant =
                did_you_mean(name, names).map(|meant| format!("; did you mean \"{meant}\"?"));
            let text = format!(
                "no service \"{}\"{}",
                escape(name),
                meant.unwrap_or_default()
            );
            Err(Failure::new(Exit::Refused, text))
        }
        _ => Ok(found),
    }
}

fn painted(exposure: &Exposure) -> Paint {
    match exposure.grade.as_str() {
        "perfect" | "safe" | "ok" => Paint::Good,
        "medium" => Paint::Doubtful,
        _ => Paint::Bad,
    }
}

fn table(console: &Console, services: &[Isolation]) -> String {
    let mut grid = Grid::new(&[
        left("SERVICE", 0),
        right("EXPOSURE", 0),
        left("GRADE", 0),
        left("PRESET", 1),
        elastic("MISSING HERE", 2),
    ]);
    for service in services {
        let name = service.service.as_str().into();
        let Some(exposure) = &service.exposure else {
            let front = Cell::painted("in usherd's front", Paint::Faint);
            grid.row([name, "-".into(), front]);
            continue;
        };
        let missing: Vec<&str> = service
            .mechanisms
            .iter()
            .filter(|mechanism| mechanism.missing.is_some())
            .map(|mechanism| mechanism.name.as_str())
            .collect();
        grid.row([
            name,
            format!("{:.1}", exposure.score).into(),
            Cell::painted(&exposure.grade, painted(exposure)),
            service.preset.as_deref().unwrap_or("").into(),
            Cell::painted(missing.join(", "), Paint::Doubtful),
        ]);
    }
    match services {
        [] => "no service\n".to_owned(),
        _ => console.grid(&grid),
    }
}

/// Score, reasons, and what is missing.
fn page(console: &Console, isolation: &Isolation) -> String {
    let name = escape(&isolation.service);
    let Some(exposure) = &isolation.exposure else {
        return format!(
            "{}: answered by usherd's front, in a cage that is the same whatever the table says\n",
            console.paint(Paint::Heading, &name)
        );
    };
    let grade = console.paint(painted(exposure), &escape(&exposure.grade));
    let preset = isolation.preset.as_deref().unwrap_or("");
    let mut out = format!(
        "{}: exposure {:.1}, {grade}; isolation = \"{}\"\n",
        console.paint(Paint::Heading, &name),
        exposure.score,
        escape(preset)
    );
    if !exposure.reasons.is_empty() {
        let mut grid = Grid::new(&[right("ADDS", 0), left("KEY", 0), elastic("WHY", 0)]);
        for reason in &exposure.reasons {
            let key = reason.key.as_str().into();
            let why = reason.text.as_str().into();
            grid.row([format!("{:.2}", reason.adds).into(), key, why]);
        }
        out.push('\n');
        out.push_str(&console.grid(&grid));
    }
    for mechanism in &isolation.mechanisms {
        if let Some(Missing { reason, remedy }) = &mechanism.missing {
            let (what, paint) = match mechanism.level {
                Level::Require => ("required and missing: no server is started", Paint::Bad),
                Level::Prefer | Level::Off => ("missing: servers run without", Paint::Doubtful),
            };
            let line = format!("{} {what}", escape(&mechanism.name));
            out.push_str(&format!(
                "\n{}\n  why  {}\n  do   {}\n",
                console.paint(paint, &line),
                escape(reason),
                escape(remedy)
            ));
        }
    }
    out
}

/// For `show`.
pub(super) fn headline(isolation: &Isolation) -> String {
    let preset = escape(isolation.preset.as_deref().unwrap_or(""));
    let score = isolation
        .exposure
        .as_ref()
        .map_or_else(String::new, |found| {
            format!(", exposure {:.1} ({})", found.score, escape(&found.grade))
        });
    let found = match &isolation.instance {
        Some(SeenInstance { id, pid, .. }) => format!("found in instance {id} (pid {pid})"),
        None => "no instance runs to look at".to_owned(),
    };
    format!("isolation: {preset}{score}; {found}")
}

/// What was asked for and what was found, by key.
pub(super) fn side_by_side(console: &Console, isolation: &Isolation) -> String {
    let mut grid = Grid::new(&[
        left("KEY", 0),
        left("ASKED FOR", 0),
        elastic("IN FORCE", 1),
        elastic("NOTE", 2),
    ]);
    let instance = isolation.instance.as_ref();
    for mechanism in &isolation.mechanisms {
        grid.row(mechanism_row(mechanism, instance.is_some()));
    }
    let facts = || instance.into_iter().flat_map(|found| &found.facts);
    for asked in &isolation.settings {
        let found = facts().find(|fact| fact.key == asked.key);
        if found.is_none() && asked.value == "[]" {
            continue;
        }
        let found = found.map_or("", |fact| fact.value.as_str());
        grid.row([
            asked.key.as_str().into(),
            asked.value.as_str().into(),
            found.into(),
        ]);
    }
    let known = |key: &str| isolation.settings.iter().any(|asked| asked.key == key);
    for fact in facts().filter(|fact| !known(&fact.key)) {
        grid.row([
            fact.key.as_str().into(),
            "".into(),
            fact.value.as_str().into(),
        ]);
    }
    console.grid(&grid)
}

fn mechanism_row(mechanism: &Mechanism, looked: bool) -> [Cell; 4] {
    let level = match mechanism.level {
        Level::Off => Cell::painted("off", Paint::Faint),
        Level::Prefer => "prefer".into(),
        Level::Require => "require".into(),
    };
    let in_force = match (mechanism.effective, mechanism.level) {
        (Some(true), _) => Cell::painted("yes", Paint::Good),
        (Some(false), Level::Off) => Cell::painted("no", Paint::Faint),
        (Some(false), Level::Prefer) => Cell::painted("no", Paint::Doubtful),
        (Some(false), Level::Require) => Cell::painted("no", Paint::Bad),
        (None, _) if looked => Cell::painted("unknown", Paint::Faint),
        (None, _) => "".into(),
    };
    let note = match (&mechanism.missing, &mechanism.note) {
        (Some(Missing { reason, remedy }), _) => format!("missing: {reason}; {remedy}"),
        (None, Some(note)) => note.clone(),
        (None, None) => String::new(),
    };
    [mechanism.name.as_str().into(), level, in_force, note.into()]
}
