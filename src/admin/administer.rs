//! An administrative server: `usherd --administer`, a process for one request.
//!
//! It is in its sandbox from its first instruction on ([`crate::sandbox::single`]), and
//! descriptor 0 is a Varlink connection to the helper. There it asks what is to be
//! done, says how far it is, calls what the catalogue lets it call, and tells
//! the result. It reads what the caller has written; the helper believes nothing of it.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::operations::{self, Failed, Kind, Outcome, Request, Usherd, to};
use crate::control::client::{Client, ClientError};
use crate::control::{ADMIN, OPERATION};
use crate::error::Exit;
use crate::sys::process;

/// The reply to `Begin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    pub serve: Serve,
    pub request: Request,
    /// Octets that the result may have as JSON.
    pub output_limit: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serve {
    /// One of [`operations::ALL`].
    Builtin(String),
    /// A program of the host, with all its arguments.
    Program(Vec<String>),
}

/// Parameters of `Finish`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    pub result: Value,
}

/// Parameters of `Progress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    pub text: String,
}

/// `usherd --administer`. Nobody but the helper has a use for it.
#[must_use]
pub fn run() -> ExitCode {
    let Some((link, watched)) = take_link() else {
        eprintln!("usherd: --administer is for usherd itself");
        return Exit::Usage.into();
    };
    // Others of the same user neither look at it nor speak for it.
    if prctl::set_dumpable(false).is_err() {
        return Exit::System.into();
    }
    leave_with_helper(watched);
    let mut helper = Helper(Client::over(link.into()));
    match helper.serve() {
        Ok(()) => Exit::Ok.into(),
        Err(err) => {
            eprintln!("usherd: an administrative server is not understood: {err}");
            Exit::System.into()
        }
    }
}

/// `usherd --operation`: the same process, before its sandbox stands.
#[must_use]
pub fn prepare() -> ExitCode {
    crate::sandbox::single::run(|link, why| {
        let mut helper = Client::over(link.into());
        let failed = Failed::new(Kind::Unavailable, why);
        let _: Result<Value, _> = helper.call(&method("Fail"), &failed);
    })
}

/// Off descriptors 0 and 1: what some library or program prints is no message.
fn take_link() -> Option<(OwnedFd, OwnedFd)> {
    let link = io::stdin().as_fd().try_clone_to_owned().ok()?;
    getsockopt(&link, sockopt::SockType).ok()?;
    let watched = link.try_clone().ok()?;
    let stderr = io::stderr();
    dup2_stdout(stderr.as_fd()).ok()?;
    dup2_stdin(stderr.as_fd()).ok()?;
    Some((link, watched))
}

/// Nobody is to go on with a request that nobody waits for.
fn leave_with_helper(link: OwnedFd) {
    let watch = move || {
        let mut one = [PollFd::new(link.as_fd(), PollFlags::empty())];
        while poll(&mut one, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        process::exit_at_once(1);
    };
    // Without it the helper still ends us, unless it has ended itself.
    let _ = thread::Builder::new().name("watch".into()).spawn(watch);
}

fn method(name: &str) -> String {
    format!("{}.{name}", OPERATION.name)
}

/// The other end of the link.
struct Helper(Client);

impl Helper {
    fn serve(&mut self) -> Result<(), ClientError> {
        let begin: Begin = self.0.call(&method("Begin"), &json!({}))?;
        let outcome = match &begin.serve {
            Serve::Builtin(name) => operations::run(name, &begin.request, self),
            Serve::Program(argv) => run_program(argv, begin.output_limit),
        };
        let outcome = outcome.and_then(|result| bounded(result, begin.output_limit));
        let _: Value = match outcome {
            Ok(result) => self.0.call(&method("Finish"), &Finish { result })?,
            Err(failed) => self.0.call(&method("Fail"), &failed)?,
        };
        Ok(())
    }
}

impl Usherd for Helper {
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failed> {
        let called = self
            .0
            .call(&format!("{}.{method}", ADMIN.name), &parameters);
        called.map_err(|err| match err {
            ClientError::Refused(name, parameters) => refused(&name, &parameters),
            err => Failed::new(Kind::Failed, err.to_string()),
        })
    }

    fn progress(&mut self, text: &str) {
        let text = text.to_owned();
        let _: Result<Value, _> = self.0.call(&method("Progress"), &Progress { text });
    }
}

/// An error of the helper, for the one who asked.
fn refused(name: &str, parameters: &Map<String, Value>) -> Failed {
    let name = name.rsplit('.').next().unwrap_or(name);
    let kind = match name {
        "NoSuchService" | "NoSuchInstance" | "NoSuchBan" | "NoSuchOperation" | "NotEnabled"
        | "NotHere" => Kind::NotFound,
        "TableWrong" => Kind::TableWrong,
        "PermissionDenied" | "BeyondTable" => Kind::Forbidden,
        "InvalidParameter" => Kind::Invalid,
        "Draining" | "Busy" => Kind::Busy,
        "Unavailable" => Kind::Unavailable,
        _ => Kind::Failed,
    };
    Failed::new(kind, reason_of(name, parameters))
}

/// In words: whoever asked may see nothing of the helper's interface.
fn reason_of(name: &str, parameters: &Map<String, Value>) -> String {
    let text = |key: &str| match parameters.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    let service = text("service");
    let list = |key: &str| {
        let all = parameters.get(key).and_then(Value::as_array);
        let texts = all.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::trim_end).collect::<Vec<_>>()
    };
    match name {
        "NoSuchService" => {
            format!("no service \"{service}\"; `usherctl list` shows those there are")
        }
        "NotEnabled" => format!("{service} is disabled; service.enable has it served"),
        "NotHere" => format!("{service} is not served here: {}", text("reason")),
        "NotStartable" => format!("{service} cannot be started by itself: {}", text("reason")),
        "StartFailed" => format!("unable to start {service}: {}", text("reason")),
        "NoSuchInstance" => {
            let number = text("instance");
            format!("no instance {number}: it has ended, or there never was one")
        }
        "NoSuchBan" => format!("{} is not banned", text("prefix")),
        "NoSuchOperation" => {
            let operation = text("operation");
            format!("no operation \"{operation}\"; `usherctl ops` shows those there are")
        }
        "TableWrong" => {
            let complaints = list("complaints");
            let number = match complaints.len() {
                1 => "1 complaint".to_owned(),
                many => format!("{many} complaints"),
            };
            format!(
                "{}\n{number}; the table in force stays",
                complaints.join("\n")
            )
        }
        "CannotBind" => {
            let troubles = list("troubles").join("\n  ");
            format!("not every address can be had, so nothing was changed\n  {troubles}")
        }
        "CannotEdit" => format!("unable to edit {}: {}", text("file"), text("reason")),
        "NoFile" => "the table in force came from no file, so there is none to write to".to_owned(),
        "TableChanged" => "the files of the table were changed meanwhile; ask again".to_owned(),
        "Draining" => "usherd is ending and changes nothing any more".to_owned(),
        "PermissionDenied" => {
            "its entry in the catalogue does not let it ask usherd for that".to_owned()
        }
        "InvalidParameter" => format!("{} does not take that value", text("parameter")),
        _ => match (parameters.get("reason"), parameters.get("remedy")) {
            (Some(Value::String(reason)), Some(Value::String(remedy))) => {
                format!("{reason}; {remedy}")
            }
            (Some(Value::String(reason)), _) => reason.clone(),
            _ => format!("usherd says {name}"),
        },
    }
}

