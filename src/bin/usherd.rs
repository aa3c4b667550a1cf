//! usherd: arguments in, exit code out.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use usherd::commands::arguments::{Arguments, Command, default_table};
use usherd::error::Exit;
use usherd::helper::run::{Options, run};
use usherd::{commands, front};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == "--front" => return run_front(args).into(),
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
