//! Rules of NAT that send packets on to peers: hooks ahead of such a rule see another address than the peer's. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::homes::Home;
use super::naming::{Ours, Sources};
use super::places::Namespace;
use super::space::Space;
use crate::netlink::nat::Target;
use injector_core::identity::Identity;
use injector_core::model::PeerId;

/// A rule that may send packets on to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Its namespace.
    pub space: Space,
    /// Its chain, as `ip nat PREROUTING`; nothing where the rules are not known.
    pub chain: String,
    /// Where it sends them.
    pub goal: Goal,
}

/// Where a rule sends packets on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To this address of this peer.
    Peer(PeerId, IpAddr),
    /// To addresses that the rule looks up in a map, or computes.
    Computed,
    /// Not all rules of the namespace are known; why.
    Unread(String),
}

/// The rules that matter: one for each peer in each namespace, and one of those whose goal is not known.
pub fn translations(sources: &Sources<'_>, identity: &Identity, ours: &[Ours<'_>]) -> Vec<Translation> {
    let names = Names::of(sources, identity);
    let has_own = ours.iter().any(|ours| ours.netns.is_none());
    let mut found = Vec::new();
    for at in ways(sources.namespaces, sources.homes) {
        let Namespace { netns, facts, .. } = &sources.namespaces[at];
        let (space, nat) = (Space(netns.clone()), &facts.nat);
        let mut known = BTreeSet::new();
        let mut is_computed = false;
        let mut add = |chain: &str, goal| {
            found.push(Translation { space: space.clone(), chain: chain.to_owned(), goal });
        };
        // Rules without a goal that is known matter only where packets between peers come by.
        let is_on_way = netns.is_some() || has_own || is_own_on_way(sources);
        for rule in &nat.rules {
            match rule.to {
                Target::Range(first, last) => {
                    for (peer, address) in names.within(first, last) {
                        if known.insert(peer) {
                            add(&rule.chain, Goal::Peer(peer, address));
                        }
                    }
                }
                Target::Computed if is_on_way && !is_computed => {
                    is_computed = true;
                    add(&rule.chain, Goal::Computed);
                }
                Target::Computed => {}
            }
        }
        if let Some(why) = nat.unread.as_ref().filter(|_| is_on_way) {
            add("", Goal::Unread(why.clone()));
        }
    }
    found
}

/// The namespaces whose rules may translate what goes to peers, by their numbers: the peers' homes, those that devices of
/// these lead to, and the daemon's own.
pub fn ways(namespaces: &[Namespace], homes: &BTreeMap<PeerId, Home>) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = homes.values().map(|home| home.at).collect();
    let next: Vec<usize> = found
        .iter()
        .flat_map(|at| namespaces[*at].away.values())
        .filter_map(|netns| namespaces.iter().position(|space| space.netns == *netns))
        .collect();
    found.extend(next);
    found.extend(namespaces.iter().position(|space| space.netns.is_none()));
    found
}

/// Whether packets between peers may come by the daemon's own namespace, as far as the peers' devices show: on a host with several
/// labs, it may be on the way of none of them.
fn is_own_on_way(sources: &Sources<'_>) -> bool {
    sources.homes.values().map(|home| &sources.namespaces[home.at]).any(|home| {
        let mut away = home.facts.links.iter().filter(|link| link.is_below_away);
        let leads_to = |id| home.away.get(&id);
        home.netns.is_none() || away.any(|link| link.away.and_then(leads_to).is_none_or(Option::is_none))
    })
}

/// What addresses name peers.
struct Names {
    single: BTreeMap<IpAddr, PeerId>,
    prefixes: Vec<(IpNet, PeerId)>,
}

impl Names {
    fn of(sources: &Sources<'_>, identity: &Identity) -> Self {
        let peers = || sources.config.peers.iter();
        let listed = peers().flat_map(|peer| peer.addresses.iter().map(|address| (*address, peer.id)));
        let held = identity.held.iter().map(|(address, peer)| (*address, *peer));
        let prefixes = peers().flat_map(|peer| peer.prefixes.iter().map(|prefix| (*prefix, peer.id)));
        Self { single: held.chain(listed).collect(), prefixes: prefixes.collect() }
    }

    /// The peers that have addresses in a range, each with one of them.
    fn within(&self, first: IpAddr, last: IpAddr) -> Vec<(PeerId, IpAddr)> {
        let single = self.single.range(first..=last).map(|(address, peer)| (*peer, *address));
        let mut found: Vec<(PeerId, IpAddr)> = single.collect();
        if found.is_empty() {
            let holding = self.prefixes.iter().filter(|(prefix, _)| prefix.contains(&first));
            let longest = holding.max_by_key(|(prefix, _)| prefix.prefix_len());
            found.extend(longest.map(|(_, peer)| (*peer, first)));
        }
        found
    }
}
