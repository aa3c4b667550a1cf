//! clone3(2) for a child on a stack of its own.
//!
//! The C libraries have no function for it: the child returns from the system
//! call with an empty stack, so nothing that a compiler made of a function
//! around it may be used by then. The few instructions between the call and
//! the child's own function are therefore written here.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::os::fd::RawFd;

use super::raw::Errno;

/// A child that shares our memory and is in a cgroup from its first instruction.
#[derive(Debug)]
pub struct Request {
    /// Of clone(2); `CLONE_INTO_CGROUP` is added where there is a cgroup.
    pub flags: u64,
    /// Where `CLONE_CHILD_CLEARTID` clears.
    pub child_tid: *mut u32,
    pub stack: Range<*mut u128>,
    /// The directory of a cgroup.
    pub cgroup: Option<RawFd>,
}

/// `struct clone_args`, as of Linux 5.7.
#[repr(C, align(8))]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Of linux/sched.h; libc has it for some targets as a number that overflows.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes the child; it calls `function` with `argument` on the new stack and
/// ends with what that returns.
///
/// # Safety
///
/// The stack must be free, and it and `argument` must stay so until the child
/// has left our memory. `function` must not unwind and must hold to the rules of
/// a child that shares its parent's memory. What `flags` ask for must not need
/// any other field of the arguments.
pub unsafe fn clone3(
    request: &Request,
    function: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Result<i32, Errno> {
    let bottom = request.stack.start.addr();
    // A sibling's end is told as its maker's is.
    let sibling = request.flags & u64::from(libc::CLONE_PARENT.unsigned_abs()) != 0;
    let exit_signal = if sibling { 0 } else { libc::SIGCHLD };
    let into = request.cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    let arguments = Arguments {
        flags: request.flags | into,
        child_tid: request.child_tid.addr() as u64,
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        stack: bottom as u64,
        stack_size: (request.stack.end.addr() - bottom) as u64,
        cgroup: u64::from(request.cgroup.unwrap_or(0).unsigned_abs()),
        ..Arguments::default()
    };
    // SAFETY: the caller's promises are those of `call`; the arguments are a live local.
    let result = unsafe { call(&arguments, function, argument) };
    let pid = i32::try_from(result).unwrap_or(-libc::EIO);
    if pid < 0 { Err(-pid) } else { Ok(pid) }
}

/// The kernel copies the parent's registers to the child, except for the stack
/// pointer, which is the end of the new stack (aligned by its type as a call
/// wants it), and for the result, which is 0.
#[cfg(target_arch = "x86_64")]
unsafe fn call(
    arguments: &Arguments,
    function: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: in the parent this is a system call, which keeps all registers but
    // rax, rcx and r11. The child never comes out of the block; it uses the two
    // registers that were filled for it and its own stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // No frame above this one, for whoever looks at the stack.
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<Arguments>(),
            in("r8") function,
            in("r9") argument,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn call(
    arguments: &Arguments,
    function: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: in the parent this is a system call, which keeps all registers but
    // x0. The child never comes out of the block; it uses the two registers that
    // were filled for it and its own stack.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            // No frame above this one, for whoever looks at the stack.
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x4",
            "blr x3",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("x0") std::ptr::from_ref(arguments) => result,
            in("x8") libc::SYS_clone3,
            in("x1") size_of::<Arguments>(),
            in("x3") function,
            in("x4") argument,
            options(nostack),
        );
    }
    result
}

/// Elsewhere the child enters the cgroup by itself.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn call(_: &Arguments, _: extern "C" fn(*mut c_void) -> c_int, _: *mut c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}
