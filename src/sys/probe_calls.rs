//! What `sandbox::probe` asks of the kernel, once at start and in processes of
//! its own: whether calls that newer kernels have, or that a host may forbid, work here.

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::unistd::{ForkResult, Pid, fork};

/// linux/mount.h; the C library does not have these.
const FSOPEN_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_NAMESPACE: u32 = 2;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
/// linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// linux/keyctl.h.
const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
/// linux/landlock.h.
const LANDLOCK_CREATE_RULESET_VERSION: c_long = 1;

/// Runs `work` in a child, whose exit status is what it returns.
///
/// Only for processes of a single thread, which the one that probes is: the
/// child goes on as if nothing had happened, allocator and all.
pub fn in_child(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the process has one thread, so no lock is held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = work();
            // SAFETY: ends the child at once, without the handlers at exit,
            // which are the parent's.
            unsafe { libc::_exit(status) }
        }
    }
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(check(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// mount(2): nothing under `/` tells other mount namespaces of its mounts.
pub fn make_private() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    mount(None, c"/", None, flags)
}

/// mount(2): a new file system of `kind` over `target`.
pub fn mount_new(kind: &CStr, target: &CStr) -> io::Result<()> {
    mount(Some(kind), target, Some(kind), 0)
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let or_null = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: each pointer is null or a string that ends in NUL; there is no data.
    let result = unsafe {
        libc::mount(
            or_null(source),
            target.as_ptr(),
            or_null(kind),
            flags,
            ptr::null(),
        )
    };
    check(result.into()).map(drop)
}

/// fsopen(2), fsconfig(2), fsmount(2): a file system that is mounted nowhere yet.
pub fn detached(kind: &CStr, options: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    // SAFETY: the string ends in NUL and is only read.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    for (key, value) in options {
        configure(&context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
    let fd = context.as_raw_fd();
    // SAFETY: no pointers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0) })
}

fn configure(
    context: &OwnedFd,
    command: u32,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> io::Result<()> {
    let fd = context.as_raw_fd();
    // SAFETY: both come from live strings that end in NUL, or are null as the command has it.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) };
    check(done).map(drop)
}

/// move_mount(2): puts what is mounted nowhere over `target`.
pub fn attach(tree: BorrowedFd, target: &CStr) -> io::Result<()> {
    // SAFETY: both paths end in NUL and are only read.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(moved).map(drop)
}

/// open_tree(2): a copy of the tree at `path`, mounted nowhere.
pub fn copy_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(path, OPEN_TREE_CLONE, recursive)
}

/// open_tree(2) of Linux 7.0: a mount namespace that holds a copy of the tree and nothing else.
pub fn tree_namespace(path: &CStr) -> io::Result<OwnedFd> {
    open_tree(path, OPEN_TREE_NAMESPACE, true)
}

fn open_tree(path: &CStr, flag: u32, recursive: bool) -> io::Result<OwnedFd> {
    let depth = if recursive {
        libc::AT_RECURSIVE.unsigned_abs()
    } else {
        0
    };
    let flags = flag | OPEN_TREE_CLOEXEC | depth;
    // SAFETY: the path ends in NUL and is only read.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(tree)
}

/// mount_setattr(2): read-only, without set-uid programs, with all that is mounted below.
pub fn make_read_only(tree: BorrowedFd) -> io::Result<()> {
    // struct mount_attr: set, clear, propagation, user namespace.
    let attributes = [MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0_u64, 0, 0];
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path ends in NUL; pointer and size describe a live array that is only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(done).map(drop)
}

/// clone3(2) into a cgroup that is none: EBADF where the kernel knows how to.
pub fn clone_into(no_cgroup: BorrowedFd) -> io::Result<()> {
    let fd = u64::try_from(no_cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let signal = u64::from(libc::SIGCHLD.unsigned_abs());
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
    // stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let arguments = [CLONE_INTO_CGROUP, 0, 0, 0, signal, 0, 0, 0, 0, 0, fd];
    let size = size_of_val(&arguments);
    // SAFETY: pointer and size describe a live array; without CLONE_VM a child has its own memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) };
    if pid == 0 {
        // SAFETY: the child that should not be ends at once.
        unsafe { libc::_exit(0) }
    }
    check(pid).map(drop)
}

/// The loopback interface of this network namespace is up (ioctl(2), netdevice(7)).
pub fn raise_loopback(socket: BorrowedFd) -> io::Result<()> {
    // struct ifreq: a name of 16 bytes, then the flags in a union of 24.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let fd = socket.as_raw_fd();
    // SAFETY: the array is as large as the kernel's struct ifreq, and only read.
    let done = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, request.as_ptr()) };
    check(done.into()).map(drop)
}

/// prctl(2) with one argument that is a number.
fn set(option: c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options that this is called with take numbers only.
    let done = unsafe { libc::prctl(option, value, none, none, none) };
    check(done.into()).map(drop)
}

/// PR_CAPBSET_DROP(2const).
pub fn drop_bound(capability: u8) -> io::Result<()> {
    set(libc::PR_CAPBSET_DROP, capability.into())
}

/// seccomp(2): whether filters may return `action`.
pub fn has_filter_action(action: u32) -> io::Result<()> {
    let operation = libc::SECCOMP_GET_ACTION_AVAIL;
    // SAFETY: the pointer is to a live local, which is only read.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, operation, 0, &raw const action) };
    check(done).map(drop)
}

/// keyctl(2): a new session keyring without a name.
pub fn new_session_keyring() -> io::Result<()> {
    let no_name = ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    check(serial).map(drop)
}

/// landlock_create_ruleset(2): the version of the interface.
pub fn landlock_version() -> io::Result<u32> {
    let no_attributes = ptr::null::<u8>();
    // SAFETY: with this flag there are no attributes, and their size is 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            no_attributes,
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    Ok(u32::try_from(check(version)?).unwrap_or(0))
}
