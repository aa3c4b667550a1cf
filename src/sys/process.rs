//! Making, signalling and reaping processes.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Clones this process (clone3(2), no flags: everything is copied) and runs
/// `child` in the copy, which ends in exec, or here with the status that
/// `child` returns. The caller goes on at once.
pub fn spawn_copy<F: FnOnce() -> u8>(child: F) -> io::Result<i32> {
    // SAFETY: clone_args is plain old data, for which zeroes mean "none".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: the pointer and the size describe `args`, which outlives the
    // call; without CLONE_VM the child has its own copy of the stack.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            mem::size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => exit_now(c_int::from(child())),
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}

/// A stack for children that share our memory. One is enough: the caller
/// sleeps while such a child uses it.
#[derive(Debug)]
pub struct ChildStack(Vec<u128>);

impl Default for ChildStack {
    /// 64 KiB; the recipe before exec is a few frames deep.
    fn default() -> Self {
        Self(vec![0; 4096])
    }
}

/// Clones this process without copying its memory (clone(2) with `CLONE_VM`
/// and `CLONE_VFORK`, what posix_spawn(3) does) and sleeps until the child
/// has ended or become another program. A third of the cost of a copy, and
/// no page fault afterwards.
///
/// `child` must make system calls only: what it writes, we read.
pub fn spawn_sharing<F: FnOnce() -> u8>(stack: &mut ChildStack, child: F) -> io::Result<i32> {
    extern "C" fn start<F: FnOnce() -> u8>(argument: *mut c_void) -> c_int {
        // SAFETY: `argument` is the slot below, which outlives the child's use
        // of our memory because the parent sleeps meanwhile.
        let slot = unsafe { &mut *argument.cast::<Option<F>>() };
        slot.take().map_or(0, |child| c_int::from(child()))
    }
    let mut slot = Some(child);
    let top = stack.0.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `top` is the aligned end of a buffer that only this child uses,
    // stacks grow down on every Linux target, and `slot` is what `start` takes.
    let pid = unsafe { libc::clone(start::<F>, top.cast(), flags, (&raw mut slot).cast()) };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid)
    }
}

/// Has the kernel kill this process `after` from now, unless it becomes
/// another program before: exec takes the timer away (timer_create(2)).
/// Nothing but SIGKILL reaches a process that somebody has stopped.
pub fn end_without_exec(after: Duration) -> io::Result<()> {
    // SAFETY: sigevent is plain old data, for which zeroes are valid.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer: c_int = 0;
    // SAFETY: both pointers are to live locals of the kernel's types. The raw
    // call, because the C library's may allocate.
    let made = unsafe {
        libc::syscall(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            &raw mut event,
            &raw mut timer,
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: itimerspec is plain old data, for which zeroes mean "once".
    let mut when: libc::itimerspec = unsafe { mem::zeroed() };
    when.it_value.tv_sec = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
    when.it_value.tv_nsec = after.subsec_nanos().into();
    let old = ptr::null_mut::<libc::itimerspec>();
    // SAFETY: the call only reads the live local, and the old value is not asked for.
    let set = unsafe { libc::syscall(libc::SYS_timer_settime, timer, 0, &raw const when, old) };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Ends this process at once: no destructors, no exit handlers (`_exit(2)`).
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// The end of a child, as wait4(2) tells it.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    pub pid: i32,
    /// Exit status, or signal number with `signalled`.
    pub status: i32,
    pub signalled: bool,
    pub core: bool,
    pub user_time: Duration,
    pub system_time: Duration,
    /// Peak resident set, KiB.
    pub max_rss: u64,
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
        status: number,
        signalled,
        core: signalled && libc::WCOREDUMP(status),
        user_time: duration(usage.ru_utime),
        system_time: duration(usage.ru_stime),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0),
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

extern "C" fn do_nothing(_: c_int) {}

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

/// setrlimit(2) by number, for limits nix has no name for.
pub fn set_limit(resource: i32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    #[cfg(target_env = "gnu")]
    let resource = resource.unsigned_abs();
    // SAFETY: `limit` is a live local that the call only reads.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// setpriority(2) of this process.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no pointers are passed; the flag closes nothing by itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// dup2(2): `from` becomes `to`, open across exec. A `from` that already has
/// the number only loses its close-on-exec mark.
pub fn place(from: BorrowedFd, to: i32) -> io::Result<()> {
    let from = from.as_raw_fd();
    let result = if from == to {
        // SAFETY: no pointers are passed.
        unsafe { libc::fcntl(to, libc::F_SETFD, 0) }
    } else {
        // SAFETY: no pointers are passed; the caller is a fresh child in
        // which nobody owns the number `to`.
        unsafe { libc::dup2(from, to) }
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// setgroups(2), setresgid(2), setresuid(2), in this order, by raw system
/// call: glibc's own would try to do it for all threads.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe `groups`, which is only read.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are passed.
    if unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are passed.
    if unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_stopped_before_exec_does_not_hold_us_up() {
        let pid = spawn_sharing(&mut ChildStack::default(), || {
            let _ = end_without_exec(Duration::from_millis(100));
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            // SAFETY: no pointers are passed.
            unsafe { libc::kill(own, libc::SIGSTOP) };
            0
        })
        .unwrap();
        let mut status = 0;
        // SAFETY: the pointer is to a live local of the right type.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
    }
}
