//! Where the log goes: opened here, for the front cannot open anything.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::helper::core::Helper;
use crate::logging;
use crate::table::{LogSettings, LogTarget};

/// A front may ask for a new log this often.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A descriptor for the log as `settings` say. An error names what it is about.
pub fn open(settings: &LogSettings) -> io::Result<OwnedFd> {
    logging::open(settings).map_err(|err| {
        let what = match &settings.to {
            LogTarget::Stderr => "stderr for the log".to_owned(),
            LogTarget::Syslog => "the log /dev/log (is a syslog daemon running?)".to_owned(),
            LogTarget::File(path) => format!("the log {}", path.display()),
        };
        io::Error::new(err.kind(), format!("{what}: {err}"))
    })
}

impl Helper {
    /// Opens the log again, for us and for the front: it was rotated, or
    /// syslogd was restarted.
    pub(super) fn reopen_log(&mut self, now: Instant) {
        if self
            .last_log_reopen
            .is_some_and(|last| now < last + REOPEN_PAUSE)
        {
            return;
        }
        self.last_log_reopen = Some(now);
        let settings = &self.table.daemon.log;
        match open(settings) {
            Ok(fd) => logging::attach(fd, settings),
            Err(err) => log::error!("unable to open again {err}"),
        }
        if let Err(err) = self.send_log() {
            log::error!("unable to give the front its log: {err}");
        }
    }
}
