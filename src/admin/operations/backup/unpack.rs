//! From an archive to a directory, or to nothing but a verdict. The archive is ours,
//! and is believed no more than anybody's: it must be what the manifest says, entry by entry.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use super::manifest::{Entry, Manifest, What};
use super::pack::{DIRECTORY, Hashed};
use crate::admin::operations::{Failed, Kind, to};

/// Where entries go.
pub trait Target {
    fn directory(&mut self, entry: &Entry) -> io::Result<()>;
    fn link(&mut self, entry: &Entry, target: &str) -> io::Result<()>;
    fn file(&mut self, entry: &Entry, from: &mut dyn Read) -> io::Result<()>;
}

/// Only verifies.
#[derive(Debug)]
pub struct Nowhere;

impl Target for Nowhere {
    fn directory(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self, _: &Entry, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, _: &Entry, from: &mut dyn Read) -> io::Result<()> {
        io::copy(from, &mut io::sink()).map(|_| ())
    }
}

/// Reads the whole archive, compressed, from `archive`. An error says what is not as
/// the manifest has it; what is in `target` then is good for nothing.
pub fn unpack(
    archive: impl Read,
    manifest: &Manifest,
    target: &mut dyn Target,
) -> Result<(), Failed> {
    let changed = |what: String| {
        Failed::new(
            Kind::Failed,
            format!("the archive has been changed: {what}"),
        )
    };
    let mut archive = Hashed::new(archive);
    let decoder = zstd::Decoder::new(&mut archive);
    let decoder = decoder.map_err(|err| changed(err.to_string()))?;
    let mut tar = tar::Archive::new(decoder);
    let entries = tar.entries().map_err(|err| changed(err.to_string()))?;
    let mut expected = manifest.files.iter();
    for found in entries {
        let mut found = found.map_err(|err| changed(err.to_string()))?;
        let Some(entry) = expected.next() else {
            return Err(changed("it holds more than the manifest names".into()));
        };
        let path = found.path_bytes();
        // tar writes directories with a slash behind.
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        if path != entry.path.as_bytes() {
            let path = String::from_utf8_lossy(path);
            return Err(changed(format!(
                "{path:?} is in the place of {:?}",
                entry.path
            )));
        }
        one(&mut found, entry, target)?;
    }
    if let Some(missing) = expected.next() {
        return Err(changed(format!("{:?} is not in it", missing.path)));
    }
    // What stands behind the end of the archive counts too.
    let mut decoder = tar.into_inner();
    io::copy(&mut decoder, &mut io::sink()).map_err(|err| changed(err.to_string()))?;
    drop(decoder);
    to("read the archive", io::copy(&mut archive, &mut io::sink()))?;
    let same = archive.count == manifest.archive.size && archive.hash() == manifest.archive.sha256;
    match same {
        true => Ok(()),
        false => Err(changed("its hash is another".into())),
    }
}

fn one<R: Read>(
    found: &mut tar::Entry<'_, R>,
    entry: &Entry,
    target: &mut dyn Target,
) -> Result<(), Failed> {
    let path = &entry.path;
    let wrong = |why: &str| Failed::new(Kind::Failed, format!("{path:?} in the archive {why}"));
    let kind = found.header().entry_type();
    let what = format!("restore {path:?}");
    match &entry.what {
        What::Directory if kind.is_dir() => to(what, target.directory(entry)),
        What::Link { target: to_where } if kind.is_symlink() => {
            let same = found.link_name_bytes();
            if same.as_deref() != Some(to_where.as_bytes()) {
                return Err(wrong("points to somewhere else"));
            }
            to(what, target.link(entry, to_where))
        }
        What::File { size, sha256 } if kind.is_file() => {
            if found.size() != *size {
                return Err(wrong("has another size"));
            }
            let mut hashed = Hashed::new(found);
            to(what, target.file(entry, &mut hashed))?;
            match hashed.count == *size && hashed.hash() == *sha256 {
                true => Ok(()),
                false => Err(wrong("has other contents")),
            }
        }
        _ => Err(wrong("is of another kind")),
    }
}

/// A new directory that nobody else knows.
#[derive(Debug)]
pub struct Into {
    root: OwnedFd,
    /// Open ones on the way to the last entry: entries of a directory follow each other.
    open: HashMap<String, OwnedFd>,
    owners: Owners,
    /// Directories get mode and time last, for both change as they are filled.
    directories: Vec<Entry>,
}

