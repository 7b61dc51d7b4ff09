//! Checks the files of network namespaces.
//!
//! Whoever opens a file may wait in the kernel: for a file system that does not answer (NFS, FUSE), or, where
//! a FIFO is in the place of the file, for somebody at its other end. So files are opened as places alone
//! (`O_PATH`), which opens no FIFO and no device. What the kernel does not have in its memory, threads of
//! their own read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, makedev, open, openat2, statx};
use rustix::io::Errno;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::identity::Identity;
use crate::turn;

/// The folder in which network namespaces have names.
pub(super) const NAMES: &str = "/run/netns";
/// The most checks that may be overdue at a time: each holds a thread.
const MOST_OVERDUE: usize = 64;

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A namespace's file that was found. It keeps the namespace alive, as the file does.
#[derive(Debug)]
pub struct NamespaceFile {
    place: OwnedFd,
    identity: Identity,
}

impl NamespaceFile {
    /// The file at a path. The calling thread waits for the file system that holds it.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Self::of(open(path, PLACE, Mode::empty())?)
    }

    /// The file at a path, from the kernel's memory; `None` if that does not have it all.
    fn cached(path: &Path) -> Option<io::Result<Self>> {
        match openat2(CWD, path, PLACE, Mode::empty(), ResolveFlags::CACHED) {
            Ok(place) => Some(Self::of(place)),
            // An older kernel, or a filter of system calls, knows no such call.
            Err(Errno::AGAIN | Errno::NOSYS | Errno::PERM | Errno::INVAL) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn of(place: OwnedFd) -> io::Result<Self> {
        // Cached attributes suffice: a remote file system is not asked.
        let found = statx(
            &place,
            "",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            StatxFlags::TYPE | StatxFlags::INO,
        )?;
        let identity =
            Identity { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino };
        if Some(identity.device) != namespaces() {
            // `ip netns add` makes the file before it mounts the namespace over it.
            return Err(io::Error::other("it is no network namespace"));
        }
        Ok(Self { place, identity })
    }

    /// The namespace that it is of.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The file, open. That it is a namespace's is known: nobody waits.
    pub fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.place.as_raw_fd()))
    }
}

impl Identity {
    /// The namespace that a path leads to now; `None` if there is no namespace's file. The calling thread waits for the file
    /// system that holds it.
    pub fn at(path: &Path) -> Option<Self> {
        Some(NamespaceFile::at(path).ok()?.identity())
    }
}

/// The device that all files of namespaces are on; `None` where that can't be read.
fn namespaces() -> Option<u64> {
    static DEVICE: OnceLock<Option<u64>> = OnceLock::new();
    *DEVICE.get_or_init(|| Some(std::fs::metadata("/proc/thread-self/ns/net").ok()?.dev()))
}

/// Why nobody can say what a path leads to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// The file system that holds it does not answer.
    Hung,
    /// There is no time left to wait for an answer, or no thread.
    Late,
}

/// A check of a path by a thread of its own.
#[derive(Debug)]
struct Look {
    /// Whether whoever asked for it has stopped waiting.
    is_overdue: AtomicBool,
    /// Has no permits, and is closed when the check has ended.
    ended: Semaphore,
}

/// The checks that are under way, one for a path. Who asks for the same path waits for that check to end, and
/// a path whose check is overdue is not checked again before it has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<Mutex<BTreeMap<PathBuf, Arc<Look>>>>);

impl Looks {
    /// The namespace's file at a path, at once if the kernel has it in memory.
    pub(super) async fn file(
        &self,
        path: &Path,
        patience: Duration,
    ) -> Result<io::Result<NamespaceFile>, Unseen> {
        if let Some(found) = NamespaceFile::cached(path) {
            return Ok(found);
        }
        let looked_at = path.to_owned();
        self.beside(path, patience, move || NamespaceFile::at(&looked_at)).await
    }

    /// The file at a path for callers that can't wait; `None` if the kernel does not have it in memory.
    pub(super) fn file_now(path: &Path) -> Option<io::Result<NamespaceFile>> {
        NamespaceFile::cached(path)
    }