fn bounded(result: Value, limit: u64) -> Outcome {
    let length = result.to_string().len() as u64;
    if !result.is_object() {
        return Err(Failed::new(Kind::Failed, "the result is no object"));
    }
    match length > limit {
        true => Err(too_long(limit)),
        false => Ok(result),
    }
}

fn too_long(limit: u64) -> Failed {
    let reason = format!("its result is longer than output_limit ({limit} octets)");
    Failed::new(Kind::Failed, reason)
}

/// Runs a program to its end. What it prints is the result; a status that is not 0 is a failure.
fn run_program(argv: &[String], limit: u64) -> Outcome {
    let (program, args) = argv
        .split_first()
        .ok_or_else(|| Failed::new(Kind::Failed, "no program is named"))?;
    let started = Command::new(program)
        .args(args)
        .env_clear()
        .envs(std::env::vars_os())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = to(format_args!("start {program}"), started)?;
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || stderr.map_or(Ok(Vec::new()), |from| read(from, limit)));
    let stdout = child.stdout.take();
    let output = stdout.map_or(Ok(Vec::new()), |from| read(from, limit));
    if output.as_ref().is_ok_and(|text| text.len() as u64 > limit) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(too_long(limit));
    }
    let status = to(format_args!("wait for {program}"), child.wait())?;
    let text = |read: io::Result<Vec<u8>>| {
        let read = to(format_args!("read what {program} prints"), read)?;
        Ok::<_, Failed>(String::from_utf8_lossy(&read).into_owned())
    };
    let errors = text(errors.join().unwrap_or_else(|_| Ok(Vec::new())))?;
    let output = text(output)?;
    if status.success() {
        return Ok(json!({ "output": output, "errors": errors }));
    }
    let said = [errors.trim(), output.trim()];
    let said = said.into_iter().find(|text| !text.is_empty());
    let said = said.map_or(String::new(), |text| format!(": {text}"));
    Err(Failed::new(
        Kind::Failed,
        format!("{program} failed ({status}){said}"),
    ))
}

/// All of it, but for one octet more than `limit` no more than that.
fn read(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.take(limit + 1).read_to_end(&mut all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_helper_is_told_in_words() {
        let said = Map::from_iter([("reason".to_owned(), json!("because"))]);
        let errors = ADMIN.text.lines();
        let errors = errors.filter_map(|line| line.strip_prefix("error ")?.split(' ').next());
        let mut names = 0;
        for name in errors {
            let failed = refused(&format!("{}.{name}", ADMIN.name), &said);
            let reason = &failed.reason;
            assert!(!reason.contains(name) && !reason.contains('{'), "{reason}");
            names += 1;
        }
        assert!(names > 15, "{names}");
    }
}
