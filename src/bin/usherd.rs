//! usherd: arguments in, exit code out.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use usherd::admin::administer;
use usherd::commands::arguments::{Arguments, Command, default_table, what_to_show};
use usherd::error::Exit;
use usherd::helper::handover::check;
use usherd::helper::run::{Options, run};
use usherd::sandbox::{keeper, probe, session};
use usherd::{commands, front};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == "--front" => return run_front(args).into(),
        Some(first) if first == "--keeper" => return run_keeper().into(),
        Some(first) if first == "--session" => return session::run(args),
        Some(first) if first == "--operation" => return administer::prepare(),
        Some(first) if first == "--administer" => return administer::run(),
        Some(first) if first == "--probe" => return run_probe(args).into(),
        Some(first) if first == check::ARGUMENT => return check::answer(args).into(),
        // Of the systemd unit, see there.
        Some(first) if first == "--release" => {
            usherd::sandbox::cgroup::release();
            return Exit::Ok.into();
        }
        _ => {}
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
        Some(Command::Check {
            file,
            effective,
            exposure,
        }) => {
            let file = file.or(config);
            commands::check(file.as_deref(), what_to_show(effective, exposure)).into()
        }
        Some(Command::Doctor { json }) => commands::doctor::doctor(json).into(),
        Some(Command::Explain(question)) => {
            commands::explain::explain(config.as_deref(), &question).into()
        }
        Some(Command::Import(wanted)) => commands::import::import(&wanted).into(),
        None => run(&Options {
            config,
            runtime_dir: arguments.runtime_dir,
            ready_fd: arguments.ready_fd,
        })
        .into(),
    }
}

/// `--front [UID GID]`, with the socket pair on descriptor 3: how the helper
/// starts its other half. Nobody else has a use for it.
fn run_front(mut args: impl Iterator<Item = OsString>) -> Exit {
    usherd::logging::init("front");
    let identity = identity(&mut args);
    let mut inherited = usherd::sys::inherit::take_from_three(1);
    let Some(link) = inherited.pop() else {
        eprintln!("usherd: --front is for usherd itself");
        return Exit::Usage;
    };
    front::run(link, front::Options { identity })
}

/// `--keeper`, with the socket pair on descriptor 3: who builds a sandbox and stays in it.
fn run_keeper() -> Exit {
    let mut inherited = usherd::sys::inherit::take_from_three(1);
    let Some(link) = inherited.pop() else {
        eprintln!("usherd: --keeper is for usherd itself");
        return Exit::Usage;
    };
    keeper::run(link)
}

/// `--probe [UID GID]`: how the trials of `usherd doctor` and of the helper are
/// started. They tell on stdout.
fn run_probe(mut args: impl Iterator<Item = OsString>) -> Exit {
    probe::run(identity(&mut args))
}

/// Two numbers: who to become.
fn identity(args: &mut impl Iterator<Item = OsString>) -> Option<(u32, u32)> {
    let mut number = || args.next()?.to_str()?.parse().ok();
    number().zip(number())
}
