//! The front as a process of its own, in its cage, with a test for a helper.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod datagrams;
mod helper;
mod inside;
mod streams;

use std::os::fd::AsFd;

use usherd::front::{self, Options};

/// Prints every event, so that a test can wait for it.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Not a test: what `Helper::start` runs, with the link as its standard input.
#[test]
#[ignore = "the front's side of the other tests"]
#[allow(
    clippy::exit,
    reason = "the harness would make calls that the cage forbids"
)]
fn front_process() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    log::set_logger(&Printer).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    if let Some(limit) = std::env::var_os("FRONT_NOFILE") {
        let limit = limit.to_str().unwrap().parse().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    }
    let link = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let exit = front::run(link, Options::default());
    std::process::exit(exit.code().into());
}
