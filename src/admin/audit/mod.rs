//! The audit log: every request for a change, who made it, whether it was
//! carried out and what came of it.
//!
//! One entry is one line of JSON. Each holds the hash of the entry before it,
//! so that nobody can take one out, change one or swap two without breaking the
//! chain; a small file beside the log says where the chain ends, so that its
//! last entries cannot be cut off either. Whoever may write as root can forge all
//! of it: against him only a copy elsewhere helps.
//!
//! - [`entry`]: one line, sealed and opened again; pure
//! - [`log`]: appends, rotates
//! - [`verify`]: reads everything and tells where the chain is broken
#![forbid(unsafe_code)]

pub mod entry;
pub mod log;
pub mod verify;

use std::path::{Path, PathBuf};

pub use entry::{Entry, Hash, What};
pub use log::AuditLog;

/// The folder of the log in the state directory.
pub const FOLDER: &str = "audit";
/// The file that is written to.
const CURRENT: &str = "audit.log";
/// Where the chain begins and ends.
const HEAD: &str = "audit.head";

/// A full file is set aside under the number of its first entry, so that names sort as entries do.
fn set_aside(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("audit-{first:020}.log"))
}

/// All files of the log in `dir`, oldest first.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name
            .and_then(|name| name.strip_prefix("audit-"))
            .and_then(|name| name.strip_suffix(".log"));
        if number.is_some_and(|number| number.len() == 20 && number.parse::<u64>().is_ok()) {
            files.push(path);
        }
    }
    files.sort_unstable();
    let current = dir.join(CURRENT);
    if current.exists() {
        files.push(current);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
