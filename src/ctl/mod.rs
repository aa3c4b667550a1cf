//! `usherctl`: the operator's end of the control sockets. A command is a call
//! or two; what comes back is shown as text or as JSON.
//!
//! - [`arguments`]: the command line
//! - [`console`]: the sockets, stdout
//! - [`failure`]: errors as sentences, and exit codes
//! - [`status`], [`show`], [`figures`], [`events`], [`bans`]: what there is
//! - [`audit`]: what was asked
//! - [`operations`]: what can be asked for, and asking for it
//! - [`top`]: the same, live on the whole screen
//! - [`security`]: how exposed services leave the host, and what keeps them from it
//! - [`reload`], [`change`]: what is to be otherwise
//! - [`offline`]: what needs no daemon
//! - [`rates`], [`text`], [`grid`]: figures, words and columns; pure
//! - [`generate`], `completion`, [`manual`]: completions and manual pages
//!
//! Nothing that comes from the daemon reaches a terminal unescaped: names and
//! texts in it are those of peers and servers.
#![forbid(unsafe_code)]

use std::io::{self, Write};

pub mod arguments;
mod audit;
mod bans;
mod change;
mod completion;
mod console;
mod events;
mod failure;
mod figures;
pub mod generate;
pub(crate) mod grid;
mod manual;
mod offline;
mod operations;
mod rates;
mod reload;
mod security;
mod shipped;
mod show;
mod status;
mod table_manual;
mod text;
mod top;

use crate::commands::arguments::what_to_show;
use crate::control::types::{GetServices, OfService};
use crate::error::Exit;
use crate::table::complaint::did_you_mean;
use arguments::{Arguments, Command};
use console::Console;
use failure::Failure;

/// Does what is asked, and says so.
#[must_use]
pub fn run(arguments: Arguments) -> Exit {
    let console = Console::new(arguments.runtime_dir, arguments.json);
    match obey(&console, arguments.command) {
        Ok(()) => Exit::Ok,
        Err(failure) => report(&console, failure),
    }
}

fn obey(console: &Console, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status { service } => status::status(console, service),
        Command::List => status::list(console),
        Command::Show { service } => show::show(console, service),
        Command::Instances { service } => status::instances(console, service),
        Command::Stats(asked) => figures::stats(console, asked),
        Command::Top { every } => top::top(console, every),
        Command::Explain { config, question } => offline::explain(console, config, &question),
        Command::Check {
            config,
            effective,
            exposure,
        } => offline::check(console, config, what_to_show(effective, exposure)),
        Command::Security {
            service,
            config,
            offline,
        } => security::security(console, service, config, offline),
        Command::Reload { yes } => reload::reload(console, yes),
        Command::Upgrade => change::upgrade(console),
        Command::Enable { service } => change::enable(console, service, true),
        Command::Disable { service } => change::enable(console, service, false),
        Command::Drain { service } => change::drain(console, service),
        Command::Stop { service } => change::stop(console, service),
        Command::Start { service } => change::start(console, service),
        Command::Kill { instance, signal } => change::kill(console, instance, signal),
        Command::Log { recent, service } => events::events(console, recent, service, Vec::new()),
        Command::Events {
            recent,
            service,
            kinds,
        } => events::events(console, recent, service, kinds),
        Command::Ban {
            prefix,
            how_long,
            reason,
        } => bans::ban(console, prefix, how_long, reason),
        Command::Unban { prefix } => bans::unban(console, prefix),
        Command::Bans => bans::bans(console),
        Command::Audit { log, command } => audit::audit(console, log, command),
        Command::Ops { operation } => operations::ops(console, operation),
        Command::Run {
            operation,
            parameters,
            dry_run,
        } => operations::run(
            console,
            operations::Asked {
                operation,
                parameters,
                dry_run,
            },
        ),
        Command::Words { operation } => operations::words(console, operation),
        Command::Completions { shell } => generate::completions(console, shell),
        Command::Generate { dir } => generate::generate(console, &dir),
    }
}

/// On stderr for whoever sits there, as JSON on stdout for whoever reads that.
fn report(console: &Console, mut failure: Failure) -> Exit {
    if let Some(suggestion) = suggestion(console, &failure) {
        failure.text = format!("{}; did you mean \"{suggestion}\"?", failure.text);
    }
    if !failure.text.is_empty() {
        if console.json && !failure.told {
            // One line: it may be the last one of a stream.
            let _ = console.say_json_line(&failure.to_value());
        }
        // A table's complaints begin with their file, as a compiler's do.
        let prefix = match failure.exit {
            Exit::Config => "",
            _ => "usherctl: ",
        };
        let _ = writeln!(io::stderr(), "{prefix}{}", failure.text);
    }
    failure.exit
}

/// The service or operation whose name was mistyped, perhaps.
fn suggestion(console: &Console, failure: &Failure) -> Option<String> {
    let (_, parameters) = failure.error.as_ref()?;
    match failure.error_name()? {
        "NoSuchService" => {}
        "NoSuchOperation" => {
            let wrong = parameters.get("operation")?.as_str()?;
            return operations::near(console, wrong);
        }
        _ => return None,
    }
    let wrong = parameters.get("service")?.as_str()?;
    let mut link = console.status().ok()?;
    let all: GetServices = link.call("GetServices", &OfService::default()).ok()?;
    let names = all.services.iter().map(|service| service.name.as_str());
    let names = names.filter(|name| *name != wrong);
    did_you_mean(wrong, names).map(|name| text::escape(name).into_owned())
}
