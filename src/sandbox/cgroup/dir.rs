//! A cgroup as a directory that is held open: whatever happens to the names on
//! the way to it, this is still the same one.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir as Listing, Type};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The directory of one cgroup.
#[derive(Debug)]
pub struct Dir(OwnedFd);

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Dir {
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self(fd))
    }

    pub fn child(&self, name: &str) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, DIRECTORY, Mode::empty())?))
    }

    /// Makes a cgroup below this one. One that is there already is an error.
    pub fn make(&self, name: &str) -> io::Result<Self> {
        mkdirat(&self.0, name, Mode::S_IRWXU)?;
        self.child(name)
    }

    /// The cgroup of this name below this one, made if it is not there.
    pub fn ensure(&self, name: &str) -> io::Result<Self> {
        match self.make(name) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => self.child(name),
            made => made,
        }
    }

    /// Removes a cgroup in which nothing runs and below which there is none.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?)
    }

    pub fn stat(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.0)?)
    }

    pub fn has(&self, file: &str) -> bool {
        fstatat(&self.0, file, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    fn open_file(&self, file: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(File::from(openat(&self.0, file, flags, Mode::empty())?))
    }

    /// One of those files that the kernel writes in one go: all of it is there at
    /// once, and nobody has to ask for the end. This is done for every instance.
    pub fn read(&self, file: &str) -> io::Result<String> {
        const PAGE: usize = 4096;
        let mut file = self.open_file(file)?;
        let mut text = vec![0; PAGE];
        let length = file.read(&mut text)?;
        text.truncate(length);
        if length == PAGE {
            file.read_to_end(&mut text)?;
        }
        String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Does not wait: a limit below what is in use is brought about by those
    /// who use it and not by us (from Linux 6.16 on).
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut file = File::from(openat(&self.0, file, flags, Mode::empty())?);
        // One write: the kernel takes each for a whole setting.
        match file.write(text.as_bytes())? {
            all if all == text.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// The processes in it, as it says at this moment.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let mut text = String::new();
        self.open_file("cgroup.procs")?.read_to_string(&mut text)?;
        let pids = text.lines().filter_map(|line| line.parse().ok());
        // 0 stands for one that is outside of our namespace of processes.
        Ok(pids.filter(|pid| *pid > 0).collect())
    }

    /// The names of the cgroups below it.
    pub fn children(&self) -> io::Result<Vec<String>> {
        let mut listing = Listing::openat(&self.0, ".", DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// Takes away all cgroups below it in which nothing runs.
    pub fn prune(&self, deepest: u32) -> io::Result<()> {
        for name in self.children()? {
            if deepest > 0
                && let Ok(child) = self.child(&name)
            {
                child.prune(deepest - 1)?;
            }
            let _ = self.remove(&name);
        }
        Ok(())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number behind `key` in a file of lines `KEY NUMBER`.
#[must_use]
pub fn number_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}
