//! Rules of NAT between peers: those that send packets on to a peer, so that hooks ahead of them see another address, and those
//! that replace a sender's, so that hooks behind them do. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::homes::Home;
use super::naming::{Ours, Sources};
use super::places::Namespace;
use super::space::Space;
use crate::netlink::facts::Route;
use crate::netlink::nat::{Dnat, Nat, Target};
use crate::netlink::nft_walk::{Chance, Interface, Packet, SnatMatch, matches, source};
use injector_core::identity::Identity;
use injector_core::model::PeerId;

/// A rule that may send packets on to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Its namespace.
    pub space: Space,
    /// The rule's place, as `chain ip nat PREROUTING of nftables`; empty where the rules are not known.
    pub rule: String,
    /// Where it sends them.
    pub destination: TranslatedDestination,
    /// The peers that the replaced address may name, the world included.
    pub before: BTreeSet<PeerId>,
}

/// The destination to which a rule sends packets on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TranslatedDestination {
    /// This address of this peer.
    Peer(PeerId, IpAddr),
    /// Addresses that the rule takes from a map, or computes.
    Computed,
    /// Whatever the rule writes into packets, without NAT: it may replace either address.
    Rewritten,
    /// Not all rules of the namespace are known; why.
    Unread(String),
}

/// A namespace that may replace the source of packets which it passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The namespace.
    pub space: Space,
    nat: Arc<Nat>,
    /// Its routes, networks on the link and default routes included.
    routes: Vec<Route>,
    /// The names of its interfaces.
    names: BTreeMap<u32, String>,
}

/// How packets reach a namespace that may replace their source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficOrigin {
    /// Packets from elsewhere, to the receiver's own address.
    Forwarded,
    /// Packets from elsewhere to another address, which a rule replaces: they are passed on, also where both
    /// ends are on one link.
    DestinationTranslated,
    /// Packets that its own processes send.
    LocallySent,
}

impl Router {
    fn of(space: &Namespace) -> Self {
        let facts = &space.facts;
        let on_link = |(index, net): &(u32, IpNet)| Route { net: net.trunc(), index: *index, gateway: None };
        let networks = facts.networks.iter().map(on_link);
        let routes = facts.routes.iter().chain(&facts.defaults).copied().chain(networks).collect();
        let names = facts.links.iter().map(|link| (link.index, link.name.clone())).collect();
        Self { space: Space(space.netns.clone()), nat: facts.nat.clone(), routes, names }
    }

    /// The rule that replaces the source of packets from one address to another, if they come by here.
    pub fn replaces(&self, from: IpAddr, to: IpAddr, origin: TrafficOrigin) -> Option<SnatMatch> {
        let enters = self.interface(from).filter(|_| origin != TrafficOrigin::LocallySent);
        let leaves = self.interface(to);
        // A router does not pass on packets that stay on one link.
        if from.is_ipv4() != to.is_ipv4()
            || (origin == TrafficOrigin::Forwarded && enters.is_some() && enters == leaves)
        {
            return None;
        }
        source(&self.nat.senders, &Packet { from: Some(from), to, enters, leaves })
            .filter(|snat| snat.chance > Chance::Never)
    }

    /// The one interface behind which an address is.
    fn interface(&self, address: IpAddr) -> Option<Interface<'_>> {
        let leads = || self.routes.iter().filter(|route| route.net.contains(&address));
        let longest = leads().map(|route| route.net.prefix_len()).max()?;
        let best: BTreeSet<u32> =
            leads().filter(|route| route.net.prefix_len() == longest).map(|route| route.index).collect();
        let index = best.first().copied().filter(|_| best.len() == 1)?;
        Some(Interface { index, name: self.names.get(&index)? })
    }
}

/// The namespaces that may replace the source of packets between peers.
pub fn routers(sources: &Sources<'_>, ours: &[Ours<'_>]) -> Vec<Router> {
    let is_own = is_own_on_way(sources, ours);
    let spaces = ways(sources.namespaces, sources.homes).into_iter().map(|at| &sources.namespaces[at]);
    let replaces =
        |space: &&Namespace| !space.facts.nat.senders.is_empty() && (space.netns.is_some() || is_own);
    spaces.filter(replaces).map(Router::of).collect()
}

