//! `audit`: what was asked of usherd, by whom, and what came of it. Reads the files
//! themselves, so it needs no daemon, and whoever may read them.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::arguments::{AuditCommand, AuditQuery};
use super::console::Console;
use super::failure::Failure;
use super::text::{escape, millis};
use crate::admin::audit::verify::{Verdict, walk};
use crate::admin::audit::{Entry, FOLDER, What};
use crate::admin::state_dir;
use crate::control::types::{Describe, OfService};
use crate::error::Exit;

pub fn audit(
    console: &Console,
    dir: Option<PathBuf>,
    command: AuditCommand,
) -> Result<(), Failure> {
    let dir = match dir {
        Some(dir) => dir,
        None => usual_dir(console)?,
    };
    match command {
        AuditCommand::Query(asked) => query(console, &dir, &asked),
        AuditCommand::Verify => verify(console, &dir),
        AuditCommand::Export => export(console, &dir),
    }
}

/// Of the daemon that runs, else where one would have it.
fn usual_dir(console: &Console) -> Result<PathBuf, Failure> {
    let described = console
        .admin()
        .and_then(|mut admin| admin.call::<Describe>("Describe", &OfService::default()));
    if let Err(failure) = &described
        && failure.exit == Exit::NotPermitted
    {
        // The log of one's own usherd, if there is one, is not the one that is asked about.
        return Err(Failure::new(
            Exit::NotPermitted,
            "not permitted: the audit log of the usherd that runs is for root, or whoever it runs \
             as; who may ask for the operation audit.query reads it by `usherctl run audit.query`, \
             and --log DIR reads another one",
        ));
    }
    let told = described.ok().and_then(|described| {
        let mut keys = described.keys.into_iter();
        let value = keys.find(|key| key.key == "state_dir")?.value;
        let parsed: toml::Table = toml::from_str(&format!("dir = {value}")).ok()?;
        Some(PathBuf::from(parsed.get("dir")?.as_str()?))
    });
    let dir = told.or_else(state_dir).map(|dir| dir.join(FOLDER));
    dir.ok_or_else(|| Failure::usage("there is no home directory: say --log DIR"))
}

fn read(dir: &Path, each: impl FnMut(&Entry) -> bool) -> Result<Verdict, Failure> {
    walk(dir, each).map_err(|err| {
        let at = dir.display();
        let at = escape(&at.to_string()).into_owned();
        match err.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::Refused,
                format!("there is no audit log in {at}: nobody has asked anything yet, or it is elsewhere (--log DIR)"),
            ),
            io::ErrorKind::PermissionDenied => Failure::new(
                Exit::NotPermitted,
                format!("not permitted: the audit log in {at} is for root, or whoever usherd runs as"),
            ),
            _ => Failure::new(Exit::System, format!("unable to read the audit log in {at}: {err}")),
        }
    })
}

/// A request and what came of it.
#[derive(Debug, Serialize)]
struct Request {
    n: u64,
    at: String,
    uid: u32,
    pid: i32,
    /// Whose server asked, if one did.
    service: Option<String>,
    instance: Option<u64>,
    operation: Option<String>,
    parameters: Value,
    decision: &'static str,
    rule: Option<String>,
    /// Null: it is not over, or usherd ended before it was.
    result: Option<String>,
    why: Option<Value>,
    ms: Option<u64>,
}

impl Request {
    fn of(entry: &Entry) -> Option<Self> {
        let (n, at) = (entry.n, entry.at.clone());
        match entry.what.clone() {
            What::Asked {
                uid,
                pid,
                service,
                instance,
                operation,
                parameters,
                rule,
            } => Some(Self {
                n,
                at,
                uid,
                pid,
                service,
                instance,
                operation: Some(operation),
                parameters,
                decision: "allowed",
                rule: Some(rule),
                result: None,
                why: None,
                ms: None,
            }),
            What::Denied {
                uid,
                pid,
                service,
                operation,
                why,
                unwritten,
            } => Some(Self {
                n,
                at,
                uid,
                pid,
                service,
                instance: None,
                operation,
                parameters: json!({ "unwritten": unwritten }),
                decision: "denied",
                rule: None,
                result: None,
                why,
                ms: None,
            }),
            What::Opened { .. } | What::Done { .. } | What::Dropped { .. } => None,
        }
    }

    fn is_wanted(&self, asked: &AuditQuery, since: Option<&str>) -> bool {
        let operation = asked.operation.as_deref();
        asked.uid.is_none_or(|uid| uid == self.uid)
            && operation.is_none_or(|name| self.operation.as_deref() == Some(name))
            && (asked.service.as_deref()).is_none_or(|name| self.service.as_deref() == Some(name))
            && since.is_none_or(|since| self.at.as_str() >= since)
            && (!asked.denied || self.decision == "denied")
    }

    fn line(&self) -> String {
        let mut out = format!("{} {}", self.at, self.n);
        if let Some(operation) = &self.operation {
            let _ = write!(out, " {}", escape(operation));
        }
        if self.decision == "denied" {
            out.push_str(" denied");
        }
        if let Some(service) = &self.service {
            let _ = write!(out, " service={}", escape(service));
        }
        if let Some(instance) = self.instance {
            let _ = write!(out, " instance={instance}");
        }
        let _ = write!(out, " uid={} pid={}", self.uid, self.pid);
        for (name, value) in self.parameters.as_object().into_iter().flatten() {
            let _ = match (name.as_str(), value) {
                (_, Value::Null) => continue,
                ("unwritten", before) if self.decision == "denied" => match before.as_u64() {
                    None | Some(0) => continue,
                    Some(before) => write!(out, ", and {before} before"),
                },
                _ => write!(out, " {}={}", escape(name), escape(&plain(value))),
            };
        }
        if let Some(rule) = &self.rule {
            let _ = write!(out, " by={}", escape(rule));
        }
        match (&self.result, self.ms) {
            (Some(result), Some(ms)) => {
                let _ = write!(out, " -> {} after {}", escape(result), millis(ms));
            }
            _ if self.decision == "allowed" => out.push_str(" -> no result"),
            _ => {}
        }
        if let Some(why) = &self.why {
            let _ = write!(out, ": {}", escape(&reason(why)));
        }
        out.push('\n');
        out
    }
}

