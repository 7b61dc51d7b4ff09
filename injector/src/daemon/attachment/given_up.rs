//! Handles addresses that a peer has given up, or that someone else has too, before the next survey finds
//! them: until then they would still name the peer, and a cut would drop frames of whoever has them now.

use std::net::IpAddr;

use super::Interfaces;
use crate::datapath::Kernel;
use crate::netlink::news::News;
use injector_core::clock::MonoNs;
use injector_core::config::Netns;
use injector_core::identity::Mac;

impl Interfaces {
    /// Takes in that an address or a MAC address of a peer may be someone else's, by an instant; whether this changes what names
    /// the peer.
    pub(super) fn give_up(
        &mut self,
        kernel: &mut Kernel,
        netns: Option<&Netns>,
        by: MonoNs,
        news: &News,
    ) -> bool {
        if let News::Link(link) = news
            && let Some(mac) = link.mac.filter(|mac| self.is_anothers(netns, *mac))
        {
            self.identity.macs.remove(&mac);
            return self.identity.doubled.insert(mac);
        }
        let mac = match news {
            News::Address(index, address, is_there) => {
                return self.share(netns, (*index, *address), *is_there);
            }
            News::Gone(index) => self.given_up_mac(netns, *index, None),
            News::Link(link) if link.mac.is_some() => self.given_up_mac(netns, link.index, link.mac),
            _ => None,
        };
        let Some(mac) = mac else { return false };
        for (peer, home) in &self.homes {
            if self.known[home.at].netns.as_ref() == netns {
                self.sightings.record_given_up(mac, *peer, by);
            }
        }
        if let Err(error) = kernel.forget_mac(mac) {
            tracing::error!(%error, "the programs may take frames to a MAC address that a peer has given up for the peer's");
        }
        self.identity.macs.remove(&mac).is_some()
    }

    /// Whether a MAC address of a device in a namespace is that of a peer that lives elsewhere.
    fn is_anothers(&self, netns: Option<&Netns>, mac: Mac) -> bool {
        let peer = self.identity.macs.get(&mac);
        let home = peer.and_then(|peer| self.homes.get(peer)).map(|home| &self.known[home.at]);
        home.is_some_and(|home| home.netns.as_ref() != netns)
    }

    /// Leaves it to the holder's port to say who has an address, if it is there elsewhere or the holder's NIC has it no more.
    fn share(&mut self, netns: Option<&Netns>, (index, address): (u32, IpAddr), is_there: bool) -> bool {
        let Some(holder) = self.identity.held.get(&address).copied() else { return false };
        let Some(home) = self.homes.get(&holder).map(|home| &self.known[home.at]) else { return false };
        let is_home = home.netns.as_ref() == netns;
        let is_on_another =
            home.facts.addresses.iter().any(|(other, held)| *held == address && *other != index);
        if is_home == is_there || is_home && is_on_another {
            return false;
        }
        self.identity.held.remove(&address);
        self.identity.shared.insert(address, Some(holder));
        true
    }

    /// The MAC address that a device of a peer's home had, if no device there has it any more.
    fn given_up_mac(&self, netns: Option<&Netns>, index: u32, now: Option<Mac>) -> Option<Mac> {
        let mut homes = self.homes.values().map(|home| &self.known[home.at]);
        let home = homes.find(|home| home.netns.as_ref() == netns)?;
        let mac = home.facts.link(index)?.mac.filter(|mac| Some(*mac) != now)?;
        let is_on_another = home.facts.links.iter().any(|link| link.index != index && link.mac == Some(mac));
        (!is_on_another).then_some(mac)
    }
}
