//! `.ssh/authorized_keys`, opened by its owner.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, User, unlinkat};

use super::super::{Failed, Kind, to};
use super::key::Line;

const FOLDER: &str = ".ssh";
const NAME: &str = "authorized_keys";
const NEW: &str = ".authorized_keys.usherd-new";

/// Octets of the file.
const LONGEST: u64 = 1 << 20;

/// The lines of a user's file, those without a key too.
#[derive(Debug)]
pub struct Keys {
    /// `None`: there is none, and none was to be made.
    folder: Option<Flock<OwnedFd>>,
    path: PathBuf,
    lines: Vec<String>,
}

impl Keys {
    /// `to_write`: the folder is made if it is missing, and nobody else of ours writes in it
    /// until this is dropped.
    pub fn open(user: &User, to_write: bool) -> Result<Self, Failed> {
        let path = user.dir.join(FOLDER).join(NAME);
        let home = user.dir.display();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let home = to(
            format!("open {home}"),
            open(&user.dir, flags, Mode::empty()),
        )?;
        let Some(folder) = folder(&home, user, to_write)? else {
            return Ok(Self {
                folder: None,
                path,
                lines: Vec::new(),
            });
        };
        let how = match to_write {
            true => FlockArg::LockExclusiveNonblock,
            false => FlockArg::LockSharedNonblock,
        };
        let folder = Flock::lock(folder, how).map_err(|(_, errno)| {
            let kind = match errno {
                Errno::EWOULDBLOCK => Kind::Busy,
                _ => Kind::Failed,
            };
            let reason = format!("unable to lock {}: {errno}", path.display());
            Failed::new(kind, reason)
        })?;
        let lines = read(&folder, &path)?;
        Ok(Self {
            folder: Some(folder),
            path,
            lines,
        })
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    pub fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().filter_map(|line| Line::parse(line))
    }

    /// Those without a key stay.
    pub fn retain(&mut self, mut keep: impl FnMut(&Line) -> bool) {
        self.lines
            .retain(|line| Line::parse(line).is_none_or(|line| keep(&line)));
    }

    pub fn add(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    /// Whole or not at all.
    pub fn write(&self) -> Result<(), Failed> {
        let Some(folder) = &self.folder else {
            unreachable!("opened to be written");
        };
        let path = self.path.display();
        // Of one that was ended halfway; the lock is ours.
        let _ = unlinkat(folder.as_fd(), NEW, UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o600);
        let made = openat(folder.as_fd(), NEW, flags | OFlag::O_CLOEXEC, mode);
        let mut file = File::from(to(format!("make a new {path}"), made)?);
        let mut text = self.lines.join("\n");
        text.push('\n');
        let written = file.write_all(text.as_bytes());
        let written = written.and_then(|()| file.sync_all());
        let placed = to(format!("write a new {path}"), written).and_then(|()| {
            let renamed = renameat(folder.as_fd(), NEW, folder.as_fd(), NAME);
            to(format!("put the new {path} in place"), renamed)
        });
        if placed.is_err() {
            let _ = unlinkat(folder.as_fd(), NEW, UnlinkatFlags::NoRemoveDir);
        }
        placed
    }
}

fn folder(home: &OwnedFd, user: &User, make: bool) -> Result<Option<OwnedFd>, Failed> {
    let path = user.dir.join(FOLDER);
    let path = path.display();
    if make {
        match mkdirat(home, FOLDER, Mode::from_bits_truncate(0o700)) {
            Err(Errno::EEXIST) => {}
            made => to(format!("make {path}"), made)?,
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat2(home, FOLDER, how(flags)) {
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            let reason = format!("{path} is no folder");
            Err(Failed::new(Kind::Forbidden, reason))
        }
        opened => to(format!("open {path}"), opened).map(Some),
    }
}

fn read(folder: &Flock<OwnedFd>, path: &std::path::Path) -> Result<Vec<String>, Failed> {
    let shown = path.display();
    let odd = || Failed::new(Kind::Forbidden, format!("{shown} is no ordinary file"));
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat2(folder.as_fd(), NAME, how(flags)) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(Errno::ELOOP | Errno::ENXIO) => return Err(odd()),
        opened => to(format!("open {shown}"), opened)?,
    };
    let stat = to(format!("look at {shown}"), fstat(&file))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(odd());
    }
    let mut text = Vec::new();
    let read = File::from(file).take(LONGEST + 1).read_to_end(&mut text);
    to(format!("read {shown}"), read)?;
    let text = String::from_utf8(text)
        .ok()
        .filter(|text| text.len() as u64 <= LONGEST);
    let bad = || {
        Failed::new(
            Kind::Unavailable,
            format!("{shown} is no text, or too long"),
        )
    };
    let text = text.ok_or_else(bad)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    OpenHow::new().flags(flags).resolve(resolve)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::unistd::Uid;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOPwU8297bH1/L1dqTqQVwATcJWQYfT1QD/kDDIAMZgY";

    fn user(home: &tempfile::TempDir) -> User {
        let mut user = User::from_uid(Uid::effective()).unwrap().unwrap();
        user.dir = home.path().to_owned();
        user
    }

    #[test]
    fn lines_of_others_stay_as_they_are() {
        let home = tempfile::tempdir().unwrap();
        let user = user(&home);
        assert_eq!(Keys::open(&user, false).unwrap().lines().count(), 0);
        assert!(!home.path().join(".ssh").exists());
        let mut keys = Keys::open(&user, true).unwrap();
        keys.add("# mine, don't touch");
        keys.add(KEY);
        keys.add("odd");
        keys.write().unwrap();
        assert_eq!(Keys::open(&user, true).unwrap_err().kind, Kind::Busy);
        drop(keys);
        let mut keys = Keys::open(&user, true).unwrap();
        assert_eq!(keys.lines().count(), 1);
        keys.retain(|_| false);
        keys.write().unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "# mine, don't touch\nodd\n"
        );
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let folder = fs::metadata(home.path().join(".ssh")).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(home.path().join(".ssh")).unwrap().count(), 1);
    }

    #[test]
    fn links_and_pipes_are_no_files() {
        let home = tempfile::tempdir().unwrap();
        let user = user(&home);
        fs::create_dir(home.path().join("else")).unwrap();
        symlink("else", home.path().join(".ssh")).unwrap();
        assert_eq!(Keys::open(&user, true).unwrap_err().kind, Kind::Forbidden);
        fs::remove_file(home.path().join(".ssh")).unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        symlink("../else/keys", &file).unwrap();
        assert_eq!(Keys::open(&user, true).unwrap_err().kind, Kind::Forbidden);
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(Keys::open(&user, true).unwrap_err().kind, Kind::Forbidden);
    }
}
