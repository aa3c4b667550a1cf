//! Commands that work without a running daemon.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

use crate::error::Exit;
use crate::table::complaint::Complaints;
use crate::table::{self, Host, effective};

pub mod arguments;
pub mod explain;

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
            say(&if show_effective {
                effective::effective(&loaded.table)
            } else {
                summary(file, loaded.table.services.len(), &loaded.warnings)
            })
        }
        Err(complaints) => {
            eprintln!("{complaints}{}", complaints.count("complaint"));
            Exit::Config
        }
    }
}

/// With the name of the table: which one it is was perhaps not said.
fn summary(file: Option<&Path>, services: usize, warnings: &Complaints) -> String {
    let name = file.map_or("built-in table".into(), Path::to_string_lossy);
    let s = if services == 1 { "" } else { "s" };
    let warned = match warnings.is_empty() {
        true => String::new(),
        false => format!(", {}", warnings.count("warning")),
    };
    format!("{name}: {services} service{s}, no complaints{warned}\n")
}

/// To stdout. Whoever stopped reading (`| head`) has seen enough; a full disk
/// must not pass for success.
fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("usherd: unable to write to stdout: {err}");
            Exit::System
        }
        _ => Exit::Ok,
    }
}
