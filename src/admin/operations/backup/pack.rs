//! From a directory to an archive. The tree belongs to a service that may be
//! hostile: every step is from one open directory to a name in it, and no link is followed.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use sha2::{Digest, Sha256};

use super::manifest::{Entry, Manifest, Skipped, What, hex};
use crate::admin::operations::{Failed, Kind, to};

/// Of one backup.
pub const MOST_FILES: usize = 500_000;
pub const MOST_OCTETS: u64 = 256 << 30;
/// Directories in directories.
const DEEPEST: usize = 100;
/// What is skipped is named up to here; the rest is counted.
const MOST_SKIPPED: usize = 1000;
/// Octets of a path, below the directory: `PATH_MAX` (limits.h), which nobody gets past
/// who does not go from directory to directory.
const LONGEST_PATH: usize = 4096;
/// Octets of all paths and of what links point to. They are in memory here, some of them
/// twice.
const MOST_NAMES: usize = 64 << 20;
/// Octets that a tar header has for where a link points.
const SHORT_LINK: usize = 100;

pub const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Whatever is found goes here.
pub trait Sink {
    fn directory(&mut self, entry: &Entry) -> io::Result<()>;
    fn link(&mut self, entry: &Entry, target: &str) -> io::Result<()>;
    /// Reads exactly `size` octets and returns their hash.
    fn file(&mut self, entry: &Entry, size: u64, from: &mut dyn Read) -> io::Result<String>;
}

/// Only looks: for a dry run.
#[derive(Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self, _: &Entry, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, _: &Entry, _: u64, _: &mut dyn Read) -> io::Result<String> {
        Ok(String::new())
    }
}

/// A tar archive.
pub struct Tar<W: Write>(pub tar::Builder<W>);

impl<W: Write> Tar<W> {
    fn append(
        &mut self,
        entry: &Entry,
        kind: tar::EntryType,
        data: Option<(u64, &mut dyn Read)>,
    ) -> io::Result<()> {
        let mut header = header(entry, kind);
        match data {
            Some((size, data)) => {
                header.set_size(size);
                self.0.append_data(&mut header, &entry.path, data)
            }
            None => self.0.append_data(&mut header, &entry.path, io::empty()),
        }
    }
}

impl<W: Write> Tar<W> {
    /// An entry in front of the link's own that says where it points, with a NUL behind
    /// (GNU tar, "The Extended Header for long names": type `K`).
    fn long_link(&mut self, target: &str) -> io::Result<()> {
        const NAME: &[u8] = b"././@LongLink";
        let mut header = tar::Header::new_gnu();
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.name[..NAME.len()].copy_from_slice(NAME);
        }
        header.set_entry_type(tar::EntryType::GNULongLink);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(target.len() as u64 + 1);
        header.set_cksum();
        let data = target.as_bytes().chain(&b"\0"[..]);
        self.0.append(&header, data)
    }
}

fn header(entry: &Entry, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.modified.try_into().unwrap_or(0));
    header.set_size(0);
    header
}

impl<W: Write> Sink for Tar<W> {
    fn directory(&mut self, entry: &Entry) -> io::Result<()> {
        self.append(entry, tar::EntryType::Directory, None)
    }

    /// Octet by octet: `append_link` would write `a//b` as `a/b`.
    fn link(&mut self, entry: &Entry, target: &str) -> io::Result<()> {
        let mut header = header(entry, tar::EntryType::Symlink);
        if target.len() <= SHORT_LINK {
            header.set_link_name_literal(target)?;
        } else {
            self.long_link(target)?;
        }
        self.0.append_data(&mut header, &entry.path, io::empty())
    }

    fn file(&mut self, entry: &Entry, size: u64, from: &mut dyn Read) -> io::Result<String> {
        let mut hashed = Hashed::new(from.take(size));
        self.append(entry, tar::EntryType::Regular, Some((size, &mut hashed)))?;
        match hashed.count == size {
            true => Ok(hashed.hash()),
            false => Err(io::Error::other("it became shorter while it was read")),
        }
    }
}

/// Hashes what is read or written through it, and counts its octets.
pub struct Hashed<T> {
    pub inner: T,
    hasher: Sha256,
    pub count: u64,
}

