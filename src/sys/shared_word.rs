//! Words that stay one and the same when the memory around them is copied for a child.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

const PAGE: usize = 4096;
const WORDS: usize = PAGE / size_of::<AtomicU32>();

/// One of them; it is there as long as the process is.
#[derive(Debug)]
pub struct SharedWord(NonNull<AtomicU32>);

impl Deref for SharedWord {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        // SAFETY: points into a page that is never unmapped; all zeroes are a
        // valid word, and it is used by atomic operations only.
        unsafe { self.0.as_ref() }
    }
}

/// Gives them out, and takes none back.
#[derive(Debug, Default)]
pub struct SharedWords {
    page: Option<NonNull<AtomicU32>>,
    used: usize,
}

impl SharedWords {
    /// A new one, which is zero.
    pub fn take(&mut self) -> io::Result<SharedWord> {
        let page = match self.page.filter(|_| self.used < WORDS) {
            Some(page) => page,
            None => {
                let new = new_page()?;
                self.used = 0;
                *self.page.insert(new)
            }
        };
        // SAFETY: `used` is less than the number of words in the page.
        let word = unsafe { page.add(self.used) };
        self.used += 1;
        Ok(SharedWord(word))
    }
}

fn new_page() -> io::Result<NonNull<AtomicU32>> {
    let length = NonZeroUsize::new(PAGE).ok_or(io::ErrorKind::InvalidInput)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, anywhere: nothing that exists is touched.
    let page = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }?;
    Ok(page.cast())
}
