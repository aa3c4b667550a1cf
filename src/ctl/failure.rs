//! Why a command came to nothing: a sentence for the operator that says what
//! to do about it, and the exit code. Every typed error of the interfaces has one.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::text::{count, escape, escape_lines};
use crate::admin::catalogue::request::MISSING;
use crate::control::client::ClientError;
use crate::error::Exit;

/// What the operator is told, and with which code the program ends.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Printed as it is: everything of the daemon in it is escaped.
    pub text: String,
    /// The daemon's own error, for `--json`.
    pub error: Option<(String, Map<String, Value>)>,
    /// The document of `--json` says it already; there is but one.
    pub told: bool,
}

impl Failure {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
            error: None,
            told: false,
        }
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// stdout cannot be written. Whoever stopped reading has seen enough.
    #[must_use]
    pub fn of_output(err: &io::Error) -> Self {
        if err.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::new(Exit::System, format!("unable to write to stdout: {err}"))
    }

    /// Nobody answers at any of `paths`.
    #[must_use]
    pub fn not_there(paths: &[PathBuf], err: &io::Error) -> Self {
        let tried: Vec<_> = paths.iter().map(|path| shown(path)).collect();
        let text = format!(
            "usherd is not running, or elsewhere: unable to connect to {}: {err}\n\
             its runtime directory is given by --runtime-dir DIR or USHERD_RUNTIME_DIR",
            tried.join(" or ")
        );
        Self::new(Exit::Unavailable, text)
    }

    /// The catalogue does not have it.
    #[must_use]
    pub fn no_such_operation(name: &str) -> Self {
        let mut parameters = Map::new();
        parameters.insert("operation".to_owned(), json!(name));
        let error = format!("{}.NoSuchOperation", crate::control::ADMIN.name);
        refused(Path::new(""), error, parameters)
    }

    /// Connecting to `path` came to nothing.
    #[must_use]
    pub fn of_connect(path: &Path, err: &io::Error) -> Self {
        use io::ErrorKind::{
            ConnectionRefused, NotADirectory, NotFound, PermissionDenied, WouldBlock,
        };
        match err.kind() {
            PermissionDenied => not_permitted(path),
            NotFound | ConnectionRefused | NotADirectory => {
                Self::not_there(&[path.to_owned()], err)
            }
            WouldBlock => Self::new(
                Exit::Unavailable,
                format!("too many callers wait at {}; try again", shown(path)),
            ),
            _ => Self::new(
                Exit::System,
                format!("unable to connect to {}: {err}", shown(path)),
            ),
        }
    }

    /// A call to the daemon at `path` came to nothing.
    #[must_use]
    pub fn of_call(path: &Path, err: ClientError) -> Self {
        let at = shown(path);
        match err {
            ClientError::Connect(err) => Self::of_connect(path, &err),
            ClientError::Io(err) if err.kind() == io::ErrorKind::WouldBlock => {
                Self::new(Exit::Unavailable, format!("usherd does not answer at {at}"))
            }
            ClientError::Io(err) => Self::new(
                Exit::System,
                format!("unable to speak to usherd at {at}: {err}"),
            ),
            ClientError::Closed => Self::new(
                Exit::Unavailable,
                format!(
                    "usherd closed the connection at {at}: it ends, its front has died, or it has too many callers"
                ),
            ),
            ClientError::Malformed(what) => Self::new(
                Exit::Unavailable,
                format!(
                    "the answer from {at} makes no sense: {}; usherctl is of version {}",
                    escape(&what),
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            ClientError::Refused(name, parameters) => refused(path, name, parameters),
        }
    }

    /// The last part of the name of the daemon's error.
    #[must_use]
    pub fn error_name(&self) -> Option<&str> {
        let (name, _) = self.error.as_ref()?;
        name.rsplit('.').next()
    }

    /// For `--json`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (error, parameters) = match &self.error {
            Some((name, parameters)) => (json!(name), json!(parameters)),
            None => (Value::Null, json!({})),
        };
        json!({
            "error": error,
            "parameters": parameters,
            "message": self.text,
            "exit": self.exit.code(),
        })
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

fn not_permitted(path: &Path) -> Failure {
    let (group, others) = match path.file_name() {
        Some(name) if name == crate::control::ADMIN_SOCKET => (
            "admin_group",
            "; whom the catalogue names in `operators` of an operation gets in for `ops` and `run` \
             alone",
        ),
        _ => ("status_group", ""),
    };
    Failure::new(
        Exit::NotPermitted,
        format!(
            "not permitted: {} is for root, the user that usherd runs as, and the group that \
             `daemon.{group}` in the table names; servers that usherd runs, and logins through \
             them, do not count as members{others}",
            shown(path)
        ),
    )
}

/// The sentence for an error of the daemon.
fn refused(path: &Path, name: String, parameters: Map<String, Value>) -> Failure {
    let said = Said(&parameters);
    let short = name.rsplit('.').next().unwrap_or(&name);
    let (exit, text) = match short {
        "TableWrong" => (Exit::Config, table_wrong(&said)),
        "OperationFailed" if said.text("kind") == "table_wrong" => {
            (Exit::Config, said.lines("reason"))
        }
        // Typed wrongly, whoever notices it.
        "OperationFailed" if said.text("kind") == "invalid" => {
            (Exit::Usage, sentence(short, &name, &said))
        }
        "WrongParameter" | "NoSuchOperation" => (Exit::Usage, sentence(short, &name, &said)),
        "PermissionDenied" => (Exit::NotPermitted, not_permitted(path).text),
        "NotPermitted" => (Exit::NotPermitted, sentence(short, &name, &said)),
        _ => (Exit::Refused, sentence(short, &name, &said)),
    };
    Failure {
        exit,
        text,
        error: Some((name, parameters)),
        told: false,
    }
}

fn sentence(short: &str, name: &str, said: &Said<'_>) -> String {
    let service = said.text("service");
    let reason = said.text("reason");
    match short {
        "NoSuchService" => {
            format!("no service \"{service}\"; `usherctl list` shows those there are")
        }
        "NotEnabled" => {
            format!("{service} is disabled; `usherctl enable {service}` has it served")
        }
        "NoSuchInstance" => format!(
            "no instance {}: it has ended, or there never was one; `usherctl instances` shows \
             those that run",
            said.text("instance")
        ),
        "NoSuchBan" => format!(
            "{} is not banned; `usherctl bans` shows the prefixes that are",
            said.text("prefix")
        ),
        "TableChanged" => "the files were changed again after their differences were shown, so \
                           nothing was done; run `usherctl reload` again"
            .to_owned(),
        "CannotBind" => cannot_bind(said),
        "NoFile" => "the table in force came from no file, so there is none to write to; \
                     start usherd with --config FILE"
            .to_owned(),
        "CannotEdit" => format!(
            "unable to edit {}: {reason}; nothing was changed",
            said.text("file")
        ),
        "NotHere" => format!("{service} is enabled in the table, but not served here: {reason}"),
        "NotStartable" => format!("{service} cannot be started by itself: {reason}"),
        "StartFailed" => {
            format!("unable to start {service}: {reason}; `usherctl log {service}` may say more")
        }
        "UpgradeRefused" => format!(
            "not upgraded, and everything is as it was: {}",
            said.lines("reason")
        ),
        "NoSuchOperation" => format!(
            "no operation \"{}\"; `usherctl ops` shows those there are",
            said.text("operation")
        ),
        "WrongParameter" => wrong_parameter(said),
        "NotPermitted" => format!("{} is not for you: {reason}", said.text("operation")),
        "TooManyOperations" => {
            format!("{} has to wait: {reason}", said.text("operation"))
        }
        "OperationFailed" => format!(
            "{} came to nothing: {}",
            said.text("operation"),
            said.lines("reason")
        ),
        "Busy" => format!("not now: {reason}"),
        "Unavailable" => format!(
            "this host lacks what it takes: {reason}; {}",
            said.text("remedy")
        ),
        "BeyondTable" => format!("not permitted: {reason}"),
        "Draining" => "usherd is ending and changes nothing any more".to_owned(),
        "Failed" => format!("it could not be done and everything is as it was: {reason}"),
        "InvalidParameter" => format!(
            "usherd does not take the value given for {}",
            said.text("parameter")
        ),
        "MethodNotFound" | "MethodNotImplemented" | "InterfaceNotFound" => format!(
            "this usherd cannot do that: it is of another version than usherctl, {}",
            env!("CARGO_PKG_VERSION")
        ),
        _ => {
            let parameters = escape(&Value::Object(said.0.clone()).to_string()).into_owned();
            format!("refused: {}: {parameters}", escape(name))
        }
    }
}

fn wrong_parameter(said: &Said<'_>) -> String {
    let (operation, reason) = (said.text("operation"), said.text("reason"));
    match said.text("parameter").as_str() {
        "" => format!("{operation} does not take that: {reason}"),
        "dry_run" => format!("{operation} was not tried: {reason}"),
        parameter if reason == MISSING => format!(
            "{operation} needs {parameter}=..., which is missing; `usherctl ops {operation}` \
             shows its parameters"
        ),
        parameter => format!(
            "{operation} does not take that {parameter}: {reason}; `usherctl ops {operation}` \
             shows its parameters"
        ),
    }
}

/// The complaints as the daemon sends them, then their number.
fn table_wrong(said: &Said<'_>) -> String {
    let complaints = said.list("complaints");
    let mut out = String::new();
    for complaint in &complaints {
        out.push_str(complaint.trim_end_matches('\n'));
        out.push('\n');
    }
    let number = count(complaints.len() as u64, "complaint");
    let _ = write!(out, "{number}; the table in force stays");
    out
}

fn cannot_bind(said: &Said<'_>) -> String {
    let mut out = "nothing was changed: not every address can be had".to_owned();
    for trouble in said.list("troubles") {
        let _ = write!(out, "\n  {trouble}");
    }
    out
}

/// Parameters of an error, escaped.
struct Said<'a>(&'a Map<String, Value>);

