//! Where usherd may make cgroups: which file system, which cgroup is its own,
//! and whether that is its to divide.
//!
//! A cgroup has one master (systemd's "single-writer rule"): below one that
//! systemd manages nothing may be made unless it was delegated.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::Uid;

use super::Lack;
use super::dir::Dir;
use crate::sys::attribute::attribute;

const DELEGATE: &str = "start usherd as a systemd unit with Delegate=yes";

/// The cgroup below which usherd makes its own.
#[derive(Debug)]
pub struct Place {
    pub top: Dir,
    /// As /proc/PID/cgroup says it; the root is "".
    pub path: String,
    /// We are in `top` itself, not in one below.
    pub is_own: bool,
}

/// A line of /proc/self/mountinfo, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted.
    pub root: String,
    pub point: PathBuf,
}

/// What decides whether a cgroup is ours to divide.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// As /proc/self/cgroup says it.
    pub path: &'a str,
    /// systemd has marked it as delegated.
    pub delegated: bool,
    /// It has marked the one above (`DelegateSubgroup=`).
    pub parent_delegated: bool,
    pub owner: u32,
    pub user: u32,
    /// systemd runs on this host.
    pub systemd: bool,
}

/// Which cgroup is to be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divide {
    Own,
    Parent,
}

impl Place {
    pub fn find() -> Result<Self, Lack> {
        let cannot_read = |file: &'static str| {
            move |err| Lack::new(format!("unable to read {file}: {err}"), "mount /proc")
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(cannot_read("/proc/self/mountinfo"))?;
        let own =
            fs::read_to_string("/proc/self/cgroup").map_err(cannot_read("/proc/self/cgroup"))?;
        let mounts = cgroup2_mounts(&mounts);
        let path = own_path(&own).filter(|_| !mounts.is_empty());
        let path = path.ok_or_else(|| {
            Lack::new(
                "no cgroup file system of version 2 is mounted",
                "mount cgroup2 on /sys/fs/cgroup",
            )
        })?;
        let found = mounts.iter().find_map(|mount| mount.lead_to(path));
        let found = found.ok_or_else(|| {
            Lack::new(
                format!("usherd's own cgroup {path} is not under any mount of cgroup2"),
                "give the container a cgroup namespace of its own",
            )
        })?;
        let unusable = |err: io::Error| {
            let why = format!("unable to use {}: {err}", found.display());
            Lack::new(why, "mount cgroup2 on /sys/fs/cgroup")
        };
        let dir = open(&found).map_err(unusable)?;
        let parent = found.parent().and_then(|parent| open(parent).ok());
        let owner = dir.stat().map_err(unusable)?.st_uid;
        let standing = Standing {
            path,
            delegated: is_delegated(&dir),
            parent_delegated: parent.as_ref().is_some_and(is_delegated),
            owner,
            user: Uid::effective().as_raw(),
            systemd: Path::new("/run/systemd/system").exists(),
        };
        let path = path.trim_end_matches('/');
        Ok(match (standing.judge()?, parent) {
            (Divide::Parent, Some(parent)) => Self {
                top: parent,
                path: path.rsplit_once('/').map_or("", |(above, _)| above).into(),
                is_own: false,
            },
            _ => Self {
                top: dir,
                path: path.into(),
                is_own: true,
            },
        })
    }
}

impl Place {
    /// The cgroup of this path, which was found to be ours before.
    pub fn at(path: &str, is_own: bool) -> Result<Self, Lack> {
        let lost = |err: io::Error| {
            let why = format!("unable to take over the cgroup {path}: {err}");
            Lack::new(why, "restart usherd")
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(lost)?;
        let mounts = cgroup2_mounts(&mounts);
        let at = if path.is_empty() { "/" } else { path };
        let found = mounts.iter().find_map(|mount| mount.lead_to(at));
        let found = found.ok_or_else(|| lost(io::ErrorKind::NotFound.into()))?;
        Ok(Self {
            top: open(&found).map_err(lost)?,
            path: path.to_owned(),
            is_own,
        })
    }
}

impl Standing<'_> {
    /// Which cgroup is ours to divide, or why none is.
    pub fn judge(&self) -> Result<Divide, Lack> {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let of_systemd = [".service", ".scope", ".slice"]
            .iter()
            .any(|kind| name.ends_with(kind));
        // To be root's says nothing: everything is.
        let is_ours = self.owner == self.user && self.user != 0;
        if self.path == "/" || self.delegated || is_ours || !self.systemd {
            return Ok(Divide::Own);
        }
        if self.parent_delegated && !of_systemd {
            return Ok(Divide::Parent);
        }
        let why = format!("usherd's cgroup {} is systemd's", self.path);
        Err(match unit_of(self.path) {
            Some(unit) => {
                let remedy = format!("set Delegate=yes in {unit} (systemctl edit {unit})");
                Lack::new(why, remedy)
            }
            None => Lack::new(why, DELEGATE),
        })
    }
}

