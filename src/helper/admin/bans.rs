//! Bans over a restart, and to the front.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::toggle::replace_file;
use super::{Control, Then, Wait};
use crate::admin::bans::{Ban, Banned, Bans, LONGEST_REASON, MOST};
use crate::control::message::{CallError, Reply};
use crate::control::server::Answer;
use crate::control::types::{self, BanWhom, EventKind};
use crate::helper::core::Helper;
use crate::helper::front_process::{Order, seal};
use crate::table::access::{BadPrefix, Prefix};

const FILE: &str = "bans.json";
/// More than the most bans with the longest reasons, each octet escaped.
const LONGEST_FILE: u64 = 128 * 1024 * 1024;

impl Control {
    fn bans_file(&self) -> Option<PathBuf> {
        self.state_dir.as_ref().map(|dir| dir.join(FILE))
    }

    pub(super) fn seal_bans(&self) -> io::Result<OwnedFd> {
        seal(c"usherd-bans", &self.bans.left(unix_now()))
    }

    /// Puts `bans` in the file first: a ban that a restart would forget is none.
    fn keep(&mut self, bans: Bans) -> io::Result<()> {
        if let Some(file) = self.bans_file() {
            let dir = file.parent().unwrap_or(&file);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
            let text = serde_json::to_vec(&bans).map_err(io::Error::other)?;
            replace_file(&file, &text, 0o600)?;
        }
        self.enforce(bans);
        Ok(())
    }

    /// These are in force from now on, as far as this process goes.
    fn enforce(&mut self, bans: Bans) {
        let (date, now) = (unix_now(), Instant::now());
        self.banned = Banned::new(&bans.left(date), now);
        let next = bans.next_end(date).map(Duration::from_secs);
        self.ban_ends = next.and_then(|left| now.checked_add(left));
        self.bans = bans;
    }
}

impl Helper {
    /// A ban is over: the kernel lets its peers in again.
    pub(super) fn end_bans(&mut self, now: Instant) {
        if self.control.ban_ends.is_some_and(|end| end <= now) {
            let mut bans = std::mem::take(&mut self.control.bans);
            bans.expire(unix_now());
            self.control.enforce(bans);
            self.registry.set_banned(self.control.bans.prefixes());
        }
    }

    pub(super) fn load_bans(&mut self) {
        let Some(file) = self.control.bans_file() else {
            return;
        };
        let read = match read_file(&file) {
            Ok(text) => serde_json::from_slice::<Bans>(&text).map_err(|err| err.to_string()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return,
            Err(err) => Err(err.to_string()),
        };
        match read {
            Ok(mut bans) => {
                bans.expire(unix_now());
                self.control.enforce(bans);
                self.registry.set_banned(self.control.bans.prefixes());
            }
            Err(err) => {
                // The next ban writes a new file, and this one may be all there is to mend.
                let aside = file.with_file_name(format!("{FILE}.unreadable"));
                let kept = match fs::rename(&file, &aside) {
                    Ok(()) => format!("what was there is in {}", aside.display()),
                    Err(err) => format!("unable to put it aside: {err}"),
                };
                let file = file.display();
                log::error!("unable to read the bans in {file}: {err}; nobody is banned; {kept}");
            }
        }
    }

    pub(super) fn ban(&mut self, whom: BanWhom) -> Result<Answer<Wait>, CallError> {
        let prefix = prefix(&whom.prefix)?;
        let now = unix_now();
        if whom.for_s == Some(0) {
            return Err(CallError::InvalidParameter("for_s".into()));
        }
        let reason = whom.reason.filter(|reason| !reason.is_empty());
        if reason.as_ref().is_some_and(|r| r.len() > LONGEST_REASON) {
            return Err(CallError::InvalidParameter("reason".into()));
        }
        let until = whom.for_s.map(|seconds| now.saturating_add(seconds));
        let ban = Ban {
            prefix,
            reason,
            made: now,
            until,
        };
        let mut bans = self.control.bans.clone();
        bans.expire(now);
        if !bans.add(ban.clone()) {
            return Err(CallError::failed(format!("there are {MOST} bans already")));
        }
        self.keep_bans(bans)?;
        let shown = ban.show(now);
        let text = match shown.expires_s {
            Some(left) => format!("{prefix} for {left} s"),
            None => format!("{prefix} for good"),
        };
        log::info!(prefix:% = prefix, seconds = whom.for_s; "banned");
        self.tell_event(EventKind::Banned, None, &text);
        let reply = Reply::last(&types::Banned { ban: shown });
        Ok(self.order(Order::Bans, Then::Say(reply)))
    }

    pub(super) fn unban(&mut self, text: &str) -> Result<Answer<Wait>, CallError> {
        let prefix = prefix(text)?;
        let mut bans = self.control.bans.clone();
        bans.expire(unix_now());
        if !bans.remove(prefix) {
            let parameters = json!({ "prefix": prefix.to_string() });
            return Err(CallError::admin("NoSuchBan", parameters));
        }
        self.keep_bans(bans)?;
        log::info!(prefix:% = prefix; "no longer banned");
        self.tell_event(EventKind::Banned, None, &format!("{prefix} no longer"));
        Ok(self.order(Order::Bans, Then::Say(Reply::Last(json!({})))))
    }

    pub(super) fn show_bans(&self) -> types::GetBans {
        let now = unix_now();
        let mut bans = self.control.bans.clone();
        bans.expire(now);
        types::GetBans {
            bans: bans.show(now),
        }
    }

    fn keep_bans(&mut self, bans: Bans) -> Result<(), CallError> {
        self.control.keep(bans).map_err(|err| {
            CallError::failed(format!("unable to keep the bans over a restart: {err}"))
        })?;
        self.registry.set_banned(self.control.bans.prefixes());
        Ok(())
    }
}

/// Never waits for a pipe that somebody put there, nor reads without end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if about.len() > LONGEST_FILE {
        return Err(io::Error::other("it is too long"));
    }
    let mut text = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut text)?;
    Ok(text)
}

fn prefix(text: &str) -> Result<Prefix, CallError> {
    text.parse().map_err(|bad| match bad {
        BadPrefix::HostBits(meant) => CallError::failed(format!(
            "{text} has bits beyond its length; {meant} is meant?"
        )),
        BadPrefix::NotAnAddress | BadPrefix::BadLength => {
            CallError::InvalidParameter("prefix".into())
        }
    })
}

/// Seconds since 1970: bans outlast this process and its clocks.
fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
