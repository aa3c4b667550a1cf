//! `backup.*`: the state of a service, kept and brought back.
//!
//! - `store`: where backups are
//! - `manifest`: what is in one
//! - `pack`, `unpack`: from a directory to an archive, and back
//! - `room`: how much of the disk all that may take
//!
//! The state is read while the service's servers stand still, and is replaced in
//! one step: at every moment its name stands for the whole old or the whole new one.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::openat;
use nix::sys::stat::{Mode, fstat, mkdirat};
use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, described_all, to};
use crate::sandbox::blueprint::STATE;
use crate::sys::rename::{exchange, rename_new};
use manifest::Manifest;
use pack::{DIRECTORY, Hashed, Tar, pack};
use store::{Id, Store};
use unpack::{Into, Owners, unpack};

mod manifest;
mod pack;
mod room;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

/// What has replaced a state directory leaves the old one under its name and this.
const OLD: &str = "usherd-old";
const NEW: &str = "usherd-new";
/// Of zstd: fast, and about as small as gzip at its best.
const LEVEL: i32 = 3;

pub fn create(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    create_in(Path::new(STATE), room::most(30)?, request, usherd)
}

pub fn restore(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    restore_in(Path::new(STATE), room::most(10)?, request, usherd)
}

/// `states`: where state directories are; `most`: backups of a service.
fn create_in(states: &Path, most: usize, request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let service = request.parameters.text("service")?;
    let state = state_of(service, usherd)?;
    let root = open(&states.join(&state))?;
    let now = now();
    let id = Id::new(service, stamp(now.0, now.1));
    let note = request.parameters.some_text("note");
    let mut manifest = Manifest::new(id.to_string(), service, &state, note, now.0);
    if request.dry_run {
        pack(&root, &mut manifest, &mut pack::Nowhere)?;
        return Ok(shown(&manifest, named(&manifest, json!({ "would": true }))));
    }
    let store = Store::new(&request.places);
    let _lock = store.lock(service)?;
    let what = format!("backups of \"{service}\"");
    room::count(
        store.list(Some(service)).len(),
        most,
        &what,
        "backup.delete",
    )?;
    let (path, file) = store.begin(&id)?;
    usherd.progress("waiting for the servers to stand still");
    let written = usherd
        .call("Freeze", json!({ "service": service }))
        .and_then(|_| {
            usherd.progress("reading");
            let written = has_room(&root, manifest.clone(), &store.of(service))
                .and_then(|()| write(&root, file, &mut manifest));
            let thawed = usherd.call("Thaw", json!({ "service": service }));
            written?;
            match thawed?["was_frozen"].as_bool() {
                Some(true) => Ok(()),
                _ => Err(Failed::new(
                    Kind::Busy,
                    "its servers were let go while their state was read; ask again",
                )),
            }
        });
    let kept = written.and_then(|()| store.keep(&id, &path, &manifest));
    let hash = kept.inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(shown(
        &manifest,
        named(&manifest, json!({ "sha256": hash })),
    ))
}

/// Room for all of it, for nobody knows how small it gets; `manifest` is empty still.
fn has_room(root: &OwnedFd, mut manifest: Manifest, place: &Path) -> Result<(), Failed> {
    pack(root, &mut manifest, &mut pack::Nowhere)?;
    room::space(place, manifest.size())
}

/// The archive, whole on the disk.
fn write(root: &OwnedFd, file: File, manifest: &mut Manifest) -> Result<(), Failed> {
    let hashed = Hashed::new(BufWriter::new(file));
    let encoder = to("compress", zstd::Encoder::new(hashed, LEVEL))?;
    let mut tar = Tar(tar::Builder::new(encoder));
    pack(root, manifest, &mut tar)?;
    let what = "write the archive";
    let encoder = to(what, tar.0.into_inner())?;
    let mut hashed = to(what, encoder.finish())?;
    to(what, hashed.flush())?;
    manifest.archive.size = hashed.count;
    manifest.archive.sha256 = hashed.hash();
    to(what, hashed.inner.get_ref().sync_all())
}

pub fn list(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let store = Store::new(&request.places);
    let own = request.caller.service.as_deref();
    let service = match (own, request.parameters.some_text("service")) {
        (Some(own), Some(other)) if own != other => {
            let why = "a service may only see backups of its own state";
            return Err(Failed::new(Kind::Forbidden, why));
        }
        (Some(own), _) => Some(own),
        (None, service) => service,
    };
    let backups = store
        .list(service)
        .into_iter()
        .map(|id| match store.read(&id) {
            Ok((manifest, hash)) => shown(&manifest, json!({ "sha256": hash })),
            Err(failed) => {
                json!({ "id": id.to_string(), "service": id.service, "broken": failed.reason })
            }
        });
    let backups: Vec<Value> = backups.collect();
    Ok(json!({ "backups": backups }))
}

