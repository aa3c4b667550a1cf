//! usherctl: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use usherd::ctl::{self, arguments::Arguments};
use usherd::error::Exit;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => ctl::run(arguments),
        Err(err) => {
            let _ = err.print();
            if err.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
        }
    }
    .into()
}
