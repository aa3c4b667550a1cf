//! `explain` and `check`: what usherd's own commands of these names say.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde_json::json;

use super::console::Console;
use super::failure::Failure;
use crate::commands::arguments::default_table;
use crate::commands::explain::{Question, Unanswered, ask};
use crate::commands::{self, Show, exposure};
use crate::error::Exit;
use crate::table::complaint::Complaints;
use crate::table::{self, Host, Loaded};

pub fn explain(
    console: &Console,
    config: Option<PathBuf>,
    question: &Question,
) -> Result<(), Failure> {
    let file = config.or_else(|| default_table(false));
    match ask(file.as_deref(), question) {
        Ok(text) if console.json => console.say_json(&json!({
            "explanation": text.lines().collect::<Vec<_>>(),
        })),
        Ok(text) => console.say(&text),
        Err(Unanswered::Table(complaints)) => Err(wrong(&complaints)),
        Err(Unanswered::Question(why)) => Err(Failure::usage(why)),
    }
}

pub fn check(console: &Console, config: Option<PathBuf>, show: Show) -> Result<(), Failure> {
    let file = config.or_else(|| default_table(false));
    if !console.json {
        return match commands::check(file.as_deref(), show) {
            Exit::Ok => Ok(()),
            // It has said so itself.
            exit => Err(Failure::new(exit, "")),
        };
    }
    let loaded = read(file.as_deref())?;
    let (table, effective) = (&loaded.table, show == Show::Effective);
    let unmet = table.services.iter().filter_map(|service| {
        let reason = service.unmet.clone()?;
        Some((service.name.clone(), json!(reason)))
    });
    let unmet: serde_json::Map<_, _> = unmet.collect();
    let mut document = json!({
        "services": table.services.len(),
        "unmet": unmet,
        "warnings": loaded.warnings.rendered().collect::<Vec<_>>(),
        "effective": effective.then(|| loaded.effective()),
    });
    let Show::Exposure(limit) = show else {
        return console.say_json(&document);
    };
    let rated = exposure::rate(table);
    document["exposure"] = json!(rated);
    console.say_json(&document)?;
    match exposure::verdict(&rated, limit) {
        None => Ok(()),
        Some(verdict) => Err(Failure {
            told: true,
            ..Failure::new(Exit::Refused, verdict)
        }),
    }
}

/// A table and its warnings.
pub fn read(file: Option<&Path>) -> Result<Loaded, Failure> {
    let loaded = table::load(table::source_or_default(file), &Host::probe());
    loaded.map_err(|complaints| wrong(&complaints))
}

fn wrong(complaints: &Complaints) -> Failure {
    let text = format!("{complaints}{}", complaints.count("complaint"));
    Failure::new(Exit::Config, text)
}
