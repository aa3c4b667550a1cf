//! `backup.*`: the state of a service, kept and brought back.
//!
//! - `store`: where backups are
//! - `manifest`: what is in one
//! - `pack`, `unpack`: from a directory to an archive, and back
//! - `standstill`: of all servers that write to it
//! - `former`: where states go that a backup takes the place of
//! - `room`: how much of the disk all that may take
//!
//! The state is read while the service's servers stand still, and is replaced in
//! one step: at every moment its name stands for the whole old or the whole new one.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::{Mode, fstat};
use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, keys_of, to};
use crate::sandbox::blueprint::STATE;
use former::Former;
use manifest::Manifest;
use pack::{DIRECTORY, Hashed, Tar, pack};
use standstill::Standstill;
use store::{Id, Store};
use unpack::{Into, Owners, unpack};

mod former;
mod manifest;
mod pack;
mod room;
mod standstill;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

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
    let whose = Whose::ask(service, usherd)?;
    let state = &whose.state;
    let root = open(&states.join(state))?;
    let now = now();
    let id = Id::new(service, stamp(now.0, now.1));
    let note = request.parameters.some_text("note");
    let mut manifest = Manifest::new(id.to_string(), service, state, note, now.0);
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
    let written = Standstill::begin(&whose.services, usherd).and_then(|still| {
        usherd.progress("reading");
        let written = has_room(&root, manifest.clone(), &store.of(service))
            .and_then(|()| write(&root, file, &mut manifest));
        let thawed = still.end(false, usherd);
        written?;
        match thawed? {
            true => Ok(()),
            false => Err(Failed::new(
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
    let whose = Whose::ask(service, usherd)?;
    let store = Store::new(&request.places);
    let (manifest, _) = store.read(&id)?;
    let while_running = request.parameters.flag("while_running");
    if request.dry_run {
        let running = whose.running(usherd)?;
        left_behind(running, while_running)?;
        unpack(archive(&store, &id)?, &manifest, &mut unpack::Nowhere)?;
        let would = json!({ "would": true, "restored": service, "running_with_old": running });
        return Ok(shown(&manifest, would));
    }
    let _lock = store.lock(service)?;
    let former = Former::of(states, &whose.state)?;
    // Whoever holds the lock is alone here: these are of one that was ended.
    former.clear()?;
    let cure = format!("remove some of {}", former.shown("*"));
    let what = format!("former states of \"{service}\"");
    room::count(former.count()?, most, &what, &cure)?;
    room::space(states, manifest.size())?;
    let now = now();
    let stamp = stamp(now.0, now.1);
    let root = former.begin(&stamp)?;
    usherd.progress("unpacking");
    let is_other = service != manifest.service;
    let done = fill(root, &former, is_other, (&store, &id, &manifest)).and_then(|()| {
        usherd.progress("waiting for the servers to stand still");
        // That may have been an hour ago.
        let whose = Whose::ask(service, usherd)?;
        if whose.state != former.state {
            let why = "the table gives the service another `state` now; ask again";
            return Err(Failed::new(Kind::Busy, why));
        }
        let still = Standstill::begin(&whose.services, usherd)?;
        let running = still.running;
        let swapped = left_behind(running, while_running).and_then(|()| former.swap(&stamp));
        // Done is done; those who could not be thawed are when this process ends.
        let _ = still.end(swapped.is_ok(), usherd);
        Ok((swapped?, running))
    });
    let (old, running) = done.inspect_err(|_| drop(former.clear()))?;
    Ok(shown(
        &manifest,
        json!({ "old": old, "running_with_old": running, "restored": service }),
    ))
}

/// Servers that run have the old state open.
fn left_behind(running: u64, while_running: bool) -> Result<(), Failed> {
    if running == 0 || while_running {
        return Ok(());
    }
    let why = format!(
        "{running} of its servers run, and would go on with the old state: stop the service \
         first (service.stop), or ask with while_running=true"
    );
    Err(Failed::new(Kind::Busy, why))
}

/// Unpacks into `root`, whole on the disk and with its owners.
fn fill(
    root: OwnedFd,
    former: &Former,
    is_other: bool,
    (store, id, manifest): (&Store, &Id, &Manifest),
) -> Result<(), Failed> {
    let mut owners = Owners {
        plain: is_other,
        ..Owners::default()
    };
    // The server's user may have another number by now: that of the directory it has.
    if let (Some(there), Some(first)) = (former.replaced(), manifest.files.first()) {
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

fn archive(store: &Store, id: &Id) -> Result<BufReader<File>, Failed> {
    let path = store.archive(id);
    let file = File::open(&path);
    let file = to(format_args!("open {}", path.display()), file)?;
    Ok(BufReader::new(file))
}

/// A state directory, and who writes to it.
struct Whose {
    /// Its name under /var/lib.
    state: String,
    /// The service that was named, and those that have the same.
    services: Vec<String>,
}

impl Whose {
    fn ask(service: &str, usherd: &mut dyn Usherd) -> Result<Self, Failed> {
        let told = usherd.call("Describe", json!({ "service": service }))?;
        let sharing = told["sharing"].as_array().into_iter().flatten();
        let sharing = sharing.filter_map(|name| name.as_str().map(str::to_owned));
        let keys = keys_of(&told)?;
        let state = keys.get("state").and_then(toml::Value::as_str);
        let state = state.ok_or_else(|| {
            let why = format!(
                "service \"{service}\" has no `state` in the table, so there is nothing to keep"
            );
            Failed::new(Kind::NotFound, why)
        })?;
        Ok(Self {
            state: state.to_owned(),
            services: std::iter::once(service.to_owned()).chain(sharing).collect(),
        })
    }

    /// How many servers of theirs run.
    fn running(&self, usherd: &mut dyn Usherd) -> Result<u64, Failed> {
        let mut running = 0;
        for service in &self.services {
            let told = usherd.call("GetRunning", json!({ "service": service }))?;
            running += told["instances"].as_array().map_or(0, Vec::len) as u64;
        }
        Ok(running)
    }
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
