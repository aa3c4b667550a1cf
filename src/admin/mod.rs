//! What operators change: the admin socket and what stands behind it.
//!
//! - [`administer`]: the process that serves one request
//! - [`audit`]: what was asked, by whom, and what came of it, in a chain
//! - [`authorise`]: who may ask for which operation
//! - [`catalogue`]: which operations there are, who may ask, with what parameters
//! - [`operations`]: what administrative servers do
//! - [`lists`]: addresses that `allow` and `deny` name as a whole
//! - [`bans`]: who is kept out, and how that is remembered
#![forbid(unsafe_code)]

pub mod administer;
pub mod audit;
pub mod authorise;
pub mod bans;
pub mod catalogue;
pub mod lists;
pub mod operations;

use std::env;
use std::path::PathBuf;

use nix::unistd::Uid;

/// The folder for what outlasts a restart, if the table names none; an ordinary
/// user without a home directory has none.
#[must_use]
pub fn state_dir() -> Option<PathBuf> {
    if Uid::effective().is_root() {
        return Some("/var/lib/usherd".into());
    }
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).or(home);
    state.map(|dir| dir.join("usherd"))
}
