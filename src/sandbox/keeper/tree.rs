//! The file system of a sandbox, on the host's tree or on a new one.
//!
//! In this order: copies of what is to be seen as it is, while all of it can
//! still be reached; then the root; then what covers it; then the copies on top.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, mkdirat};

use super::{Failure, devices, minimal, to};
use crate::sandbox::blueprint::{Shown, TMP, Tree};
use crate::sys::mount::{self, Attributes};
use crate::table::isolation::{Dev, Proc, Root};

/// A copy of a place of the host, to be put where it was.
struct Copy<'a> {
    shown: &'a Shown,
    mount: OwnedFd,
    is_directory: bool,
}

/// Which part of a tree is to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    /// All but what no two sandboxes may share: see [`add_own`].
    Common,
}

/// Builds the tree in this mount namespace. `privileged`: device nodes can be made.
pub fn raise(tree: &Tree, privileged: bool, part: Part) -> Result<(), Failure> {
    to("make all mounts private", mount::make_all_private())?;
    let own = match part {
        Part::All => Some(Own::make(tree)?),
        Part::Common => None,
    };
    let copies = take(tree)?;
    let devices = match tree.dev {
        Dev::Host => None,
        kind => Some(devices::Devices::make(kind, privileged, tree.tty)?),
    };
    let base = match tree.root {
        Root::Minimal => minimal::begin(tree)?,
        Root::ReadOnly => {
            let how = Attributes::READ_ONLY.and_if(Attributes::NO_SUID, tree.no_suid);
            to(
                "make the tree read-only",
                mount::change_at(Path::new("/"), how, true),
            )?;
            PathBuf::new()
        }
        Root::Host => PathBuf::new(),
    };
    let at = |path: &Path| join(&base, path);
    if let Some(own) = &own {
        own.attach_tmp(tree, &base)?;
    }
    let covers = hide(tree, &base)?;
    if let Some(devices) = devices {
        devices.attach(&at(Path::new("/dev")))?;
    }
    if let Some(own) = &own {
        own.attach_rest(tree, &base)?;
    }
    for copy in &copies {
        put(copy, &at(&copy.shown.path))?;
    }
    for cover in covers {
        let sealed = mount::change(
            cover.as_fd(),
            Attributes::READ_ONLY,
            Attributes::default(),
            false,
        );
        to("seal what covers hidden places", sealed)?;
    }
    if tree.root == Root::Minimal {
        minimal::enter(&base)?;
    }
    Ok(())
}

/// Puts what is a sandbox's own on a tree that is common to several.
pub fn add_own(tree: &Tree) -> Result<(), Failure> {
    let own = Own::make(tree)?;
    own.attach_tmp(tree, Path::new(""))?;
    own.attach_rest(tree, Path::new(""))
}

/// What no two sandboxes share: /proc and memory for files.
struct Own {
    proc: Option<OwnedFd>,
    scratch: OwnedFd,
}

impl Own {
    fn make(tree: &Tree) -> Result<Self, Failure> {
        Ok(Self {
            proc: new_proc(tree)?,
            scratch: scratch(tree)?,
        })
    }

    fn attach_tmp(&self, tree: &Tree, base: &Path) -> Result<(), Failure> {
        if !tree.private_tmp {
            return Ok(());
        }
        for (path, part) in TMP.iter().zip(["tmp", "var"]) {
            let path = join(base, Path::new(path));
            if path.exists() {
                self.attach_part(part, &path)?;
            }
        }
        Ok(())
    }

    fn attach_rest(&self, tree: &Tree, base: &Path) -> Result<(), Failure> {
        if tree.dev != Dev::Host {
            self.attach_part("shm", &join(base, Path::new("/dev/shm")))?;
        }
        if let Some(proc) = &self.proc {
            let at = join(base, Path::new("/proc"));
            to(NEW_PROC, mount::attach(proc.as_fd(), &at))?;
            if tree.proc_for_log_in {
                to(NEW_PROC, seal_settings(&at))?;
            }
        }
        Ok(())
    }

    fn attach_part(&self, part: &str, at: &Path) -> Result<(), Failure> {
        let part = mount::clone_tree(Some(self.scratch.as_fd()), Path::new(part), false);
        let attached = part.and_then(|part| mount::attach(part.as_fd(), at));
        to("make a private /tmp", attached)
    }
}

fn join(base: &Path, path: &Path) -> PathBuf {
    if base.as_os_str().is_empty() {
        return path.to_owned();
    }
    base.join(path.strip_prefix("/").unwrap_or(path))
}

const NEW_PROC: &str = "mount a new /proc";

/// Read-only: what root may write there without any capability is the host's
/// settings, and /proc/self/mem is of use to attackers alone. Whoever logs
/// users in has to write what is in the directories of processes.
fn new_proc(tree: &Tree) -> Result<Option<OwnedFd>, Failure> {
    let option = match tree.proc {
        Proc::Host | Proc::None => return Ok(None),
        Proc::Own => (c"hidepid", Some(c"invisible")),
        Proc::Subset => (c"subset", Some(c"pid")),
    };
    let how = Attributes::NO_SUID
        .and(Attributes::NO_DEV)
        .and(Attributes::NO_EXEC)
        .and_if(Attributes::READ_ONLY, !tree.proc_for_log_in);
    to(NEW_PROC, mount::new_file_system(c"proc", &[option], how)).map(Some)
}

