//! The part of a daemon's config that a lab knows: its peers and where their traffic passes.

use std::net::IpAddr;

use crate::lab::{Lab, SWITCH};

/// Where the daemon's programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachPoint {
    /// On the peer's own interface, in its namespace.
    OwnNic,
    /// On the other end of its cable: a port of the switch.
    BridgePort,
}

impl Lab {
    /// An entry of `peers:`, with all the addresses that the lab has given.
    pub fn peer(&self, name: &str, host: u8) -> String {
        let addresses = self.subnet().addresses(host).into_iter().map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"{address}\""),
        });
        format!("{name}: {{ addresses: [{}] }}", addresses.collect::<Vec<_>>().join(", "))
    }

    /// `peers:` and `interfaces:` of a config for virtual machines: each peer is behind its tap.
    pub fn guest_config(&self) -> String {
        let switch = self.netns(SWITCH);
        let peers = self.peer_names().into_iter().zip(1..).map(|(name, host)| {
            let interface = format!("{{ name: {}, netns: {switch} }}", self.guest(&name).tap);
            let peer = self.peer(&name, host);
            format!("  {}, vm: {{ interface: {interface} }} }}\n", peer.trim_end_matches(" }"))
        });
        format!("peers:\n{}interfaces: auto\n", peers.collect::<String>())
    }

    /// `peers:` and `interfaces:` of a config; `hook` as in the config.
    pub fn config(&self, place: AttachPoint, hook: &str) -> String {
        let interfaces: String =
            self.peer_names().iter().map(|peer| self.interface(peer, place, hook)).collect();
        format!("{}interfaces:\n{interfaces}", self.peers())
    }

    /// `peers:` of a config.
    pub fn peers(&self) -> String {
        let peers = self.peer_names().into_iter().zip(1..);
        let peers = peers.map(|(name, host)| format!("  {}", self.peer(&name, host)));
        format!("peers:\n{}\n", peers.collect::<Vec<_>>().join("\n"))
    }

    /// An entry of `interfaces:`.
    pub fn interface(&self, peer: &str, place: AttachPoint, hook: &str) -> String {
        let (name, netns) = self.end(peer, place);
        format!("  - {{ name: {name}, netns: {netns}, hook: {hook} }}\n")
    }

    /// An end of a peer's cable: the interface and the full name of its namespace.
    pub fn end(&self, peer: &str, place: AttachPoint) -> (String, String) {
        match place {
            AttachPoint::OwnNic => ("eth0".to_owned(), self.netns(peer)),
            AttachPoint::BridgePort => (format!("p-{peer}"), self.netns(SWITCH)),
        }
    }
}
