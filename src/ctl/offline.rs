//! `explain` and `check`: what usherd's own commands of these names say.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde_json::json;

use super::console::Console;
use super::failure::Failure;
use crate::commands::arguments::default_table;
use crate::commands::explain::{Question, Unanswered, ask};
use crate::error::Exit;
use crate::table::complaint::Complaints;
use crate::table::{self, Host, effective};

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

pub fn check(console: &Console, config: Option<PathBuf>, effective: bool) -> Result<(), Failure> {
    let file = config.or_else(|| default_table(false));
    if !console.json {
        return match crate::commands::check(file.as_deref(), effective) {
            Exit::Ok => Ok(()),
            // It has said so itself.
            exit => Err(Failure::new(exit, "")),
        };
    }
    match table::load(table::source_or_default(file.as_deref()), &Host::probe()) {
        Ok(loaded) => console.say_json(&json!({
            "services": loaded.table.services.len(),
            "warnings": loaded.warnings.rendered().collect::<Vec<_>>(),
            "effective": effective.then(|| effective::effective(&loaded.table)),
        })),
        Err(complaints) => Err(wrong(&complaints)),
    }
}

fn wrong(complaints: &Complaints) -> Failure {
    let text = format!("{complaints}{}", complaints.count("complaint"));
    Failure::new(Exit::Config, text)
}
