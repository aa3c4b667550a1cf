//! From a path of the table to what lies there: on the host, where those who
//! own a part of the way must not lead us elsewhere, and in the new tree, out
//! of which no link must lead.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// As the kernel has it.
const MOST_LINKS: usize = 40;

const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// What lies at `path` on the host. A link on the way must be root's, if
/// `privileged`: a server that can write to a part of its own table's paths could
/// have anything shown to itself otherwise.
pub fn on_host(path: &Path, privileged: bool) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(PLACE);
    let direct = openat2(
        AT_FDCWD,
        path,
        how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS),
    );
    match direct {
        Err(Errno::ELOOP) => {}
        found => return Ok(found?),
    }
    if !privileged {
        return Ok(open(path, PLACE, Mode::empty())?);
    }
    let mut at = open("/", PLACE, Mode::empty())?;
    let mut way: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = way.pop_front() {
        let next = openat(&at, &*part, PLACE | OFlag::O_NOFOLLOW, Mode::empty())?;
        let found = fstat(&next)?;
        if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFLNK {
            at = next;
            continue;
        }
        links += 1;
        if found.st_uid != 0 || links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = readlinkat(&next, "")?;
        let target = Path::new(&target);
        if target.is_absolute() {
            at = open("/", PLACE, Mode::empty())?;
        }
        parts(target).rev().for_each(|part| way.push_front(part));
    }
    Ok(at)
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// What lies at `path` in the tree whose root is `root`.
pub fn inside(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(PLACE)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

/// The same; makes what is missing.
pub fn make_inside(root: &OwnedFd, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    match inside(root, path) {
        Err(Errno::ENOENT) => {}
        found => return Ok(found?),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT.into());
    };
    let parent = make_inside(root, parent, true)?;
    make(&parent, name, is_directory)?;
    Ok(inside(root, path)?)
}

fn make(parent: &OwnedFd, name: &OsStr, is_directory: bool) -> nix::Result<()> {
    if is_directory {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

pub fn is_directory(place: &OwnedFd) -> nix::Result<bool> {
    let kind = fstat(place)?.st_mode & SFlag::S_IFMT.bits();
    Ok(kind == SFlag::S_IFDIR.bits())
}
