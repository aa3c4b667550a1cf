//! Words that we share with children whose memory is otherwise their own: each
//! child has one to leave something behind in.

use std::collections::HashMap;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words of one page of memory.
const EACH: usize = 1024;

/// As many as there ever were such children at once, by the page.
#[derive(Debug, Default)]
pub struct Words {
    /// Never unmapped while children may write to them.
    pages: Vec<*const AtomicU32>,
    free: Vec<usize>,
    by_pid: HashMap<i32, usize>,
}

impl Words {
    /// A word that is zero and nobody's.
    pub fn take(&mut self) -> io::Result<usize> {
        if self.free.is_empty() {
            let first = self.pages.len() * EACH;
            self.pages.push(page()?);
            self.free.extend((first..first + EACH).rev());
        }
        self.free.pop().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Where a word is, here and in a child that is made from now on.
    #[must_use]
    pub fn address(&self, word: usize) -> *const AtomicU32 {
        let page = self.pages.get(word / EACH);
        page.map_or(ptr::null(), |page| page.wrapping_add(word % EACH))
    }

    /// It is this child's until the child is reaped.
    pub fn give(&mut self, word: usize, pid: i32) {
        if let Some(old) = self.by_pid.insert(pid, word) {
            self.free(old);
        }
    }

    pub fn free(&mut self, word: usize) {
        self.free.push(word);
    }

    /// What a child that was reaped has left, if it had a word.
    pub fn left_behind(&mut self, pid: i32) -> Option<u32> {
        let word = self.by_pid.remove(&pid)?;
        self.free(word);
        // SAFETY: null, or in a page that stays mapped; the word is atomic.
        let word = unsafe { self.address(word).as_ref() }?;
        Some(word.swap(0, Ordering::Acquire))
    }
}

fn page() -> io::Result<*const AtomicU32> {
    let length = EACH * size_of::<AtomicU32>();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: asks for new memory, wherever there is room; it is zeroed.
    let page = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(page.cast_const().cast())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_free_again_when_its_child_was_heard() {
        let mut words = Words::default();
        let first = words.take().unwrap();
        words.give(first, 7);
        assert_eq!(words.left_behind(8), None);
        assert_eq!(words.left_behind(7), Some(0));
        assert_eq!(words.left_behind(7), None);
        assert_eq!(words.take().unwrap(), first);
        let more: Vec<usize> = (0..EACH).map(|_| words.take().unwrap()).collect();
        assert!(!more.contains(&first));
        assert_eq!(words.pages.len(), 2);
    }
}
