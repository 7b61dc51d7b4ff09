//! Array maps mapped into memory: whole words, stored at once, without a system call.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The words of a memory-mappable array map.
pub struct Mapped {
    words: NonNull<AtomicU64>,
    count: usize,
    bytes: usize,
}

impl Mapped {
    /// Maps the first `count` 8-byte words of a map made with `BPF_F_MMAPABLE`.
    pub fn new(map: impl AsFd, count: usize) -> std::io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = (count * size_of::<u64>()).next_multiple_of(page);
        // SAFETY: a new mapping at an address that the kernel chooses; it overlaps nothing.
        let address = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0)?
        };
        let words = NonNull::new(address.cast::<AtomicU64>()).ok_or(std::io::ErrorKind::Other)?;
        Ok(Self { words, count, bytes })
    }

    /// A word of the map.
    ///
    /// # Panics
    /// If the map has no such word.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "word {at} of a map of {}", self.count);
        // SAFETY: within the mapping (asserted), page-aligned base, and only ever accessed as atomic words here;
        // the programs' accesses are aligned words too.
        unsafe { self.words.add(at).as_ref() }
    }

    /// Reads a word.
    pub fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::SeqCst)
    }

    /// Stores a word.
    pub fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::SeqCst);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: the mapping is process-wide, and all access goes through atomics.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}