impl Mount {
    /// The directory of the cgroup `path`, if this mount shows it.
    #[must_use]
    pub fn lead_to(&self, path: &str) -> Option<PathBuf> {
        let rest = match self.root.as_str() {
            "/" => path,
            root => path
                .strip_prefix(root)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        // Our own is outside of our namespace of cgroups.
        if rest.split('/').any(|part| part == "..") {
            return None;
        }
        Some(self.point.join(rest.trim_start_matches('/')))
    }
}

fn open(path: &Path) -> io::Result<Dir> {
    let dir = Dir::open(path)?;
    if fstatfs(&dir)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("it is no cgroup of version 2"));
    }
    Ok(dir)
}

/// systemd marks what it delegates: for root since long, for everybody since version 251.
fn is_delegated(dir: &Dir) -> bool {
    let marks = [c"trusted.delegate", c"user.delegate"];
    marks
        .iter()
        .any(|mark| attribute(dir.as_fd(), mark).is_ok_and(|value| value == b"1"))
}

/// The cgroup2 mounts among the lines of /proc/self/mountinfo, see proc_pid_mountinfo(5).
#[must_use]
pub fn cgroup2_mounts(mountinfo: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| Mount {
            root: unescape(root),
            point: unescape(point).into(),
        })
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// Blanks and the like are written as `\040` there.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The cgroup of version 2 in the text of /proc/PID/cgroup.
#[must_use]
pub fn own_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The innermost service in a path.
fn unit_of(path: &str) -> Option<&str> {
    path.rsplit('/').find(|part| part.ends_with(".service"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_version_2_are_found_among_all() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
42 31 0:38 /a\\040b /mnt/x\\134y rw - cgroup2 none rw
";
        let found = cgroup2_mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found[1].root, "/a b");
        assert_eq!(found[1].point, Path::new("/mnt/x\\y"));
        assert_eq!(own_path("9:x:/no\n0::/yes\n"), Some("/yes"));
    }

    #[test]
    fn a_mount_leads_only_to_what_it_shows() {
        let mount = |root: &str| Mount {
            root: root.into(),
            point: "/c".into(),
        };
        for (root, path, found) in [
            ("/", "/", Some("/c/")),
            ("/", "/a/b", Some("/c/a/b")),
            ("/a", "/a", Some("/c/")),
            ("/a", "/a/b", Some("/c/b")),
            ("/a", "/ab", None),
            ("/", "/../a", None),
            ("/..", "/x", None),
        ] {
            let led = mount(root).lead_to(path);
            assert_eq!(led, found.map(PathBuf::from), "{root} {path}");
        }
    }

    #[test]
    fn what_systemd_has_not_given_away_is_left_alone() {
        let standing = |path, delegated, parent_delegated, owner, user, systemd| {
            let standing = Standing {
                path,
                delegated,
                parent_delegated,
                owner,
                user,
                systemd,
            };
            standing.judge().map_err(|lack| lack.remedy)
        };
        let unit = "/system.slice/usherd.service";
        let sub = "/system.slice/usherd.service/main";
        let session = "/user.slice/user-0.slice/session-3.scope";
        let manager = "/user.slice/user-7.slice/user@7.service/init.scope";
        assert_eq!(standing("/", false, false, 0, 0, true), Ok(Divide::Own));
        assert_eq!(standing(unit, true, false, 0, 0, true), Ok(Divide::Own));
        assert_eq!(standing(sub, false, true, 0, 0, true), Ok(Divide::Parent));
        assert_eq!(standing("/x", false, false, 0, 0, false), Ok(Divide::Own));
        assert_eq!(standing(session, false, false, 7, 7, true), Ok(Divide::Own));
        let refused = standing(unit, false, false, 0, 0, true).unwrap_err();
        assert!(
            refused.contains("systemctl edit usherd.service"),
            "{refused}"
        );
        let refused = standing(session, false, false, 0, 0, true).unwrap_err();
        assert_eq!(refused, DELEGATE);
        assert!(standing(session, false, false, 0, 7, true).is_err());
        // Delegated to the user's own manager, which is in there.
        assert!(standing(manager, false, true, 0, 0, true).is_err());
    }
}
