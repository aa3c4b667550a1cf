//! Signalling and reaping processes.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The end of a child, as wait4(2) tells it.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    pub pid: i32,
    /// It was our child; of others nothing but the end is known.
    pub seen: bool,
    /// Exit status, or signal number with `signalled`.
    pub status: i32,
    pub signalled: bool,
    pub core: bool,
    pub user_time: Duration,
    pub system_time: Duration,
    /// Peak resident set, KiB.
    pub max_rss: u64,
    /// Of 512 bytes, from and to disk.
    pub blocks_read: u64,
    pub blocks_written: u64,
}

impl Reaped {
    /// The end of a process that is no child of ours.
    #[must_use]
    pub fn unseen(pid: i32) -> Self {
        Self {
            pid,
            seen: false,
            status: 0,
            signalled: false,
            core: false,
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            max_rss: 0,
            blocks_read: 0,
            blocks_written: 0,
        }
    }
}

/// Collects one child that has ended, of any parentage that came down to us.
pub fn reap() -> Option<Reaped> {
    let mut status: c_int = 0;
    // SAFETY: rusage is plain old data, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if pid <= 0 {
        return None;
    }
    let signalled = libc::WIFSIGNALED(status);
    let number = if signalled {
        libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    };
    Some(Reaped {
        pid,
        seen: true,
        status: number,
        signalled,
        core: signalled && libc::WCOREDUMP(status),
        user_time: duration(usage.ru_utime),
        system_time: duration(usage.ru_stime),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        blocks_read: u64::try_from(usage.ru_inblock).unwrap_or(0),
        blocks_written: u64::try_from(usage.ru_oublock).unwrap_or(0),
    })
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u32::try_from(time.tv_usec).unwrap_or(0);
    Duration::new(seconds, micros * 1_000)
}

/// A descriptor for process `pid` (pidfd_open(2)): it keeps meaning that
/// process when the number is given to another.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal` to the process behind `pidfd` (pidfd_send_signal(2)).
pub fn pidfd_signal(pidfd: BorrowedFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for the one kill(2) would send.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// fork(2), for a process with one thread: the child may do whatever its
/// parent may. `None` in the child.
pub fn fork_alone() -> io::Result<Option<i32>> {
    // SAFETY: there is no other thread that could hold a lock at this moment:
    // this is called by keepers, probes and sessions only, which have one.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What [`fork_apart`] returns to who called it.
#[derive(Debug)]
pub struct Sibling {
    pub pid: i32,
    /// It keeps meaning the child when it has been reaped by its parent.
    pub pidfd: OwnedFd,
}

/// fork(2) into namespaces of its own (`CLONE_NEW*`, clone(2)), for a process with one thread.
/// The child's parent is ours, and the child is the first process where `namespaces` has that of
/// pids. `None` in the child, which must not fork again by the library: that takes it for its
/// parent.
pub fn fork_apart(namespaces: c_int) -> io::Result<Option<Sibling>> {
    let flags = namespaces | libc::CLONE_PARENT | libc::CLONE_PIDFD;
    let mut pidfd: c_int = -1;
    let no_stack = ptr::null_mut::<libc::c_void>();
    let (first, second) = if cfg!(target_arch = "s390x") {
        (no_stack as usize, flags.unsigned_abs() as usize)
    } else {
        (flags.unsigned_abs() as usize, no_stack as usize)
    };
    // SAFETY: without a stack and CLONE_VM the child goes on with a copy of ours, as after
    // fork(2); there is no other thread that could hold a lock at this moment, see `fork_alone`.
    // The third argument is where the pidfd goes, a live local; no flag asks for the others.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(Sibling {
            pid,
            // SAFETY: the kernel just made this descriptor for us alone.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The end of a forked child that must not run what its parent has registered.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Reaps one child, which is about to end.
pub fn wait_for(pid: i32) {
    // SAFETY: a null status is allowed (waitpid(2)).
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

/// Whether the first process of a pid namespace is the only one in it, zombies
/// aside: kill(2) to everybody finds nobody.
#[must_use]
pub fn is_alone() -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let sent = unsafe { libc::kill(-1, 0) };
    own_pid() != 1 || sent < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

fn own_pid() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// A /proc of our own pid namespace that is mounted nowhere.
pub fn own_proc() -> io::Result<OwnedFd> {
    super::mount::new_file_system(c"proc", &[], super::mount::Attributes::default())
}

extern "C" fn do_nothing(_: c_int) {}

/// The first signal that was held, or zero.
static HELD: AtomicI32 = AtomicI32::new(0);

extern "C" fn hold(signal: c_int) {
    let _ = HELD.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

/// From now on no signal ends this process that may come from outside and can
/// be held; programs that it executes are not spared.
pub fn hold_signals() {
    held_signals().for_each(|signal| set_action(signal, hold as extern "C" fn(c_int) as usize));
}

/// The reverse. One that came meanwhile does now what it would have done.
pub fn let_signals_through() {
    held_signals().for_each(|signal| set_action(signal, libc::SIG_DFL));
    let held = HELD.swap(0, Ordering::Relaxed);
    if held != 0 {
        // SAFETY: takes a number.
        unsafe { libc::raise(held) };
    }
}

/// All but those that tell of a fault of ours, and what is done about children.
fn held_signals() -> impl Iterator<Item = c_int> {
    const SPARED: [c_int; 11] = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCONT,
        libc::SIGCHLD,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGSYS,
    ];
    (1..=SIGNALS).filter(|signal| !SPARED.contains(signal))
}

/// Gives every signal that our own parent left ignored its default action
/// back, so that servers do not inherit it, and makes SIGPIPE an error of the
/// write instead of our end. A handler rather than "ignore": exec resets it.
pub fn reset_signals() {
    for signal in 1..=SIGNALS {
        stop_ignoring(signal);
    }
    let handler: extern "C" fn(c_int) = do_nothing;
    set_action(libc::SIGPIPE, handler as libc::sighandler_t);
}

/// The kernel's own count: the C library hides two of them for itself.
const SIGNALS: c_int = 64;

/// `struct sigaction` as the kernel has it on every architecture that Rust
/// builds for with a C library of ours, restorer or not: handler first, and
/// room for the rest.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    rest: [u64; 4],
}

/// By raw system call, because sigaction(3) refuses the two signals that the C
/// library keeps for itself, and those can be inherited as ignored too.
fn stop_ignoring(signal: c_int) {
    const MASK_SIZE: usize = 8;
    let mut action = KernelAction {
        handler: 0,
        rest: [0; 4],
    };
    let no_action = ptr::null::<KernelAction>();
    // SAFETY: a null new action only reads the old one into a live local that
    // is at least as large as the kernel's.
    let known = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            no_action,
            &raw mut action,
            MASK_SIZE,
        )
    };
    if known != 0 || action.handler != libc::SIG_IGN {
        return;
    }
    let default = KernelAction {
        handler: libc::SIG_DFL,
        rest: [0; 4],
    };
    let old = ptr::null_mut::<KernelAction>();
    // SAFETY: the new action is a live local that the call only reads; the
    // default action needs no restorer.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const default,
            old,
            MASK_SIZE,
        )
    };
}

fn set_action(signal: c_int, action: libc::sighandler_t) {
    // SAFETY: the only handler ever given is `do_nothing`, which is
    // async-signal-safe; the other action is SIG_DFL.
    unsafe { libc::signal(signal, action) };
}

/// Gives freed memory back to the kernel (malloc_trim(3)): after a table was
/// read, most of the heap is free and would stay resident.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; glibc locks its own state.
    unsafe {
        libc::malloc_trim(0);
    }
}
