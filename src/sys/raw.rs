//! System calls for a child that shares its parent's memory.
//!
//! The C library's wrappers leave the error number in thread-local storage,
//! and the child's is the parent's. These return it instead.

use std::ffi::CStr;

use super::exec::{Argv, Envp};

/// What went wrong: an errno.
pub type Errno = i32;

/// Whether a child may run beside its parent: only where a system call can be
/// made without the C library.
pub const SIDE_BY_SIDE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `number` with up to four arguments, as syscall(2) has it per architecture.
///
/// # Safety
///
/// As for the system call itself: what it takes for a pointer must be one.
#[allow(
    clippy::cast_possible_truncation,
    reason = "numbers of system calls are small"
)]
unsafe fn call(number: libc::c_long, args: [usize; 4]) -> Result<usize, Errno> {
    let [a, b, c, d] = args;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the Linux ABI, which keeps all but
    // rax, rcx and r11; what the call does to memory is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
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
            in("x8") number, in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // SAFETY: the caller's promise; the parent sleeps (see SIDE_BY_SIDE),
        // so that its error number is not in use.
        let returned = unsafe { libc::syscall(number, a, b, c, d) };
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
fn word(number: i32) -> usize {
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

/// setpriority(2) of this process.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setpriority, [0, 0, word(nice), 0]) }.map(drop)
}

/// setgroups(2), setresgid(2), setresuid(2), in this order.
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
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid, 0]) }.map(drop)
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

/// getpid(2).
#[must_use]
pub fn own_pid() -> u32 {
    // SAFETY: no pointers.
    let pid = unsafe { call(libc::SYS_getpid, [0; 4]) };
    pid.ok()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or(0)
}

/// execve(2). Returns only if it failed.
pub fn exec(program: &CStr, argv: &Argv, envp: &Envp) -> Errno {
    let (argv, envp) = (argv.as_ptr() as usize, envp.as_ptr() as usize);
    // SAFETY: both arrays end in a null pointer, and every string they point
    // to ends in NUL and is owned by the value we borrow.
    let result = unsafe { call(libc::SYS_execve, [program.as_ptr() as usize, argv, envp, 0]) };
    result.err().unwrap_or(libc::EIO)
}
