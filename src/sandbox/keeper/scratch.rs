//! Memory that a sandbox has to itself, in parts that are put where they are needed.
//!
//! Before Linux 6.15 a part can be taken only of what is attached somewhere in
//! the own mount namespace: each file system is attached to [`ASIDE`]. To take it off
//! there costs milliseconds, for which the kernel waits until nobody can be looking.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};

use crate::sandbox::blueprint::Tree;
use crate::sys::mount::{self, Attributes};

/// Where something can be for a while: every host has the directory, and nothing in it is needed then.
pub const ASIDE: &str = "/proc";

/// /tmp, /var/tmp and /dev/shm: of one size for the three. The whole is still at [`ASIDE`].
pub struct Scratch {
    pub tmp: OwnedFd,
    pub var: OwnedFd,
    pub shm: OwnedFd,
}

impl Scratch {
    pub fn new(tree: &Tree) -> io::Result<Self> {
        let size = CString::new(tree.tmp_size.to_string()).unwrap_or_default();
        let options = [
            (c"size", Some(size.as_c_str())),
            (c"nr_inodes", Some(c"65536")),
            (c"mode", Some(c"0755")),
        ];
        let how = Attributes::NO_SUID
            .and(Attributes::NO_DEV)
            .and_if(Attributes::NO_EXEC, tree.tmp_no_exec);
        let whole = mount::new_file_system(c"tmpfs", &options, how)?;
        let names = ["tmp", "var", "shm"];
        for name in names {
            mkdirat(&whole, name, Mode::empty())?;
            // Not by mkdirat: the umask would take from it.
            let everybody = Mode::from_bits_truncate(0o1777);
            fchmodat(&whole, name, everybody, FchmodatFlags::FollowSymlink)?;
        }
        let [tmp, var, shm] = parts(&whole, names)?;
        Ok(Self { tmp, var, shm })
    }
}

/// What covers hidden places: an empty directory and an empty file that nobody may read.
pub struct Void {
    directory: Cover,
    file: Cover,
}

impl Void {
    pub fn new() -> io::Result<Self> {
        let options = [(c"size", Some(c"4k")), (c"mode", Some(c"0755"))];
        let how = Attributes::NO_SUID
            .and(Attributes::NO_DEV)
            .and(Attributes::NO_EXEC)
            .and(Attributes::READ_ONLY);
        let whole = mount::new_file_system(c"tmpfs", &options, Attributes::default())?;
        mkdirat(&whole, "d", Mode::from_bits_truncate(0o555))?;
        let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC;
        openat(&whole, "f", flags, Mode::empty())?;
        mount::change(whole.as_fd(), how, Attributes::default(), false)?;
        let parts = parts(&whole, ["d", "f"])?;
        uncover()?;
        let [directory, file] = parts.map(|mount| Cover {
            mount,
            is_attached: false,
        });
        Ok(Self { directory, file })
    }

    /// The next cover of its kind, which has to be attached before another is asked for.
    pub fn cover(&mut self, is_directory: bool) -> io::Result<OwnedFd> {
        match is_directory {
            true => self.directory.next(),
            false => self.file.next(),
        }
    }
}

/// A mount that is the first cover itself, and then what others are copies of.
struct Cover {
    mount: OwnedFd,
    is_attached: bool,
}

impl Cover {
    fn next(&mut self) -> io::Result<OwnedFd> {
        if self.is_attached {
            return mount::clone_tree(Some(self.mount.as_fd()), Path::new(""), false);
        }
        self.is_attached = true;
        self.mount.try_clone()
    }
}

fn parts<const N: usize>(whole: &OwnedFd, names: [&str; N]) -> io::Result<[OwnedFd; N]> {
    mount::attach(whole.as_fd(), Path::new(ASIDE))?;
    let copies = names
        .map(|name| mount::clone_tree(Some(whole.as_fd()), Path::new(name), false))
        .into_iter()
        .collect::<io::Result<Vec<_>>>();
    let copies = copies?.try_into();
    copies.map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))
}

/// Takes off what was attached to [`ASIDE`] last.
pub fn uncover() -> io::Result<()> {
    Ok(umount2(ASIDE, MntFlags::MNT_DETACH)?)
}
