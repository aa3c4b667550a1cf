//! The file system of a sandbox, on the host's tree or on a new one.
//!
//! In this order: copies of what is to be seen as it is, while all of it can
//! still be reached; then the root; then what covers it and the copies, the
//! deeper ones on top.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::scratch::{self, Scratch, Void};
use super::{Failure, devices, minimal, place, to};
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
        Part::All => {
            let own = Own::make(tree)?;
            to(PRIVATE_TMP, scratch::uncover())?;
            Some(own)
        }
        Part::Common => None,
    };
    let copies = take(tree, privileged)?;
    let devices = match tree.dev {
        Dev::Host => None,
        kind => Some(devices::Devices::make(kind, privileged, tree.tty)?),
    };
    let void = to("make an empty place", Void::new())?;
    let base = match tree.root {
        Root::Minimal => minimal::begin(tree)?,
        Root::ReadOnly => {
            // A device is used as one that is read-only is: no node of a chroot's /dev either.
            let how = Attributes::READ_ONLY
                .and(Attributes::NO_DEV)
                .and_if(Attributes::NO_SUID, tree.no_suid);
            to(
                "make the tree read-only",
                mount::change_at(Path::new("/"), how, true),
            )?;
            PathBuf::from("/")
        }
        Root::Host => PathBuf::from("/"),
    };
    if let Some(own) = &own {
        own.attach_tmp(tree, &base)?;
    }
    if let Some(devices) = devices {
        devices.attach(&join(&base, "/dev"))?;
    }
    if let Some(own) = &own {
        own.attach_rest(tree, &base)?;
    }
    lay(tree, &copies, void, &base, privileged)?;
    if tree.root == Root::Minimal {
        minimal::enter(&base)?;
    }
    Ok(())
}

/// Puts what is a sandbox's own on a tree that is common to several.
pub fn add_own(tree: &Tree) -> Result<(), Failure> {
    let (own, base) = (Own::make(tree)?, Path::new("/"));
    // Below a new /proc it may stay: nobody who comes in has the right to look there, and it is
    // his own.
    if own.proc.is_none() {
        to(PRIVATE_TMP, scratch::uncover())?;
    }
    own.attach_tmp(tree, base)?;
    own.attach_rest(tree, base)
}

/// What no two sandboxes share: /proc and memory for files. Something lies on [`scratch::ASIDE`].
struct Own {
    proc: Option<OwnedFd>,
    scratch: Scratch,
}

impl Own {
    fn make(tree: &Tree) -> Result<Self, Failure> {
        Ok(Self {
            proc: new_proc(tree)?,
            scratch: to(PRIVATE_TMP, Scratch::new(tree))?,
        })
    }

    fn attach_tmp(&self, tree: &Tree, base: &Path) -> Result<(), Failure> {
        if !tree.private_tmp {
            return Ok(());
        }
        for (path, part) in TMP.iter().zip([&self.scratch.tmp, &self.scratch.var]) {
            let path = join(base, path);
            if path.exists() {
                to(PRIVATE_TMP, mount::attach(part.as_fd(), &path))?;
            }
        }
        Ok(())
    }

    fn attach_rest(&self, tree: &Tree, base: &Path) -> Result<(), Failure> {
        if tree.dev != Dev::Host {
            let shm = mount::attach(self.scratch.shm.as_fd(), &join(base, "/dev/shm"));
            to(PRIVATE_TMP, shm)?;
        }
        if let Some(proc) = &self.proc {
            let at = join(base, "/proc");
            to(NEW_PROC, mount::attach(proc.as_fd(), &at))?;
            if tree.proc_for_log_in {
                to(NEW_PROC, seal_settings(&at))?;
            }
        }
        Ok(())
    }
}

fn join(base: &Path, path: &str) -> PathBuf {
    base.join(path.trim_start_matches('/'))
}

const PRIVATE_TMP: &str = "make a private /tmp";
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

