//! NAT that nftables does not list: the tables of `iptables-legacy`, and IPVS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// The request for the size of a table.
const GET_INFO: libc::c_int = 64;
/// The answer: a name of 32 bytes, the hooks as bits, two numbers for each of five hooks, the count of rules, their size.
const INFO_LENGTH: usize = 84;
const INFO_HOOKS: usize = 32;
const INFO_RULES: usize = 76;

/// The rules of NAT of a namespace that are not in nftables.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// The servers that IPVS sends packets on to by their own addresses.
    pub servers: Vec<IpAddr>,
    /// Why there may be other rules.
    pub unread: Vec<String>,
}

/// Reads these rules of the calling thread's namespace.
pub fn read() -> Elsewhere {
    let mut found = Elsewhere::default();
    for (file, name, family, level) in [
        ("ip_tables_names", "iptables-legacy", libc::AF_INET, libc::SOL_IP),
        ("ip6_tables_names", "ip6tables-legacy", libc::AF_INET6, libc::SOL_IPV6),
    ] {
        match legacy(file, family, level) {
            Ok(false) => {}
            Ok(true) => found.unread.push(format!("{name} has rules of NAT, which are not read")),
            Err(error) => found.unread.push(format!("{name}: {error}")),
        }
    }
    match listed("ip_vs") {
        Ok(services) => found.servers = services.as_deref().map(servers).unwrap_or_default(),
        Err(error) => found.unread.push(format!("IPVS: {error}")),
    }
    found
}

/// Whether a table of NAT has rules.
fn legacy(file: &str, family: libc::c_int, level: libc::c_int) -> io::Result<bool> {
    // Asked about a table that is not listed, a kernel would make it.
    let is_listed = listed(file)?.is_some_and(|names| names.lines().any(|table| table == "nat"));
    Ok(is_listed && !is_empty(family, level)?)
}

/// A file of the calling thread's namespace; `None` if the kernel has none.
fn listed(file: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a table of NAT has nothing but the policies of its chains.
fn is_empty(family: libc::c_int, level: libc::c_int) -> io::Result<bool> {
    // SAFETY: takes numbers, answers a new descriptor or -1.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0_u8; INFO_LENGTH];
    info[..3].copy_from_slice(b"nat");
    let mut length = INFO_LENGTH as libc::socklen_t;
    // SAFETY: the pointers are to `info` and to its length, which outlive the call.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    // Each chain has a policy, and one entry ends the table.
    Ok(number(INFO_RULES) == number(INFO_HOOKS).count_ones() + 1)
}

/// The servers that IPVS sends packets on to by their own addresses: those behind a tunnel or on the link get them with the
/// service's address.
fn servers(services: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.trim().strip_prefix("-> ")?.split_whitespace();
        let (at, way) = (words.next()?, words.next()?);
        (way == "Masq").then(|| address(at)).flatten()
    };
    services.lines().filter_map(server).collect()
}

/// An address with a port, as IPVS writes it.
fn address(text: &str) -> Option<IpAddr> {
    if let Some((address, _)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let (address, _) = text.split_once(':')?;
    u32::from_str_radix(address, 16).ok().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_ipvs_are_those_that_it_translates_for() {
        let services = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  \
            -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  C0A80001:0050 rr\n  \
            -> 0A000002:0050      Masq    1      0          0\n  \
            -> 0A000003:0050      Route   1      0          0\n\
            TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr\n  \
            -> [fd00:0000:0000:0000:0000:0000:0000:0002]:0050      Masq    1      0          0\n";
        let wanted: Vec<IpAddr> = ["10.0.0.2", "fd00::2"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(servers(services), wanted);
        assert_eq!(servers(""), Vec::<IpAddr>::new());
    }
}
