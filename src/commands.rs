//! Commands that work without a running daemon.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

use crate::error::Exit;
use crate::sandbox::exposure::Score;
use crate::sandbox::probe::Probe;
use crate::table::complaint::Complaints;
use crate::table::isolation::Level;
use crate::table::{self, Host, Serve, Table};

pub mod arguments;
pub mod doctor;
pub mod explain;
pub mod exposure;
pub mod import;

/// What `usherd check` shows of a table without complaints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Summary,
    Effective,
    /// Scores; one above this is a failure.
    Exposure(Score),
}

/// `usherd check`: complaints and warnings on stderr, on stdout what is asked for.
#[must_use]
pub fn check(file: Option<&Path>, show: Show) -> Exit {
    match table::load(table::source_or_default(file), &Host::probe()) {
        Ok(loaded) => {
            loaded
                .warnings
                .rendered_warnings()
                .for_each(|warning| eprint!("{warning}"));
            match show {
                Show::Summary => {
                    what_this_host_lacks(&loaded.table)
                        .iter()
                        .for_each(|line| eprintln!("warning: {line}"));
                    let services = loaded.table.services.len();
                    let summary = summary(file, services, &loaded.warnings);
                    say(&(summary + &unmet(&loaded.table)))
                }
                Show::Effective => say(&loaded.effective()),
                Show::Exposure(limit) => check_exposure(&loaded.table, limit),
            }
        }
        Err(complaints) => {
            eprintln!("{complaints}{}", complaints.count("complaint"));
            Exit::Config
        }
    }
}

/// What services would have to do without here, and whether they would run at
/// all; once for each thing. What any host lacks is no fault of the table.
fn what_this_host_lacks(table: &Table) -> Vec<String> {
    let probe = Probe::take();
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for service in table.services.iter().filter(|service| service.enabled) {
        let Serve::Exec(exec) = &service.serve else {
            continue;
        };
        let lacks = probe.lacks(&exec.isolation);
        for lack in lacks.iter().filter(|lack| lack.level == Level::Require) {
            let (reason, remedy) = (&lack.missing.reason, &lack.missing.remedy);
            let mechanism = lack.mechanism.name();
            let what = format!("isolation requires `{mechanism}`: {reason}; {remedy}");
            match told.iter_mut().find(|(known, _)| *known == what) {
                Some((_, services)) => services.push(&service.name),
                None => told.push((what, vec![&service.name])),
            }
        }
    }
    let shown = told.into_iter().map(|(what, services)| {
        let more = match services.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        format!(
            "service \"{}\"{more} cannot be started here: its {what}",
            services[0]
        )
    });
    shown.collect()
}

fn check_exposure(table: &Table, limit: Score) -> Exit {
    let rated = exposure::rate(table);
    match (
        say(&exposure::page(&rated, limit)),
        exposure::verdict(&rated, limit),
    ) {
        (Exit::Ok, Some(verdict)) => {
            eprintln!("{verdict}");
            Exit::Refused
        }
        (said, _) => said,
    }
}

/// With the name of the table: which one it is was perhaps not said.
fn summary(file: Option<&Path>, services: usize, warnings: &Complaints) -> String {
    let name = file.map_or("built-in table".into(), Path::to_string_lossy);
    let s = if services == 1 { "" } else { "s" };
    let warned = match warnings.is_empty() {
        true => String::new(),
        false => format!(", {}", warnings.count("warning")),
    };
    format!("{name}: {services} service{s}, no complaints{warned}\n")
}

/// Services that `only_if` keeps from serving here, a line for each.
fn unmet(table: &Table) -> String {
    let unmet = table.services.iter().filter_map(|service| {
        let reason = service.unmet.as_ref()?;
        Some(format!(
            "service \"{}\" is not served here: {reason}\n",
            service.name
        ))
    });
    unmet.collect()
}

/// To stdout. Whoever stopped reading (`| head`) has seen enough; a full disk
/// must not pass for success.
fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("usherd: unable to write to stdout: {err}");
            Exit::System
        }
        _ => Exit::Ok,
    }
}