fn take(tree: &Tree, privileged: bool) -> Result<Vec<Copy<'_>>, Failure> {
    let mut copies = Vec::with_capacity(tree.shown.len());
    for shown in &tree.shown {
        let what = || format!("show {}", shown.path.display());
        let place = match place::on_host(shown.source(), privileged) {
            Ok(place) => place,
            Err(err) if shown.optional && err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return to(what(), Err(err)),
        };
        let is_directory = to(what(), place::is_directory(&place))?;
        let mount = to(
            what(),
            mount::clone_tree(Some(place.as_fd()), Path::new(""), true),
        )?;
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

/// Hides and shows, place by place, so that the deeper ones lie in the others; of
/// one that is to be both it is shown.
fn lay(
    tree: &Tree,
    copies: &[Copy<'_>],
    mut void: Void,
    base: &Path,
    privileged: bool,
) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = to("open the new root", open(base, flags, Mode::empty()))?;
    let mut all: Vec<(&Path, Option<&Copy<'_>>)> = tree
        .hidden
        .iter()
        .map(|path| (path.as_path(), None))
        .collect();
    all.extend(
        copies
            .iter()
            .map(|copy| (copy.shown.path.as_path(), Some(copy))),
    );
    all.sort_by_key(|(path, copy)| (path.components().count(), copy.is_some()));
    let mut open_covers = Vec::new();
    for (path, copy) in all {
        match copy {
            Some(copy) => put(copy, &root)?,
            None => {
                // A link leads to what is to be hidden.
                let at = match place::inside(&root, path) {
                    Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                    // Nor can the server, who is the same user.
                    Err(Errno::EACCES) if !privileged => continue,
                    at => to(format!("hide {}", path.display()), at)?,
                };
                open_covers.extend(hide(tree, path, &at, &mut void)?);
            }
        }
    }
    for cover in open_covers {
        let sealed = mount::change(
            cover.as_fd(),
            Attributes::READ_ONLY,
            Attributes::default(),
            false,
        );
        to("seal what covers hidden places", sealed)?;
    }
    Ok(())
}

fn put(copy: &Copy<'_>, root: &OwnedFd) -> Result<(), Failure> {
    let what = || format!("show {}", copy.shown.path.display());
    let at = place::make_inside(root, &copy.shown.path, copy.is_directory);
    let at = to(what(), at)?;
    match mount::attach_to(copy.mount.as_fd(), at.as_fd()) {
        Err(err) if was_replaced(&err, copy.is_directory) => Ok(()),
        attached => to(what(), attached),
    }
}

/// Whether a file that was there a moment ago is not any more. No fault: the sandbox is
/// not current then (`known`), and nobody will use it.
fn was_replaced(err: &io::Error, is_directory: bool) -> bool {
    err.kind() == io::ErrorKind::NotFound && !is_directory
}

/// Puts something empty on a hidden place, `at`. Returns what still has to be
/// sealed: a cover in which something else will be shown.
fn hide(
    tree: &Tree,
    path: &Path,
    at: &OwnedFd,
    void: &mut Void,
) -> Result<Option<OwnedFd>, Failure> {
    let what = || format!("hide {}", path.display());
    let holds_something = tree
        .shown
        .iter()
        .any(|shown| shown.path != path && shown.path.starts_with(path));
    let is_directory = to(what(), place::is_directory(at))?;
    let cover = if holds_something && is_directory {
        let options = [(c"size", Some(c"1M")), (c"mode", Some(c"0755"))];
        let how = Attributes::NO_SUID
            .and(Attributes::NO_DEV)
            .and(Attributes::NO_EXEC);
        mount::new_file_system(c"tmpfs", &options, how)
    } else {
        void.cover(is_directory)
    };
    let cover = to(what(), cover)?;
    match mount::attach_to(cover.as_fd(), at.as_fd()) {
        Err(err) if was_replaced(&err, is_directory) => {}
        attached => to(what(), attached)?,
    }
    Ok(holds_something.then_some(cover))
}
