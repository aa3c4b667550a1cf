//! `usherd.pid` in the runtime directory: who runs, and that only one does.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Held as long as usherd runs; the kernel lets go of it when we die.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    lock: Flock<File>,
}

/// Why there is none.
#[derive(Debug)]
pub enum NoPidFile {
    /// Another usherd holds it; its pid as the file says.
    Held(String),
    Io(PathBuf, io::Error),
}

impl PidFile {
    /// Creates the directory (0755) if need be, locks the file and writes our pid.
    pub fn create(runtime_dir: &Path) -> Result<Self, NoPidFile> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |err| NoPidFile::Io(path, err)
        };
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(runtime_dir)
            .map_err(failed(runtime_dir))?;
        let mode = fs::metadata(runtime_dir)
            .map_err(failed(runtime_dir))?
            .mode();
        if mode & 0o022 != 0 {
            let dir = runtime_dir.display();
            log::warn!(
                "{dir} can be written by others, who may put sockets of theirs in the place of ours: chmod go-w {dir}"
            );
        }
        let path = runtime_dir.join("usherd.pid");
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644);
        let file = options
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed(&path))?;
        Self::lock(path, file)
    }

    /// The same with the file that the program before us in this process has
    /// locked; its lock is ours.
    pub fn again(path: PathBuf, file: OwnedFd) -> Result<Self, NoPidFile> {
        Self::lock(path, File::from(file))
    }

    fn lock(path: PathBuf, file: File) -> Result<Self, NoPidFile> {
        let failed = |err| NoPidFile::Io(path.clone(), err);
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, _)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(NoPidFile::Held(pid.trim().to_owned()));
            }
        };
        lock.set_len(0).map_err(failed)?;
        lock.rewind().map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path, lock })
    }
}

impl PidFile {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The runtime directory, which nobody else uses.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
