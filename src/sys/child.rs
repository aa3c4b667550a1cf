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
//!
//! A child that shares memory is killed with us, and we with it, if the kernel
//! runs out of memory in its cgroup (oom_kill_process() ends all who share it). So
//! one whose cgroup has a limit of memory gets a copy ([`Memory::Own`]): slower,
//! and nothing of ours but the word in which it leaves its message.
//!
//! A child that belongs in a cgroup is made by clone3(2), which puts it there
//! before it runs. Where that call is not to be had, the errand is told to enter it.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::clone3;
use super::raw::SIDE_BY_SIDE;
use super::shared_word::{SharedWord, SharedWords};

/// 64 KiB; the way to exec is a few frames deep.
const STACK: usize = 4096;

/// What a child does with its part of our memory, and with no other.
///
/// The code must make system calls by [`super::raw`] only: no allocation, no
/// panic, nothing that is thread-local.
pub trait Errand {
    /// Runs in the child. Returns what to leave behind: not zero.
    ///
    /// `enter` is the directory of a cgroup that the child is not in yet, but
    /// has to be.
    fn run(&mut self, enter: Option<RawFd>) -> u32;

    /// Runs in a go-between ([`Berths::send_through`]) before the child is
    /// made. Returns what to leave behind instead of a child, or zero.
    fn pass(&mut self) -> u32;
}

/// Whose memory a child runs in until it execs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Ours.
    Shared,
    /// A copy, as of fork(2).
    Own,
}

/// A stack, an errand, and the word that says whether they are in use.
#[derive(Debug)]
struct Berth<E> {
    stack: Box<[u128]>,
    /// For a go-between; empty until there is one.
    other_stack: Box<[u128]>,
    errand: Option<E>,
    enter: Option<RawFd>,
    memory: Memory,
    /// Not zero while a child may look at this berth, or has a copy of it and was not reaped.
    busy: AtomicU32,
    /// What the errand left behind.
    left: SharedWord,
    /// The child that a go-between has made, or zero.
    made: AtomicU32,
    pid: i32,
}

/// As many berths as there ever were children on their way at once.
#[derive(Debug)]
pub struct Berths<E> {
    // Boxed, because a child holds pointers into its berth.
    berths: Vec<Box<Berth<E>>>,
    words: SharedWords,
    /// clone3(2) with a cgroup does not work here: too old a kernel, or a
    /// container's filter that does not know it.
    by_hand: bool,
}

impl<E> Default for Berths<E> {
    fn default() -> Self {
        Self {
            berths: Vec::new(),
            words: SharedWords::default(),
            by_hand: false,
        }
    }
}

