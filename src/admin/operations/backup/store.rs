//! Where backups are: `{state_dir}/backups/SERVICE/ID.tar.zst` beside `ID.json`, which
//! comes last: what has no manifest is no backup.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::manifest::Manifest;
use crate::admin::operations::{Caller, Failed, Kind, Places, to};

/// Octets of a manifest.
const LONGEST_MANIFEST: u64 = 256 << 20;

#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

/// A backup by its name, `SERVICE@TIME`: both parts are plain file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    pub service: String,
    time: String,
}

impl Id {
    #[must_use]
    pub fn new(service: &str, time: String) -> Self {
        let service = service.to_owned();
        Self { service, time }
    }

    /// Of what somebody has typed; a service may only name its own.
    pub fn parse(text: &str, caller: &Caller) -> Result<Self, Failed> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b);
        let time = |b: u8| b.is_ascii_digit() || b"TZ.".contains(&b);
        let parts = text.rsplit_once('@').filter(|(service, at)| {
            let starts = |c: char| c.is_ascii_alphanumeric() || c == '_';
            service.starts_with(starts)
                && service.bytes().all(plain)
                && !at.is_empty()
                && at.bytes().all(time)
                && text.len() <= 128
        });
        let Some((service, at)) = parts else {
            let why =
                format!("{text:?} is no name of a backup: SERVICE@TIME, as backup.list shows it");
            return Err(Failed::new(Kind::Invalid, why));
        };
        if caller.service.as_ref().is_some_and(|own| own != service) {
            let why = "a service may only name backups of its own state";
            return Err(Failed::new(Kind::Forbidden, why));
        }
        Ok(Self::new(service, at.to_owned()))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.service, self.time)
    }
}

impl Store {
    #[must_use]
    pub fn new(places: &Places) -> Self {
        let dir = places.state_dir.join("backups");
        Self { dir }
    }

    #[must_use]
    pub fn of(&self, service: &str) -> PathBuf {
        self.dir.join(service)
    }

    #[must_use]
    pub fn archive(&self, id: &Id) -> PathBuf {
        self.of(&id.service).join(format!("{id}.tar.zst"))
    }

    fn manifest(&self, id: &Id) -> PathBuf {
        self.of(&id.service).join(format!("{id}.json"))
    }

    /// One at a time for each service: the rest are told to wait.
    pub fn lock(&self, service: &str) -> Result<Flock<File>, Failed> {
        let dir = self.of(service);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        to(format_args!("make {}", dir.display()), made)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(".lock"));
        let file = to(format_args!("open the lock in {}", dir.display()), file)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            let why = format!("another operation is at work on the backups of \"{service}\"");
            Failed::new(Kind::Busy, why)
        })
    }

    /// A file that nobody sees under its name before [`Self::keep`].
    pub fn begin(&self, id: &Id) -> Result<(PathBuf, File), Failed> {
        let dir = self.of(&id.service);
        // Whoever holds the lock is alone here: these are of one that was ended.
        if let Ok(entries) = fs::read_dir(&dir) {
            let left = entries
                .flatten()
                .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".new"));
            left.for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        let path = dir.join(format!("{id}.tar.zst.new"));
        let file = to(format_args!("make {}", path.display()), make(&path))?;
        Ok((path, file))
    }

    /// Puts an archive and its manifest in their places, for good.
    pub fn keep(&self, id: &Id, archive: &Path, manifest: &Manifest) -> Result<String, Failed> {
        let (text, hash) = manifest.seal()?;
        if text.len() as u64 > LONGEST_MANIFEST {
            let most = LONGEST_MANIFEST >> 20;
            let why =
                format!("its manifest would have more than {most} MiB: there are too many files");
            return Err(Failed::new(Kind::Forbidden, why));
        }
        let beside = self.of(&id.service).join(format!("{id}.json.new"));
        let written = (|| {
            let mut file = make(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(archive, self.archive(id))?;
            fs::rename(&beside, self.manifest(id))?;
            File::open(self.of(&id.service))?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&beside);
            let _ = fs::remove_file(self.archive(id));
        }
        to("keep the backup", written)?;
        Ok(hash)
    }

    /// The manifest, and its hash.
    pub fn read(&self, id: &Id) -> Result<(Manifest, String), Failed> {
        let path = self.manifest(id);
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(Failed::new(
                    Kind::NotFound,
                    format!("there is no backup {id}"),
                ));
            }
            Err(err) => return to(format_args!("read {}", path.display()), Err(err)),
        };
        let (manifest, hash) = Manifest::open(&text)?;
        if manifest.id != id.to_string() || manifest.service != id.service {
            let why = format!("the manifest of {id} is that of {}", manifest.id);
            return Err(Failed::new(Kind::Failed, why));
        }
        Ok((manifest, hash))
    }

    pub fn remove(&self, id: &Id) -> Result<(), Failed> {
        let done = (|| {
            fs::remove_file(self.manifest(id))?;
            fs::remove_file(self.archive(id))?;
            File::open(self.of(&id.service))?.sync_all()
        })();
        match done {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(Failed::new(
                Kind::NotFound,
                format!("there is no backup {id}"),
            )),
            done => to(format_args!("delete backup {id}"), done),
        }
    }

    /// All of a service, or all there are; oldest first.
    pub fn list(&self, service: Option<&str>) -> Vec<Id> {
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.collect()
        };
        let services = match service {
            Some(name) => vec![name.to_owned()],
            None => names(&self.dir),
        };
        let nobody = Caller {
            uid: 0,
            service: None,
            instance: None,
        };
        let files = services.iter().flat_map(|service| names(&self.of(service)));
        let mut found: Vec<Id> = files
            .filter_map(|name| Id::parse(name.strip_suffix(".json")?, &nobody).ok())
            .collect();
        found.sort_by(|a, b| (&a.service, &a.time).cmp(&(&b.service, &b.time)));
        found
    }
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.len() > LONGEST_MANIFEST {
        return Err(io::Error::other("it is too long"));
    }
    let mut text = String::new();
    file.take(LONGEST_MANIFEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(service: Option<&str>) -> Caller {
        Caller {
            uid: 0,
            service: service.map(str::to_owned),
            instance: None,
        }
    }

    #[test]
    fn a_service_names_only_its_own_backups_and_nobody_names_a_path() {
        let own = Id::parse("a@b@20261128T231502Z", &caller(Some("a@b")));
        assert_eq!(
            own.map(|id| id.to_string()),
            Ok("a@b@20261128T231502Z".into())
        );
        let kind = |text: &str, who| Id::parse(text, &caller(who)).map_err(|failed| failed.kind);
        assert_eq!(kind("b@2026", Some("a")), Err(Kind::Forbidden));
        for bad in [
            "", "@1", "a@", "a@../x", "../a@1", "a/b@1", ".a@1", "a@1\0", "a@1/", "a",
        ] {
            assert_eq!(kind(bad, None), Err(Kind::Invalid), "{bad:?}");
        }
    }
}
