//! The ports of this host's SSH servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::local::process::{self, Kind, Stat};

/// The port that is SSH's whoever listens there.
const SSH: u16 = 22;

/// Port 22, and those of the SSH servers that run now in the daemon's network namespace. To be asked while the process has all its
/// rights: others' sockets are not shown to it later.
pub fn ssh_ports() -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([SSH]);
    if let Err(error) = add_found(&mut ports) {
        tracing::warn!(
            %error,
            "ports of SSH servers could not be looked for, which takes CAP_SYS_PTRACE: connections to {ports:?} alone count as SSH"
        );
    }
    ports
}

/// Adds those that can be seen; the first error, if a server's sockets can't.
fn add_found(ports: &mut BTreeSet<u16>) -> io::Result<()> {
    let own = process::socket_cookie()?;
    let mut seen = Ok(());
    for server in servers(&process::all()?) {
        let sockets = process::sockets(server, |held| {
            // One that a service manager listens for has its connection alone.
            if held.cookie == own && held.kind == Kind::Tcp && held.at.1 != 0 {
                ports.insert(held.at.1);
            }
            Ok(())
        });
        seen = seen.and(sockets);
    }
    seen
}

/// The processes of SSH servers that were not started by one: those serve one connection, and have the ports that it forwards.
fn servers(all: &[Stat]) -> Vec<u32> {
    let servers: BTreeMap<u32, u32> =
        all.iter().filter(|stat| is_server(&stat.name)).map(|stat| (stat.id, stat.parent)).collect();
    servers.iter().filter(|(_, parent)| !servers.contains_key(parent)).map(|(id, _)| *id).collect()
}

/// OpenSSH's server is several programs since 9.8: `sshd`, `sshd-session`, `sshd-auth`.
fn is_server(name: &str) -> bool {
    name == "sshd" || name.starts_with("sshd-") || name == "dropbear"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_one_that_no_server_has_started() {
        let stat = |id, parent, name: &str| Stat {
            id,
            parent,
            name: name.to_owned(),
            started: 0,
            has_lost_its_main_thread: false,
        };
        let all = [
            stat(1, 0, "systemd"),
            stat(10, 1, "sshd"),
            stat(11, 10, "sshd-session"),
            stat(12, 11, "sshd-session"),
            stat(13, 12, "bash"),
            stat(20, 1, "sshd-session"),
            stat(30, 13, "dropbear"),
            stat(31, 13, "sshdx"),
        ];
        assert_eq!(servers(&all), [10, 20, 30]);
    }
}
