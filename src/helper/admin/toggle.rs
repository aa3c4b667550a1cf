//! `Enable` and `Disable`: one word of one file changed, and put back if the
//! table is no good with it.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::calls::{no_such_service, table_wrong};
use super::{Asked, Then, Wait};
use crate::control::message::{CallError, Reply};
use crate::control::server::Answer;
use crate::helper::core::{Helper, Phase};
use crate::table::edit;
use crate::table::import::Origin;

/// A file that was changed, and what it said before.
#[derive(Debug)]
pub(super) struct Edited {
    file: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Edited {
    /// Puts it back, unless somebody else has changed it since.
    pub(super) fn undo(&self) {
        let untouched = fs::read(&self.file).is_ok_and(|now| now == self.after);
        let done = match untouched {
            true => rewrite(&self.file, &self.before),
            false => Err(io::Error::other("somebody else has changed it")),
        };
        if let Err(err) = done {
            let file = self.file.display();
            log::error!("unable to put {file} back as it was: {err}");
        }
    }
}

/// A service that an operator switches on or off.
#[derive(Clone, Debug)]
pub(super) struct Toggle {
    name: String,
    enabled: bool,
}

impl fmt::Display for Toggle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.enabled { "enable" } else { "disable" };
        write!(f, "{verb} service \"{}\"", self.name)
    }
}

impl Helper {
    /// `Enable` and `Disable`: a reload that begins with a word in a file.
    pub(super) fn toggle(
        &mut self,
        name: String,
        enabled: bool,
        caller: u64,
    ) -> Result<Answer<Wait>, CallError> {
        if self.source.is_embedded() {
            return Err(CallError::admin("NoFile", json!({})));
        }
        self.queue_reload(Asked {
            caller: Some(caller),
            toggle: Some(Toggle { name, enabled }),
            ..Asked::default()
        })?;
        Ok(Answer::Later(Wait::Reload))
    }

    /// Changes the file when the turn of its reload has come, and not before:
    /// had another change been made to it meanwhile, neither could be undone.
    /// `None`: the file says so already.
    pub(super) fn edit_for(&self, toggle: &Toggle) -> Result<Option<Edited>, CallError> {
        if self.phase == Phase::Draining {
            return Err(CallError::admin("Draining", json!({})));
        }
        let Toggle { name, enabled } = toggle;
        let loaded = self
            .source
            .load()
            .map_err(|complaints| table_wrong(&complaints))?;
        let mut services = loaded.table.services.iter();
        let Some(service) = services.find(|service| service.name == *name) else {
            return Err(no_such_service(name));
        };
        if service.enabled != *enabled
            && let Some((_, origin)) = loaded.imported.iter().find(|(known, _)| known == name)
        {
            return Err(not_ours(name, origin));
        }
        match service.enabled == *enabled {
            true => Ok(None),
            false => edit_file(&loaded.files, name, *enabled).map(Some),
        }
    }

    /// Whether the table in force has what is wanted.
    pub(super) fn is_toggled(&self, toggle: &Toggle) -> bool {
        let mut services = self.table.services.iter();
        let in_force = services.find(|service| service.name == toggle.name);
        in_force.is_some_and(|service| service.enabled == toggle.enabled)
    }

    /// It is in force. Whoever enables a service wants to see it serve.
    pub(super) fn toggled(&mut self, toggle: &Toggle, caller: u64, now: Instant) {
        let done = Reply::Last(json!({}));
        let id = self.services.id(&toggle.name);
        if !toggle.enabled || !self.control.halted.contains_key(&id) {
            return self.reply_to(caller, &done, now);
        }
        let answer = self.hold(id, false, Then::Say(done));
        let Some(place) = self.control.server.place(caller) else {
            return;
        };
        match answer {
            Answer::Later(wait) => self.control.server.wait_on(place, wait),
            Answer::Reply(reply) => self.reply_at(place, &reply, now),
        }
    }
}

/// Its file is no table, and belongs to other programs.
fn not_ours(name: &str, origin: &Origin) -> CallError {
    let reason = format!(
        "service \"{name}\" is imported from line {}; switch it off there (update-inetd --disable) and \
         reload, or write a [service.{name}] of your own, which takes its place",
        origin.line
    );
    let file = origin.file.display().to_string();
    CallError::admin("CannotEdit", json!({ "file": file, "reason": reason }))
}

fn edit_file(files: &[PathBuf], name: &str, enabled: bool) -> Result<Edited, CallError> {
    let cannot = |file: &Path, reason: String| {
        let file = file.display().to_string();
        CallError::admin("CannotEdit", json!({ "file": file, "reason": reason }))
    };
    for file in files {
        // Through links: what is replaced must not be the link.
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let before = fs::read_to_string(&file).map_err(|err| cannot(&file, err.to_string()))?;
        let Some(after) =
            edit::set_enabled(&before, name, enabled).map_err(|why| cannot(&file, why))?
        else {
            continue;
        };
        rewrite(&file, after.as_bytes()).map_err(|err| cannot(&file, err.to_string()))?;
        return Ok(Edited {
            file,
            before: before.into(),
            after: after.into(),
        });
    }
    let first = files.first().cloned().unwrap_or_default();
    Err(cannot(&first, "the service is in none of the files".into()))
}

/// New contents, same owner and mode: whole or not at all.
fn rewrite(file: &Path, contents: &[u8]) -> io::Result<()> {
    let mode = fs::symlink_metadata(file)?.mode() & 0o7777;
    replace_file(file, contents, mode)
}

/// Writes beside `file`, then takes its place: a crash leaves the one or the other.
pub(super) fn replace_file(file: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // No pattern of `include` matches a name that begins with a dot.
    let beside = file.with_file_name(format!(".{name}.usherd-new"));
    let _ = fs::remove_file(&beside);
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o600)
        .open(&beside)?;
    let written = (|| {
        if let Ok(old) = fs::symlink_metadata(file) {
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        new.write_all(contents)?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        let dir = file.parent().unwrap_or(Path::new("/"));
        fs::File::open(dir)?.sync_all()
    })();
    written.inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}
