//! Files that a sandbox shows or hides, as they were when it was built.
//!
//! A mount on a file goes as soon as the host replaces the file, by rename(2) as
//! passwd(1) and editors do: what was hidden is seen then, and what a minimal
//! root showed is empty. So the helper looks before every use whether they are
//! still the same. Directories are hardly ever replaced and may be far away,
//! where to look takes its time: they are left out.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statfs;
use serde::{Deserialize, Serialize};

use crate::sandbox::blueprint::{Shown, Tree};

/// Octets of paths that a report has room for.
const ROOM: usize = 4096;

/// Longer than the coarsest time stamp of a file system that has links and users.
const GRAIN: Duration = Duration::from_secs(3);

/// What no other file has; the time of birth because numbers are used again.
type Identity = (u64, u64, Option<u128>);

/// A file, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    path: PathBuf,
    identity: Option<Identity>,
    /// Its name is a link, whose directory does not change with the file.
    linked: bool,
}

impl KnownFile {
    /// `None` if a directory is there.
    fn at(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok();
        if meta.as_ref().is_some_and(fs::Metadata::is_dir) {
            return None;
        }
        let linked = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        Some(Self {
            path: path.to_owned(),
            identity: meta.as_ref().map(identity),
            linked,
        })
    }

    fn is_same(&self) -> bool {
        let now = fs::metadata(&self.path).ok();
        now.as_ref().map(identity) == self.identity
    }
}

fn identity(meta: &fs::Metadata) -> Identity {
    let born = meta.created().unwrap_or(SystemTime::UNIX_EPOCH);
    let born = born.duration_since(UNIX_EPOCH).ok();
    (meta.dev(), meta.ino(), born.map(|born| born.as_nanos()))
}

/// The files of one sandbox, to be looked at before every use of it.
#[derive(Debug, Default)]
pub struct Known {
    folders: Vec<Folder>,
    linked: Vec<KnownFile>,
}

/// Files of one directory. None of them is replaced without a change of that, so as long as
/// it is the same there is nothing else to look at, where the file system is known to tell.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    files: Vec<KnownFile>,
    seen: Cell<Option<Seen>>,
}

/// Of a directory: device, inode, and the time of the last change.
type State = (u64, u64, (i64, i64));

/// A directory, or the lack of one, when all its files were the same.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: Option<State>,
    since: Instant,
    /// So long the same that whatever happens next gives it another time.
    vouches: bool,
}

impl Known {
    #[must_use]
    pub fn new(files: Vec<KnownFile>) -> Self {
        let mut known = Self::default();
        for file in files {
            match file.path.parent() {
                Some(parent) if !file.linked => {
                    let parent = parent.to_owned();
                    known.folder(parent).files.push(file);
                }
                _ => known.linked.push(file),
            }
        }
        known
    }

    #[must_use]
    pub fn are_same(&self, now: Instant) -> bool {
        self.folders.iter().all(|folder| folder.is_same(now))
            && self.linked.iter().all(KnownFile::is_same)
    }

    fn folder(&mut self, path: PathBuf) -> &mut Folder {
        let found = self.folders.iter().position(|folder| folder.path == path);
        let at = found.unwrap_or_else(|| {
            self.folders.push(Folder {
                path,
                files: Vec::new(),
                seen: Cell::new(None),
            });
            self.folders.len() - 1
        });
        &mut self.folders[at]
    }
}

impl Folder {
    fn is_same(&self, now: Instant) -> bool {
        let meta = fs::metadata(&self.path).ok();
        let state = meta.map(|meta| (meta.dev(), meta.ino(), (meta.ctime(), meta.ctime_nsec())));
        let before = self.seen.get().filter(|seen| seen.state == state);
        if before.is_some_and(|seen| seen.vouches) {
            return true;
        }
        let same = self.files.iter().all(KnownFile::is_same);
        let since = before.map_or(now, |seen| seen.since);
        // Where there is no directory there is no file.
        let vouches = state.is_none()
            || (now >= since + GRAIN || state.is_some_and(is_old)) && tells_changes(&self.path);
        let seen = Seen {
            state,
            since,
            vouches,
        };
        self.seen.set(same.then_some(seen));
        same
    }
}

/// Whether the last change was so long ago that the next one has another time. Where the clock
/// has been set back since, it is yet to come, and nothing is known; where it has been set
/// forward, the next change is still at another time.
fn is_old((_, _, (seconds, nanoseconds)): State) -> bool {
    let nanoseconds = u32::try_from(nanoseconds).unwrap_or(0);
    let since_epoch = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanoseconds));
    let changed = since_epoch
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since));
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age >= GRAIN)
}

