//! The user at the other end of a connection.

use std::os::fd::{AsFd, AsRawFd};

use tokio::net::UnixStream;

use super::permits::Class;
use super::socket::Access;

/// The credentials that the kernel noted when the caller connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: Option<i32>,
    /// Supplementary groups; empty where the kernel does not say.
    groups: Vec<u32>,
}

impl Caller {
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
            groups: peer_groups(stream),
        })
    }

    /// The rights of this caller in the API: all of it for root, the daemon's own user and the socket's
    /// group, and for others only where the configured mode opens the socket to everyone; the readers' group
    /// may read. `None` is nothing.
    pub fn class(&self, access: Access, own_uid: u32) -> Option<Class> {
        let member = |gid| self.gid == gid || self.groups.contains(&gid);
        if self.uid == 0 || self.uid == own_uid {
            Some(Class::Privileged)
        } else if (access.mode & 0o020 != 0 && access.gid.is_some_and(member)) || access.mode & 0o002 != 0 {
            Some(Class::Member)
        } else {
            access.readers.is_some_and(member).then_some(Class::Reader)
        }
    }
}

fn peer_groups(stream: &UnixStream) -> Vec<u32> {
    let fd = stream.as_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let capacity = size_of::<libc::gid_t>() * groups.len();
        let mut length = libc::socklen_t::try_from(capacity).expect("at most 65,536 groups");
        // SAFETY: `groups` owns `length` writable bytes, and the kernel writes at most that many.
        let answer = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<libc::gid_t>();
        if answer == 0 {
            groups.truncate(needed);
            return groups;
        }
        let too_small = std::io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE);
        if !too_small || needed <= groups.len() || needed > 65_536 {
            return Vec::new();
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid, pid: None, groups: groups.to_vec() }
    }

    #[test]
    fn only_root_the_daemon_and_the_group_enter() {
        let access = Access { gid: Some(50), mode: 0o660, readers: None };
        let closed = Access { mode: 0o600, ..access };
        let [privileged, member] = [Some(Class::Privileged), Some(Class::Member)];
        assert_eq!(caller(0, 0, &[]).class(access, 7), privileged);
        assert_eq!(caller(7, 7, &[]).class(access, 7), privileged);
        assert_eq!(caller(9, 50, &[]).class(access, 7), member);
        assert_eq!(caller(9, 9, &[3, 50]).class(access, 7), member);
        assert_eq!(caller(9, 9, &[3]).class(access, 7), None);
        assert_eq!(caller(9, 50, &[]).class(Access { gid: None, ..closed }, 7), None);
        assert_eq!(caller(9, 50, &[]).class(closed, 7), None);
        assert_eq!(caller(9, 9, &[]).class(Access { mode: 0o666, ..access }, 7), member);
    }

    #[test]
    fn readers_are_those_of_their_group_who_are_no_more() {
        let access = Access { gid: Some(50), mode: 0o660, readers: Some(60) };
        let closed = Access { mode: 0o600, ..access };
        assert_eq!(caller(9, 60, &[]).class(access, 7), Some(Class::Reader));
        assert_eq!(caller(9, 9, &[60]).class(closed, 7), Some(Class::Reader));
        assert_eq!(caller(9, 60, &[50]).class(access, 7), Some(Class::Member));
        assert_eq!(caller(9, 60, &[50]).class(closed, 7), Some(Class::Reader));
        assert_eq!(caller(0, 60, &[]).class(access, 7), Some(Class::Privileged));
        assert_eq!(caller(9, 9, &[3]).class(access, 7), None);
    }

    #[tokio::test]
    async fn the_kernel_tells_our_own_groups() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let caller = Caller::of(&ours).unwrap();
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        let mut expected: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut found = caller.groups;
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}