pub fn verify(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let id = Id::parse(request.parameters.text("id")?, &request.caller)?;
    let store = Store::new(&request.places);
    let verified = store.read(&id).and_then(|(manifest, _)| {
        usherd.progress("reading");
        let archive = archive(&store, &id)?;
        unpack(archive, &manifest, &mut unpack::Nowhere)?;
        Ok(manifest)
    });
    match verified {
        Ok(manifest) => Ok(shown(&manifest, json!({ "intact": true }))),
        Err(failed) if failed.kind == Kind::NotFound => Err(failed),
        Err(failed) => {
            Ok(json!({ "id": id.to_string(), "intact": false, "reason": failed.reason }))
        }
    }
}

pub fn delete(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let id = Id::parse(request.parameters.text("id")?, &request.caller)?;
    let store = Store::new(&request.places);
    store
        .read(&id)
        .map(drop)
        .or_else(|failed| match failed.kind {
            Kind::NotFound => Err(failed),
            _ => Ok(()), // what is broken can go all the more
        })?;
    if !request.dry_run {
        let _lock = store.lock(&id.service)?;
        store.remove(&id)?;
    }
    Ok(json!({ "id": id.to_string() }))
}

/// `most`: states of a service that are kept because a backup took their place.
fn restore_in(states: &Path, most: usize, request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let id = Id::parse(request.parameters.text("id")?, &request.caller)?;
    let service = request.parameters.some_text("service");
    let service = service.unwrap_or(&id.service);
    let state = state_of(service, usherd)?;
    let store = Store::new(&request.places);
    let (manifest, _) = store.read(&id)?;
    if request.dry_run {
        unpack(archive(&store, &id)?, &manifest, &mut unpack::Nowhere)?;
        return Ok(shown(&manifest, json!({ "would": true })));
    }
    let _lock = store.lock(service)?;
    let parent = open(states)?;
    // Whoever holds the lock is alone here: these are of one that was ended.
    for left in begin_with(&format!(".{state}.{NEW}-"), states)? {
        to(format!("remove {left}"), unpack::remove(&parent, &left))?;
    }
    let kept = begin_with(&format!("{state}.{OLD}-"), states)?.len();
    let place = states.join(format!("{state}.{OLD}-*"));
    let cure = format!("remove some of {}", place.display());
    room::count(
        kept,
        most,
        &format!("former states of \"{service}\""),
        &cure,
    )?;
    room::space(states, manifest.size())?;
    let now = now();
    let stamp = stamp(now.0, now.1);
    let beside = format!(".{state}.{NEW}-{stamp}");
    to(
        "make a directory beside the old one",
        mkdirat(&parent, beside.as_str(), Mode::S_IRWXU),
    )?;
    usherd.progress("unpacking");
    let is_other = service != manifest.service;
    let done = fill(&parent, &beside, &state, is_other, (&store, &id, &manifest)).and_then(|()| {
        usherd.progress("waiting for the servers to stand still");
        let frozen = usherd.call("Freeze", json!({ "service": service }))?;
        let running = frozen["instances"].as_u64().unwrap_or(0);
        let swapped = match running == 0 || request.parameters.flag("while_running") {
            true => swap(&parent, &beside, &state, &stamp),
            false => Err(Failed::new(
                Kind::Busy,
                format!(
                    "{running} of its servers run, and would go on with the old state: stop the service \
                     first (service.stop), or ask with while_running=true"
                ),
            )),
        };
        let renewed = json!({ "service": service, "renewed": swapped.is_ok() });
        let thawed = usherd.call("Thaw", renewed);
        let old = swapped?;
        thawed?;
        Ok((old, running))
    });
    let (old, running) = done.inspect_err(|_| drop(unpack::remove(&parent, &beside)))?;
    let old = old.map(|name| states.join(name).display().to_string());
    Ok(shown(
        &manifest,
        json!({ "old": old, "running_with_old": running, "restored": service }),
    ))
}

