//! The command line of usherctl. Help, completions and the manual page are
//! all made from it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::explain::Question;
use crate::control::types::EventKind;
use crate::sandbox::exposure::Score;
use crate::table::access::{BadPrefix, Prefix};
use crate::table::complaint::Fault;
use crate::table::value;

/// Everything below the options in `--help`, and the end of the manual page.
pub const AFTER_HELP: &str = "\
Environment:
  USHERD_RUNTIME_DIR  the same as --runtime-dir, which comes first
  XDG_RUNTIME_DIR     where an ordinary user's own usherd has its sockets, in usherd
  NO_COLOR            if it is set and not empty, nothing is coloured

Signals:
  INT, TERM  end the command; `top` gives the terminal back as it was.
             What usherd was asked to do, it does all the same, except for an operation that
             `run` waits for: that is ended too, unless the catalogue says on_leave = \"finish\".

Exit codes:
  0    done
  1    refused: by usherd, which says why and what to do, by you when asked, or by `--exposure`
  64   the command line makes no sense; `run`: there is no such operation, a parameter is missing,
       or a value is not taken
  66   `run`: the file that a parameter names by @FILE cannot be read
  69   usherd is not running, not where it was looked for, or does not answer as it should
  71   the system refused something usherctl cannot do without
  77   not permitted
  78   the table is wrong, or would be
  130  ended by INT, as a shell tells it; by TERM it is 143";

