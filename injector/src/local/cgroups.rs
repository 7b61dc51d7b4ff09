//! The cgroups of peers: found by their paths or by their units' names, and found again when they are recreated.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, inotify, openat, statat};
use rustix::io::Errno;

/// The deepest level at which units are searched for.
const DEEPEST: usize = 6;

/// The key by which a peer's cgroup is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupName {
    /// Its path from the root.
    Path(PathBuf),
    /// The name of a unit: of a cgroup wherever it is.
    Unit(String),
}

/// A cgroup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path from the root.
    pub path: PathBuf,
    /// Its id in the kernel.
    pub id: u64,
}

/// The tree of all cgroups.
pub struct Tree {
    root: OwnedFd,
    /// Notifies when a cgroup is made where one of a peer's may come.
    news: OwnedFd,
}

impl Tree {
    pub fn new(root: OwnedFd) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { root, news: inotify::init(flags)? })
    }

    /// A descriptor that is readable when cgroups were made.
    pub fn news(&self) -> io::Result<OwnedFd> {
        self.news.try_clone()
    }

    /// Finds the cgroups that have a name, the most likely one first; more than one if the name is ambiguous. Directories are
    /// watched before they are read, so that no change is missed. `known` is the one that was found the last time.
    pub fn find(&self, name: &CgroupName, known: Option<&Cgroup>) -> io::Result<Vec<Cgroup>> {
        match name {
            CgroupName::Path(path) => {
                let mut above = PathBuf::new();
                self.watch(&above)?;
                for part in path.components() {
                    above.push(part);
                    if !self.watch(&above)? {
                        return Ok(Vec::new());
                    }
                }
                Ok(self.at(path)?.into_iter().collect())
            }
            CgroupName::Unit(unit) => {
                let mut found = Vec::new();
                self.search(Path::new(""), OsStr::new(unit), DEEPEST, &mut found)?;
                Ok(best(found, known))
            }
        }
    }

    fn search(&self, at: &Path, unit: &OsStr, depth: usize, found: &mut Vec<Cgroup>) -> io::Result<()> {
        if depth == 0 || !self.watch(at)? {
            return Ok(());
        }
        let directory =
            match openat(&self.root, below(at), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        for entry in Dir::new(directory)? {
            let Ok(entry) = entry else { return Ok(()) };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() != FileType::Directory || name == "." || name == ".." {
                continue;
            }
            let path = at.join(name);
            if name == unit {
                found.extend(self.at(&path)?);
            } else {
                self.search(&path, unit, depth - 1, found)?;
            }
        }
        Ok(())
    }

    fn at(&self, path: &Path) -> io::Result<Option<Cgroup>> {
        match statat(&self.root, below(path), AtFlags::empty()) {
            // The kernel's ids of cgroups are the numbers of their inodes.
            Ok(stat) => Ok(Some(Cgroup { path: path.to_owned(), id: stat.st_ino })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches what is made in a cgroup; whether there is such a one.
    fn watch(&self, path: &Path) -> io::Result<bool> {
        let at = Path::new("/proc/self/fd").join(self.root.as_raw_fd().to_string()).join(below(path));
        let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.news, &at, flags) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The cgroups, of the units of one name, that may be meant: a unit of the machine's own manager is within
/// slices alone, a unit of a user's manager or of a container's is within the service or the scope that this
/// manager runs in. The cgroup that is known stays the first.
fn best(mut found: Vec<Cgroup>, known: Option<&Cgroup>) -> Vec<Cgroup> {
    let beside_slices = |cgroup: &Cgroup| {
        let above = cgroup.path.parent().into_iter().flat_map(Path::components);
        above.filter(|part| !part.as_os_str().as_bytes().ends_with(b".slice")).count()
    };
    let least = found.iter().map(beside_slices).min();
    found.retain(|cgroup| Some(beside_slices(cgroup)) == least);
    found.sort_by(|a, b| (Some(a) != known, &a.path).cmp(&(Some(b) != known, &b.path)));
    found
}

/// A path from the root for calls that take none that is empty.
fn below(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Takes the news that are there.
pub fn drain(news: BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    while rustix::io::read(news, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// The cgroup of a process, as its path from the root; `None` if it has ended.
pub fn of_process(process: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// A root that is opened once more, for another owner.
pub fn reopen(root: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: &[&str]) -> Vec<Cgroup> {
        paths.iter().zip(1..).map(|(path, id)| Cgroup { path: path.into(), id }).collect()
    }

    fn chosen(paths: &[&str], known: Option<usize>) -> Vec<String> {
        let all = found(paths);
        let known = known.map(|at| all[at].clone());
        best(all, known.as_ref()).into_iter().map(|cgroup| cgroup.path.display().to_string()).collect()
    }

    #[test]
    fn a_unit_of_the_machine_comes_before_those_of_users_and_containers() {
        let user = "user.slice/user-1000.slice/user@1000.service/app.slice/a.service";
        let container = "machine.slice/box.scope/system.slice/a.service";
        let own = "system.slice/system-a.slice/a.service";
        assert_eq!(chosen(&[user, own, container], Some(0)), [own]);
        assert_eq!(chosen(&[container], None), [container]);
        assert_eq!(chosen(&[], None), [""; 0]);
    }

    #[test]
    fn of_units_that_may_be_meant_alike_the_known_one_stays() {
        let (one, two) = ("lab/a.service", "other/a.service");
        assert_eq!(chosen(&[two, one], None), [one, two]);
        assert_eq!(chosen(&[two, one], Some(0)), [two, one]);
    }
}
