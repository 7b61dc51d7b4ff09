//! The socket in the file system: never wider open than configured, never another daemon's, never left behind.

mod occupant;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Group;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, XattrFlags, statat, unlinkat};

use self::occupant::Occupant;
use injector_core::config;

/// How long another daemon's start is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Why the API's socket can't be made. Each stops the start.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket's directory can't be made or read.
    #[error("socket directory {}: {source}; make it yourself or set another socket.path", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users could exchange files in the socket's directory.
    #[error(
        "socket directory {}: {why}; use a directory of root's with mode 0755, such as /run/injector",
        path.display()
    )]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// The fault of the directory.
        why: String,
    },
    /// A living daemon answers there.
    #[error(
        "{path} is in use by a living daemon: look at it with `injector status --socket {path}`, which names its pid; a changed \
         config is taken in by `kill -HUP PID`; end it with `injector stop --socket {path}`, or set another socket.path",
        path = path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something other than a socket is at its path. It was not touched.
    #[error("{} exists and is not a socket; remove it yourself or set another socket.path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The lock beside the socket is another user's file.
    #[error(
        "{} is not a file of this user's that nobody else can open; remove it, or set a socket.path in a directory of \
         root's with mode 0755",
        path.display()
    )]
    ForeignLock {
        /// The lock.
        path: PathBuf,
    },
    /// Another daemon has been starting there for too long.
    #[error(
        "{} is locked by another daemon that has been starting for {} s; end it, or set another socket.path",
        path.display(),
        LOCK_PATIENCE.as_secs()
    )]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The readers' group is not there.
    #[error(
        "socket.readers: there is no group {group}; `groupadd --system {group}` makes it, or leave readers out"
    )]
    NoReaders {
        /// Its name.
        group: String,
    },
    /// The readers' group can't be let in.
    #[error(
        "{}: its file system keeps no access lists ({source}), so socket.readers can't be let in; leave readers out, \
         or set a socket.path on another file system, such as /run/injector/injector.sock",
        path.display()
    )]
    NoAccessList {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A step failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// The step, as a verb.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The users who may use the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The group; `None` if the host has no group of that name.
    pub gid: Option<u32>,
    /// The mode in force.
    pub mode: u32,
    /// The group that may read.
    pub readers: Option<u32>,
}

/// The listening socket, removed when dropped if it is still ours.
#[derive(Debug)]
pub struct ApiSocket {
    pub(super) listener: UnixListener,
    pub(super) access: Access,
    file: SocketFile,
}

/// The name of the socket and the file that we put there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Held open: the way to it may lead through directories that only all of root's rights open.
    directory: OwnedFd,
    name: OsString,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (self.device, self.inode));
        if still_ours && let Err(error) = unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

impl ApiSocket {
    /// Makes the socket with its final owner and mode and gives it its name in one step.
    ///
    /// The socket is made in a private directory, so that at no moment more people can reach it than
    /// configured; a stale socket at the path is replaced, anything else is an error and stays as it is.
    pub fn bind(socket: &config::Socket) -> Result<Self, SocketError> {
        let path = socket.path.clone();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        make_safe_directory(&directory)?;
        // Two daemons that start at once would both find the same stale socket; the later one waits here and
        // then finds the earlier one living.
        let locked = Lock::take(&path)?;
        refuse_taken(&path)?;

        let access = access(socket)?;
        let private = PrivateDirectory::new(&directory)?;
        let unpublished = private.0.join("s");
        let io = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io { what, path, source }
        };
        let listener = UnixListener::bind(&unpublished).map_err(io("bind", &unpublished))?;
        chown(&unpublished, Some(rustix::process::geteuid().as_raw()), access.gid)
            .map_err(io("chown", &unpublished))?;
        fs::set_permissions(&unpublished, Permissions::from_mode(access.mode))
            .map_err(io("chmod", &unpublished))?;
        if let Some(readers) = access.readers {
            let list = access_list(access.mode, readers);
            rustix::fs::setxattr(&unpublished, ACCESS_LIST, &list, XattrFlags::empty())
                .map_err(|source| SocketError::NoAccessList { path: path.clone(), source: source.into() })?;
        }
        listener.set_nonblocking(true).map_err(io("set non-blocking", &unpublished))?;
        let made = fs::symlink_metadata(&unpublished).map_err(io("stat", &unpublished))?;
        let name = path.file_name().unwrap_or_default().to_owned();
        let directory =
            rustix::fs::open(&directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| io("open the directory of", &path)(error.into()))?;
        fs::rename(&unpublished, &path).map_err(io("rename the socket to", &path))?;
        drop(locked);
        let file = SocketFile { path, directory, name, device: made.dev(), inode: made.ino() };
        Ok(Self { listener, access, file })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The users who may use it.
    pub fn access(&self) -> Access {
        self.access
    }

    pub(super) fn into_parts(self) -> (UnixListener, Access, SocketFile) {
        (self.listener, self.access, self.file)
    }
}

/// Makes the directory, and its parents, with mode 0755 if it is missing.
///
/// # Errors
/// [`SocketError::UnsafeDirectory`] if anyone but root and this user could exchange it or what is in it. Nothing is made
/// inside such a directory.
pub(crate) fn make_safe_directory(directory: &Path) -> Result<(), SocketError> {
    refuse_unsafe(directory)?;
    make_directory(directory)?;
    refuse_unsafe(directory)
}

