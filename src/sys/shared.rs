//! Memory that a child shares with the helper until it execs: where a failed
//! step leaves its name.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// A fixed number of 32-bit cells in a shared anonymous mapping (mmap(2)).
/// Kernel pages come into being when a cell is first written.
#[derive(Debug)]
pub struct SharedCells {
    base: NonNull<AtomicU32>,
    count: usize,
}

impl SharedCells {
    /// Maps `count` cells, all zero.
    pub fn new(count: usize) -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice
        // touches no memory that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count * size_of::<AtomicU32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, count })
    }

    /// The cell `index`; out of range is the last one.
    #[must_use]
    pub fn cell(&self, index: usize) -> &AtomicU32 {
        let index = index.min(self.count - 1);
        // SAFETY: the index lies within the mapping.
        let cell = unsafe { self.base.add(index) };
        // SAFETY: the mapping lives as long as `self`, is page-aligned and
        // zeroed, and is only ever accessed atomically.
        unsafe { cell.as_ref() }
    }

    /// The cell's value, which is zero afterwards.
    #[must_use]
    pub fn take(&self, index: usize) -> u32 {
        self.cell(index).swap(0, Ordering::Acquire)
    }
}

impl Drop for SharedCells {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`, and
        // no reference into it outlives `self`.
        unsafe {
            libc::munmap(
                self.base.as_ptr().cast(),
                self.count * size_of::<AtomicU32>(),
            )
        };
    }
}
