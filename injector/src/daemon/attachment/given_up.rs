//! Handles addresses that a peer has given up, or that someone else has too, before the next survey finds
//! them: until then they would still name the peer, and a cut would drop frames of whoever has them now.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Interfaces;
use crate::datapath::Kernel;
use crate::netlink::news::News;
use injector_core::clock::MonoNs;
use injector_core::config::Netns;
use injector_core::identity::Mac;

impl Interfaces {
    /// Takes in news, which came at an instant, that an address or a MAC address of a peer may be someone else's; whether this
    /// changes what names the peer.
    pub(super) fn give_up(
        &mut self,
        kernel: &mut Kernel,
        netns: Option<&Netns>,
        at: MonoNs,
        news: &News,
    ) -> bool {
        let mut is_changed = false;
        if let News::Link(link) = news
            && let Some(mac) = link.mac.filter(|mac| self.is_anothers(netns, *mac))
        {
            self.identity.macs.remove(&mac);
            self.sightings.record_doubled(mac);
            is_changed = self.identity.doubled.insert(mac);
        }
        let mac = match news {
            News::Address(index, address, is_there) => {
                return self.share(netns, (*index, *address), *is_there);
            }
            News::Gone(index) => self.given_up_mac(netns, *index, None),
            News::Link(link) if link.mac.is_some() => self.given_up_mac(netns, link.index, link.mac),
            _ => None,
        };
        let Some(mac) = mac else { return is_changed };
        for (peer, home) in &self.homes {
            if self.known[home.at].netns.as_ref() == netns {
                self.sightings.record_given_up(mac, *peer, at);
            }
        }
        if let Err(error) = kernel.forget_mac(mac) {
            tracing::error!(%error, "the programs may take frames to a MAC address that a peer has given up for the peer's");
        }
        self.identity.macs.remove(&mac).is_some() || is_changed
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

    /// The MAC address that a device of a peer's home had until this news, if no device there has it any more.
    fn given_up_mac(&mut self, netns: Option<&Netns>, index: u32, now: Option<Mac>) -> Option<Mac> {
        let mut homes = self.homes.values().map(|home| &self.known[home.at]);
        let home = homes.find(|home| home.netns.as_ref() == netns)?;
        let found = home.facts.links.iter().map(|link| (link.index, link.mac));
        let mut macs: BTreeMap<u32, Option<Mac>> = found.collect();
        let of_home = self.device_news.range((netns.cloned(), 0)..=(netns.cloned(), u32::MAX));
        macs.extend(of_home.map(|((_, index), mac)| (*index, *mac)));
        self.device_news.insert((netns.cloned(), index), now);
        let mac = macs.insert(index, now).flatten()?;
        (!macs.values().any(|other| *other == Some(mac))).then_some(mac)
    }
}
