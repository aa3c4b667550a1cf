//! Files that a sandbox shows or hides, as they were when it was built.
//!
//! A mount on a file goes as soon as the host replaces the file, by rename(2) as
//! passwd(1) and editors do: what was hidden is seen then, and what a minimal
//! root showed is empty. So the helper looks before every use whether they are
//! still the same. Directories are hardly ever replaced and may be far away,
//! where to look takes its time: they are left out.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sandbox::blueprint::{Shown, Tree};

/// Octets of paths that a report has room for.
const ROOM: usize = 4096;

/// What no other file has; the time of birth because numbers are used again.
type Identity = (u64, u64, Option<u128>);

/// A file, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    path: PathBuf,
    identity: Option<Identity>,
}

impl KnownFile {
    /// `None` if a directory is there.
    fn at(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok();
        if meta.as_ref().is_some_and(fs::Metadata::is_dir) {
            return None;
        }
        Some(Self {
            path: path.to_owned(),
            identity: meta.as_ref().map(identity),
        })
    }

    #[must_use]
    pub fn is_same(&self) -> bool {
        let now = fs::metadata(&self.path).ok();
        now.as_ref().map(identity) == self.identity
    }
}

fn identity(meta: &fs::Metadata) -> Identity {
    let born = meta.created().unwrap_or(SystemTime::UNIX_EPOCH);
    let born = born.duration_since(UNIX_EPOCH).ok();
    (meta.dev(), meta.ino(), born.map(|born| born.as_nanos()))
}

/// Those of `tree`, as they are now: nothing must be mounted yet.
pub fn files(tree: &Tree) -> Vec<KnownFile> {
    let shown = tree.shown.iter().map(Shown::source);
    let hidden = tree.hidden.iter().map(PathBuf::as_path);
    let known = shown.chain(hidden).filter_map(KnownFile::at);
    let mut room = ROOM;
    known
        .take_while(|known| {
            let length = known.path.as_os_str().len() + 64;
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
}