/// Whether a directory has another time of change when a name in it comes, goes or is replaced. Who
/// writes file systems for FUSE or a network may leave that out.
fn tells_changes(directory: &Path) -> bool {
    // Not in nix for every C library.
    const XFS: statfs::FsType = statfs::FsType(0x5846_5342);
    const KNOWN: [statfs::FsType; 6] = [
        statfs::EXT4_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::TMPFS_MAGIC,
        statfs::OVERLAYFS_SUPER_MAGIC,
        statfs::F2FS_SUPER_MAGIC,
        XFS,
    ];
    statfs::statfs(directory).is_ok_and(|found| KNOWN.contains(&found.filesystem_type()))
}

/// Those of `tree`, as they are now: nothing must be mounted yet.
pub fn files(tree: &Tree) -> Vec<KnownFile> {
    let shown = tree.shown.iter().map(Shown::source);
    let hidden = tree.hidden.iter().map(PathBuf::as_path);
    let known = shown.chain(hidden).filter_map(KnownFile::at);
    let mut room = ROOM;
    known
        .take_while(|known| {
            let length = known.path.as_os_str().len() + 80;
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_file_is_the_same_until_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shadow");
        let absent = KnownFile::at(&path).unwrap();
        assert!(absent.is_same());
        fs::write(&path, "old").unwrap();
        assert!(!absent.is_same(), "it has come to be");

        let known = KnownFile::at(&path).unwrap();
        fs::write(&path, "written to").unwrap();
        assert!(known.is_same());
        fs::write(dir.path().join("new"), "new").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(!known.is_same());

        assert_eq!(KnownFile::at(dir.path()), None, "a directory");
    }

    #[test]
    fn a_directory_that_has_been_the_same_for_long_vouches_for_its_files() {
        let dir = tempfile::tempdir().unwrap();
        if !tells_changes(dir.path()) {
            eprintln!(
                "skipped: the file system of {} is not known",
                dir.path().display()
            );
            return;
        }
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/resolv.conf"), "one").unwrap();
        std::os::unix::fs::symlink("elsewhere/resolv.conf", at("resolv.conf")).unwrap();
        fs::write(at("shadow"), "one").unwrap();
        let replace = |name: &str| {
            fs::write(at("new"), "two").unwrap();
            fs::rename(at("new"), at(name)).unwrap();
        };
        let known = |names: &[&str]| {
            let files = names.iter().map(|name| KnownFile::at(&at(name)).unwrap());
            Known::new(files.collect())
        };
        let begin = Instant::now();
        let is_trusted = |known: &Known| {
            let mut seen = known.folders.iter().map(|folder| folder.seen.get());
            seen.all(|seen| seen.is_some_and(|seen| seen.vouches))
        };

        let absent_too = known(&["shadow", "docker.sock", "no-such-folder/socket"]);
        let old = Known::new(vec![KnownFile::at(Path::new("/usr/no-such-file")).unwrap()]);
        if tells_changes(Path::new("/usr")) {
            assert!(old.are_same(begin));
            assert!(is_trusted(&old), "nothing has changed for long");
        }
        assert!(absent_too.are_same(begin));
        assert!(!is_trusted(&absent_too), "too fresh");
        assert!(absent_too.are_same(begin + GRAIN));
        assert!(is_trusted(&absent_too));
        fs::write(at("other"), "in the same directory").unwrap();
        assert!(absent_too.are_same(begin + GRAIN));
        assert!(
            !is_trusted(&absent_too),
            "changed, though not in these files"
        );
        assert!(absent_too.are_same(begin + 2 * GRAIN));
        assert!(is_trusted(&absent_too));
        fs::create_dir(at("no-such-folder")).unwrap();
        fs::write(at("no-such-folder/socket"), "").unwrap();
        assert!(!absent_too.are_same(begin + 2 * GRAIN), "it has come to be");

        let links = known(&["shadow", "resolv.conf"]);
        assert!(links.are_same(begin) && links.are_same(begin + GRAIN));
        assert!(is_trusted(&links));
        replace("elsewhere/resolv.conf");
        assert!(!links.are_same(begin + GRAIN), "behind the link");

        let plain = known(&["shadow"]);
        assert!(plain.are_same(begin) && plain.are_same(begin + GRAIN));
        replace("shadow");
        assert!(!plain.are_same(begin + GRAIN));
    }
}