/// Shows what usherd does at this moment, and changes it.
///
/// A change is in force when the command has ended with 0. With --json every
/// command prints one JSON document, and those that go on print one a line;
/// the names in it are those of the interfaces org.usherd.Status and
/// org.usherd.Admin.
#[derive(Debug, Parser)]
#[command(name = "usherctl", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in
    /// $XDG_RUNTIME_DIR, if there is a socket]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "USHERD_RUNTIME_DIR",
        hide_env = true
    )]
    pub runtime_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// How usherd and its services are
    Status {
        /// Only this one
        service: Option<String>,
    },
    /// Names and addresses of the services
    List,
    /// All about a service: its table, listeners, limits, counts and latencies
    Show {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// The servers that run
    Instances {
        /// Only those of this service
        service: Option<String>,
    },
    /// Counts and latencies since usherd was started
    Stats(Stats),
    /// The same, live on the whole screen; ? shows the keys
    Top {
        /// How often it is drawn anew
        #[arg(long, value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
        every: Duration,
    },
    /// Tell which service a request would be for, rule by rule; needs no daemon
    Explain {
        /// The table to ask [default: /etc/usherd/usherd.toml for root, else the built-in one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        question: Box<Question>,
    },
    /// Read the table and show every complaint; needs no daemon
    Check {
        /// The table to check [default: /etc/usherd/usherd.toml for root, else the built-in one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print the table as it will be used: defaults filled in, names resolved
        #[arg(long)]
        effective: bool,
        /// Print how exposed each service leaves the host, from 0.0 to 10.0; fail if one is above SCORE
        #[arg(long, value_name = "SCORE", conflicts_with = "effective", value_parser = Score::parse)]
        exposure: Option<Score>,
    },
    /// How exposed each service leaves the host, from 0.0 to 10.0; of one service all reasons
    Security {
        /// Its name, as `usherctl list` shows it
        service: Option<String>,
        /// Judge this table, not the one in force; needs no daemon
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The same with the table that a daemon started now would read
        #[arg(long)]
        offline: bool,
    },
    /// Read the table again: show what would change, ask, do it
    Reload {
        /// Do not ask; reload even if nothing has changed
        #[arg(long, short)]
        yes: bool,
    },
    /// Go on as the program that is installed now: no connection is lost, no server ends
    Upgrade,
    /// Write `enabled = true` into the table and serve the service
    Enable {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// Write `enabled = false` into the table and serve the service no more
    Disable {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// Take no new requests of a service; its running instances finish
    Drain {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// Take no new requests of a service and end its running instances
    Stop {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// Undo `drain` or `stop`; start a server that owns its listener
    Start {
        /// Its name, as `usherctl list` shows it
        service: String,
    },
    /// End an instance, or send it a signal
    Kill {
        /// Its number, as `usherctl instances` shows it
        #[arg(value_parser = instance)]
        instance: u64,
        /// HUP, KILL, ... [default: as `stop` in the table says]
        #[arg(long, value_name = "NAME", value_parser = signal)]
        signal: Option<String>,
    },
    /// What happened of late to services and instances, a line each
    Log {
        #[command(flatten)]
        recent: Recent,
        /// Only what is about this service
        service: Option<String>,
    },
    /// The same, by kind
    Events {
        #[command(flatten)]
        recent: Recent,
        /// Only what is about this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// Only this kind; may be given more than once
        #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
        kinds: Vec<EventKind>,
    },
    /// Refuse all requests from an address or a prefix
    Ban {
        /// 192.0.2.7, 192.0.2.0/24, 2001:db8::/32
        #[arg(value_parser = prefix)]
        prefix: String,
        /// For how long: 90s, 1h, 7d [default: for good]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        how_long: Option<Duration>,
        /// Why, for whoever looks at `usherctl bans`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take a ban back
    Unban {
        /// As `usherctl bans` shows it
        #[arg(value_parser = prefix)]
        prefix: String,
    },
    /// What is banned, why, and for how long yet
    Bans,
    /// What was asked of usherd, by whom, and what came of it; needs no daemon
    Audit {
        /// Where the log is [default: audit in the state directory of the daemon that runs, else of
        /// one that would]
        #[arg(long, global = true, value_name = "DIR")]
        log: Option<PathBuf>,
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Administrative operations: who may ask for each, and what it needs
    Ops {
        /// All about this one
        operation: Option<String>,
    },
    /// Ask for an administrative operation; interrupted, it is ended, unless its `on_leave` is finish
    Run {
        /// Its name, as `usherctl ops` shows it
        operation: String,
        /// NAME=VALUE, with NAME=@FILE from a file and with NAME=- from stdin; again for each item of a list
        #[arg(value_name = "NAME=VALUE")]
        parameters: Vec<String>,
        /// Only tell what it would do
        #[arg(long)]
        dry_run: bool,
    },
    /// Names of operations, or of the parameters of one, a line each: for completion
    #[command(hide = true)]
    Words { operation: Option<String> },
    /// Print what makes a shell complete usherctl's commands
    Completions {
        /// Which one
        shell: Shell,
    },
    /// Write manual pages and completions of all programs below DIR
    #[command(hide = true)]
    Generate { dir: PathBuf },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print requests, oldest first, a line each
    Query(AuditQuery),
    /// Find entries that were removed, changed or moved
    Verify,
    /// Print the whole log as it is, to be kept and verified elsewhere
    Export,
}

#[derive(Args, Debug)]
pub struct AuditQuery {
    /// Only this operation: backup.create, Stop, Reload, ...
    #[arg(long, value_name = "NAME")]
    pub operation: Option<String>,
    /// Only what servers of this service asked for
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only what this user asked for
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Only what is not older: 90s, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub since: Option<Duration>,
    /// Only what was denied
    #[arg(long)]
    pub denied: bool,
    /// Only the last N
    #[arg(short = 'n', value_name = "N")]
    pub last: Option<usize>,
}

#[derive(Args, Debug)]
pub struct Stats {
    /// Only those of this service
    pub service: Option<String>,
    /// A line of rates every INTERVAL [default: 1s] until interrupted
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        default_missing_value = "1s",
        value_parser = interval
    )]
    pub watch: Option<Duration>,
    /// In the text format of Prometheus
    #[arg(long, conflicts_with_all = ["watch", "service"])]
    pub prometheus: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct Recent {
    /// Go on with what happens from now on, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Begin with the last N
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    pub last: u64,
}

fn said(fault: Fault) -> String {
    match fault.help {
        Some(help) => format!("{}; {help}", fault.problem),
        None => fault.problem,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = value::duration(text).map_err(said)?;
    if span < Duration::from_secs(1) {
        return Err("nothing is banned for less than a second".to_owned());
    }
    Ok(span)
}

fn interval(text: &str) -> Result<Duration, String> {
    let span = value::duration(text).map_err(said)?;
    if span < Duration::from_millis(100) {
        return Err("that is too often: at most every 100ms".to_owned());
    }
    Ok(span)
}

/// A signal, by the name that the daemon knows it by.
fn instance(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| "a number is expected; `usherctl instances` shows them".to_owned())
}

fn signal(text: &str) -> Result<String, String> {
    let number = value::signal(text).map_err(said)?;
    Ok(value::show_signal(number))
}

fn kind(text: &str) -> Result<EventKind, String> {
    let found = EventKind::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| {
        let names = EventKind::ALL.map(EventKind::name);
        format!("the kinds are {}", names.join(", "))
    })
}

fn prefix(text: &str) -> Result<String, String> {
    match text.parse::<Prefix>() {
        Ok(prefix) => Ok(prefix.to_string()),
        Err(BadPrefix::HostBits(meant)) => Err(format!(
            "the address has bits outside the prefix; {meant} is meant, perhaps"
        )),
        Err(BadPrefix::BadLength) => {
            Err("the length of the prefix is a number from 0 to 32, for IPv6 to 128".to_owned())
        }
        Err(BadPrefix::NotAnAddress) => Err(
            "expected an address or a prefix: 192.0.2.7, 192.0.2.0/24, 2001:db8::/32".to_owned(),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_headings_are_in_the_usual_order() {
        let help = Arguments::command().render_long_help().to_string();
        let places: Vec<_> = [
            "Usage:",
            "Options:",
            "Environment:",
            "Signals:",
            "Exit codes:",
        ]
        .iter()
        .map(|heading| help.find(heading).unwrap())
        .collect();
        assert!(places.is_sorted(), "{help}");
    }

    #[test]
    fn values_are_written_as_in_the_table() {
        assert_eq!(prefix("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert!(prefix("192.0.2.7/24").unwrap_err().contains("192.0.2.0/24"));
        assert_eq!(signal("sigkill").unwrap(), "KILL");
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        assert!(duration("10ms").is_err() && interval("10ms").is_err());
        assert_eq!(kind("stderr").unwrap(), EventKind::Stderr);
        assert!(kind("x").unwrap_err().contains("accepted, started, exited"));
    }
}
