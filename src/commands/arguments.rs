//! The command line of usherd. Help, completions and the manual page are all
//! made from it.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::Show;
use super::explain::Question;
use super::import::Import;
use crate::sandbox::exposure::Score;

/// Where a packaged usherd has its table.
const SYSTEM_TABLE: &str = "/etc/usherd/usherd.toml";

/// Everything below the options in `--help`, and the end of the manual page.
pub const AFTER_HELP: &str = "\
Environment:
  USHERD_RUNTIME_DIR  the same as --runtime-dir, which comes first
  LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES
                      sockets handed over by a supervisor, for listen = \"fd:NAME\"
  NOTIFY_SOCKET       where readiness is reported (sd_notify)
  FDSTORE             if set: listeners go to the store there, and the next usherd has them at once
  WATCHDOG_USEC, WATCHDOG_PID
                      how often to report there that both processes are well

Signals:
  HUP        read the table again and open the log file again; a bad table changes nothing
             (when a terminal closes: as TERM)
  TERM, INT  take no new clients, let running servers finish within their grace, then end;
             a second one ends everything now
  USR1       end at once and let running servers go on: the next usherd finds them again, and
             in the descriptor store, where there is one, all listeners and who waits there

Exit codes:
  0   ended on request, or nothing to complain about
  1   `check --exposure`: a service is above the score; `doctor`: this host cannot do what
      isolation = \"standard\" requires; `import`: a restriction would be lost, or the output is there
  64  the command line makes no sense
  71  the system refused something usherd cannot do without
  78  the table is wrong; `import`: an old file is";

/// A super-server: listens for every service in one table, starts its server
/// for each request, and reaps it.
#[derive(Debug, Parser)]
#[command(name = "usherd", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serve an ordinary user's own table: $XDG_CONFIG_HOME/usherd/usherd.toml
    #[arg(long, conflicts_with = "config")]
    pub user: bool,
    /// Where usherd.pid and the control sockets go, whatever the table says [default: /run/usherd,
    /// or usherd in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR", env = "USHERD_RUNTIME_DIR", hide_env = true)]
    pub runtime_dir: Option<PathBuf>,
    /// Write a newline to this descriptor once everything is served, and close it, as s6 wants it
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(3..))]
    pub ready_fd: Option<i32>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the table, show every complaint, touch nothing
    Check {
        /// The table to check [default: as for serving]
        file: Option<PathBuf>,
        /// Print the table as it will be used: defaults filled in, names resolved
        #[arg(long)]
        effective: bool,
        /// Print how exposed each service leaves the host, from 0.0 to 10.0; fail if one is above SCORE
        #[arg(long, value_name = "SCORE", conflicts_with = "effective", value_parser = Score::parse)]
        exposure: Option<Score>,
    },
    /// Tell which service a request would be for, rule by rule, and how long clients may wait
    Explain(Box<Question>),
    /// Write a table from the files of another super-server, and report what does not mean the same
    Import(Box<Import>),
    /// Try what this kernel and host have for sandboxes, and say what to do about the rest
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What `check` was asked to show.
#[must_use]
pub fn what_to_show(effective: bool, exposure: Option<Score>) -> Show {
    match exposure {
        Some(limit) => Show::Exposure(limit),
        None if effective => Show::Effective,
        None => Show::Summary,
    }
}

/// Root without `--config` means the host's table, a user with `--user` his
/// own; `None`, the built-in one, where there is no such file.
#[must_use]
pub fn default_table(user: bool) -> Option<PathBuf> {
    let path = if user {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        config.or_else(home)?.join("usherd/usherd.toml")
    } else if nix::unistd::Uid::effective().is_root() {
        PathBuf::from(SYSTEM_TABLE)
    } else {
        return None;
    };
    path.exists().then_some(path)
}
