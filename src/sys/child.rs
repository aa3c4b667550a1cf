//! Children that share our memory until they exec, while we go on.
//!
//! clone(2) with `CLONE_VM`: nothing is copied but the descriptor table, so a
//! start costs a third of what fork(2) costs, and no page fault afterwards. Without
//! `CLONE_VFORK`: we do not sleep meanwhile, so no slow file system and nobody
//! who may stop the child (it has changed its user) can hold us up.
//!
//! What the child reads must stay as it is until it is done with our memory.
//! The kernel says when: it clears the word given as `CLONE_CHILD_CLEARTID`
//! at exec and at exit.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::raw::SIDE_BY_SIDE;

/// 64 KiB; the way to exec is a few frames deep.
const STACK: usize = 4096;

/// What a child does with its part of our memory, and with no other.
///
/// The code must make system calls by [`super::raw`] only: no allocation, no
/// panic, nothing that is thread-local.
pub trait Errand {
    /// Runs in the child. Returns what to leave behind: not zero.
    fn run(&mut self) -> u32;
}

/// A stack, an errand, and the word that says whether they are in use.
#[derive(Debug)]
struct Berth<E> {
    stack: Box<[u128]>,
    errand: Option<E>,
    /// Not zero while a child may look at this berth.
    busy: AtomicU32,
    /// What the errand left behind.
    left: AtomicU32,
    pid: i32,
}

/// As many berths as there ever were children on their way at once.
#[derive(Debug)]
pub struct Berths<E> {
    // Boxed, because a child holds pointers into its berth.
    berths: Vec<Box<Berth<E>>>,
}

impl<E> Default for Berths<E> {
    fn default() -> Self {
        Self { berths: Vec::new() }
    }
}

impl<E: Errand> Berths<E> {
    /// Starts a child on `errand` and returns its pid at once.
    pub fn send(&mut self, errand: E) -> io::Result<i32> {
        let at = self.free_berth();
        let berth = &mut *self.berths[at];
        berth.errand = Some(errand);
        berth.busy.store(1, Ordering::Relaxed);
        berth.left.store(0, Ordering::Relaxed);
        let top = berth.stack.as_mut_ptr_range().end;
        let busy = berth.busy.as_ptr();
        let argument: *mut Berth<E> = berth;
        let mut flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        if !SIDE_BY_SIDE {
            flags |= libc::CLONE_VFORK;
        }
        let (no_parent_tid, no_tls) = (0usize, 0usize);
        // SAFETY: `top` is the aligned end of a stack that nobody else uses, and
        // stacks grow down on every Linux target. `argument` stays valid and is
        // not touched by us while `busy` is set, which the kernel clears only
        // when the child has left our memory.
        let pid = unsafe {
            libc::clone(
                begin::<E>,
                top.cast(),
                flags,
                argument.cast(),
                no_parent_tid,
                no_tls,
                busy,
            )
        };
        let berth = &mut *self.berths[at];
        if pid < 0 {
            let err = io::Error::last_os_error();
            berth.busy.store(0, Ordering::Relaxed);
            berth.errand = None;
            return Err(err);
        }
        berth.pid = pid;
        Ok(pid)
    }

    /// What the errand of child `pid` left behind, once it was reaped; `None`
    /// if it became another program.
    pub fn left_behind(&mut self, pid: i32) -> Option<u32> {
        let of_child = |berth: &&mut Box<Berth<E>>| berth.pid == pid;
        let berth = self.berths.iter_mut().find(of_child)?;
        berth.pid = 0;
        let left = berth.left.swap(0, Ordering::Acquire);
        (left != 0).then_some(left)
    }

    /// One that no child is in, and whose last one did not leave a message
    /// that is still to be read.
    fn free_berth(&mut self) -> usize {
        let free = self.berths.iter().position(|berth| {
            berth.busy.load(Ordering::Acquire) == 0 && berth.left.load(Ordering::Acquire) == 0
        });
        if let Some(at) = free {
            return at;
        }
        self.berths.push(Box::new(Berth {
            stack: vec![0; STACK].into_boxed_slice(),
            errand: None,
            busy: AtomicU32::new(0),
            left: AtomicU32::new(0),
            pid: 0,
        }));
        self.berths.len() - 1
    }
}

/// The child's first and only function of ours. What it returns is its exit status.
extern "C" fn begin<E: Errand>(argument: *mut c_void) -> c_int {
    const NOT_STARTED: c_int = 127;
    let berth = argument.cast::<Berth<E>>();
    // SAFETY: the parent keeps the berth and does not touch its errand while
    // `busy` is set, which it is as long as this function can run.
    let errand = unsafe { &mut (*berth).errand };
    // SAFETY: as above; the word is atomic, so that the parent may read it.
    let left = unsafe { &(*berth).left };
    if let Some(errand) = errand {
        left.store(errand.run(), Ordering::Release);
    }
    NOT_STARTED
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;

    #[derive(Debug)]
    struct Leave(u32);

    impl Errand for Leave {
        fn run(&mut self) -> u32 {
            self.0
        }
    }

    #[test]
    fn what_children_leave_behind_is_found_by_pid() {
        let mut all = Berths::default();
        let pids: Vec<i32> = (1..=20).map(|n| all.send(Leave(n)).unwrap()).collect();
        for (n, pid) in (1..=20).zip(&pids) {
            let status = waitpid(Pid::from_raw(*pid), None).unwrap();
            assert_eq!(status, WaitStatus::Exited(Pid::from_raw(*pid), 127));
            assert_eq!(all.left_behind(*pid), Some(n));
            assert_eq!(all.left_behind(*pid), None);
        }
        let berths = all.berths.len();
        let pid = all.send(Leave(1)).unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(all.berths.len(), berths, "a free berth is used again");
    }
}
