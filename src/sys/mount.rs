//! Mounts as descriptors (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)):
//! made and changed before anybody can see them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use std::os::unix::ffi::OsStrExt;

/// `MOUNT_ATTR_*` of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn and_if(self, other: Self, wanted: bool) -> Self {
        if wanted { self.and(other) } else { self }
    }
}

/// `MOVE_MOUNT_F_EMPTY_PATH`: what is moved is the descriptor itself.
const MOVE_FROM_EMPTY_PATH: u32 = 0x4;
/// `MOVE_MOUNT_T_EMPTY_PATH`, the same of the target; means nothing to a path that is not empty.
const MOVE_TO_EMPTY_PATH: u32 = 0x40;
/// `FSCONFIG_*`.
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CREATE: u32 = 6;

fn checked(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = checked(result)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// A new, detached file system: `kind` as in filesystems(5); options without a value are flags.
pub fn new_file_system(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in NUL and is only read.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    for (key, value) in options {
        let (command, value) = match value {
            Some(value) => (SET_STRING, value.as_ptr()),
            None => (SET_FLAG, ptr::null()),
        };
        configure(&context, command, key.as_ptr(), value)?;
    }
    configure(&context, CREATE, ptr::null(), ptr::null())?;
    // SAFETY: no pointers are passed.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes.0) })
}

fn configure(
    context: &OwnedFd,
    command: u32,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> io::Result<()> {
    // SAFETY: key and value are null or end in NUL, and are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key,
            value,
            0,
        )
    };
    checked(result).map(drop)
}

/// A detached copy of what is mounted at `path` (from `dir`, if it is relative, or `dir` itself, if
/// it is empty), with all below it if `recursive`.
pub fn clone_tree(
    dir: Option<BorrowedFd<'_>>,
    path: &Path,
    recursive: bool,
) -> io::Result<OwnedFd> {
    /// `AT_RECURSIVE`.
    const RECURSIVE: u32 = 0x8000;
    /// `OPEN_TREE_CLONE`.
    const CLONE: u32 = 1;
    let path = c_path(path)?;
    let empty = libc::AT_EMPTY_PATH.unsigned_abs();
    let flags = CLONE | libc::O_CLOEXEC.unsigned_abs() | empty;
    let flags = flags | if recursive { RECURSIVE } else { 0 };
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    // SAFETY: the path ends in NUL and is only read.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Puts a detached mount on `path`.
pub fn attach(mount: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    move_to(mount, libc::AT_FDCWD, &c_path(path)?)
}

/// Puts a detached mount on what `place` is open at.
pub fn attach_to(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    move_to(mount, place.as_raw_fd(), c"")
}

fn move_to(mount: BorrowedFd<'_>, dir: i32, path: &CStr) -> io::Result<()> {
    // SAFETY: both strings end in NUL and are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir,
            path.as_ptr(),
            MOVE_FROM_EMPTY_PATH | MOVE_TO_EMPTY_PATH,
        )
    };
    checked(result).map(drop)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_attr(dir: i32, path: &CStr, recursive: bool, attributes: &mut MountAttr) -> io::Result<()> {
    /// `AT_RECURSIVE`.
    const RECURSIVE: i32 = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    // SAFETY: the path ends in NUL; the structure is a live local of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            ptr::from_mut(attributes),
            size_of::<MountAttr>(),
        )
    };
    checked(result).map(drop)
}

/// Changes a mount that is attached or not, and all below it if `recursive`.
pub fn change(
    mount: BorrowedFd<'_>,
    set: Attributes,
    clear: Attributes,
    recursive: bool,
) -> io::Result<()> {
    let mut attributes = MountAttr {
        set: set.0,
        clear: clear.0,
        propagation: 0,
        user_namespace: 0,
    };
    set_attr(mount.as_raw_fd(), c"", recursive, &mut attributes)
}

/// The same for what is mounted at `path`.
pub fn change_at(path: &Path, set: Attributes, recursive: bool) -> io::Result<()> {
    let mut attributes = MountAttr {
        set: set.0,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let path = c_path(path)?;
    set_attr(libc::AT_FDCWD, &path, recursive, &mut attributes)
}

/// What is mounted from now on stays in this namespace, and what the host mounts stays out.
pub fn make_all_private() -> io::Result<()> {
    let mut attributes = MountAttr {
        set: 0,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };
    set_attr(libc::AT_FDCWD, c"/", true, &mut attributes)
}