impl<T> Hashed<T> {
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
        }
    }

    pub fn hash(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    fn note(&mut self, octets: &[u8]) {
        self.hasher.update(octets);
        self.count += octets.len() as u64;
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.note(into.get(..length).unwrap_or_default());
        Ok(length)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(from)?;
        self.note(from.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Puts all that is in `root` into `sink`, and its names into `manifest`.
pub fn pack(root: &OwnedFd, manifest: &mut Manifest, sink: &mut dyn Sink) -> Result<(), Failed> {
    let about = to("look at the state directory", nix::sys::stat::fstat(root))?;
    let entry = entry(".".into(), What::Directory, &about);
    to("write the archive", sink.directory(&entry))?;
    manifest.files.push(entry);
    let mut walk = Walk {
        manifest,
        sink,
        octets: 0,
        names: 0,
        listed: 0,
    };
    walk.directory(root, "", 0)
}

struct Walk<'a> {
    manifest: &'a mut Manifest,
    sink: &'a mut dyn Sink,
    octets: u64,
    /// Octets of paths and of what links point to.
    names: usize,
    /// Names of directories that are not through yet, whose turn has not come.
    listed: usize,
}

impl Walk<'_> {
    /// The tree is a service's, and so is how much memory its names take.
    fn name(&mut self, path: &str, target: &str) -> Result<(), Failed> {
        let refuse = |why: String| Err(Failed::new(Kind::Forbidden, why));
        if path.len() > LONGEST_PATH {
            let start: String = path.chars().take(100).collect();
            return refuse(format!(
                "a path that begins with {start:?} has more than {LONGEST_PATH} octets"
            ));
        }
        self.names += path.len() + target.len();
        match self.names > MOST_NAMES {
            true => refuse(format!(
                "its paths have more than {} MiB together",
                MOST_NAMES >> 20
            )),
            false => Ok(()),
        }
    }

    /// In the order of names, so that the same tree gives the same archive.
    fn directory(&mut self, dir: &OwnedFd, at: &str, depth: usize) -> Result<(), Failed> {
        if depth > DEEPEST {
            let why = format!("{at:?} lies more than {DEEPEST} directories deep");
            return Err(Failed::new(Kind::Forbidden, why));
        }
        let what = format!("read the directory {at:?}");
        let mut listing = to(&what, Dir::openat(dir, ".", DIRECTORY, Mode::empty()))?;
        let mut names = Vec::new();
        for found in listing.iter() {
            let name = to(&what, found)?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
            if self.manifest.files.len() + self.listed + names.len() > MOST_FILES {
                let why = format!("there are more than {MOST_FILES} files");
                return Err(Failed::new(Kind::Forbidden, why));
            }
        }
        drop(listing);
        names.sort_unstable();
        self.listed += names.len();
        for name in names {
            self.listed -= 1;
            let Ok(text) = name.to_str() else {
                let path = format!("{at}{}", name.to_string_lossy());
                self.name(&path, "")?;
                self.skip(path, "its name is no UTF-8");
                continue;
            };
            let path = format!("{at}{text}");
            self.one(dir, &name, path, depth)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        dir: &OwnedFd,
        name: &CString,
        path: String,
        depth: usize,
    ) -> Result<(), Failed> {
        self.name(&path, "")?;
        let what = format!("read {path:?}");
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let about = to(&what, fstatat(dir, name.as_c_str(), flags))?;
        let kind = SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT;
        match kind {
            SFlag::S_IFDIR => {
                let below = to(
                    &what,
                    openat(dir, name.as_c_str(), DIRECTORY, Mode::empty()),
                )?;
                let about = to(&what, nix::sys::stat::fstat(&below))?;
                let entry = entry(path.clone(), What::Directory, &about);
                to(&what, self.sink.directory(&entry))?;
                self.manifest.files.push(entry);
                self.directory(&below, &format!("{path}/"), depth + 1)
            }
            SFlag::S_IFREG => self.file(dir, name, path),
            SFlag::S_IFLNK => {
                let target = to(&what, readlinkat(dir, name.as_c_str()))?;
                let Ok(target) = target.into_string() else {
                    self.skip(path, "it points to a name that is no UTF-8");
                    return Ok(());
                };
                self.name("", &target)?;
                let link = What::Link {
                    target: target.clone(),
                };
                let entry = entry(path, link, &about);
                to(&what, self.sink.link(&entry, &target))?;
                self.manifest.files.push(entry);
                Ok(())
            }
            other => {
                self.skip(path, special(other));
                Ok(())
            }
        }
    }

    fn file(&mut self, dir: &OwnedFd, name: &CString, path: String) -> Result<(), Failed> {
        let what = format!("read {path:?}");
        // It may have become a pipe since, which nobody is to wait for.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(dir, name.as_c_str(), flags, Mode::empty());
        let mut file = File::from(to(&what, opened)?);
        let about = to(&what, nix::sys::stat::fstat(file.as_fd()))?;
        let size = to(&what, file.metadata())?;
        if !size.is_file() {
            self.skip(path, "it is no file any more");
            return Ok(());
        }
        let size = size.size();
        self.octets = self.octets.saturating_add(size);
        if self.octets > MOST_OCTETS {
            let why = format!("there are more than {} GiB", MOST_OCTETS >> 30);
            return Err(Failed::new(Kind::Forbidden, why));
        }
        let sha256 = String::new();
        let mut entry = entry(path, What::File { size, sha256 }, &about);
        let sha256 = to(&what, self.sink.file(&entry, size, &mut file))?;
        entry.what = What::File { size, sha256 };
        self.manifest.files.push(entry);
        Ok(())
    }

    fn skip(&mut self, path: String, why: &str) {
        let skipped = &mut self.manifest.skipped;
        if skipped.len() < MOST_SKIPPED {
            let why = why.to_owned();
            skipped.push(Skipped { path, why });
        }
        self.manifest.skipped_in_all += 1;
    }
}

fn entry(path: String, what: What, about: &FileStat) -> Entry {
    Entry {
        path,
        what,
        mode: about.st_mode & 0o7777,
        uid: about.st_uid,
        gid: about.st_gid,
        modified: about.st_mtime,
    }
}

fn special(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFIFO => "it is a pipe",
        SFlag::S_IFSOCK => "it is a socket",
        _ => "it is a device",
    }
}
