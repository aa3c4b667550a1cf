//! The two control sockets in the runtime directory.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, Socket, Type};

use crate::control::{ADMIN_SOCKET, STATUS_SOCKET, socket_path};
use crate::helper::handover::state::{Bag, ControlState, Descriptors, Key};
use crate::helper::sockets::unix::{PathError, SocketFile, bind_path};
use crate::table::SocketOptions;

/// Callers that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Anybody may connect: rights are asked of the kernel for each caller, so that
/// a stranger is told that he has none and is counted.
const MODE: u32 = 0o666;

/// Both of them, bound.
#[derive(Debug)]
pub struct Sockets {
    status: OwnedFd,
    admin: Option<UnixListener>,
    files: [SocketFile; 2],
    /// Their folders, where the paths of `files` go through a descriptor.
    _folders: [Option<OwnedFd>; 2],
}

impl Sockets {
    /// Binds both in `dir`, which is ours; an error names the path.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let (status, status_file, status_dir) = open(&dir.join(STATUS_SOCKET))?;
        let (admin, admin_file, admin_dir) = open(&dir.join(ADMIN_SOCKET))?;
        Ok(Self {
            status: status.into(),
            admin: Some(OwnedFd::from(admin).into()),
            files: [status_file, admin_file],
            _folders: [status_dir, admin_dir],
        })
    }

    /// For the next program in this process; the admin socket is served already.
    pub(super) fn hand_over(
        &self,
        admin: BorrowedFd<'_>,
        bag: &mut dyn Bag,
    ) -> io::Result<ControlState> {
        let [status, admin_file] = self.files.clone();
        Ok(ControlState {
            status: (bag.put(self.status.as_fd())?, status),
            admin: (bag.put(admin)?, admin_file),
        })
    }

    /// The reverse; `dir` is where they are.
    pub fn taken_over(
        dir: &Path,
        state: ControlState,
        descriptors: &mut Descriptors,
    ) -> io::Result<Self> {
        let mut again = |name, (key, file): (Key, SocketFile)| {
            let (short, folder) = socket_path(&dir.join(name))?;
            let socket = descriptors.take(key);
            let socket = socket.ok_or(io::ErrorKind::NotFound)?;
            Ok::<_, io::Error>((socket, file.at(short), folder))
        };
        let (status, status_file, status_dir) = again(STATUS_SOCKET, state.status)?;
        let (admin, admin_file, admin_dir) = again(ADMIN_SOCKET, state.admin)?;
        Ok(Self {
            status,
            admin: Some(admin.into()),
            files: [status_file, admin_file],
            _folders: [status_dir, admin_dir],
        })
    }

    /// A copy for a front.
    pub fn share_status(&self) -> io::Result<OwnedFd> {
        self.status.as_fd().try_clone_to_owned()
    }

    pub(super) fn take_admin(&mut self) -> Option<UnixListener> {
        self.admin.take()
    }

    pub fn remove(&self) {
        self.files.iter().for_each(SocketFile::remove);
    }
}

fn open(path: &Path) -> io::Result<(Socket, SocketFile, Option<OwnedFd>)> {
    let named = |err: io::Error| io::Error::new(err.kind(), format!("{}: {err}", path.display()));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    let want = SocketOptions {
        mode: Some(MODE),
        ..SocketOptions::default()
    };
    let (short, folder) = socket_path(path).map_err(named)?;
    let file = bind_path(&socket, Type::STREAM, &short, &want).map_err(|err| {
        named(match err {
            PathError::NotASocket => io::Error::other("something else is in its place"),
            PathError::InUse => io::Error::other("somebody else serves it"),
            PathError::Io(what, err) => io::Error::new(err.kind(), format!("{what}: {err}")),
        })
    })?;
    socket.listen(BACKLOG).map_err(named)?;
    Ok((socket, file, folder))
}
