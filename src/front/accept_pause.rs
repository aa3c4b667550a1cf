//! What to do when accept(2) fails, and the pause while descriptors are short.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

/// What a failed accept(2) says about what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The queue is empty.
    Nothing,
    /// That connection is gone; there may be others (accept(2), "Error handling").
    Connection,
    /// Out of descriptors or memory: nobody's fault, and it passes.
    Exhausted,
    /// The listener itself is broken.
    Listener,
}

/// Which kind of failure it is.
#[must_use]
pub fn classify(err: &io::Error) -> AcceptError {
    match err.raw_os_error() {
        Some(libc::EAGAIN) => AcceptError::Nothing,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Exhausted,
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => AcceptError::Listener,
        _ => AcceptError::Connection,
    }
}

/// Accepting rests while the process is out of descriptors or memory.
#[derive(Debug)]
pub struct AcceptPause {
    on: bool,
    last: Option<Duration>,
    /// The kernel gives out the lowest free number, so one this high says that
    /// only a reserve is left. It is kept for what the helper sends: a plan or
    /// a listener that finds no number would be lost.
    ceiling: RawFd,
}

impl AcceptPause {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);

    /// Descriptors kept for other uses than connections, where the limit is not tiny.
    const RESERVE: u64 = 64;

    pub fn new() -> io::Result<Self> {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Self::with_limit(soft))
    }

    fn with_limit(limit: u64) -> Self {
        let ceiling = limit - Self::RESERVE.min(limit / 8);
        Self {
            on: false,
            last: None,
            ceiling: RawFd::try_from(ceiling).unwrap_or(RawFd::MAX),
        }
    }

    #[must_use]
    pub fn is_near_the_limit(&self, newest: RawFd) -> bool {
        newest >= self.ceiling
    }

    /// Starts a pause, longer than the last unless an accept has worked since.
    pub fn begin(&mut self) -> Duration {
        let interval = self
            .last
            .map_or(Self::FIRST, |last| (last * 2).min(Self::LONGEST));
        self.last = Some(interval);
        self.on = true;
        interval
    }

    pub fn end(&mut self) {
        self.on = false;
    }

    pub fn worked(&mut self) {
        self.last = None;
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_left_is_not_the_listeners_fault() {
        let class = |code| classify(&io::Error::from_raw_os_error(code));
        assert_eq!(class(libc::ECONNABORTED), AcceptError::Connection);
        assert_eq!(class(libc::EPROTO), AcceptError::Connection);
        assert_eq!(class(libc::EPERM), AcceptError::Connection);
        assert_eq!(class(libc::EMFILE), AcceptError::Exhausted);
        assert_eq!(class(libc::EAGAIN), AcceptError::Nothing);
        assert_eq!(class(libc::EINVAL), AcceptError::Listener);
    }

    #[test]
    fn a_reserve_is_kept_of_every_limit() {
        let pause = AcceptPause::with_limit(1024);
        assert!(!pause.is_near_the_limit(959));
        assert!(pause.is_near_the_limit(960));
        assert!(AcceptPause::with_limit(16).is_near_the_limit(14));
        assert!(!AcceptPause::with_limit(u64::MAX).is_near_the_limit(1 << 20));
    }

    #[test]
    fn the_pause_grows_to_a_second_and_starts_over_once_accepting_works() {
        let mut pause = AcceptPause::with_limit(1024);
        let spans: Vec<_> = (0..6).map(|_| pause.begin().as_millis()).collect();
        assert_eq!(spans, [100, 200, 400, 800, 1000, 1000]);
        assert!(pause.is_on());
        pause.end();
        pause.worked();
        assert!(!pause.is_on());
        assert_eq!(pause.begin().as_millis(), 100);
    }
}
