//! Loaders of an object file, kept for further instances of its programs.
//!
//! aya reads and parses the kernel's type information for each new loader, before it can be told to do without: 5 MB, which take
//! 15 MB of memory, and most of the time that loading takes outside the kernel.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::{Ebpf, EbpfError, EbpfLoader};

/// The loaders of an object file.
pub(super) struct Loaders {
    file: &'static [u8],
    /// Those that load nothing now, with what was set in them last.
    idle: Mutex<Vec<EbpfLoader<'static>>>,
}

impl Loaders {
    /// The loaders of this file, of which there are none yet.
    pub const fn of(file: &'static [u8]) -> Self {
        Self { file, idle: Mutex::new(Vec::new()) }
    }

    /// The file.
    pub fn file(&self) -> &'static [u8] {
        self.file
    }

    /// Loads the file by a kept loader. Each call has to set the same globals, sizes and paths: what a call does not set, an
    /// earlier one has.
    ///
    /// # Errors
    /// If the file can't be loaded.
    pub fn load(&self, set: impl FnOnce(&mut EbpfLoader<'static>)) -> Result<Ebpf, EbpfError> {
        let kept = lock(&self.idle).pop();
        let mut loader = kept.unwrap_or_else(bare);
        set(&mut loader);
        let ebpf = loader.load(self.file);
        lock(&self.idle).push(loader);
        ebpf
    }

    /// Loads the file by a loader of its own.
    ///
    /// # Errors
    /// If the file can't be loaded.
    pub fn load_once(&self, set: impl FnOnce(&mut EbpfLoader<'static>)) -> Result<Ebpf, EbpfError> {
        let mut loader = bare();
        set(&mut loader);
        loader.load(self.file)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loader without the kernel's type information: the objects have no relocations by it. One thread at a time has it in memory,
/// of as many as there are CPUs.
fn bare() -> EbpfLoader<'static> {
    static PARSED: Mutex<()> = Mutex::new(());
    let _turn = lock(&PARSED);
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}

/// A number that lives as long as the loaders which refer to it. Equal numbers are kept once, so that they take little memory:
/// they are ids of interfaces and sizes of the config.
pub(super) fn kept(number: u32) -> &'static u32 {
    static KEPT: Mutex<BTreeSet<&'static u32>> = Mutex::new(BTreeSet::new());
    let mut known = lock(&KEPT);
    if let Some(known) = known.get(&number) {
        return known;
    }
    let number: &'static u32 = Box::leak(Box::new(number));
    known.insert(number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_kept_once() {
        assert!(std::ptr::eq(kept(7), kept(7)));
        assert_eq!((*kept(7), *kept(8)), (7, 8));
    }
}
