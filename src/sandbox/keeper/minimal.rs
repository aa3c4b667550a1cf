//! A root of its own: memory, with the host's programs and libraries in it.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, pivot_root};

use super::scratch::ASIDE;
use super::{Failure, to};
use crate::sandbox::blueprint::{SYSTEM, Tree};
use crate::sys::mount::{self, Attributes};

/// Files of /etc that programs read whatever they are for. Copies: they are
/// small, and a mount for each would cost more.
const ETC: [&str; 28] = [
    "ld.so.cache",
    "passwd",
    "group",
    "nsswitch.conf",
    "hosts",
    "host.conf",
    "gai.conf",
    "resolv.conf",
    "services",
    "protocols",
    "rpc",
    "networks",
    "netconfig",
    "ethers",
    "localtime",
    "timezone",
    "os-release",
    "debian_version",
    "locale.conf",
    "locale.alias",
    "mime.types",
    "hosts.allow",
    "hosts.deny",
    "shells",
    "login.defs",
    "magic",
    "inputrc",
    "ssl/openssl.cnf",
];

/// Empty directories that programs expect.
const EMPTY: [&str; 8] = [
    "dev",
    "proc",
    "tmp",
    "run",
    "run/lock",
    "var/tmp",
    "var/lib",
    "var/empty",
];

/// Makes the new root and puts the system's directories into it.
pub fn begin(tree: &Tree) -> Result<PathBuf, Failure> {
    const WHAT: &str = "make a root of its own";
    let options = [(c"size", Some(c"16M")), (c"mode", Some(c"0755"))];
    let how = Attributes::NO_SUID.and(Attributes::NO_DEV);
    let root = to(WHAT, mount::new_file_system(c"tmpfs", &options, how))?;
    // Before the new root covers anything that these need.
    let mut system = Vec::new();
    for path in SYSTEM {
        let what = || format!("show {path}");
        match fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(meta) if meta.is_symlink() => {
                let target = to(what(), fs::read_link(path))?;
                system.push((path, Part::Link(target)));
            }
            Ok(_) => {
                let copy = to(what(), mount::clone_tree(None, Path::new(path), true))?;
                let set = Attributes::READ_ONLY
                    .and(Attributes::NO_DEV)
                    .and_if(Attributes::NO_SUID, tree.no_suid);
                to(
                    what(),
                    mount::change(copy.as_fd(), set, Attributes::default(), true),
                )?;
                system.push((path, Part::Tree(copy)));
            }
        }
    }
    let base = PathBuf::from(ASIDE);
    to(WHAT, mount::attach(root.as_fd(), &base))?;
    for directory in EMPTY {
        to(WHAT, fs::create_dir_all(base.join(directory)))?;
    }
    to(WHAT, symlink("/run", base.join("var/run")))?;
    to(WHAT, copy_etc(&base))?;
    for (path, part) in system {
        let at = base.join(path.trim_start_matches('/'));
        let put = match part {
            Part::Link(target) => symlink(target, &at),
            Part::Tree(copy) => {
                fs::create_dir_all(&at).and_then(|()| mount::attach(copy.as_fd(), &at))
            }
        };
        to(format!("show {path}"), put)?;
    }
    Ok(base)
}

enum Part {
    Link(PathBuf),
    Tree(std::os::fd::OwnedFd),
}

fn copy_etc(base: &Path) -> io::Result<()> {
    let etc = base.join("etc");
    fs::create_dir_all(etc.join("ssl"))?;
    for name in ETC {
        match fs::copy(Path::new("/etc").join(name), etc.join(name)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

/// Leaves the old root behind, for good, and closes the new one.
pub fn enter(base: &Path) -> Result<(), Failure> {
    const WHAT: &str = "change to a root of its own";
    to(WHAT, chdir(base))?;
    // The old root ends up on top of the new one, where it can be taken off (pivot_root(2)).
    to(WHAT, pivot_root(".", "."))?;
    to(WHAT, umount2(".", MntFlags::MNT_DETACH))?;
    to(WHAT, chdir("/"))?;
    to(
        "close the new root",
        mount::change_at(Path::new("/"), Attributes::READ_ONLY, false),
    )
}
