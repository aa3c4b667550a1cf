//! System calls for a child that shares its parent's memory.
//!
//! The C library's wrappers leave the error number in thread-local storage,
//! and the child's is the parent's. These return it instead.

use std::ffi::CStr;

use super::bpf::Instruction;
use super::exec::{Argv, Envp};

/// What went wrong: an errno.
pub type Errno = i32;

/// Whether a child may run beside its parent: only where a system call can be
/// made without the C library.
pub const SIDE_BY_SIDE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `number` with up to five arguments, as syscall(2) has it per architecture.
///
/// # Safety
///
/// As for the system call itself: what it takes for a pointer must be one.
#[allow(
    clippy::cast_possible_truncation,
    reason = "numbers of system calls are small"
)]
pub(super) unsafe fn call<const N: usize>(
    number: libc::c_long,
    args: [usize; N],
) -> Result<usize, Errno> {
    const { assert!(N <= 5) };
    let mut all = [0; 5];
    all[..N].copy_from_slice(&args);
    let [a, b, c, d, e] = all;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the Linux ABI, which keeps all but
    // rax, rcx and r11; what the call does to memory is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the registers are those of the Linux ABI, which keeps all but
    // x0; what the call does to memory is the caller's promise.
    unsafe {
        std::arch::asm!(
            "svc 0",
            inlateout("x0") a as isize => result,
            in("x8") number, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // SAFETY: the caller's promise; the parent sleeps (see SIDE_BY_SIDE),
        // so that its error number is not in use.
        let returned = unsafe { libc::syscall(number, a, b, c, d, e) };
        // SAFETY: the location is this thread's own.
        let errno = unsafe { *libc::__errno_location() };
        result = if returned < 0 {
            -(errno as isize)
        } else {
            returned as isize
        };
    }
    usize::try_from(result).map_err(|_| i32::try_from(-result).unwrap_or(libc::EIO))
}

/// An argument that is a small number, negative ones as the kernel wants them.
#[allow(clippy::cast_sign_loss, reason = "the register takes the bits")]
pub(super) fn word(number: i32) -> usize {
    number as isize as usize
}

/// rt_sigprocmask(2): blocks nothing.
pub fn unblock_signals() -> Result<(), Errno> {
    let none: u64 = 0;
    let set = (&raw const none) as usize;
    // SAFETY: `set` is a live local of the 8 bytes that are announced, only read.
    unsafe {
        call(
            libc::SYS_rt_sigprocmask,
            [word(libc::SIG_SETMASK), set, 0, 8],
        )
    }
    .map(drop)
}

/// Moves this process into the cgroup with this directory: "0" in its
/// cgroup.procs stands for the writer.
pub fn enter_cgroup(dir: i32) -> Result<(), Errno> {
    let name = c"cgroup.procs".as_ptr() as usize;
    let flags = word(libc::O_WRONLY | libc::O_CLOEXEC);
    // SAFETY: the name is a constant that ends in NUL and is only read.
    let file = unsafe { call(libc::SYS_openat, [word(dir), name, flags, 0]) }?;
    let me = b"0".as_ptr() as usize;
    // SAFETY: one octet of a constant is read.
    let entered = unsafe { call(libc::SYS_write, [file, me, 1, 0]) };
    // SAFETY: no pointers; the descriptor was opened here and nobody else knows it.
    let _ = unsafe { call(libc::SYS_close, [file, 0, 0, 0]) };
    entered.map(drop)
}

/// setsid(2).
pub fn new_session() -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setsid, [0; 4]) }.map(drop)
}

/// dup3(2): `from` becomes `to`, open across exec. A `from` that already has
/// the number only loses its close-on-exec mark.
pub fn place(from: i32, to: i32) -> Result<(), Errno> {
    if from == to {
        // SAFETY: no pointers.
        return unsafe { call(libc::SYS_fcntl, [word(to), word(libc::F_SETFD), 0, 0]) }.map(drop);
    }
    // SAFETY: no pointers; the caller is a child in which nobody owns `to`.
    unsafe { call(libc::SYS_dup3, [word(from), word(to), 0, 0]) }.map(drop)
}

/// close_range(2): every descriptor from `first` on is closed on exec.
pub fn close_on_exec_from(first: i32) -> Result<(), Errno> {
    let flag = libc::CLOSE_RANGE_CLOEXEC as usize;
    // SAFETY: no pointers; the flag closes nothing by itself.
    unsafe {
        call(
            libc::SYS_close_range,
            [word(first), u32::MAX as usize, flag, 0],
        )
    }
    .map(drop)
}

