//! `reload`: what would change, whether it may, and what has come of it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::grid::Paint;
use super::text::{count, escape, escape_lines};
use crate::control::types::{Change, Reload, ReloadHow, What};
use crate::error::Exit;

#[derive(Debug, Serialize)]
struct Outcome<'a> {
    changes: &'a [Change],
    warnings: &'a [String],
    /// Whether the table that was read is in force.
    reloaded: bool,
    /// Why it is not.
    message: Option<&'a str>,
}

pub fn reload(console: &Console, yes: bool) -> Result<(), Failure> {
    let mut link = console.admin()?;
    let check = ReloadHow {
        check_only: Some(true),
        token: None,
    };
    let checked: Reload = link.call("Reload", &check)?;
    if !console.json {
        console.say(&difference(console, &checked))?;
    }
    match consent(yes, checked.changes.is_empty()) {
        Consent::Given => {}
        Consent::NotNeeded => return outcome(console, &checked, Err("nothing to change")),
        Consent::Refused(mut failure) => {
            outcome(console, &checked, Err(&failure.text))?;
            failure.told = true;
            return Err(failure);
        }
    }
    // Only what was shown: files that were changed since are another matter.
    let go = ReloadHow {
        check_only: None,
        token: Some(checked.token),
    };
    let done: Reload = link.call("Reload", &go)?;
    if console.json {
        return outcome(console, &done, Ok(()));
    }
    console.say(&format!(
        "reloaded, {}\n",
        count(done.changes.len() as u64, "change")
    ))
}

/// For `--json`: the others have been told.
fn outcome(console: &Console, reply: &Reload, done: Result<(), &str>) -> Result<(), Failure> {
    if !console.json {
        return Ok(());
    }
    console.say_json(&Outcome {
        changes: &reply.changes,
        warnings: &reply.warnings,
        reloaded: done.is_ok(),
        message: done.err(),
    })
}

enum Consent {
    Given,
    /// There is nothing to do.
    NotNeeded,
    Refused(Failure),
}

fn consent(yes: bool, nothing_changes: bool) -> Consent {
    if yes {
        return Consent::Given;
    }
    if nothing_changes {
        return Consent::NotNeeded;
    }
    if !io::stdin().is_terminal() {
        return Consent::Refused(Failure::usage(
            "nothing was reloaded: there is no terminal to ask at; say --yes to reload",
        ));
    }
    match ask("reload? [y/N] ") {
        Ok(true) => Consent::Given,
        Ok(false) => Consent::Refused(Failure::new(Exit::Refused, "nothing was reloaded")),
        Err(err) => {
            let text = format!("unable to read the answer: {err}");
            Consent::Refused(Failure::new(Exit::System, text))
        }
    }
}

/// Only a plain yes is one.
fn ask(question: &str) -> io::Result<bool> {
    let mut err = io::stderr().lock();
    err.write_all(question.as_bytes())?;
    err.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        writeln!(err)?;
    }
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

fn difference(console: &Console, checked: &Reload) -> String {
    let mut out = String::new();
    for warning in &checked.warnings {
        let text = format!("warning: {}", escape_lines(warning.trim_end()));
        let _ = writeln!(out, "{}", console.paint(Paint::Doubtful, &text));
    }
    for change in &checked.changes {
        out.push_str(&line(console, change));
    }
    if checked.changes.is_empty() {
        out.push_str("nothing to change\n");
    }
    out
}

/// `+ git`, `- echo`, `~ web: instances, exec`.
fn line(console: &Console, change: &Change) -> String {
    let name = change.service.as_deref().unwrap_or("[daemon]");
    let (sign, paint) = match change.what {
        What::Added => ('+', Paint::Good),
        What::Removed => ('-', Paint::Bad),
        What::Changed => ('~', Paint::Doubtful),
    };
    let mut text = format!("{sign} {}", escape(name));
    if !change.keys.is_empty() {
        let _ = write!(text, ": {}", escape(&change.keys.join(", ")));
    }
    console.paint(paint, &text) + "\n"
}