impl<E: Errand> Berths<E> {
    /// Starts a child on `errand`, in the cgroup with this directory if there is
    /// one, and returns its pid at once.
    pub fn send(
        &mut self,
        errand: E,
        memory: Memory,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<i32> {
        let at = self.free_berth()?;
        let berth = &mut *self.berths[at];
        berth.errand = Some(errand);
        berth.memory = memory;
        berth.busy.store(1, Ordering::Relaxed);
        berth.left.store(0, Ordering::Relaxed);
        let sent = match cgroup.map(|cgroup| cgroup.as_raw_fd()) {
            Some(cgroup) if self.by_hand => berth.clone_with(Some(cgroup)),
            Some(cgroup) => berth.send_into(cgroup, &mut self.by_hand),
            None => berth.clone_with(None),
        };
        match sent {
            Ok(pid) => berth.pid = pid,
            Err(_) => {
                berth.busy.store(0, Ordering::Relaxed);
                berth.errand = None;
            }
        }
        sent
    }

    /// The same for a child that can be made in namespaces only, by somebody who
    /// has entered them and could not come back: a go-between, which does
    /// [`Errand::pass`], makes the child its sibling, and ends. We sleep until
    /// it has; it makes a few system calls as the user that we are.
    pub fn send_through(
        &mut self,
        errand: E,
        memory: Memory,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<Result<i32, u32>> {
        let at = self.free_berth()?;
        let berth = &mut *self.berths[at];
        berth.errand = Some(errand);
        berth.memory = memory;
        berth.enter = cgroup.map(|cgroup| cgroup.as_raw_fd());
        berth.busy.store(1, Ordering::Relaxed);
        berth.left.store(0, Ordering::Relaxed);
        berth.made.store(0, Ordering::Relaxed);
        let sent = berth.send_go_between();
        let made = berth.made.load(Ordering::Acquire);
        if let (Ok(()), Ok(pid @ 1..)) = (&sent, i32::try_from(made)) {
            berth.pid = pid;
            return Ok(Ok(pid));
        }
        berth.busy.store(0, Ordering::Relaxed);
        berth.errand = None;
        let left = berth.left.swap(0, Ordering::Acquire);
        sent.map(|()| Err(left))
    }

    /// Whether no child shares our memory, and none has left anything behind.
    /// Of one that has a copy nothing is known before it is reaped.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.berths.iter().all(|berth| {
            let is_free = berth.busy.load(Ordering::Acquire) == 0 || berth.memory == Memory::Own;
            is_free && berth.left.load(Ordering::Acquire) == 0
        })
    }

    /// What the errand of child `pid` left behind, once it was reaped; `None`
    /// if it became another program.
    pub fn left_behind(&mut self, pid: i32) -> Option<u32> {
        let of_child = |berth: &&mut Box<Berth<E>>| berth.pid == pid;
        let berth = self.berths.iter_mut().find(of_child)?;
        berth.pid = 0;
        if berth.memory == Memory::Own {
            berth.busy.store(0, Ordering::Relaxed);
        }
        let left = berth.left.swap(0, Ordering::Acquire);
        (left != 0).then_some(left)
    }

    /// One that no child is in, and whose last one did not leave a message
    /// that is still to be read.
    fn free_berth(&mut self) -> io::Result<usize> {
        let free = self.berths.iter().position(|berth| {
            berth.busy.load(Ordering::Acquire) == 0 && berth.left.load(Ordering::Acquire) == 0
        });
        if let Some(at) = free {
            return Ok(at);
        }
        let left = self.words.take()?;
        self.berths.push(Box::new(Berth {
            stack: vec![0; STACK].into_boxed_slice(),
            other_stack: Box::default(),
            errand: None,
            enter: None,
            busy: AtomicU32::new(0),
            memory: Memory::Shared,
            left,
            made: AtomicU32::new(0),
            pid: 0,
        }));
        Ok(self.berths.len() - 1)
    }
}

impl<E: Errand> Berth<E> {
    /// What the child is cloned with. One that shares our memory says when it
    /// has left it; of a copy there is nothing to say.
    fn flags(&self) -> c_int {
        match self.memory {
            Memory::Shared => libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID,
            Memory::Own => 0,
        }
    }

    /// Into the cgroup by the kernel. Notes if only the other way works here.
    fn send_into(&mut self, cgroup: RawFd, by_hand: &mut bool) -> io::Result<i32> {
        // What is not known is said in as many ways as there are places to look first.
        const UNKNOWN: [c_int; 4] = [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::E2BIG];
        let sent = self.clone3_with(cgroup);
        match &sent {
            Err(err) if err.raw_os_error().is_some_and(|no| UNKNOWN.contains(&no)) => {}
            _ => return sent,
        }
        let other = self.clone_with(Some(cgroup));
        *by_hand |= other.is_ok();
        other
    }

