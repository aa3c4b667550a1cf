//! Commands that work without a running daemon.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::error::Exit;
use crate::table::{self, Host, effective};

/// `usherd check`: complaints and warnings on stderr, the effective table (if
/// asked for) or a summary on stdout.
#[must_use]
pub fn check(file: Option<&Path>, show_effective: bool) -> Exit {
    match table::load(table::source_or_default(file), &Host::probe()) {
        Ok(loaded) => {
            loaded
                .warnings
                .rendered()
                .for_each(|warning| eprint!("warning: {warning}"));
            if show_effective {
                print!("{}", effective::effective(&loaded.table));
            } else {
                println!("{} services, no complaints", loaded.table.services.len());
            }
            Exit::Ok
        }
        Err(complaints) => {
            complaints
                .rendered()
                .for_each(|complaint| eprint!("{complaint}"));
            eprintln!("{} complaints", complaints.len());
            Exit::Config
        }
    }
}
