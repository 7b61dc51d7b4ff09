//! The peers at the ends of connections to the daemon's own host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Interfaces;
use crate::discovery::own_host::OwnHost;
use crate::netlink::facts::Stations;
use injector_core::config::Config;
use injector_core::model::PeerId;

/// The peers that the ends of a connection may be, the world among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This host's end.
    pub local: BTreeSet<PeerId>,
    /// The far end.
    pub remote: BTreeSet<PeerId>,
}

impl Interfaces {
    /// The peers that the ends of a connection to the daemon's own host may be, by its own and its far address.
    pub fn ends_of(&self, config: &Config, (local, remote): (IpAddr, IpAddr), stations: &Stations) -> Ends {
        let own = self.entries.iter().filter(|entry| entry.interface.netns.is_none());
        let ports = own.filter_map(|entry| Some((entry.index()?, *self.identity.ports.get(&entry.id)?)));
        let elsewhere = self.entries.iter().filter(|entry| entry.interface.netns.is_some());
        let elsewhere = elsewhere.filter_map(|entry| self.identity.ports.get(&entry.id));
        let host = OwnHost {
            config,
            namespaces: &self.known,
            homes: &self.homes,
            identity: &self.identity,
            ports: &ports.collect(),
            ported_elsewhere: &elsewhere.map(|port| port.peer).collect(),
            stations,
        };
        Ends { local: host.local(local), remote: host.remote(remote) }
    }
}