    fn clone_with(&mut self, enter: Option<RawFd>) -> io::Result<i32> {
        let mut flags = self.flags() | libc::SIGCHLD;
        if !SIDE_BY_SIDE {
            flags |= libc::CLONE_VFORK;
        }
        self.enter = enter;
        let top = self.stack.as_mut_ptr_range().end;
        let busy = self.busy.as_ptr();
        let argument: *mut Self = self;
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
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            _ => Ok(pid),
        }
    }

    fn send_go_between(&mut self) -> io::Result<()> {
        if self.other_stack.is_empty() {
            self.other_stack = vec![0; STACK].into_boxed_slice();
        }
        let top = self.other_stack.as_mut_ptr_range().end;
        let argument: *mut Self = self;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: `top` is the aligned end of a stack that nobody else uses; we
        // do nothing until the go-between has ended.
        let pid = unsafe { libc::clone(go_between::<E>, top.cast(), flags, argument.cast()) };
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn clone3_with(&mut self, cgroup: RawFd) -> io::Result<i32> {
        self.enter = None;
        let stack = self.stack.as_mut_ptr_range();
        let argument: *mut Self = self;
        let request = clone3::Request {
            flags: u64::from(self.flags().unsigned_abs()),
            child_tid: self.busy.as_ptr(),
            stack,
            cgroup: Some(cgroup),
        };
        // SAFETY: the stack is this berth's, which no child is in. `argument`
        // stays valid and is not touched by us while `busy` is set, which the
        // kernel clears only when the child has left our memory.
        unsafe { clone3::clone3(&request, begin::<E>, argument.cast()) }
            .map_err(io::Error::from_raw_os_error)
    }
}

/// The child's first and only function of ours. What it returns is its exit status.
extern "C" fn begin<E: Errand>(argument: *mut c_void) -> c_int {
    const NOT_STARTED: c_int = 127;
    let berth = argument.cast::<Berth<E>>();
    // SAFETY: the parent keeps the berth and does not touch its errand while
    // `busy` is set, which it is as long as this function can run.
    let errand = unsafe { &mut (*berth).errand };
    // SAFETY: as above; written before the clone.
    let enter = unsafe { (*berth).enter };
    // SAFETY: as above; the word is atomic, so that the parent may read it.
    let left = unsafe { &(*berth).left };
    if let Some(errand) = errand {
        left.store(errand.run(enter), Ordering::Release);
    }
    NOT_STARTED
}