/// A value as a reader wants it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{key} {}", plain(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// What an error says in words, else all it has; the operation stands in the line already.
fn reason(why: &Value) -> String {
    let text = |key: &str| why.get(key).and_then(Value::as_str);
    match (text("parameter"), text("reason")) {
        (None | Some(""), Some(reason)) => reason.to_owned(),
        (Some(parameter), Some(reason)) => format!("{parameter}: {reason}"),
        (_, None) => plain(why),
    }
}

/// More than so many are not held at once.
const MOST_HELD: usize = 1_000_000;

fn query(console: &Console, dir: &Path, asked: &AuditQuery) -> Result<(), Failure> {
    let since = asked
        .since
        .and_then(|span| SystemTime::now().checked_sub(span));
    let since = since.map(|at| humantime::format_rfc3339_millis(at).to_string());
    let most = asked.last.unwrap_or(MOST_HELD).min(MOST_HELD);
    let mut held: std::collections::VecDeque<Request> = std::collections::VecDeque::new();
    let verdict = read(dir, |entry| {
        if let What::Done {
            of,
            result,
            why,
            ms,
        } = &entry.what
        {
            if let Ok(at) = held.binary_search_by_key(of, |request| request.n)
                && let Some(request) = held.get_mut(at)
            {
                request.result = Some(result.clone());
                request.why.clone_from(why);
                request.ms = Some(*ms);
            }
        } else if let Some(request) = Request::of(entry)
            && request.is_wanted(asked, since.as_deref())
        {
            held.push_back(request);
            if held.len() > most {
                held.pop_front();
            }
        }
        true
    })?;
    for request in &held {
        match console.json {
            true => console.say_json_line(request)?,
            false => console.say(&request.line())?,
        }
    }
    if !verdict.breaks.is_empty() {
        return Err(Failure::new(
            Exit::Refused,
            "the audit log is not as it was written: `usherctl audit verify` says where",
        ));
    }
    Ok(())
}

fn verify(console: &Console, dir: &Path) -> Result<(), Failure> {
    let verdict = read(dir, |_| true)?;
    let breaks: Vec<Value> = verdict
        .breaks
        .iter()
        .map(|b| json!({ "file": b.file, "line": b.line, "what": b.what }))
        .collect();
    let document = json!({
        "entries": verdict.entries,
        "first": verdict.first,
        "last": verdict.last,
        "whole": breaks.is_empty(),
        "breaks": breaks,
    });
    console.answer(&document, |_| shown(&verdict))?;
    match verdict.breaks.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Refused,
            "the audit log is not as it was written",
        )),
    }
}

fn shown(verdict: &Verdict) -> String {
    let mut out = String::new();
    for found in &verdict.breaks {
        let file = found.file.display().to_string();
        let _ = match found.line {
            0 => writeln!(out, "{}: {}", escape(&file), escape(&found.what)),
            line => writeln!(out, "{}:{line}: {}", escape(&file), escape(&found.what)),
        };
    }
    let _ = match (verdict.first, verdict.last) {
        (Some(first), Some(last)) if verdict.breaks.is_empty() => {
            writeln!(
                out,
                "{} entries, {first} to {last}, all as written",
                verdict.entries
            )
        }
        _ => writeln!(out, "{} entries that can be read", verdict.entries),
    };
    out
}

/// Every line as it is in the files, so that the chain can be followed elsewhere.
fn export(console: &Console, dir: &Path) -> Result<(), Failure> {
    let mut failed = None;
    let verdict = read(dir, |entry| {
        let (line, _) = entry.seal();
        failed = console.say(&(line + "\n")).err();
        failed.is_none()
    })?;
    match (failed, verdict.breaks.is_empty()) {
        (Some(failure), _) => Err(failure),
        (None, true) => Ok(()),
        (None, false) => Err(Failure::new(
            Exit::Refused,
            "the audit log is not as it was written: `usherctl audit verify` says where",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_words() {
        let denied = |unwritten: u64, why: Value| {
            let what = What::Denied {
                uid: 8,
                pid: 9,
                service: Some("mail".to_owned()),
                operation: Some("user.create".to_owned()),
                why: Some(why),
                unwritten,
            };
            let (n, at) = (3, "T".to_owned());
            let prev = crate::admin::audit::entry::Hash::default();
            Request::of(&Entry { n, at, prev, what }).unwrap().line()
        };
        let why = json!({ "operation": "user.create", "reason": "not on its list" });
        assert_eq!(
            denied(0, why.clone()),
            "T 3 user.create denied service=mail uid=8 pid=9: not on its list\n"
        );
        assert_eq!(
            denied(2, why),
            "T 3 user.create denied service=mail uid=8 pid=9, and 2 before: not on its list\n"
        );
        for (why, said) in [
            (json!({ "parameter": "to", "reason": "no" }), "to: no"),
            (
                json!({ "service": "a", "all": [1, "b\u{1b}"] }),
                "all 1, b\\x1b, service a",
            ),
        ] {
            let line = denied(0, why);
            assert!(line.ends_with(&format!("pid=9: {said}\n")), "{line}");
        }
    }
}