    /// The names that namespaces have, whether or not their files are namespaces'.
    pub(super) async fn names(&self, patience: Duration) -> Result<Vec<String>, Unseen> {
        let list = || {
            let entries = std::fs::read_dir(NAMES).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        self.beside(Path::new(NAMES), patience, list).await
    }

    /// Runs a job that reads a path on a thread of its own.
    async fn beside<T: Send + 'static>(
        &self,
        path: &Path,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unseen> {
        let until = Instant::now() + turn::patience(patience);
        let look = Arc::new(Look { is_overdue: AtomicBool::new(false), ended: Semaphore::new(0) });
        while let Some(other) = self.begin(path, &look, until)? {
            // The semaphore is closed, not acquired.
            let _ = tokio::time::timeout_at(until, other.ended.acquire()).await.map_err(|_| Unseen::Hung)?;
        }
        let end = End { looks: self.clone(), path: path.to_owned(), look: Arc::clone(&look) };
        let (reply, answer) = oneshot::channel();
        let look_there = move || {
            let found = job();
            drop(end);
            // A caller that has stopped waiting asks again.
            let _ = reply.send(found);
        };
        // A thread that can't be started drops what it was given, and so ends the check.
        let started = std::thread::Builder::new().name("netns name".into()).spawn(look_there);
        started.map_err(|_| Unseen::Late)?;
        // The caller may be dropped before the check ends: a survey that begins again asks again.
        let _waiting = Waiting(look);
        tokio::time::timeout_at(until, answer).await.map_err(|_| Unseen::Hung)?.map_err(|_| Unseen::Late)
    }

    /// Enters a check as the one under way, unless there is one at that path already: that one is returned.
    fn begin(&self, path: &Path, look: &Arc<Look>, until: Instant) -> Result<Option<Arc<Look>>, Unseen> {
        let mut under_way = self.under_way();
        let is_overdue = |look: &Arc<Look>| look.is_overdue.load(Ordering::Relaxed);
        if under_way.get(path).is_some_and(is_overdue)
            || under_way.values().filter(|look| is_overdue(look)).count() >= MOST_OVERDUE
        {
            return Err(Unseen::Hung);
        }
        if Instant::now() >= until {
            return Err(Unseen::Late);
        }
        if let Some(other) = under_way.get(path) {
            return Ok(Some(Arc::clone(other)));
        }
        under_way.insert(path.to_owned(), Arc::clone(look));
        Ok(None)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller that waits for a check. When it is dropped, the check is overdue; on a check that has ended, that
/// has no effect.
struct Waiting(Arc<Look>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.is_overdue.store(true, Ordering::Relaxed);
    }
}

/// Ends a check when it is dropped.
struct End {
    looks: Looks,
    path: PathBuf,
    look: Arc<Look>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.looks.under_way().remove(&self.path);
        self.look.ended.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(50);

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("injector-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_fifo_is_no_namespace_and_nobody_waits_at_it() {
        let folder = Folder::new("fifo");
        let fifo = folder.0.join("n1");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for file in [fifo, folder.0.clone()] {
            let found = Looks::default().file(&file, LONG).await.unwrap();
            assert_eq!(found.unwrap_err().to_string(), "it is no network namespace");
        }
    }

    #[tokio::test]
    async fn a_link_to_a_namespace_is_that_namespace() {
        let folder = Folder::new("link");
        let link = folder.0.join("n1");
        std::os::unix::fs::symlink("/proc/self/ns/net", &link).unwrap();
        let found = Looks::default().file(&link, LONG).await.unwrap().unwrap();
        assert_eq!(Some(found.identity()), Identity::of_thread());
        assert_eq!(found.open().unwrap().metadata().unwrap().ino(), found.identity().inode);
        let missing = Looks::default().file(&folder.0.join("n2"), LONG).await.unwrap();
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_path_that_does_not_answer_holds_one_thread_until_it_does() {
        let looks = Looks::default();
        let path = Path::new("/somewhere");
        let (answer, held) = std::sync::mpsc::channel::<u8>();
        let hung = looks.beside(path, SHORT, move || held.recv()).await;
        assert_eq!(hung.unwrap_err(), Unseen::Hung);
        // A second caller does not wait for it, and others are checked.
        let asked = std::time::Instant::now();
        assert_eq!(looks.beside(path, LONG, || 7).await, Err(Unseen::Hung));
        assert!(asked.elapsed() < LONG / 2);
        assert_eq!(looks.beside(Path::new("/elsewhere"), LONG, || 7).await, Ok(7));
        answer.send(1).unwrap();
        while looks.beside(path, LONG, || 7).await != Ok(7) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(looks.under_way().is_empty());
    }

    #[tokio::test]
    async fn so_many_threads_may_be_held_and_no_more() {
        let looks = Looks::default();
        let (answer, held) = std::sync::mpsc::channel::<u8>();
        let held = Arc::new(Mutex::new(held));
        for at in 0..MOST_OVERDUE {
            let held = Arc::clone(&held);
            let wait = move || held.lock().unwrap().recv().is_err();
            let path = format!("/{at}");
            let hung = looks.beside(Path::new(&path), Duration::from_millis(20), wait).await;
            assert_eq!(hung, Err(Unseen::Hung));
        }
        assert_eq!(looks.beside(Path::new("/one-more"), LONG, || true).await, Err(Unseen::Hung));
        drop(answer);
        while looks.beside(Path::new("/one-more"), LONG, || true).await != Ok(true) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