/// prlimit(2) of this process.
pub fn set_limit(resource: i32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit: [u64; 2] = [soft, hard];
    let new = (&raw const limit) as usize;
    // SAFETY: `new` is a live local laid out as the kernel's rlimit64, only read.
    unsafe { call(libc::SYS_prlimit64, [0, word(resource), new, 0]) }.map(drop)
}

/// setgroups(2), setresgid(2), setresuid(2), in this order. The memory, which is our
/// parent's too, stays closed to the new user, whatever fs.suid_dumpable says.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let (uid, gid) = (uid as usize, gid as usize);
    // SAFETY: pointer and length describe `groups`, which is only read.
    unsafe {
        call(
            libc::SYS_setgroups,
            [groups.len(), groups.as_ptr() as usize, 0, 0],
        )
    }?;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid, 0]) }?;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid, 0]) }?;
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// close_range(2): every descriptor from `first` on, now.
pub fn close_from(first: i32) -> Result<(), Errno> {
    // SAFETY: no pointers; the caller is a child in which nobody uses these numbers any more.
    unsafe { call(libc::SYS_close_range, [word(first), u32::MAX as usize, 0]) }.map(drop)
}

/// recvmsg(2): waits for a packet with one descriptor, which is close-on-exec.
/// `ECONNRESET` if the other end is gone.
pub fn receive_descriptor(channel: i32) -> Result<i32, Errno> {
    /// Of SCM_RIGHTS with one descriptor: header, number, padding.
    #[repr(C, align(8))]
    struct Control {
        header: libc::cmsghdr,
        fd: i32,
        _pad: i32,
    }
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: plain old data, for which zeroes are valid.
    let mut control: Control = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let (message, flags) = (&raw mut message, word(libc::MSG_CMSG_CLOEXEC));
    loop {
        // SAFETY: the message names live locals with their true sizes.
        match unsafe { call(libc::SYS_recvmsg, [word(channel), message as usize, flags]) } {
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Err(libc::ECONNRESET),
            Ok(_) if control.header.cmsg_type != libc::SCM_RIGHTS => return Err(libc::EBADMSG),
            Ok(_) => return Ok(control.fd),
        }
    }
}

/// setns(2): into the namespaces of `flags` of the process behind a pidfd, or
/// into the one that `fd` stands for.
pub fn enter(fd: i32, flags: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setns, [word(fd), word(flags)]) }.map(drop)
}

/// unshare(2).
pub fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_unshare, [word(flags)]) }.map(drop)
}

/// Takes every capability but those in `keep` out of the bounding set
/// (PR_CAPBSET_DROP(2const)).
pub fn drop_bounds(keep: u64) -> Result<(), Errno> {
    for capability in 0..64_u8 {
        if keep >> capability & 1 == 1 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, usize::from(capability), 0) {
            // Beyond the last one that this kernel has.
            Err(libc::EINVAL) => return Ok(()),
            dropped => dropped?,
        }
    }
    Ok(())
}

/// Lets the permitted set survive the change of user
/// (PR_SET_KEEPCAPS(2const)); exec clears the flag.
pub fn keep_capabilities() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

/// Cuts all sets to `keep` and makes them ambient, so that exec(2) leaves them
/// to a program of any user (capabilities(7)).
pub fn set_capabilities(keep: u64) -> Result<(), Errno> {
    set_sets(keep, keep)?;
    for capability in (0..64_usize).filter(|capability| keep >> capability & 1 == 1) {
        prctl(CAP_AMBIENT, RAISE, capability)?;
    }
    Ok(())
}

/// Makes all of them ambient: who entered a user namespace has every one, and
/// would lose them with the next exec.
pub fn carry_capabilities() -> Result<(), Errno> {
    set_sets(u64::MAX, u64::MAX)?;
    for capability in 0..64 {
        match prctl(CAP_AMBIENT, RAISE, capability) {
            // Beyond the last one that this kernel has.
            Err(libc::EINVAL) => break,
            raised => raised?,
        }
    }
    Ok(())
}

/// After that exec: has them as who entered the namespace has, for itself only.
pub fn lay_down_capabilities() -> Result<(), Errno> {
    prctl(CAP_AMBIENT, CLEAR_ALL, 0)?;
    set_sets(u64::MAX, 0)
}

/// Of PR_CAP_AMBIENT(2const).
const CAP_AMBIENT: i32 = 47;
const RAISE: usize = 2;
const CLEAR_ALL: usize = 4;