/// Who gets what belonged to somebody else in the backup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owners {
    /// From, to.
    pub uid: Option<(u32, u32)>,
    pub gid: Option<(u32, u32)>,
    /// No file becomes set-user-id or set-group-id.
    pub plain: bool,
}

impl Into {
    #[must_use]
    pub fn new(root: OwnedFd, owners: Owners) -> Self {
        Self {
            root,
            open: HashMap::new(),
            owners,
            directories: Vec::new(),
        }
    }

    /// Gives directories their owners, modes and times.
    pub fn finish(mut self) -> Result<(), Failed> {
        let owners = self.owners;
        for entry in std::mem::take(&mut self.directories).iter().rev() {
            let what = format!("restore {:?}", entry.path);
            let dir = to(&what, self.dir(&entry.path))?;
            to(&what, own(dir, entry, owners))?;
        }
        Ok(())
    }

    fn dir(&mut self, path: &str) -> io::Result<&OwnedFd> {
        if path == "." {
            return Ok(&self.root);
        }
        if !self.open.contains_key(path) {
            let (parent, name) = split(path);
            let below = {
                let parent = self.dir(parent)?;
                openat(parent, name, DIRECTORY, Mode::empty())?
            };
            // Those of other branches are not needed any more.
            self.open
                .retain(|known, _| path.starts_with(&format!("{known}/")));
            self.open.insert(path.to_owned(), below);
        }
        self.open
            .get(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Target for Into {
    fn directory(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.path != "." {
            let (parent, name) = split(&entry.path);
            mkdirat(self.dir(parent)?, name, Mode::S_IRWXU)?;
        }
        self.directories.push(entry.clone());
        Ok(())
    }

    fn link(&mut self, entry: &Entry, target: &str) -> io::Result<()> {
        let (parent, name) = split(&entry.path);
        let (uid, gid) = self.owners.of(entry);
        let dir = self.dir(parent)?;
        symlinkat(target, dir, name)?;
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(dir, name, Some(uid), Some(gid), flags)?;
        let at = TimeSpec::new(entry.modified, 0);
        utimensat(dir, name, &at, &at, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    fn file(&mut self, entry: &Entry, from: &mut dyn Read) -> io::Result<()> {
        let (parent, name) = split(&entry.path);
        let owners = self.owners;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(
            self.dir(parent)?,
            name,
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        let mut file = File::from(file);
        io::copy(from, &mut file)?;
        file.flush()?;
        own(file, entry, owners)
    }
}

impl Owners {
    fn of(self, entry: &Entry) -> (Uid, Gid) {
        let new = |pair: Option<(u32, u32)>, id: u32| match pair {
            Some((from, to)) if from == id => to,
            _ => id,
        };
        (
            Uid::from_raw(new(self.uid, entry.uid)),
            Gid::from_raw(new(self.gid, entry.gid)),
        )
    }
}

/// The owner first: to change him takes set-user-id away.
fn own(file: impl AsFd, entry: &Entry, owners: Owners) -> io::Result<()> {
    let (uid, gid) = owners.of(entry);
    fchown(&file, Some(uid), Some(gid))?;
    let is_file = matches!(entry.what, What::File { .. });
    let mode = match owners.plain && is_file {
        true => entry.mode & 0o1777,
        false => entry.mode,
    };
    fchmod(&file, Mode::from_bits_truncate(mode))?;
    let at = TimeSpec::new(entry.modified, 0);
    futimens(&file, &at, &at)?;
    Ok(())
}

/// Parent and name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

/// Takes a directory away with all that is in it, never through a link.
pub fn remove(parent: &OwnedFd, name: &str) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, unlinkat};
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(nix::errno::Errno::EISDIR | nix::errno::Errno::EPERM) => {}
        done => return Ok(done?),
    }
    // A directory that its owner cannot write to is written to by root all the same.
    let dir = openat(parent, name, DIRECTORY, Mode::empty())?;
    let _ = fchmodat(&dir, ".", Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
    let mut names = Vec::new();
    for found in nix::dir::Dir::openat(&dir, ".", DIRECTORY, Mode::empty())?.iter() {
        let name = found?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        let name = name.to_str().map_err(io::Error::other)?;
        remove(&dir, name)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
