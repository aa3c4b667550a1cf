//! usherd: arguments in, exit code out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use usherd::error::Exit;
use usherd::helper::run::{Options, run};
use usherd::{commands, front};

/// Where a packaged usherd has its table.
const SYSTEM_TABLE: &str = "/etc/usherd/usherd.toml";

const AFTER_HELP: &str = "\
Environment:
  USHERD_RUNTIME_DIR  the same as --runtime-dir, which comes first
  LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES
                      sockets handed over by a supervisor, for listen = \"fd:NAME\"
  NOTIFY_SOCKET       where readiness is reported (sd_notify)

Signals:
  HUP        read the table again and open the log file again; a bad table changes nothing
             (when a terminal closes: as TERM)
  TERM, INT  take no new clients, let running servers finish within their grace, then end;
             a second one ends everything now

Exit codes:
  0   ended on request, or nothing to complain about
  64  the command line makes no sense
  71  the system refused something usherd cannot do without
  78  the table is wrong";

/// A super-server: listens for every service in one table, starts its server
/// for each request, and reaps it.
#[derive(Debug, Parser)]
#[command(name = "usherd", version, after_help = AFTER_HELP)]
struct Arguments {
    /// The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve an ordinary user's own table: $XDG_CONFIG_HOME/usherd/usherd.toml
    #[arg(long, conflicts_with = "config")]
    user: bool,
    /// Where usherd.pid goes, whatever the table says [default: /run/usherd, or usherd in
    /// $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR", env = "USHERD_RUNTIME_DIR")]
    runtime_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the table, show every complaint, touch nothing
    Check {
        /// The table to check [default: as for serving]
        file: Option<PathBuf>,
        /// Print the table as it will be used: defaults filled in, names resolved
        #[arg(long)]
        effective: bool,
    },
    /// Tell which service a request would be for, rule by rule, and how long clients may wait
    Explain(Box<commands::explain::Question>),
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "--front") {
        return run_front(args).into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return if err.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
            .into();
        }
    };
    if arguments.user && nix::unistd::Uid::effective().is_root() {
        eprintln!("usherd: --user is for ordinary users; root serves the host's table");
        return Exit::Usage.into();
    }
    let config = arguments.config.or_else(|| default_table(arguments.user));
    match arguments.command {
        Some(Command::Check { file, effective }) => {
            let file = file.or(config);
            commands::check(file.as_deref(), effective).into()
        }
        Some(Command::Explain(question)) => {
            commands::explain::explain(config.as_deref(), &question).into()
        }
        None => run(&Options {
            config,
            runtime_dir: arguments.runtime_dir,
        })
        .into(),
    }
}

/// `--front [UID GID]`, with the socket pair on descriptor 3: how the helper
/// starts its other half. Nobody else has a use for it.
fn run_front(mut args: impl Iterator<Item = OsString>) -> Exit {
    usherd::logging::init("front");
    let mut number = || args.next()?.to_str()?.parse::<u32>().ok();
    let identity = number().zip(number());
    let mut inherited = usherd::sys::inherit::take_from_three(1);
    let Some(link) = inherited.pop() else {
        eprintln!("usherd: --front is for usherd itself");
        return Exit::Usage;
    };
    front::run(link, front::Options { identity })
}

/// Root without `--config` means the host's table, a user with `--user` his
/// own; `None`, the built-in one, where there is no such file.
fn default_table(user: bool) -> Option<PathBuf> {
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
