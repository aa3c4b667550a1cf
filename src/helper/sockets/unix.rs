//! Unix sockets with a path: stale ones, owner and mode, removal.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::table::SocketOptions;

/// Who may connect if the table does not say: the owner.
const DEFAULT_MODE: u32 = 0o600;

/// A socket in the file system that is ours to remove.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why a path cannot be bound.
#[derive(Debug)]
pub enum PathError {
    /// Something else is there, and we do not delete what we did not make.
    NotASocket,
    /// Somebody serves it.
    InUse,
    Io(&'static str, io::Error),
}

/// Binds `socket` to `path`: a stale socket there goes first; nobody can
/// connect before owner, group and mode are right.
pub fn bind_path(
    socket: &Socket,
    kind: Type,
    path: &Path,
    want: &SocketOptions,
) -> Result<SocketFile, PathError> {
    remove_stale(path, kind)?;
    let address = SockAddr::unix(path).map_err(|err| PathError::Io("name", err))?;
    let old = umask(Mode::from_bits_truncate(0o777));
    let bound = socket.bind(&address);
    umask(old);
    bound.map_err(|err| PathError::Io("bind", err))?;
    let file = SocketFile::remember(path).map_err(|err| PathError::Io("look at", err))?;
    file.adjust(want).inspect_err(|_| file.remove())?;
    Ok(file)
}

/// A socket nobody answers at is left from a daemon that died: unix(7) says
/// ECONNREFUSED then.
fn remove_stale(path: &Path, kind: Type) -> Result<(), PathError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(PathError::Io("look at", err)),
    };
    if !found.file_type().is_socket() {
        return Err(PathError::NotASocket);
    }
    let knock = Socket::new(Domain::UNIX, kind, None)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    match knock {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|err| PathError::Io("remove stale", err))
        }
        // Connected, wrong type, queue full: there is life.
        _ => Err(PathError::InUse),
    }
}

impl SocketFile {
    fn remember(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// The same file by another path.
    #[must_use]
    pub fn at(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Owner, group and mode as the table says; a reload calls this again.
    ///
    /// Whoever may write the directory can have put something else there
    /// meanwhile, a symbolic link to /etc/shadow for one. So the file is held
    /// first, then known again, and only then changed.
    pub fn adjust(&self, want: &SocketOptions) -> Result<(), PathError> {
        let failed = |what| move |err| PathError::Io(what, err);
        let file = self.hold().map_err(failed("look at"))?;
        let (owner, group) = (want.owner.map(Uid::from_raw), want.group.map(Gid::from_raw));
        if owner.is_some() || group.is_some() {
            fchownat(&file, c"", owner, group, AtFlags::AT_EMPTY_PATH)
                .map_err(|err| failed("chown")(err.into()))?;
        }
        let mode = fs::Permissions::from_mode(want.mode.unwrap_or(DEFAULT_MODE));
        // The way to chmod a descriptor that stands for a path only (open(2), O_PATH).
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(held, mode).map_err(failed("chmod"))
    }

    /// The file itself, if it is still the one that was bound.
    fn hold(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = open(&self.path, flags, Mode::empty())?;
        let found = fs::File::from(file.try_clone()?).metadata()?;
        if found.file_type().is_socket() && self.is(&found) {
            Ok(file)
        } else {
            Err(io::Error::other("another file has taken its place"))
        }
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        (found.dev(), found.ino()) == (self.device, self.inode)
    }

    /// Removes the file, unless another one has taken its place.
    pub fn remove(&self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| self.is(&found));
        if ours && let Err(err) = fs::remove_file(&self.path) {
            log::warn!("unable to remove {}: {err}", self.path.display());
        }
    }
}
