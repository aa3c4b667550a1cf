//! Descriptors that are kept free: a request whose connection found no number here could not even
//! be refused. Numbers are given out from the lowest, so that a high one says how few there are.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::resource::{Resource, getrlimit};

/// So many, or a quarter of all that may be open.
const MOST: u64 = 512;

/// Below this is none of them, for usherd does not run with fewer than 128 files.
const LOW: u64 = 96;

/// Whether what was just opened should not stay open.
#[must_use]
pub fn is_of_the_last(opened: &impl AsFd) -> bool {
    let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or(0);
    number >= LOW && getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(most, _)| is_high(number, most))
}

/// The same for a connection that waits for a sandbox, which takes several more.
#[must_use]
pub fn is_of_the_upper_half(opened: &impl AsFd) -> bool {
    let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(most, _)| number >= most / 2)
}

fn is_high(number: u64, most: u64) -> bool {
    number >= most - (most / 4).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_of_few_and_of_many() {
        assert!(!is_high(LOW - 1, 128));
        assert!(is_high(LOW, 128));
        assert!(!is_high((1 << 20) - 513, 1 << 20));
        assert!(is_high((1 << 20) - 512, 1 << 20));
        assert!(!is_high(0, u64::MAX));
    }
}