/// capset(2): what is held, and what is inheritable. Those that the kernel
/// does not know are taken for none.
fn set_sets(held: u64, inheritable: u64) -> Result<(), Errno> {
    // `_LINUX_CAPABILITY_VERSION_3`, and "this process".
    let header: [u32; 2] = [0x2008_0522, 0];
    let low = |set: u64| u32::try_from(set & 0xffff_ffff).unwrap_or(0);
    let (rest, inherited) = (held >> 32, inheritable >> 32);
    // Effective, permitted, inheritable; of the first 32, then of the rest.
    let data: [u32; 6] = [
        low(held),
        low(held),
        low(inheritable),
        low(rest),
        low(rest),
        low(inherited),
    ];
    let (header, data) = ((&raw const header) as usize, (&raw const data) as usize);
    // SAFETY: both point to live memory of the sizes that this version has, only read.
    unsafe { call(libc::SYS_capset, [header, data]) }.map(drop)
}

/// The name that ps(1) shows, until exec: PR_SET_NAME(2const).
pub fn set_name(name: &CStr) {
    let name = name.as_ptr() as usize;
    // SAFETY: it ends with a NUL, and the kernel reads no further than that.
    let _ = unsafe { call(libc::SYS_prctl, [word(libc::PR_SET_NAME), name, 0, 0, 0]) };
}

/// PR_SET_NO_NEW_PRIVS(2const).
pub fn forbid_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

fn prctl(option: i32, first: usize, second: usize) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers and no pointers.
    unsafe { call(libc::SYS_prctl, [word(option), first, second, 0, 0]) }.map(drop)
}

/// keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`: a new one without a name.
pub fn new_session_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: a null name asks for one without a name.
    unsafe { call(libc::SYS_keyctl, [JOIN_SESSION_KEYRING, 0]) }.map(drop)
}

/// landlock_restrict_self(2).
pub fn restrict_self(ruleset: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_landlock_restrict_self, [word(ruleset), 0]) }.map(drop)
}

/// Writes `text` to a file that is there, in one write(2).
pub fn write_to(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let flags = word(libc::O_WRONLY | libc::O_CLOEXEC);
    let at = word(libc::AT_FDCWD);
    // SAFETY: the path ends in NUL and is only read.
    let fd = unsafe { call(libc::SYS_openat, [at, path.as_ptr() as usize, flags]) }?;
    // SAFETY: pointer and length describe `text`, which is only read.
    let written = unsafe { call(libc::SYS_write, [fd, text.as_ptr() as usize, text.len()]) };
    // SAFETY: the number is that of the descriptor just opened, which nobody else knows.
    unsafe { call(libc::SYS_close, [fd]) }?;
    written.map(drop)
}

/// umask(2), which cannot fail.
pub fn set_umask(mask: u32) {
    // SAFETY: no pointers.
    let _ = unsafe { call(libc::SYS_umask, [mask as usize, 0, 0, 0]) };
}

/// chdir(2).
pub fn change_directory(to: &CStr) -> Result<(), Errno> {
    // SAFETY: the string ends in NUL and is only read.
    unsafe { call(libc::SYS_chdir, [to.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// seccomp(2): from now on `program` judges every system call of this thread
/// and of what comes of it. Needs no_new_privs or `CAP_SYS_ADMIN`.
pub fn set_filter(program: &[Instruction]) -> Result<(), Errno> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| libc::EINVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    // SAFETY: `filter` names `program` and its true length; the kernel copies
    // both before it returns and writes to neither.
    unsafe {
        call(
            libc::SYS_seccomp,
            [mode, 0, (&raw const filter) as usize, 0],
        )
    }
    .map(drop)
}

/// getpid(2).
#[must_use]
pub fn own_pid() -> u32 {
    // SAFETY: no pointers.
    let pid = unsafe { call(libc::SYS_getpid, [0; 4]) };
    pid.ok()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or(0)
}

/// execveat(2) of the file behind `program` itself, wherever it may be from
/// here. Returns only if it failed.
pub fn exec_descriptor(program: i32, argv: &Argv, envp: &Envp) -> Errno {
    let (argv, envp) = (argv.as_ptr() as usize, envp.as_ptr() as usize);
    let (path, flags) = (c"".as_ptr() as usize, word(libc::AT_EMPTY_PATH));
    // SAFETY: as for `exec`; the path is a constant.
    let result = unsafe { call(libc::SYS_execveat, [word(program), path, argv, envp, flags]) };
    result.err().unwrap_or(libc::EIO)
}

/// execve(2). Returns only if it failed.
pub fn exec(program: &CStr, argv: &Argv, envp: &Envp) -> Errno {
    let (argv, envp) = (argv.as_ptr() as usize, envp.as_ptr() as usize);
    // SAFETY: both arrays end in a null pointer, and every string they point
    // to ends in NUL and is owned by the value we borrow.
    let result = unsafe { call(libc::SYS_execve, [program.as_ptr() as usize, argv, envp, 0]) };
    result.err().unwrap_or(libc::EIO)
}
