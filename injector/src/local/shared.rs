//! Ports that several sockets have (`SO_REUSEPORT`): among those of one peer, a lookup finds the right peer;
//! among those of several, it need not. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::process::Kind;
use crate::datapath::SpaceId;
use injector_core::model::PeerId;

/// A port in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The namespace.
    pub space: SpaceId,
    /// The protocol.
    pub kind: Kind,
    /// The address; `None` for every one.
    pub address: Option<IpAddr>,
    /// Its number.
    pub number: u16,
}

/// The sockets that share ports, each by its cookie, with the processes that hold it.
#[derive(Default)]
pub struct SharedPorts(BTreeMap<Port, BTreeMap<u64, BTreeSet<u32>>>);

/// A port that sockets of a peer share with others.
#[derive(Debug, PartialEq, Eq)]
pub struct Mixed {
    /// The port.
    pub port: Port,
    /// A process for each owner of such sockets, `None` for no peer.
    pub owners: BTreeMap<Option<PeerId>, u32>,
}

impl SharedPorts {
    /// Adds a socket.
    pub fn add(&mut self, port: Port, cookie: u64, process: u32) {
        self.0.entry(port).or_default().entry(cookie).or_default().insert(process);
    }

    /// The ports that peers share with each other, or with who is no peer.
    pub fn mixed(&self, owner: impl Fn(u32) -> Option<PeerId>) -> Vec<Mixed> {
        let mixed = |(port, sockets): (&Port, &BTreeMap<u64, BTreeSet<u32>>)| {
            // A socket that a peer's process holds is the peer's, whoever else has it.
            let of = |holders: &BTreeSet<u32>| {
                let of_peer = holders.iter().find_map(|process| Some((Some(owner(*process)?), *process)));
                of_peer.or_else(|| Some((None, *holders.first()?)))
            };
            let owners: BTreeMap<Option<PeerId>, u32> = sockets.values().filter_map(of).collect();
            (owners.len() > 1).then_some(Mixed { port: *port, owners })
        };
        self.0.iter().filter_map(mixed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Port = Port { space: SpaceId(1), kind: Kind::Tcp, address: None, number: 7001 };

    /// Processes 10 to 19 are peer 1's, 20 to 29 peer 2's.
    fn owner(process: u32) -> Option<PeerId> {
        (10..30).contains(&process).then_some(PeerId((process / 10) as u16))
    }

    fn mixed(sockets: &[(u64, u32)]) -> Vec<Mixed> {
        let mut shared = SharedPorts::default();
        for (cookie, process) in sockets {
            shared.add(PORT, *cookie, *process);
        }
        shared.mixed(owner)
    }

    #[test]
    fn a_port_of_several_owners_is_found_and_one_peers_is_not() {
        assert_eq!(mixed(&[(1, 10), (2, 11), (3, 10)]), []);
        // A socket that the process which starts the peer has too.
        assert_eq!(mixed(&[(1, 10), (1, 5)]), []);
        let owners = BTreeMap::from([(Some(PeerId(1)), 10), (Some(PeerId(2)), 20)]);
        assert_eq!(mixed(&[(1, 10), (2, 20)]), [Mixed { port: PORT, owners }]);
        let owners = BTreeMap::from([(Some(PeerId(1)), 10), (None, 5)]);
        assert_eq!(mixed(&[(1, 10), (2, 5)]), [Mixed { port: PORT, owners }]);
    }
}