/// Makes the directory, and its parents, with mode 0755 if it is missing.
pub(crate) fn make_directory(directory: &Path) -> Result<(), SocketError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|source| SocketError::Directory { path: directory.to_owned(), source })
}

/// Refuses a directory to which any step leads by way of another user: on the path as it is written, and on
/// the one that symbolic links make of it. Directories that do not exist yet are not checked.
fn refuse_unsafe(directory: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Directory { path: directory.to_owned(), source };
    let written = std::path::absolute(directory).map_err(io)?;
    let nearest = written.ancestors().find(|step| step.exists()).unwrap_or(Path::new("/"));
    let resolved = fs::canonicalize(nearest).map_err(io)?;
    for step in written.ancestors().chain(resolved.ancestors()) {
        let found = match fs::symlink_metadata(step) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        };
        let whose = if step == written { "it".to_owned() } else { step.display().to_string() };
        let refuse = |why: String| Err(SocketError::UnsafeDirectory { path: directory.to_owned(), why });
        if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
            return refuse(format!("{whose} belongs to uid {}, who could exchange the socket", found.uid()));
        }
        let sticky = found.mode() & 0o1000 != 0;
        if found.is_dir() && found.mode() & 0o022 != 0 && !sticky {
            return refuse(format!(
                "the mode of {whose}, {:04o}, lets others exchange the socket",
                found.mode() & 0o7777
            ));
        }
    }
    Ok(())
}

/// A lock beside the socket, on a file that nobody but root and this user can open; gone when dropped.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits a few seconds for another daemon that is just starting.
    fn take(socket: &Path) -> Result<Self, SocketError> {
        let mut name = OsString::from(".");
        name.push(socket.file_name().unwrap_or_default());
        name.push(".lock");
        let path = socket.with_file_name(name);
        let failed = |what, source: io::Error| SocketError::Io { what, path: path.clone(), source };
        let end = Instant::now() + LOCK_PATIENCE;
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
                .map_err(|error| failed("open the lock", error))?;
            let found = file.metadata().map_err(|error| failed("stat the lock", error))?;
            let own = rustix::process::geteuid().as_raw();
            if !found.is_file() || (found.uid() != 0 && found.uid() != own) || found.mode() & 0o077 != 0 {
                return Err(SocketError::ForeignLock { path });
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // The one who held it has removed the file: somebody else may have recreated it.
                    let is_there = fs::symlink_metadata(&path)
                        .is_ok_and(|now| (now.dev(), now.ino()) == (found.dev(), found.ino()));
                    if is_there {
                        return Ok(Self { path, _file: file });
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(SocketError::Locked { path }),
                Err(error) => return Err(failed("lock", error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held, so that a process that waits for it finds it gone.
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_taken(path: &Path) -> Result<(), SocketError> {
    let failed = |what, source| SocketError::Io { what, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("stat", error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match occupant::of(path) {
        Ok(Occupant::None) => {
            tracing::info!(path = %path.display(), "replacing the stale socket of an earlier daemon");
            Ok(())
        }
        Ok(Occupant::Living) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed("connect to the socket that is already at", error)),
    }
}

/// The attribute that holds a file's access list.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// An access list in the kernel's form (`linux/posix_acl_xattr.h`): what the mode says, and that a further group may
/// connect, which takes the right to write.
fn access_list(mode: u32, readers: u32) -> Vec<u8> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let [owner, group, others] = [mode >> 6 & 7, mode >> 3 & 7, mode & 7];
    let entries = [
        (0x01, owner, NOBODY),
        (0x04, group, NOBODY),
        (0x08, 6, readers),
        // The mask: the most that groups have.
        (0x10, group | 6, NOBODY),
        (0x20, others, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(&rights.to_le_bytes()[..2]);
        list.extend(id.to_le_bytes());
    }
    list
}

fn access(socket: &config::Socket) -> Result<Access, SocketError> {
    let find = |name: &str| {
        match Group::from_name(name) {
            Ok(group) => Ok(group.map(|group| group.gid.as_raw())),
            // glibc gives this error where there is no list of groups at all, as in an image of the binary
            // alone.
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(SocketError::Io {
                what: "look up the groups of",
                path: socket.path.clone(),
                source: source.into(),
            }),
        }
    };
    let readers = match &socket.readers {
        Some(name) => Some(find(name)?.ok_or_else(|| SocketError::NoReaders { group: name.clone() })?),
        None => None,
    };
    Ok(if let Some(gid) = find(&socket.group)? {
        Access { gid: Some(gid), mode: socket.mode & 0o777, readers }
    } else {
        tracing::warn!(
            group = %socket.group,
            "no such group: root alone may change anything; `groupadd --system {}` and a restart change that",
            socket.group
        );
        Access { gid: None, mode: 0o600, readers }
    })
}

/// A directory that only we can enter, gone when dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new(directory: &Path) -> Result<Self, SocketError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: a socket's path has 107 bytes in all.
        let path = directory.join(format!(".{}-{turn}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|source| SocketError::Io {
            what: "make the private directory",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}
