//! Exit codes and the one error that ends the daemon.
//!
//! The codes are those of sysexits(3), so that a supervisor can tell a bad
//! table from a bad host. The README shows the same table.

use std::fmt;
use std::process::ExitCode;

/// How a program of usherd ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All done, or stopped on request.
    Ok,
    /// Refused: by the daemon, by the operator who was asked, or by a check that
    /// the operator asked for (`check --exposure`, `doctor`).
    Refused,
    /// The command line makes no sense (`EX_USAGE`).
    Usage,
    /// A file that was named cannot be read (`EX_NOINPUT`).
    NoInput,
    /// The daemon is not there, or does not answer as it should (`EX_UNAVAILABLE`).
    Unavailable,
    /// The system refused something that cannot be done without (`EX_OSERR`).
    System,
    /// The caller may not do that (`EX_NOPERM`).
    NotPermitted,
    /// The table is wrong (`EX_CONFIG`).
    Config,
}

impl Exit {
    /// The number the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Refused => 1,
            Exit::Usage => 64,
            Exit::NoInput => 66,
            Exit::Unavailable => 69,
            Exit::System => 71,
            Exit::NotPermitted => 77,
            Exit::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The daemon cannot go on. The text has been logged where it arose or is
/// carried here for the caller to print: "unable to VERB OBJECT: reason".
#[derive(Debug)]
pub struct Fatal(pub String);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}
