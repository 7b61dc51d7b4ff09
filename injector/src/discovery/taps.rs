//! Whether a peer's virtual machine is behind the interface that the config names for it (`vm:`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::devices::shown_device;
use super::mismatch::Mismatch;
use super::places::Namespace;
use crate::netlink::{Kind, LinkFacts};
use injector_core::config::{Config, Device, Peer};
use injector_core::identity::Mac;
use injector_core::model::PeerId;

/// A sentence for each peer that was seen elsewhere than behind its `vm:` interface, or whose interface leads to another peer.
///
/// Bridge ports and neighbour tables remember who sent something last, so that a peer that was never heard is not
/// misplaced. The sentences name no MAC address: a guest that changes its own must not make ever new ones.
pub fn misplaced(config: &Config, namespaces: &[Namespace]) -> Vec<Mismatch> {
    let tapped = config.peers.iter().filter_map(|peer| Some((peer, peer.tap.as_ref()?)));
    let mut senders: Option<BTreeMap<Mac, PeerId>> = None;
    let mut mismatches = Vec::new();
    for (peer, tap) in tapped {
        let links =
            namespaces.iter().flat_map(|space| space.facts.links.iter().map(move |link| (space, link)));
        let Some((space, link)) = links.into_iter().find(|(space, link)| space.has(tap, &link.name)) else {
            continue;
        };
        // Frames of a bond's member are learned behind the bond.
        let master = link.master.and_then(|master| space.facts.link(master));
        if master.is_some_and(|master| master.kind != Kind::Bridge) {
            continue;
        }
        let senders = senders.get_or_insert_with(|| senders_of(config, namespaces));
        mismatches.extend(misplacement(config, (peer, tap), (space, link), senders));
    }
    mismatches
}

fn misplacement(
    config: &Config,
    (peer, tap): (&Peer, &Device),
    (space, link): (&Namespace, &LinkFacts),
    senders: &BTreeMap<Mac, PeerId>,
) -> Option<Mismatch> {
    let seen = seen_in(space, senders);
    let name = config.names.name(peer.id);
    let tap = shown_device(&tap.name, tap.netns.as_ref());
    let own = seen.get(&peer.id);
    if own.is_some_and(|places| places.contains(&link.index)) {
        return None;
    }
    let elsewhere = own.into_iter().flatten().find_map(|index| space.facts.link(*index));
    if let Some(elsewhere) = elsewhere {
        let found = shown_device(&elsewhere.name, space.netns.as_ref());
        return Some(Mismatch {
            found: format!(
                "peers.{name}.vm: {name} was seen behind {found}, not behind {tap}: a cut of {name} would cut off what is behind \
                 {tap}"
            ),
            remedy: "correct the interface, unless the peer has moved and sent nothing since",
        });
    }
    let (other, _) = seen.iter().find(|(_, places)| places.contains(&link.index))?;
    let other = config.names.name(*other);
    Some(Mismatch {
        found: format!(
            "peers.{name}.vm: behind {tap}, {other} was seen and {name} was not: a cut of {name} would cut off {other}"
        ),
        remedy: "correct the interface, unless the two have changed places and the peer has sent nothing since",
    })
}

/// The peer that each MAC address belongs to, where it belongs to one alone: a router may answer for several.
fn senders_of(config: &Config, namespaces: &[Namespace]) -> BTreeMap<Mac, PeerId> {
    let mut owners: BTreeMap<Mac, BTreeSet<PeerId>> = BTreeMap::new();
    let mut add = |mac: Mac, peer: PeerId| {
        owners.entry(mac).or_default().insert(peer);
    };
    for peer in &config.peers {
        peer.mac.into_iter().for_each(|mac| add(mac, peer.id));
    }
    for space in namespaces {
        for (_, address, mac) in &space.facts.neighbours {
            config.owner(*address).into_iter().for_each(|peer| add(*mac, peer));
        }
        for (index, address) in &space.facts.addresses {
            let mac = space.facts.link(*index).and_then(|link| link.mac);
            mac.zip(config.owner(*address)).into_iter().for_each(|(mac, peer)| add(mac, peer));
        }
    }
    let only = |(mac, peers): (Mac, BTreeSet<PeerId>)| {
        let mut peers = peers.into_iter();
        peers.next().filter(|_| peers.next().is_none()).map(|peer| (mac, peer))
    };
    owners.into_iter().filter_map(only).collect()
}

