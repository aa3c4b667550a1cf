//! When and where a process runs. May be called by a child that shares its parent's memory.

use std::time::Duration;

use super::raw::{Errno, call, word};

/// The shortest slice that sched_setattr(2) gives.
pub const SHORTEST_SLICE: Duration = Duration::from_micros(100);

/// A slice as long as the kernel finds right.
const BY_THE_KERNEL: u64 = 0;

const RESET_ON_FORK: u64 = libc::SCHED_FLAG_RESET_ON_FORK.unsigned_abs() as u64;

/// setpriority(2) of this process.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setpriority, [0, 0, word(nice), 0]) }.map(drop)
}

/// sched_setaffinity(2) of this process; a bit for each CPU.
pub fn set_affinity(cpus: &[u64]) -> Result<(), Errno> {
    set_affinity_of(0, cpus)
}

/// The same of another one.
pub fn set_affinity_of(pid: i32, cpus: &[u64]) -> Result<(), Errno> {
    let (mask, length) = (cpus.as_ptr() as usize, size_of_val(cpus));
    // SAFETY: pointer and length describe `cpus`, which is only read.
    unsafe { call(libc::SYS_sched_setaffinity, [word(pid), length, mask]) }.map(drop)
}

/// ioprio_set(2) of this process; class and level as that call takes them.
pub fn set_io_priority(priority: i32) -> Result<(), Errno> {
    const OF_A_PROCESS: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_ioprio_set, [OF_A_PROCESS, 0, word(priority)]) }.map(drop)
}

/// Asks for a time slice of this length under the ordinary policy (sched_setattr(2)), so that
/// whoever has a longer one, as all have by default, makes way as soon as this process
/// wakes; its share of the CPU stays the same. Kernels before 6.12 take no notice.
///
/// Children get the ordinary slice, and would lose a negative nice value with the
/// short one: then, and under another policy, nothing is done and `false` returned.
pub fn shorten_slice(to: Duration) -> Result<bool, Errno> {
    let mut attributes = attributes()?;
    if !is_ordinary(&attributes) || attributes.sched_nice < 0 {
        return Ok(false);
    }
    attributes.sched_flags |= RESET_ON_FORK;
    attributes.sched_runtime = nanoseconds(to);
    set(&attributes)?;
    Ok(true)
}

/// The reverse of [`shorten_slice`], but for what children get.
pub fn lengthen_slice() -> Result<bool, Errno> {
    let mut attributes = attributes()?;
    if attributes.sched_flags & RESET_ON_FORK == 0 {
        return Ok(false);
    }
    attributes.sched_runtime = BY_THE_KERNEL;
    set(&attributes)?;
    Ok(true)
}

/// From now on this process and its children take no CPU from anybody by waking up, but run when
/// one is free or it is their turn (SCHED_BATCH, sched(7)); their share stays the same. Under
/// another policy than the ordinary one nothing is done and `false` returned.
pub fn make_way() -> Result<bool, Errno> {
    let mut attributes = attributes()?;
    if !is_ordinary(&attributes) {
        return Ok(false);
    }
    attributes.sched_policy = libc::SCHED_BATCH.unsigned_abs();
    set(&attributes)?;
    Ok(true)
}

/// A slice for a while.
#[derive(Debug)]
pub struct BriefSlice(Option<libc::sched_attr>);

impl BriefSlice {
    /// As [`shorten_slice`], but only where the kernel knows of slices, and for somebody who
    /// gives it back before there are children.
    #[must_use]
    pub fn take(length: Duration) -> Self {
        let known = attributes().ok();
        let Some(mut kept) = known.filter(|now| is_ordinary(now) && now.sched_runtime != 0) else {
            return Self(None);
        };
        kept.sched_runtime = nanoseconds(length);
        let taken = set(&kept).is_ok();
        kept.sched_runtime = BY_THE_KERNEL;
        Self(taken.then_some(kept))
    }

    /// The ordinary one again.
    pub fn give_back(self) -> Result<(), Errno> {
        self.0.as_ref().map_or(Ok(()), set)
    }
}

fn is_ordinary(attributes: &libc::sched_attr) -> bool {
    attributes.sched_policy.cast_signed() == libc::SCHED_OTHER
}

fn nanoseconds(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// sched_setattr(2) of this thread.
fn set(attributes: &libc::sched_attr) -> Result<(), Errno> {
    let address = std::ptr::from_ref(attributes) as usize;
    // SAFETY: alive, and its first field is its true size, as the kernel has filled it in; only read.
    unsafe { call(libc::SYS_sched_setattr, [0, address, 0]) }.map(drop)
}

/// sched_getattr(2) of this thread.
fn attributes() -> Result<libc::sched_attr, Errno> {
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (address, size) = ((&raw mut attributes) as usize, size_of_val(&attributes));
    // SAFETY: the kernel writes no more than `size` octets to a live local of that size.
    unsafe { call(libc::SYS_sched_getattr, [0, address, size, 0]) }?;
    Ok(attributes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::thread;

    use super::*;

    /// The attributes are a thread's own.
    fn alone<T: Send>(what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(what).join().unwrap())
    }

    #[test]
    fn a_short_slice_is_for_the_process_and_not_for_its_children() {
        let before = attributes().unwrap();
        assert_eq!(before.sched_flags & RESET_ON_FORK, 0);
        alone(|| {
            assert!(shorten_slice(SHORTEST_SLICE).unwrap());
            let after = attributes().unwrap();
            assert_ne!(after.sched_flags & RESET_ON_FORK, 0);
            assert_eq!(after.sched_nice, before.sched_nice);
            // Zero where the kernel knows of no slices.
            if before.sched_runtime != 0 {
                assert_eq!(after.sched_runtime, nanoseconds(SHORTEST_SLICE));
            }
            alone(|| {
                let child = attributes().unwrap();
                assert_eq!(child.sched_flags & RESET_ON_FORK, 0);
                assert_eq!(child.sched_runtime, before.sched_runtime);
            });
            assert!(lengthen_slice().unwrap());
            let after = attributes().unwrap();
            assert_eq!(after.sched_runtime, before.sched_runtime);
        });
    }

    #[test]
    fn a_brief_slice_ends() {
        alone(|| {
            let before = attributes().unwrap();
            let brief = BriefSlice::take(SHORTEST_SLICE);
            let meanwhile = attributes().unwrap().sched_runtime;
            match before.sched_runtime {
                0 => assert!(brief.0.is_none(), "this kernel knows of no slices"),
                _ => assert_eq!(meanwhile, nanoseconds(SHORTEST_SLICE)),
            }
            brief.give_back().unwrap();
            let after = attributes().unwrap();
            assert_eq!(after.sched_runtime, before.sched_runtime);
            assert_eq!(after.sched_nice, before.sched_nice);
            assert_eq!(after.sched_flags, before.sched_flags);
        });
    }

    #[test]
    fn nobody_loses_a_nice_value_by_it() {
        alone(|| {
            if set_nice(-1).is_err() {
                eprintln!("skipped: needs CAP_SYS_NICE");
                return;
            }
            assert!(!shorten_slice(SHORTEST_SLICE).unwrap());
            assert!(!lengthen_slice().unwrap());
            assert_eq!(attributes().unwrap().sched_flags & RESET_ON_FORK, 0);
        });
    }
}