/// The rules that matter: in each namespace, one for each peer and those whose address it replaces, and one of those whose
/// destination /// is not known.
pub fn translations(sources: &Sources<'_>, identity: &Identity, ours: &[Ours<'_>]) -> Vec<Translation> {
    let names = Names::of(sources, identity);
    let is_own = is_own_on_way(sources, ours);
    let peers = sources.config.peers.iter().map(|peer| peer.id);
    let everyone: BTreeSet<PeerId> = peers.chain([PeerId::WORLD]).collect();
    let mut found: Vec<Translation> = Vec::new();
    for at in ways(sources.namespaces, sources.homes) {
        let Namespace { netns, facts, .. } = &sources.namespaces[at];
        let (space, nat) = (Space(netns.clone()), &facts.nat);
        let mut known = BTreeSet::new();
        let mut is_computed = false;
        let mut add = |rule: &str, destination, before| {
            found.push(Translation { space: space.clone(), rule: rule.to_owned(), destination, before });
        };
        // Rules without a destination that is known matter only where packets between peers come by.
        let is_on_way = netns.is_some() || is_own;
        for rule in &nat.rules {
            let goals = match rule.to {
                Target::Range(first, last) => names.within(first, last),
                Target::Own => names.living(sources, identity, at),
                Target::Computed => {
                    if is_on_way && !std::mem::replace(&mut is_computed, true) {
                        add(&rule.name, TranslatedDestination::Computed, everyone.clone());
                    }
                    continue;
                }
            };
            if goals.is_empty() {
                continue;
            }
            let before = names.before(rule).unwrap_or_else(|| everyone.clone());
            for (peer, address) in goals {
                if known.insert((peer, before.clone())) {
                    add(&rule.name, TranslatedDestination::Peer(peer, address), before.clone());
                }
            }
        }
        if let Some(rule) = nat.rewriter.as_ref().filter(|_| is_on_way) {
            add(rule, TranslatedDestination::Rewritten, everyone.clone());
        }
        if let Some(why) = nat.unread.as_ref().filter(|_| is_on_way) {
            add("", TranslatedDestination::Unread(why.clone()), everyone.clone());
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

/// Whether packets between peers may come by the daemon's own namespace, as far as our interfaces and the peers' devices show: on
/// a host with several labs, it may be on the way of none of them.
fn is_own_on_way(sources: &Sources<'_>, ours: &[Ours<'_>]) -> bool {
    let leads_there = |home: &Namespace| {
        let mut away = home.facts.links.iter().filter(|link| link.is_below_away);
        let leads_to = |id| home.away.get(&id);
        home.netns.is_none() || away.any(|link| link.away.and_then(leads_to).is_none_or(Option::is_none))
    };
    ours.iter().any(|ours| ours.netns.is_none())
        || sources.homes.values().any(|home| leads_there(&sources.namespaces[home.at]))
}

/// The peers that addresses name.
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
        if first == last && !found.is_empty() {
            return found;
        }
        let both = |prefix: &IpNet| {
            let part = (first.max(prefix.network()), last.min(prefix.broadcast()));
            (first.is_ipv4() == prefix.network().is_ipv4() && part.0 <= part.1).then_some(part)
        };
        for (prefix, peer) in &self.prefixes {
            let Some((from, to)) = both(prefix) else { continue };
            // A longer prefix around all of it names it.
            let is_inner = |(other, _): &(IpNet, PeerId)| {
                other.prefix_len() > prefix.prefix_len() && other.contains(&from) && other.contains(&to)
            };
            if !self.prefixes.iter().any(is_inner) && !found.iter().any(|(known, _)| known == peer) {
                found.push((*peer, from));
            }
        }
        found
    }

    /// The peers that live in a namespace whose rules send packets on to itself, each with one of their addresses. They
    /// are meant by such a rule only if they pass on what others send: else all that arrives is for an address of theirs.
    fn living(&self, sources: &Sources<'_>, identity: &Identity, at: usize) -> Vec<(PeerId, IpAddr)> {
        let is_plain = |peer: PeerId| identity.peers.get(&peer).is_some_and(|traits| traits.is_plain);
        let living = sources.homes.iter().filter(|(peer, home)| home.at == at && !is_plain(**peer));
        let first = |(peer, _): (&PeerId, &Home)| {
            let address = self.single.iter().find(|(_, holder)| *holder == peer)?.0;
            Some((*peer, *address))
        };
        living.filter_map(first).collect()
    }

    /// The peers that the addresses which a rule may replace name, the world included; `None` if the rule's
    /// conditions are not known.
    fn before(&self, rule: &Dnat) -> Option<BTreeSet<PeerId>> {
        let rule = rule.rule.as_ref()?;
        if let Some(only) = rule.only_destination() {
            let holders: BTreeSet<PeerId> =
                self.within(only, only).into_iter().map(|(peer, _)| peer).collect();
            return Some(if holders.is_empty() { BTreeSet::from([PeerId::WORLD]) } else { holders });
        }
        let may = |to: IpAddr| {
            matches(rule, &Packet { from: None, to, enters: None, leaves: None }) > Chance::Never
        };
        let single = self.single.iter().filter(|(address, _)| may(**address)).map(|(_, peer)| *peer);
        // The addresses of a prefix that are in use are not known.
        let prefixes = self.prefixes.iter().map(|(_, peer)| *peer);
        Some(single.chain(prefixes).chain([PeerId::WORLD]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn names(single: &[(&str, u16)], prefixes: &[(&str, u16)]) -> Names {
        Names {
            single: single.iter().map(|(text, peer)| (address(text), PeerId(*peer))).collect(),
            prefixes: prefixes.iter().map(|(text, peer)| (text.parse().unwrap(), PeerId(*peer))).collect(),
        }
    }

    #[test]
    fn a_range_names_all_whose_prefix_it_meets() {
        let names = names(&[("10.0.0.1", 1)], &[("10.0.0.0/24", 2), ("10.0.0.64/26", 3), ("fd00::/64", 4)]);
        let within = |first: &str, last: &str| {
            let found = names.within(address(first), address(last));
            let shown = found.into_iter().map(|(peer, address)| format!("{} {address}", peer.0));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(within("10.0.0.1", "10.0.0.1"), ["1 10.0.0.1"], "a listed address is its peer's alone");
        assert_eq!(within("10.0.0.1", "10.0.0.9"), ["1 10.0.0.1", "2 10.0.0.1"], "and the others");
        assert_eq!(within("10.0.0.2", "10.0.0.2"), ["2 10.0.0.2"]);
        assert_eq!(within("10.0.0.70", "10.0.0.80"), ["3 10.0.0.70"], "the longest prefix");
        assert_eq!(within("10.0.0.60", "10.0.0.70"), ["2 10.0.0.60", "3 10.0.0.64"]);
        assert_eq!(within("10.0.1.0", "10.0.1.9"), Vec::<String>::new());
        assert_eq!(within("fd00::5", "fd00::6"), ["4 fd00::5"]);
    }
}