/// The devices of a namespace behind which each peer was seen: ports of bridges, and devices on which it is a neighbour.
fn seen_in(space: &Namespace, senders: &BTreeMap<Mac, PeerId>) -> BTreeMap<PeerId, BTreeSet<u32>> {
    let is_bridge = |index: &u32| space.facts.link(*index).is_some_and(|link| link.kind == Kind::Bridge);
    let learned = space.facts.ports.iter().map(|(mac, port)| (mac, *port));
    let neighbours = space.facts.neighbours.iter().map(|(index, _, mac)| (mac, *index));
    let mut seen: BTreeMap<PeerId, BTreeSet<u32>> = BTreeMap::new();
    // A neighbour on a bridge is behind one of its ports, which the bridge has learned.
    for (mac, index) in learned.chain(neighbours.filter(|(_, index)| !is_bridge(index))) {
        if let Some(peer) = senders.get(mac) {
            seen.entry(*peer).or_default().insert(carrier(space, index));
        }
    }
    seen
}

/// The device below a VLAN, in the same namespace.
fn carrier(space: &Namespace, index: u32) -> u32 {
    let below = |link: &LinkFacts| link.below.filter(|_| link.kind == Kind::Vlan && !link.is_below_away);
    let mut carrier = index;
    for _ in 0..4 {
        match space.facts.link(carrier).and_then(below) {
            Some(below) => carrier = below,
            None => break,
        }
    }
    carrier
}

#[cfg(test)]
mod tests {
    use super::super::test_topologies::{device, facts, space};
    use super::*;

    const N1: Mac = [2, 9, 0, 0, 0, 1];
    const N2: Mac = [2, 9, 0, 0, 0, 2];

    /// `n1` behind `tap1` and `n2` behind `tap2`, by the config.
    fn config() -> Config {
        let text = "peers:\n  n1: { addresses: [10.0.0.1], vm: { interface: tap1 } }\n  n2: { addresses: [10.0.0.2], vm: { interface: tap2 } }\ninterfaces: auto\n";
        Config::parse(text, "test").unwrap()
    }

    /// A bridge with both taps, which has learned these addresses behind its ports; the host knows both peers.
    fn bridged(ports: &[(Mac, u32)]) -> Namespace {
        let tap = |index, name| LinkFacts { master: Some(3), ..device(0, index, name, Kind::Other) };
        let mut host = facts(vec![device(0, 3, "br0", Kind::Bridge), tap(4, "tap1"), tap(5, "tap2")], &[]);
        host.neighbours = vec![(3, "10.0.0.1".parse().unwrap(), N1), (3, "10.0.0.2".parse().unwrap(), N2)];
        host.ports = ports.to_vec();
        space("", host)
    }

    #[test]
    fn a_guest_behind_another_tap_is_named_with_it() {
        assert_eq!(misplaced(&config(), &[bridged(&[(N1, 4), (N2, 5)])]), []);
        let swapped = misplaced(&config(), &[bridged(&[(N1, 5), (N2, 4)])]);
        assert_eq!(swapped.len(), 2, "{swapped:?}");
        assert!(
            swapped[0].found.starts_with("peers.n1.vm: n1 was seen behind tap2, not behind tap1: "),
            "{swapped:?}"
        );
        let one = misplaced(&config(), &[bridged(&[(N2, 4)])]);
        assert!(
            one[0].found.starts_with("peers.n1.vm: behind tap1, n2 was seen and n1 was not: "),
            "{one:?}"
        );
        assert!(
            one[1].found.starts_with("peers.n2.vm: n2 was seen behind tap1, not behind tap2: "),
            "{one:?}"
        );
    }

    #[test]
    fn a_silent_guest_and_an_address_that_two_share_say_nothing() {
        assert_eq!(misplaced(&config(), &[bridged(&[])]), []);
        // A router that answers for both of them.
        let mut space = bridged(&[(N1, 5)]);
        space.facts.neighbours[1].2 = N1;
        assert_eq!(misplaced(&config(), &[space]), []);
    }

    #[test]
    fn a_tap_without_a_bridge_is_judged_by_its_neighbours() {
        let routed = |one: u32, two: u32| {
            let mut host =
                facts(vec![device(0, 4, "tap1", Kind::Other), device(0, 5, "tap2", Kind::Other)], &[]);
            let vlan = LinkFacts { below: Some(5), ..device(0, 6, "tap2.7", Kind::Vlan) };
            host.links.push(vlan);
            host.neighbours =
                vec![(one, "10.0.0.1".parse().unwrap(), N1), (two, "10.0.0.2".parse().unwrap(), N2)];
            misplaced(&config(), &[space("", host)])
        };
        assert_eq!(routed(4, 6), [], "a VLAN's frames pass the device below it");
        assert_eq!(routed(5, 4).len(), 2);
    }
}