/// The only function of ours that a go-between runs.
extern "C" fn go_between<E: Errand>(argument: *mut c_void) -> c_int {
    let berth = argument.cast::<Berth<E>>();
    // SAFETY: our maker sleeps until we end, and nobody else knows the berth.
    let berth = unsafe { &mut *berth };
    let Some(errand) = &mut berth.errand else {
        return 1;
    };
    let left = errand.pass();
    if left != 0 {
        berth.left.store(left, Ordering::Release);
        return 1;
    }
    let beside = berth.flags() | libc::CLONE_PARENT;
    let request = clone3::Request {
        flags: u64::from(beside.unsigned_abs()),
        child_tid: berth.busy.as_ptr(),
        stack: berth.stack.as_mut_ptr_range(),
        cgroup: berth.enter.take(),
    };
    // SAFETY: the stack is this berth's, which no child is in. `argument` stays
    // valid and is not touched while `busy` is set, which the kernel clears
    // only when the child has left our memory.
    match unsafe { clone3::clone3(&request, begin::<E>, argument) } {
        Ok(pid) => berth.made.store(pid.unsigned_abs(), Ordering::Release),
        Err(errno) => berth.left.store(errno.unsigned_abs(), Ordering::Release),
    }
    0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::super::raw;
    use super::*;

    #[derive(Debug)]
    struct Leave(u32);

    impl Errand for Leave {
        fn run(&mut self, _enter: Option<RawFd>) -> u32 {
            self.0
        }

        fn pass(&mut self) -> u32 {
            0
        }
    }

    #[test]
    fn what_children_leave_behind_is_found_by_pid() {
        let mut all = Berths::default();
        let pids: Vec<i32> = (1..=20)
            .map(|n| all.send(Leave(n), Memory::Shared, None).unwrap())
            .collect();
        for (n, pid) in (1..=20).zip(&pids) {
            let status = waitpid(Pid::from_raw(*pid), None).unwrap();
            assert_eq!(status, WaitStatus::Exited(Pid::from_raw(*pid), 127));
            assert_eq!(all.left_behind(*pid), Some(n));
            assert_eq!(all.left_behind(*pid), None);
        }
        let berths = all.berths.len();
        let pid = all.send(Leave(1), Memory::Shared, None).unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(all.berths.len(), berths, "a free berth is used again");
    }

    /// Enters its cgroup if it is not there, and waits to be killed.
    #[derive(Debug)]
    struct Stay;

    impl Errand for Stay {
        fn run(&mut self, enter: Option<RawFd>) -> u32 {
            if enter.is_some_and(|dir| raw::enter_cgroup(dir).is_err()) {
                return 1;
            }
            loop {
                // SAFETY: takes nothing; the child ends in it.
                unsafe { libc::pause() };
            }
        }

        fn pass(&mut self) -> u32 {
            7
        }
    }

    /// A new cgroup, where root may make any.
    fn some_cgroup() -> Option<tempfile::TempDir> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        tempfile::tempdir_in(line.split(' ').nth(4)?).ok()
    }

    #[test]
    fn a_child_is_born_in_its_cgroup_or_enters_it() {
        let Some(dir) = some_cgroup() else {
            eprintln!("skipped: needs root and cgroup2");
            return;
        };
        let cgroup = std::fs::File::open(dir.path()).unwrap();
        let procs = dir.path().join("cgroup.procs");
        let mut all = Berths::default();
        for by_hand in [false, true] {
            all.by_hand = by_hand;
            let pid = all
                .send(Stay, Memory::Shared, Some(cgroup.as_fd()))
                .unwrap();
            let line = format!("{pid}\n");
            if !by_hand {
                assert_eq!(std::fs::read_to_string(&procs).unwrap(), line);
                assert!(!all.by_hand, "clone3 does it");
            }
            while std::fs::read_to_string(&procs).unwrap() != line {
                std::thread::yield_now();
            }
            nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
            waitpid(Pid::from_raw(pid), None).unwrap();
            assert_eq!(all.left_behind(pid), None);
        }
        drop(cgroup);
        std::fs::remove_dir(dir.keep()).unwrap();
    }

    #[test]
    fn what_clone3_does_not_know_is_done_by_hand() {
        let no_cgroup = std::fs::File::open("/").unwrap();
        let mut all = Berths::default();
        // EBADF is no word of an old kernel: said as it is.
        let err = all
            .send(Leave(1), Memory::Shared, Some(no_cgroup.as_fd()))
            .unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EBADF));
        assert!(!all.by_hand);
        assert_eq!(all.berths.len(), 1);
        let pid = all.send(Leave(3), Memory::Shared, None).unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(all.left_behind(pid), Some(3));
        assert_eq!(all.berths.len(), 1, "the berth was free again");
    }

    #[test]
    fn a_go_between_makes_the_child_ours_or_says_why_not() {
        let mut all = Berths::default();
        let pid = all
            .send_through(Leave(5), Memory::Shared, None)
            .unwrap()
            .unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(all.left_behind(pid), Some(5));
        // The go-between is somebody's orphan: ours.
        waitpid(None, None).unwrap();
        let mut others = Berths::default();
        assert_eq!(
            others.send_through(Stay, Memory::Shared, None).unwrap(),
            Err(7)
        );
        assert_eq!(others.berths.len(), 1);
        waitpid(None, None).unwrap();
    }

    #[test]
    fn a_child_with_a_copy_of_our_memory_leaves_its_message_too() {
        let mut all = Berths::default();
        let pid = all.send(Leave(9), Memory::Own, None).unwrap();
        let other = all.send(Leave(8), Memory::Own, None).unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        waitpid(Pid::from_raw(other), None).unwrap();
        assert_eq!(all.left_behind(other), Some(8));
        assert_eq!(all.left_behind(pid), Some(9));
        let pid = all.send(Leave(7), Memory::Shared, None).unwrap();
        waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(
            all.berths.len(),
            2,
            "a berth is free when its child was reaped"
        );
    }
}