impl Said<'_> {
    fn text(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(Value::String(text)) => escape(text).into_owned(),
            Some(other) => escape(&other.to_string()).into_owned(),
            None => "?".to_owned(),
        }
    }

    /// The same of a text that may have several lines.
    fn lines(&self, name: &str) -> String {
        let text = self.0.get(name).and_then(Value::as_str);
        text.map_or_else(|| "?".to_owned(), escape_lines)
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(escape_lines).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ADMIN, STATUS};

    fn of(name: &str, parameters: Value) -> Failure {
        let Value::Object(parameters) = parameters else {
            unreachable!("the tests say objects")
        };
        let path = Path::new("/run/usherd/admin.sock");
        Failure::of_call(path, ClientError::Refused(name.to_owned(), parameters))
    }

    #[test]
    fn every_error_of_the_interfaces_has_a_sentence() {
        let mut names = 0;
        for interface in [ADMIN, STATUS, crate::control::introspect::SERVICE] {
            let errors = interface
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("error "));
            for error in errors {
                let name = error.split(['(', ' ']).next().unwrap_or("");
                if name == "ExpectedMore" {
                    continue; // WatchEvents alone is called with `more`, and takes both
                }
                let full = format!("{}.{name}", interface.name);
                let failure = of(&full, json!({}));
                assert!(!failure.text.contains(&full), "{}", failure.text);
                assert_ne!(failure.exit, Exit::Ok);
                assert_eq!(failure.error_name(), Some(name));
                names += 1;
            }
        }
        assert!(names > 15, "{names}");
    }

    #[test]
    fn unknown_errors_are_told_as_they_are_and_escaped() {
        let failure = of("org.usherd.Admin.New\x1b", json!({"a": "\u{9b}"}));
        assert_eq!(
            failure.text,
            "refused: org.usherd.Admin.New\\x1b: {\"a\":\"\\u{9b}\"}"
        );
        assert_eq!(failure.exit, Exit::Refused);
    }

    #[test]
    fn complaints_stay_as_they_came() {
        let failure = of(
            "org.usherd.Admin.TableWrong",
            json!({"complaints": ["t.toml:1:2: bad\n1 | x\n  | ^\n", "two\x1b"]}),
        );
        assert_eq!(
            failure.text,
            "t.toml:1:2: bad\n1 | x\n  | ^\ntwo\\x1b\n2 complaints; the table in force stays"
        );
        assert_eq!(failure.exit, Exit::Config);
    }

    #[test]
    fn the_socket_that_was_tried_is_named() {
        let none = io::Error::from_raw_os_error(libc::ENOENT);
        let failure = Failure::of_connect(Path::new("/x/status.sock"), &none);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.text.contains("/x/status.sock"));
        assert!(failure.text.contains("--runtime-dir"));
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let failure = Failure::of_connect(Path::new("/x/status.sock"), &denied);
        assert_eq!(failure.exit, Exit::NotPermitted);
        assert!(failure.text.contains("daemon.status_group"));
    }
}
