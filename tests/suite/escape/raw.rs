//! System calls by number, for an attacker that is no friend of wrappers.
#![allow(
    unsafe_code,
    reason = "attempts at what no library offers; whatever memory they name is this process's own"
)]

use nix::errno::Errno;

/// Any system call with any arguments, such as an attacker would try.
pub fn system_call(number: i64, arguments: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: pointers among the arguments lead to live buffers of the caller,
    // which has no thread and no state that a strange result could spoil.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| Errno::last())
}

/// fork(2) in a program with one thread. `None` in the child.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the attacker has no other thread.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(Errno::last()),
    }
}

/// The end of a child, without anything of its parent's.
pub fn end(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(status) }
}

/// The 32-bit way into the kernel, with the 32-bit number of getpid(2).
#[cfg(target_arch = "x86_64")]
pub fn getpid_of_32_bits() -> isize {
    let mut result: isize = 20;
    // SAFETY: getpid(2) takes nothing; the kernel keeps all other registers but r8 to r11.
    unsafe {
        std::arch::asm!(
            "int 0x80", inlateout("rax") result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
pub fn getpid_of_32_bits() -> isize {
    -38
}
