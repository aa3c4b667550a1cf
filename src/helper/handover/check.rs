//! Asking the new program before it is too late to go back:
//! `usherd --handover-check FORMAT INHERITED ARGUMENTS...` ends with 0 if it
//! can read the state that will come, and the table that it would serve.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::executable::Executable;
use super::state::FORMAT;
use crate::commands::arguments::{Arguments, default_table};
use crate::error::Exit;
use crate::helper::core::Helper;
use crate::helper::load::Source;
use crate::helper::sockets::inherited;
use crate::sys::process::Reaped;
use crate::table::host::InheritedKind;

/// How the new program is asked.
pub const ARGUMENT: &str = "--handover-check";

/// A table of ten thousand services takes a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Octets of what it says that are passed on.
const MOST_SAID: u64 = 4096;

/// The new program, at work.
#[derive(Debug)]
pub struct Asked {
    pub pid: i32,
    pub until: Instant,
    said: OwnedFd,
}

impl Asked {
    fn ask(executable: &Executable, inherited: &[(String, bool)]) -> io::Result<Self> {
        let said = memfd_create(c"usherd-check", MFdFlags::MFD_CLOEXEC)?;
        let mut command = Command::new(executable.path());
        command.arg(ARGUMENT).arg(FORMAT.to_string());
        command.arg(serde_json::to_string(inherited)?);
        command.args(executable.arguments().iter().skip(1));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(said.try_clone()?).spawn()?;
        // It is reaped as all our children are.
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let until = Instant::now() + PATIENCE;
        Ok(Self { pid, until, said })
    }

    /// It takes too long, or nobody wants to know any more.
    pub fn kill(&self) {
        // Our own child, not reaped yet: the number is still its own.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    /// What its end means: why it must not take over.
    pub fn answer(&self, reaped: &Reaped) -> Result<(), String> {
        if reaped.signalled && reaped.status == libc::SIGKILL {
            let limit = PATIENCE.as_secs();
            return Err(format!("the new program has not answered within {limit} s"));
        }
        let usage = i32::from(Exit::Usage.code());
        let why = match (reaped.signalled, reaped.status) {
            (false, 0) => return Ok(()),
            (true, signal) => format!("the new program died of signal {signal}"),
            (false, status) if status == usage => {
                "the new program cannot take over from this one; restart usherd".to_owned()
            }
            (false, status) => format!("the new program will not take over (status {status})"),
        };
        let said = self.said().unwrap_or_default();
        let said = said.trim();
        match said.is_empty() {
            true => Err(why),
            false => Err(format!("{why}:\n{said}")),
        }
    }

    fn said(&self) -> io::Result<String> {
        let mut file = std::fs::File::from(self.said.try_clone()?);
        file.rewind()?;
        let mut said = Vec::new();
        file.take(MOST_SAID).read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Helper {
    /// Starts the new program to hear what it thinks.
    pub(super) fn ask_program(&self) -> Result<Asked, String> {
        self.executable.check()?;
        let inherited = self.registry.inherited().iter();
        let inherited: Vec<(String, bool)> = inherited
            .map(|one| (one.name.clone(), inherited::is_datagram(one) == Some(true)))
            .collect();
        Asked::ask(&self.executable, &inherited).map_err(|err| {
            let program = self.executable.path().display();
            format!("unable to execute {program}: {err}")
        })
    }
}

/// The new program's part.
#[must_use]
pub fn answer(mut args: impl Iterator<Item = OsString>) -> Exit {
    let mut text = || args.next()?.into_string().ok();
    let (Some(format), Some(inherited)) = (text(), text()) else {
        eprintln!("usherd: {ARGUMENT} is for usherd itself");
        return Exit::Usage;
    };
    let inherited = serde_json::from_str::<Vec<(String, bool)>>(&inherited);
    let (Ok(inherited), true) = (inherited, format == FORMAT.to_string()) else {
        eprintln!(
            "usherd {} takes over from usherds that hand over in format {FORMAT}, not {format}",
            env!("CARGO_PKG_VERSION")
        );
        return Exit::Usage;
    };
    let arguments = match Arguments::try_parse_from(std::iter::once("usherd".into()).chain(args)) {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return Exit::Usage;
        }
    };
    let kinds = inherited.into_iter().map(|(name, datagram)| {
        let kind = match datagram {
            true => InheritedKind::Datagram,
            false => InheritedKind::Listener,
        };
        (name, kind)
    });
    let config = arguments.config.or_else(|| default_table(arguments.user));
    match Source::new(config, kinds.collect()).load() {
        Ok(_) => Exit::Ok,
        Err(complaints) => {
            eprint!("{complaints}");
            Exit::Config
        }
    }
}
