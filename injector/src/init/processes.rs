//! Processes that share this machine's addresses and may be a cluster: several of one program, each with
//! ports of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::local::process::{self, Kind};
use injector_core::config::Listen;

/// The process that listens for the services that it starts.
const INIT: u32 = 1;
/// Programs that listen for a container's ports and pass on what comes.
const FORWARDERS: [&str; 4] = ["docker-proxy", "rootlessport", "slirp4netns", "pasta"];

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its id.
    pub id: u32,
    /// The id of its parent.
    pub parent: u32,
    /// Its program's name.
    pub name: String,
    /// Its TCP ports, each with its address, `None` for every one.
    pub at: BTreeSet<(Option<IpAddr>, u16)>,
    /// Whether it listens by multipath TCP.
    pub is_multipath: bool,
}

/// A candidate for a peer on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name.
    pub name: String,
    /// Addresses and ports that it listens on, and no other server does.
    pub listens: Vec<Listen>,
    /// How that was found, in words.
    pub why: String,
    /// Why it is probably no peer; `None` if nothing speaks against it.
    pub doubt: Option<String>,
}

/// The processes that listen in the caller's network namespace. Processes whose sockets may not be read are
/// left out.
pub fn listening() -> Vec<Serving> {
    let Ok(own) = process::socket_cookie() else { return Vec::new() };
    let all = process::all().unwrap_or_default().into_iter();
    let serving = |stat: process::Stat| {
        let process::Stat { id, parent, name, .. } = stat;
        let mut serving = Serving { id, parent, name, at: BTreeSet::new(), is_multipath: false };
        let looked = process::sockets(id, |held| {
            if held.listens && held.cookie == own && held.kind != Kind::Udp {
                serving.at.insert(held.at);
                serving.is_multipath |= held.kind == Kind::Mptcp;
            }
            Ok(())
        });
        (looked.is_ok() && !serving.at.is_empty()).then_some(serving)
    };
    all.filter(|stat| stat.id != INIT).filter_map(serving).collect()
}

/// The processes that could be peers: several of one program.
pub fn servers(all: &[Serving]) -> Vec<Server> {
    let heads: Vec<&Serving> = all.iter().filter(|one| !is_worker(one, all)).collect();
    let mut programs: BTreeMap<&str, Vec<&Serving>> = BTreeMap::new();
    for head in &heads {
        programs.entry(&head.name).or_default().push(head);
    }
    programs.retain(|_, members| members.len() > 1);
    let largest = programs.values().map(Vec::len).max().unwrap_or(0);
    let mut found = Vec::new();
    for (name, mut members) in programs {
        members.sort_by_key(|one| one.at.iter().map(|(_, port)| *port).min());
        for (number, one) in (1..).zip(&members) {
            let doubt = doubt(one, &heads).or_else(|| {
                (members.len() < largest).then(|| "there are more processes of another program".to_owned())
            });
            found.push(Server {
                name: format!("{name}-{number}"),
                listens: listens(one, &heads),
                why: format!("process {} ({})", one.id, one.name),
                doubt,
            });
        }
    }
    found
}

/// Whether a process accepts for its parent, which has started it for that.
fn is_worker(one: &Serving, all: &[Serving]) -> bool {
    let parent = all.iter().find(|other| other.id == one.parent && other.id != one.id);
    parent.is_some_and(|parent| parent.name == one.name && !parent.at.is_disjoint(&one.at))
}

fn doubt(one: &Serving, heads: &[&Serving]) -> Option<String> {
    if FORWARDERS.contains(&one.name.as_str()) {
        return Some("it passes on what comes for a container: name that".to_owned());
    }
    if one.is_multipath {
        let remedy = "turn that off (GODEBUG=multipathtcp=0 for a program in Go)";
        return Some(format!("it listens by multipath TCP, whose frames name nobody: {remedy}"));
    }
    let twin = heads.iter().find(|other| other.id != one.id && !other.at.is_disjoint(&one.at))?;
    Some(format!("process {} ({}) listens on a port of it too", twin.id, twin.name))
}

/// Ports; with their addresses where another process has the same port of another address.
fn listens(one: &Serving, heads: &[&Serving]) -> Vec<Listen> {
    let is_elsewhere = |port: u16| {
        let others = heads.iter().filter(|other| other.id != one.id);
        others.into_iter().any(|other| other.at.iter().any(|(_, theirs)| *theirs == port))
    };
    let listen = |(address, port): &(Option<IpAddr>, u16)| match address {
        Some(address) if is_elsewhere(*port) => Listen::At(*address, *port),
        _ => Listen::Port(*port),
    };
    let all: BTreeSet<Listen> = one.at.iter().map(listen).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(id: u32, name: &str, at: &[&str]) -> Serving {
        let at = at.iter().map(|at| at.parse::<std::net::SocketAddr>().unwrap());
        let at = at.map(|at| (Some(at.ip()).filter(|ip| !ip.is_unspecified()), at.port())).collect();
        Serving { id, parent: 1, name: name.to_owned(), at, is_multipath: false }
    }

    fn shown(all: &[Serving]) -> Vec<(String, String, bool)> {
        let shown = |server: Server| {
            let listens: Vec<String> = server.listens.iter().map(ToString::to_string).collect();
            (server.name, listens.join(" "), server.doubt.is_some())
        };
        servers(all).into_iter().map(shown).collect()
    }

    #[test]
    fn several_processes_of_one_program_are_servers_by_their_ports() {
        let all = [
            serving(9, "etcd", &["127.0.0.1:22379", "127.0.0.1:22380"]),
            serving(8, "etcd", &["127.0.0.1:2379", "0.0.0.0:2380"]),
            serving(7, "sshd", &["0.0.0.0:22"]),
        ];
        let port = |name: &str, listens: &str| (name.to_owned(), listens.to_owned(), false);
        assert_eq!(
            shown(&all),
            [port("etcd-1", "port 2379 port 2380"), port("etcd-2", "port 22379 port 22380")]
        );
    }

    #[test]
    fn addresses_are_written_where_ports_are_alike_and_workers_are_their_parents() {
        let mut worker = serving(4, "web", &["127.0.0.2:80"]);
        worker.parent = 3;
        let all = [serving(3, "web", &["127.0.0.2:80"]), worker, serving(5, "web", &["127.0.0.3:80"])];
        let names: Vec<String> = shown(&all).into_iter().map(|(_, listens, _)| listens).collect();
        assert_eq!(names, ["127.0.0.2:80", "127.0.0.3:80"]);
    }

    #[test]
    fn forwarders_twins_multipath_and_the_fewer_are_doubted() {
        let mut all = vec![
            serving(3, "docker-proxy", &["0.0.0.0:80"]),
            serving(4, "docker-proxy", &["0.0.0.0:81"]),
            serving(5, "a", &["0.0.0.0:90"]),
            serving(6, "a", &["0.0.0.0:90"]),
            serving(7, "b", &["0.0.0.0:91"]),
            serving(8, "b", &["0.0.0.0:92"]),
            Serving { is_multipath: true, ..serving(9, "b", &["0.0.0.0:93"]) },
        ];
        let doubted = |all: &[Serving]| -> Vec<String> {
            shown(all).into_iter().filter(|(.., doubted)| *doubted).map(|(name, ..)| name).collect()
        };
        assert_eq!(doubted(&all), ["a-1", "a-2", "b-3", "docker-proxy-1", "docker-proxy-2"]);
        all.truncate(4);
        assert_eq!(doubted(&all).len(), 4);
    }
}
