//! Where lines go: opened by the helper, written by both processes, and never
//! waited for.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::fstat;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::line::Style;
use crate::table::{LogFormat, LogSettings, LogTarget};

const SYSLOG: &str = "/dev/log";

/// Opens what `settings.to` names, for [`super::attach`] here and in the front.
pub fn open(settings: &LogSettings) -> io::Result<OwnedFd> {
    match &settings.to {
        LogTarget::Stderr => open_stderr(),
        LogTarget::Syslog => open_syslog(),
        LogTarget::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            // No symlink, because whoever may write the directory could aim root's appends at any
            // file; not blocking, because a FIFO without a reader would hold up the start.
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path)
            .map(OwnedFd::from),
    }
}

/// A description of our own where that is possible (pipes, terminals): it can
/// be non-blocking without surprising whoever else holds the other one. A file
/// never blocks, and a second description would have a place of its own in it:
/// what others write there (the shell's `> FILE`) would go over our lines.
fn open_stderr() -> io::Result<OwnedFd> {
    let shared = io::stderr().as_fd().try_clone_to_owned()?;
    if kind(shared.as_fd()) != Kind::Stream {
        return Ok(shared);
    }
    let own = OpenOptions::new()
        .append(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open("/proc/self/fd/2");
    Ok(own.map_or(shared, OwnedFd::from))
}

fn open_syslog() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec().nonblocking(), None)?;
    socket.connect(&SockAddr::unix(SYSLOG)?)?;
    Ok(socket.into())
}

/// Whether stderr ends in the journal: `$JOURNAL_STREAM` names its device and
/// inode (systemd.exec(5)). For the start of a process: the front may not ask later.
pub fn stderr_is_journal() -> bool {
    let (Ok(named), Ok(stat)) = (std::env::var("JOURNAL_STREAM"), fstat(io::stderr())) else {
        return false;
    };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Why a line did not get out.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// The reader is slow, the disk is full: the next one may pass.
    Now,
    /// The other end is gone.
    ForGood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Opened by [`open`] and non-blocking, if it can block at all.
    File,
    /// Takes `MSG_DONTWAIT`.
    Socket,
    /// Pipe or terminal.
    Stream,
}

/// Only with calls that are left to the front.
fn kind(fd: BorrowedFd<'_>) -> Kind {
    match SockRef::from(&fd).r#type() {
        Ok(_) => Kind::Socket,
        Err(_) if is_regular(fd) => Kind::File,
        Err(_) => Kind::Stream,
    }
}

/// A redirected stderr, say: it never makes its writer wait for a reader.
fn is_regular(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// A [`LogTarget`] without its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Stderr,
    Syslog,
    File,
}

/// One target. Without a descriptor of its own it is stderr.
#[derive(Debug)]
pub struct Sink {
    fd: Option<OwnedFd>,
    kind: Kind,
    target: Target,
    /// The last line was cut by a full terminal or stream: the next starts on a line of its own.
    torn: bool,
}

impl Sink {
    pub const fn stderr() -> Self {
        Self {
            fd: None,
            kind: Kind::Stream,
            target: Target::Stderr,
            torn: false,
        }
    }

    pub fn new(fd: OwnedFd, target: &LogTarget) -> Self {
        let (target, kind) = match target {
            LogTarget::Stderr => (Target::Stderr, kind(fd.as_fd())),
            LogTarget::Syslog => (Target::Syslog, Kind::Socket),
            LogTarget::File(_) => (Target::File, Kind::File),
        };
        Self {
            fd: Some(fd),
            kind,
            target,
            torn: false,
        }
    }

    pub fn share(&self) -> io::Result<OwnedFd> {
        let stderr = io::stderr();
        let fd = self.fd.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
        fd.try_clone_to_owned()
    }

    /// How lines look here; `journal`: whether stderr is the journal.
    pub fn style(&self, format: LogFormat, journal: bool) -> Style {
        match (format, self.target) {
            (LogFormat::Text, Target::Syslog) => Style::Syslog,
            (LogFormat::Text, Target::Stderr) if journal => Style::Journal,
            (LogFormat::Text, Target::Stderr | Target::File) => Style::Text,
            (LogFormat::Json, Target::Syslog) => Style::JsonSyslog,
            (LogFormat::Json, Target::Stderr) if journal => Style::JsonJournal,
            (LogFormat::Json, Target::Stderr | Target::File) => Style::Json,
        }
    }

    /// Writes one line, now or never.
    pub fn write(&mut self, line: &[u8]) -> Result<(), Lost> {
        if self.torn {
            match self.write_once(b"\n") {
                Ok(1) => self.torn = false,
                _ => return Err(Lost::Now),
            }
        }
        match self.write_once(line) {
            Ok(count) if count == line.len() => Ok(()),
            Ok(count) => {
                self.torn = count > 0;
                Err(Lost::Now)
            }
            Err(Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::EPIPE | Errno::ECONNRESET)
                if self.target == Target::Syslog =>
            {
                Err(Lost::ForGood)
            }
            Err(_) => Err(Lost::Now),
        }
    }

    fn write_once(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let stderr = io::stderr();
        let fd = self.fd.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
        match self.kind {
            Kind::File => nix::unistd::write(fd, bytes),
            Kind::Socket => SockRef::from(&fd)
                .send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(0))),
            Kind::Stream => {
                if !has_room(fd) {
                    return Err(Errno::EAGAIN);
                }
                nix::unistd::write(fd, bytes)
            }
        }
    }
}

/// For descriptors that are shared with others and may therefore be blocking.
fn has_room(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
