//! Which paths lie on file systems that may stop answering.
//!
//! Only names are compared: to ask the file system itself would hang just when
//! it matters. A symbolic link into such a file system is not seen.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// Types that depend on another machine or another process.
const REMOTE: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "afs",
    "9p",
    "virtiofs",
    "glusterfs",
];

/// The mount table, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// Where, and whether it is remote; in order of mounting.
    points: Vec<(PathBuf, bool)>,
}

impl Mounts {
    /// Reads /proc/self/mountinfo (proc(5)). Unreadable counts as empty.
    #[must_use]
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let points = text.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            let kind = after.split(' ').next()?;
            let remote = REMOTE.contains(&kind) || kind.starts_with("fuse");
            // Blanks and the like are octal escapes; such a point only fails to match.
            Some((PathBuf::from(point), remote))
        });
        Self {
            points: points.collect(),
        }
    }

    /// Whether the mount that holds `path` is remote: the longest one, and of
    /// two at one place the later.
    #[must_use]
    pub fn is_remote(&self, path: &Path) -> bool {
        let holding = self
            .points
            .iter()
            .filter(|(point, _)| path.starts_with(point));
        holding
            .max_by_key(|(point, _)| point.as_os_str().len())
            .is_some_and(|(_, remote)| *remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_decides() {
        let mounts = Mounts::parse(
            "25 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n\
             30 25 0:30 / /srv rw - nfs4 host:/srv rw\n\
             31 30 254:2 / /srv/local rw shared:5 - ext4 /dev/vdb rw\n\
             32 25 0:31 / /mnt rw - fuse.sshfs u@h: rw\n",
        );
        let remote = |path: &str| mounts.is_remote(Path::new(path));
        assert!(!remote("/usr/bin/git"));
        assert!(remote("/srv/tool"));
        assert!(!remote("/srv/local/tool"));
        assert!(remote("/mnt/x"));
        assert!(!remote("/srvother"));
    }
}