/// Unpacks into `beside`, whole on the disk and with its owners.
fn fill(
    parent: &OwnedFd,
    beside: &str,
    state: &str,
    is_other: bool,
    (store, id, manifest): (&Store, &Id, &Manifest),
) -> Result<(), Failed> {
    let root = to(
        "open it again",
        openat(parent, beside, DIRECTORY, Mode::empty()),
    )?;
    let mut owners = Owners {
        plain: is_other,
        ..Owners::default()
    };
    // The server's user may have another number by now: that of the directory it has.
    let first = manifest.files.first();
    if let (Ok(there), Some(first)) = (openat(parent, state, DIRECTORY, Mode::empty()), first) {
        let there = to("look at the state directory", fstat(&there))?;
        owners.uid = Some((first.uid, there.st_uid));
        owners.gid = Some((first.gid, there.st_gid));
    }
    let synced = to("open it again", root.try_clone())?;
    let mut into = Into::new(root, owners);
    unpack(archive(store, id)?, manifest, &mut into)?;
    into.finish()?;
    to("write it to the disk", nix::unistd::syncfs(synced.as_fd()))
}

/// The new state takes the name of the old one. Returns the name that the old one has now.
///
/// The new one first has the name that is to be the old one's, so that one step is enough.
/// After an error nothing has happened: `new` stands for the new state.
fn swap(parent: &OwnedFd, new: &str, state: &str, stamp: &str) -> Result<Option<String>, Failed> {
    let c = |name: &str| to("name it", CString::new(name));
    let old = format!("{state}.{OLD}-{stamp}");
    let (new, name, aside) = (c(new)?, c(state)?, c(&old)?);
    let what = "put the new state in the place of the old one";
    to(what, rename_new(parent.as_fd(), &new, &aside))?;
    let kept = match exchange(parent.as_fd(), &aside, &name) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            rename_new(parent.as_fd(), &aside, &name).map(|()| None)
        }
        exchanged => exchanged.map(|()| Some(old)),
    };
    if kept.is_err() {
        let _ = rename_new(parent.as_fd(), &aside, &new);
    }
    let _ = nix::unistd::fsync(parent);
    to(what, kept)
}

/// Names in a directory.
fn begin_with(start: &str, dir: &Path) -> Result<Vec<String>, Failed> {
    let entries = to(format!("look at {}", dir.display()), fs::read_dir(dir))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(start)).collect())
}

fn archive(store: &Store, id: &Id) -> Result<BufReader<File>, Failed> {
    let path = store.archive(id);
    let file = File::open(&path);
    let file = to(format_args!("open {}", path.display()), file)?;
    Ok(BufReader::new(file))
}

/// The name of a service's directory under /var/lib.
fn state_of(service: &str, usherd: &mut dyn Usherd) -> Result<String, Failed> {
    let keys = described_all(usherd, service)?;
    let state = keys.get("state").and_then(toml::Value::as_str);
    let state = state.map(str::to_owned);
    state.ok_or_else(|| {
        let why = format!(
            "service \"{service}\" has no `state` in the table, so there is nothing to keep"
        );
        Failed::new(Kind::NotFound, why)
    })
}

fn open(path: &Path) -> Result<OwnedFd, Failed> {
    let opened = nix::fcntl::open(path, DIRECTORY, Mode::empty());
    opened.map_err(|err| {
        let kind = match err {
            nix::errno::Errno::ENOENT => Kind::NotFound,
            _ => Kind::Failed,
        };
        Failed::new(kind, format!("unable to open {}: {err}", path.display()))
    })
}

/// Adds the first of what was skipped, in a length that any caller can take.
fn named(manifest: &Manifest, mut more: Value) -> Value {
    const MOST: usize = 20;
    const LONGEST: usize = 200;
    let skipped = manifest.skipped.iter().take(MOST).map(|one| {
        let mut path: String = one.path.chars().take(LONGEST).collect();
        if path.len() < one.path.len() {
            path.push('…');
        }
        json!({ "path": path, "why": one.why })
    });
    more["skipped_first"] = skipped.collect();
    more
}

fn shown(manifest: &Manifest, more: Value) -> Value {
    let mut shown = json!({
        "id": manifest.id,
        "service": manifest.service,
        "made": manifest.made,
        "files": manifest.files.len(),
        "size": manifest.size(),
        "archive_size": manifest.archive.size,
        "skipped": manifest.skipped_in_all,
    });
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(
            manifest
                .note
                .iter()
                .map(|note| ("note".to_owned(), json!(note))),
        );
        shown.extend(more);
    }
    shown
}

/// Seconds since 1970, and microseconds.
fn now() -> (u64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    (since.as_secs(), since.subsec_micros())
}

/// `20261128T231502.000042Z`: names sort as times do.
fn stamp(seconds: u64, micros: u32) -> String {
    let time = UNIX_EPOCH + std::time::Duration::new(seconds, micros * 1000);
    let text = humantime::format_rfc3339_micros(time).to_string();
    text.replace(['-', ':'], "")
}
