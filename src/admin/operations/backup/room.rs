//! How much of the disk backups and former states may take: whoever may ask for one may
//! ask for many.
#![forbid(unsafe_code)]

use std::env;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::admin::operations::{Failed, Kind, to};

/// Of the operation's `env`: how many there may be of a service.
const MOST: &str = "MOST";

/// Octets that stay free, or a tenth of the file system if that is less: others live there.
const RESERVE: u64 = 1 << 30;

/// What the catalogue says; `usual` if it says nothing.
pub fn most(usual: usize) -> Result<usize, Failed> {
    let Ok(text) = env::var(MOST) else {
        return Ok(usual);
    };
    text.parse().map_err(|_| {
        let reason = format!("{MOST} of the catalogue is no number: {text:?}");
        Failed::new(Kind::Failed, reason)
    })
}

/// [`Kind::Busy`] if there is no room for one more; `cure` makes some.
pub fn count(there: usize, most: usize, what: &str, cure: &str) -> Result<(), Failed> {
    if there < most {
        return Ok(());
    }
    let reason = format!("there are {there} {what} already, and {MOST} is {most}: {cure}");
    Err(Failed::new(Kind::Busy, reason))
}

/// [`Kind::Unavailable`] if `needed` octets in `dir` would leave less free than others need.
pub fn space(dir: &Path, needed: u64) -> Result<(), Failed> {
    let about = to(format!("look at {}", dir.display()), statvfs(dir))?;
    // Of what only root may use, none.
    let free = about.blocks_available() * about.fragment_size();
    let all = about.blocks() * about.fragment_size();
    fits(free, all, needed).map_err(|reason| {
        let reason = format!("too little room in {}: {reason}", dir.display());
        Failed::new(Kind::Unavailable, reason)
    })
}

fn fits(free: u64, all: u64, needed: u64) -> Result<(), String> {
    let reserve = RESERVE.min(all / 10);
    if needed.saturating_add(reserve) <= free {
        return Ok(());
    }
    let shown = |octets: u64| format!("{} MiB", octets.div_ceil(1 << 20));
    Err(format!(
        "it takes up to {}, {} of {} are free, and {} have to stay so",
        shown(needed),
        shown(free),
        shown(all),
        shown(reserve)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_stays_free_and_of_a_large_disk_a_gibibyte() {
        let mib = 1 << 20;
        assert_eq!(fits(200 * mib, 1000 * mib, 100 * mib), Ok(()));
        let refused = fits(200 * mib, 1000 * mib, 101 * mib);
        let wanted =
            "it takes up to 101 MiB, 200 MiB of 1000 MiB are free, and 100 MiB have to stay so";
        assert_eq!(refused, Err(wanted.to_owned()));
        let tib = 1 << 40;
        assert_eq!(fits(2 * RESERVE, tib, RESERVE), Ok(()));
        assert!(fits(2 * RESERVE, tib, RESERVE + 1).is_err());
        assert!(fits(tib, tib, u64::MAX).is_err());
    }
}
