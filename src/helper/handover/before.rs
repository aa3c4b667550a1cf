//! What a program finds of the one before it in this process, before it can be
//! whole itself: locks, limits, control sockets.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::state::CgroupState;
use super::takeover::Taken;
use crate::helper::admin::Sockets;

/// What the start itself needs of the usherd before this one in this process.
#[derive(Debug, Default)]
pub struct Before {
    /// Where the program is.
    pub program: Option<PathBuf>,
    /// NOFILE as it was found, soft and hard.
    pub files: Option<(u64, u64)>,
    /// Path, and the locked file.
    pub pid_file: Option<(PathBuf, OwnedFd)>,
    pub cgroup: Option<(CgroupState, OwnedFd)>,
    control: Option<(PathBuf, Sockets)>,
}

impl Before {
    #[must_use]
    pub fn of(taken: Option<&mut Taken>) -> Self {
        let Some(Taken { state, descriptors }) = taken else {
            return Self::default();
        };
        let Some(process) = &mut state.process else {
            return Self::default();
        };
        let pid_file = process.pid_file.take();
        let pid_file = pid_file.and_then(|(key, path)| Some((path, descriptors.take(key)?)));
        let dir = pid_file.as_ref().and_then(|(path, _)| path.parent());
        let control = process.control.take().zip(dir).and_then(|(control, dir)| {
            let sockets = Sockets::taken_over(dir, control, descriptors).ok()?;
            Some((dir.to_owned(), sockets))
        });
        let cgroup = process.cgroup.take();
        let cgroup = cgroup.and_then(|state| {
            let lock = descriptors.take(state.lock)?;
            Some((state, lock))
        });
        Self {
            program: Some(process.program.clone()),
            files: Some(process.files),
            pid_file,
            cgroup,
            control,
        }
    }

    /// The control sockets, if they are where they are wanted.
    pub fn sockets(&mut self, dir: &Path) -> Option<io::Result<Sockets>> {
        let (at, sockets) = self.control.take()?;
        if at == dir {
            return Some(Ok(sockets));
        }
        sockets.remove();
        None
    }
}
