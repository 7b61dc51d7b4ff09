//! Other processes and their sockets, as `/proc` and the kernel show them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use injector_core::clock::MonoNs;

/// `IPPROTO_MPTCP`.
const MPTCP: libc::c_int = 262;

/// A process as `/proc/PID/stat` has it.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Its id.
    pub id: u32,
    /// The id of its parent.
    pub parent: u32,
    /// Its name.
    pub name: String,
    /// When it started, in clock ticks since the boot: ids are used again.
    pub started: u64,
    /// Whether its main thread has ended while others continue: `/proc` shows no sockets of it then.
    pub has_lost_its_main_thread: bool,
}

/// All processes.
pub fn all() -> io::Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.filter_map(stat).collect())
}

impl Stat {
    /// When it started; a little earlier, if anything.
    pub fn started_at(&self) -> MonoNs {
        let nanos = |clock| {
            let time = clock_gettime(clock);
            u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).unwrap_or(0)
        };
        // Ticks count also while the machine is suspended.
        let suspended = nanos(ClockId::Boottime).saturating_sub(nanos(ClockId::Monotonic));
        let since_boot = self.started * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1));
        MonoNs(since_boot.saturating_sub(suspended))
    }
}

/// Reads the state of a process; `None` if there is none.
pub fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold spaces and parentheses itself.
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    // The word after the name is field 3 of the line.
    let field = |number: usize| fields.get(number - 3).copied();
    let threads: u32 = field(20)?.parse().ok()?;
    Some(Stat {
        id,
        parent: field(4)?.parse().ok()?,
        name,
        started: field(22)?.parse().ok()?,
        has_lost_its_main_thread: field(3)? == "Z" && threads > 1,
    })
}

/// A thread of a process that has descriptors of its own, which `/proc` does not show as the process's; `None` if none has, or
/// if this kernel can't compare them.
pub fn own_descriptors(id: u32) -> Option<u32> {
    /// `KCMP_FILES`.
    const FILES: libc::c_int = 2;
    let tasks = fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten();
    let mut threads = tasks.filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok());
    let differs = |thread: u32| {
        // SAFETY: the call takes plain numbers.
        let order = unsafe { libc::syscall(libc::SYS_kcmp, id, thread, FILES, 0, 0) };
        order > 0
    };
    // A thread that is just ending has no descriptors for a moment.
    let stays = |thread: &u32| {
        differs(*thread) && {
            std::thread::sleep(Duration::from_millis(5));
            differs(*thread)
        }
    };
    threads.find(stays)
}

/// A socket of another process, as a descriptor of ours.
pub struct SocketCopy {
    /// The descriptor.
    pub fd: OwnedFd,
    /// The number of its inode, by which other tables of the kernel name it.
    pub inode: u64,
    /// Its kind.
    pub kind: Kind,
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// Its own address, `None` for every address, and port; zero for none.
    pub at: (Option<IpAddr>, u16),
    /// Whether it takes connections, or, of UDP, has a port.
    pub listens: bool,
    /// Whether others may have its port too, and its cookie, which no other socket has.
    pub shared: Option<u64>,
}

/// Kinds of sockets with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// Multipath TCP: the kernel's own sockets send and receive for it.
    Mptcp,
}

/// The sockets of a process that have ports, each handed to `take` and closed again; one that ends or closes them
/// meanwhile is no fault.
///
/// # Errors
/// The descriptors of the process may not be read.
pub fn sockets(id: u32, mut take: impl FnMut(SocketCopy) -> io::Result<()>) -> io::Result<()> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    };
    let entries = match fs::read_dir(format!("/proc/{id}/fd")) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut process: Option<OwnedFd> = None;
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        // The list of descriptors may be readable where what they are is not: that is no process without sockets.
        let inode = match fs::read_link(entry.path()) {
            Ok(target) => target.to_str().and_then(inode_of),
            Err(error) if gone(&error) => None,
            // The kernel gives this error for a process that has ended, too.
            Err(_) if stat(id).is_none() => return Ok(()),
            Err(error) => return Err(error),
        };
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(inode), Some(number)) = (inode, number) else { continue };
        let process = match &process {
            Some(process) => process,
            none @ None => {
                let pid = Pid::from_raw(id.cast_signed()).ok_or(Errno::SRCH)?;
                let opened = match pidfd_open(pid, PidfdFlags::empty()) {
                    Ok(opened) => opened,
                    Err(Errno::SRCH) => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                let _ = none;
                process.insert(opened)
            }
        };
        let fd = match pidfd_getfd(process.as_fd(), number, PidfdGetfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH | Errno::BADF) => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(held) = held(fd, inode)? {
            take(held)?;
        }
    }
    Ok(())
}

/// The inode's number of a socket, of what a link of `/proc/PID/fd` leads to.
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The socket that a descriptor refers to, if it has ports.
fn held(fd: OwnedFd, inode: u64) -> io::Result<Option<SocketCopy>> {
    let domain = socket_domain(&fd)?;
    if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
        return Ok(None);
    }
    let is_stream = match socket_type(&fd)? {
        SocketType::STREAM => true,
        SocketType::DGRAM => false,
        _ => return Ok(None),
    };
    let kind = match number::<libc::c_int>(&fd, libc::SO_PROTOCOL)? {
        libc::IPPROTO_TCP => Kind::Tcp,
        libc::IPPROTO_UDP => Kind::Udp,
        libc::IPPROTO_UDPLITE => Kind::UdpLite,
        MPTCP => Kind::Mptcp,
        _ => return Ok(None),
    };
    let cookie = number::<u64>(&fd, libc::SO_NETNS_COOKIE)?;
    let at = SocketAddr::try_from(getsockname(&fd)?).map_err(io::Error::from)?;
    let address = Some(at.ip().to_canonical()).filter(|address| !address.is_unspecified());
    let listens = if is_stream { socket_acceptconn(&fd)? } else { at.port() != 0 };
    let is_shared = listens && number::<libc::c_int>(&fd, libc::SO_REUSEPORT)? != 0;
    let shared = is_shared.then(|| number::<u64>(&fd, libc::SO_COOKIE)).transpose()?;
    Ok(Some(SocketCopy { fd, inode, kind, cookie, at: (address, at.port()), listens, shared }))
}

/// A number that is a socket's option.
fn number<T: Default>(fd: &impl AsFd, option: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most as many bytes as given, into a number.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of the calling thread's network namespace.
pub fn socket_cookie() -> io::Result<u64> {
    number(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?, libc::SO_NETNS_COOKIE)
}