/// Makes read-only what belongs to no process in the /proc that is mounted at `proc`.
fn seal_settings(proc: &Path) -> io::Result<()> {
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        let meta = entry.metadata()?;
        let is_writable = meta.is_dir() || meta.is_file() && meta.permissions().mode() & 0o222 != 0;
        if is_process || !is_writable {
            continue;
        }
        let seal = mount::clone_tree(None, &entry.path(), false)?;
        let none = Attributes::default();
        mount::change(seal.as_fd(), Attributes::READ_ONLY, none, false)?;
        mount::attach(seal.as_fd(), &entry.path())?;
    }
    Ok(())
}

fn take(tree: &Tree) -> Result<Vec<Copy<'_>>, Failure> {
    let mut copies = Vec::with_capacity(tree.shown.len());
    for shown in &tree.shown {
        let what = || format!("show {}", shown.path.display());
        let is_directory = match fs::metadata(&shown.path) {
            Ok(meta) => meta.is_dir(),
            Err(_) if shown.optional => continue,
            Err(err) => return to(what(), Err(err)),
        };
        let mount = to(what(), mount::clone_tree(None, &shown.path, true))?;
        let is_device = shown.path.starts_with("/dev");
        let set = Attributes::default()
            .and_if(Attributes::READ_ONLY, !shown.writable)
            .and_if(Attributes::NO_SUID, tree.no_suid)
            .and_if(Attributes::NO_DEV, !is_device);
        to(
            what(),
            mount::change(mount.as_fd(), set, Attributes::default(), true),
        )?;
        copies.push(Copy {
            shown,
            mount,
            is_directory,
        });
    }
    Ok(copies)
}

fn put(copy: &Copy<'_>, at: &Path) -> Result<(), Failure> {
    let what = || format!("show {}", copy.shown.path.display());
    to(what(), make_place(at, copy.is_directory))?;
    to(what(), mount::attach(copy.mount.as_fd(), at))
}

/// Something to mount on, made where a new file system is.
pub fn make_place(at: &Path, is_directory: bool) -> io::Result<()> {
    if at.exists() {
        return Ok(());
    }
    if is_directory {
        return fs::create_dir_all(at);
    }
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(at).map(drop)
}

/// Memory for /tmp, /var/tmp and /dev/shm, of one size for the three.
fn scratch(tree: &Tree) -> Result<OwnedFd, Failure> {
    const WHAT: &str = "make a private /tmp";
    let size = CString::new(tree.tmp_size.to_string()).unwrap_or_default();
    let options = [
        (c"size", Some(size.as_c_str())),
        (c"nr_inodes", Some(c"65536")),
        (c"mode", Some(c"0755")),
    ];
    let how = Attributes::NO_SUID
        .and(Attributes::NO_DEV)
        .and_if(Attributes::NO_EXEC, tree.tmp_no_exec);
    let scratch = to(WHAT, mount::new_file_system(c"tmpfs", &options, how))?;
    for part in ["tmp", "var", "shm"] {
        to(WHAT, mkdirat(&scratch, part, Mode::empty()))?;
        // Not by mkdirat: the umask would take from it.
        let everybody = Mode::from_bits_truncate(0o1777);
        let flag = nix::sys::stat::FchmodatFlags::FollowSymlink;
        to(
            WHAT,
            nix::sys::stat::fchmodat(&scratch, part, everybody, flag),
        )?;
    }
    Ok(scratch)
}

/// Puts something empty on each hidden place. Returns what still has to be
/// sealed: covers in which something else will be shown.
fn hide(tree: &Tree, base: &Path) -> Result<Vec<OwnedFd>, Failure> {
    if tree.hidden.is_empty() {
        return Ok(Vec::new());
    }
    let void = to("make an empty place", void())?;
    let mut open = Vec::new();
    for path in &tree.hidden {
        let what = || format!("hide {}", path.display());
        // A link leads to what is to be hidden.
        let Ok(at) = fs::canonicalize(join(base, path)) else {
            continue;
        };
        let is_directory = to(what(), fs::metadata(&at))?.is_dir();
        let holds_something = tree.shown.iter().any(|shown| shown.path.starts_with(path));
        let cover = if holds_something {
            let options = [(c"size", Some(c"1M")), (c"mode", Some(c"0755"))];
            let how = Attributes::NO_SUID
                .and(Attributes::NO_DEV)
                .and(Attributes::NO_EXEC);
            mount::new_file_system(c"tmpfs", &options, how)
        } else {
            let part = if is_directory { "d" } else { "f" };
            mount::clone_tree(Some(void.as_fd()), Path::new(part), false)
        };
        let cover = to(what(), cover)?;
        to(what(), mount::attach(cover.as_fd(), &at))?;
        if holds_something {
            open.push(cover);
        }
    }
    Ok(open)
}

/// An empty directory and an empty file that nobody may read.
fn void() -> io::Result<OwnedFd> {
    let options = [(c"size", Some(c"4k")), (c"mode", Some(c"0755"))];
    let how = Attributes::NO_SUID
        .and(Attributes::NO_DEV)
        .and(Attributes::NO_EXEC);
    let void = mount::new_file_system(c"tmpfs", &options, how)?;
    mkdirat(&void, "d", Mode::from_bits_truncate(0o555))?;
    let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::openat(&void, "f", flags, Mode::empty())?;
    mount::change(
        void.as_fd(),
        Attributes::READ_ONLY,
        Attributes::default(),
        false,
    )?;
    Ok(void)
}
