//! A /dev with what every program may have, and nothing else.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use super::{Failure, to};
use crate::sys::mount::{self, Attributes};
use crate::table::isolation::Dev;

const WHAT: &str = "make a /dev of its own";

/// Names and numbers of character devices (linux's devices.txt).
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A /dev that is not mounted yet, and what comes on top of it.
pub struct Devices {
    root: OwnedFd,
    terminals: Option<OwnedFd>,
    /// Single files of the host's /dev.
    borrowed: Vec<(&'static str, OwnedFd)>,
}

impl Devices {
    pub fn make(kind: Dev, privileged: bool, tty: Option<u32>) -> Result<Self, Failure> {
        // Of a user namespace that is not the host's, nodes made here would open nothing.
        let how = Attributes::NO_SUID
            .and(Attributes::NO_EXEC)
            .and_if(Attributes::NO_DEV, !privileged);
        let options = [(c"size", Some(c"64k")), (c"mode", Some(c"0755"))];
        let root = to(WHAT, mount::new_file_system(c"tmpfs", &options, how))?;
        let mut devices = Self {
            root,
            terminals: None,
            borrowed: Vec::new(),
        };
        for (name, major, minor) in NODES {
            if privileged {
                to(WHAT, devices.node(name, makedev(major, minor)))?;
            } else {
                devices.borrow(name, &Path::new("/dev").join(name))?;
            }
        }
        for (name, target) in LINKS {
            to(WHAT, symlinkat(target, &devices.root, name))?;
        }
        to(
            WHAT,
            mkdirat(&devices.root, "shm", Mode::from_bits_truncate(0o755)),
        )?;
        if kind == Dev::Minimal {
            devices.add_terminals(privileged, tty)?;
            devices.add_log()?;
        }
        Ok(devices)
    }

    fn node(&self, name: &str, device: nix::libc::dev_t) -> nix::Result<()> {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(&self.root, name, SFlag::S_IFCHR, mode, device)?;
        fchmodat(&self.root, name, mode, FchmodatFlags::FollowSymlink)
    }

    /// A place for a file of the host.
    fn borrow(&mut self, name: &'static str, from: &Path) -> Result<(), Failure> {
        let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC;
        to(WHAT, openat(&self.root, name, flags, Mode::empty()))?;
        let copy = to(WHAT, mount::clone_tree(None, from, false))?;
        self.borrowed.push((name, copy));
        Ok(())
    }

    fn add_terminals(&mut self, privileged: bool, tty: Option<u32>) -> Result<(), Failure> {
        to(
            WHAT,
            mkdirat(&self.root, "pts", Mode::from_bits_truncate(0o755)),
        )?;
        to(WHAT, symlinkat("pts/ptmx", &self.root, "ptmx"))?;
        let gid = tty.filter(|_| privileged).map(|gid| gid.to_string());
        let gid = CString::new(gid.unwrap_or_default()).unwrap_or_default();
        let mut options = vec![
            (c"newinstance", None),
            (c"ptmxmode", Some(c"0666")),
            (c"mode", Some(c"0620")),
        ];
        if !gid.is_empty() {
            options.push((c"gid", Some(gid.as_c_str())));
        }
        let how = Attributes::NO_SUID.and(Attributes::NO_EXEC);
        self.terminals = Some(to(WHAT, mount::new_file_system(c"devpts", &options, how))?);
        Ok(())
    }

    /// syslog(3): a link into /run on hosts with systemd, else the socket itself.
    fn add_log(&mut self) -> Result<(), Failure> {
        let log = Path::new("/dev/log");
        match fs::symlink_metadata(log) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => to(WHAT, Err(err)),
            Ok(meta) if meta.is_symlink() => {
                let target: PathBuf = to(WHAT, fs::read_link(log))?;
                to(WHAT, symlinkat(&target, &self.root, "log"))
            }
            Ok(_) => self.borrow("log", log),
        }
    }

    /// /dev/shm is a place for something else.
    pub fn attach(self, at: &Path) -> Result<(), Failure> {
        to(WHAT, mount::attach(self.root.as_fd(), at))?;
        if let Some(terminals) = &self.terminals {
            to(WHAT, mount::attach(terminals.as_fd(), &at.join("pts")))?;
        }
        for (name, copy) in &self.borrowed {
            to(WHAT, mount::attach(copy.as_fd(), &at.join(name)))?;
        }
        let sealed = mount::change(
            self.root.as_fd(),
            Attributes::READ_ONLY,
            Attributes::default(),
            false,
        );
        to(WHAT, sealed)
    }
}
