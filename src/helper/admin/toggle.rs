//! `Enable` and `Disable`: one word of one file changed, and put back if the
//! table is no good with it. For a service of a package it is a word in a drop-in.
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
use crate::control::types::SetKey;
use crate::helper::core::{Helper, Phase};
use crate::table::import::Origin;
use crate::table::provenance::SetIn;
use crate::table::{self, edit};

/// The drop-in for a service of a package, in the folder beside its file's place.
const DROP_IN: &str = "usherctl.toml";

/// A file that was changed, and what it said before.
#[derive(Debug)]
pub(super) struct Edited {
    file: PathBuf,
    /// `None`: it was not there.
    before: Option<Vec<u8>>,
    after: Vec<u8>,
}

impl Edited {
    /// Puts it in its place, unless somebody else has changed it since it was read. A folder
    /// for drop-ins is made.
    fn write(&self) -> Result<(), CallError> {
        let now = match fs::read(&self.file) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|err| cannot(&self.file, err))?),
        };
        if now != self.before {
            let why = "somebody else has changed it meanwhile; ask again";
            return Err(cannot(&self.file, why));
        }
        let written = match &self.before {
            Some(_) => rewrite(&self.file, &self.after),
            None => {
                let folder = self.file.parent().unwrap_or(Path::new("/"));
                fs::create_dir_all(folder)
                    .and_then(|()| replace_file(&self.file, &self.after, 0o644))
            }
        };
        written.map_err(|err| cannot(&self.file, err))
    }

    /// Puts it back, unless somebody else has changed it since.
    pub(super) fn undo(&self) {
        let untouched = fs::read(&self.file).is_ok_and(|now| now == self.after);
        let done = match (untouched, &self.before) {
            (true, Some(before)) => rewrite(&self.file, before),
            (true, None) => fs::remove_file(&self.file),
            (false, _) => Err(io::Error::other("somebody else has changed it")),
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
        if service.wanted() == *enabled {
            return Ok(None);
        }
        if let Some((_, origin)) = loaded.imported.iter().find(|(known, _)| known == name) {
            return Err(not_ours(name, origin));
        }
        let edit = |text: &str| edit::set_enabled(text, name, *enabled);
        let fresh = |text: &str| Ok(edit::with_enabled(text, name, *enabled));
        let edited = match loaded.where_to_enable(name) {
            Some(SetIn::File(file)) => plan_file(file, &edit),
            Some(SetIn::DropIns(folder)) => plan_drop_in(folder, &edit, &fresh),
            None => return Err(no_such_service(name)),
        }?;
        edited.write()?;
        Ok(Some(edited))
    }

    /// The same for any key: checked before anything is written. `None`: the file
    /// says so already.
    pub(super) fn edit_key(&self, set: &SetKey) -> Result<Option<Edited>, CallError> {
        if self.phase == Phase::Draining {
            return Err(CallError::admin("Draining", json!({})));
        }
        let (name, key) = (&set.service, &set.key);
        let loaded = self
            .source
            .load()
            .map_err(|complaints| table_wrong(&complaints))?;
        if let Some((_, origin)) = loaded.imported.iter().find(|(known, _)| known == name) {
            return Err(not_ours(name, origin));
        }
        let value = set.value.as_deref();
        let edit = |text: &str| edit::set_key(text, name, key, value);
        let fresh = |text: &str| {
            let text = edit::with_service(text, name);
            Ok(edit::set_key(&text, name, key, value)?.unwrap_or(text))
        };
        let first = key.split('.').next().unwrap_or(key);
        let edited = match loaded.where_to_set(name, first) {
            Some(SetIn::File(file)) => plan_file(file, &edit),
            Some(SetIn::DropIns(folder)) => plan_drop_in(folder, &edit, &fresh),
            None => return Err(no_such_service(name)),
        }?;
        if edited.before.as_ref() == Some(&edited.after) {
            return Ok(None);
        }
        if edited.before.is_some() {
            let to_be = table::host::Edited {
                file: edited.file.clone(),
                text: String::from_utf8_lossy(&edited.after).into_owned(),
            };
            let checked = self.source.load_with(Some(to_be));
            checked.map_err(|complaints| table_wrong(&complaints))?;
        }
        edited.write()?;
        Ok(Some(edited))
    }

    /// `SetKey`: a reload that begins with a value in a file.
    pub(super) fn set_key(&mut self, set: SetKey, caller: u64) -> Result<Answer<Wait>, CallError> {
        if self.source.is_embedded() {
            return Err(CallError::admin("NoFile", json!({})));
        }
        self.queue_reload(Asked {
            caller: Some(caller),
            set: Some(set),
            ..Asked::default()
        })?;
        Ok(Answer::Later(Wait::Reload))
    }

    /// Whether the table in force has what is wanted.
    pub(super) fn is_toggled(&self, toggle: &Toggle) -> bool {
        let mut services = self.table.services.iter();
        let in_force = services.find(|service| service.name == toggle.name);
        in_force.is_some_and(|service| service.wanted() == toggle.enabled)
    }

    /// The table says so now, and yet it serves nobody here.
    fn is_for_elsewhere(&self, toggle: &Toggle) -> Option<CallError> {
        let mut services = self.table.services.iter();
        let service = services.find(|service| service.name == toggle.name)?;
        let reason = service.unmet.as_ref().filter(|_| toggle.enabled)?;
        let said = json!({ "service": toggle.name, "reason": reason });
        Some(CallError::admin("NotHere", said))
    }

    /// It is in force. Whoever enables a service wants to see it serve.
    pub(super) fn toggled(&mut self, toggle: &Toggle, caller: u64, now: Instant) {
        if let Some(error) = self.is_for_elsewhere(toggle) {
            return self.reply_to(caller, &Reply::Error(error), now);
        }
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

fn cannot(file: &Path, reason: impl ToString) -> CallError {
    let (file, reason) = (file.display().to_string(), reason.to_string());
    CallError::admin("CannotEdit", json!({ "file": file, "reason": reason }))
}

/// What an edit makes of a text; `None`: the service is not in it.
type Edit<'a> = &'a dyn Fn(&str) -> Result<Option<String>, String>;

/// What is to be done to a file, and has not been done yet.
fn plan_file(file: &Path, edit: Edit<'_>) -> Result<Edited, CallError> {
    // Through links: what is replaced must not be the link.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let before = fs::read_to_string(&file).map_err(|err| cannot(&file, err))?;
    let after = edit(&before).map_err(|why| cannot(&file, why))?;
    let after = after.ok_or_else(|| cannot(&file, "the service is not in it"))?;
    Ok(Edited {
        file,
        before: Some(before.into()),
        after: after.into(),
    })
}

/// A package's file stays as it is. `fresh` adds a service to a text.
fn plan_drop_in(
    folder: &Path,
    edit: Edit<'_>,
    fresh: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Edited, CallError> {
    let file = folder.join(DROP_IN);
    let before = match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(cannot(&file, err)),
    };
    let text = before.as_deref().unwrap_or("");
    let after = match edit(text).map_err(|why| cannot(&file, why))? {
        Some(after) => after,
        None => fresh(text).map_err(|why| cannot(&file, why))?,
    };
    let file = fs::canonicalize(&file).unwrap_or(file);
    Ok(Edited {
        file,
        before: before.map(String::into_bytes),
        after: after.into(),
    })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_written_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usherd.toml");
        fs::write(&file, "old").unwrap();
        let edited = |before: Option<&str>, after: &str| Edited {
            file: file.clone(),
            before: before.map(Into::into),
            after: after.into(),
        };
        edited(Some("old"), "new").write().unwrap();
        assert!(edited(Some("old"), "late").write().is_err());
        assert!(edited(None, "late").write().is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        fs::remove_file(&file).unwrap();
        assert!(edited(Some("new"), "late").write().is_err());
        assert!(!file.exists());
        edited(None, "first").write().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
    }
}
