use super::super::homes::homes;
use super::super::test_topologies::{device, facts, space, switched, via};
use super::*;
use injector_core::identity::Traits;

const MAC: Mac = [2, 9, 9, 9, 9, 9];

/// What is known of a host, in the hands of one test.
struct Known {
    config: Config,
    namespaces: Vec<Namespace>,
    identity: Identity,
    ports: BTreeMap<u32, Port>,
    elsewhere: BTreeSet<PeerId>,
    stations: Stations,
}

impl Known {
    fn new(namespaces: Vec<Namespace>, n3: &str) -> Self {
        let peers = format!(
            "peers: {{ n1: {{ addresses: [10.0.0.1] }}, n2: {{ addresses: [10.0.0.2] }}, n3: {{ {n3} }} }}"
        );
        Self {
            config: Config::parse(&format!("{peers}\ninterfaces: auto\n"), "test").unwrap(),
            namespaces,
            identity: Identity::default(),
            ports: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            stations: Stations::default(),
        }
    }

    /// The ends of a connection to `local` from `remote`, as numbers.
    fn ends(&self, local: &str, remote: &str) -> (Vec<u16>, Vec<u16>) {
        let homes = homes(&self.config, &self.namespaces, &BTreeMap::new());
        let mut identity = self.identity.clone();
        for peer in homes.keys() {
            identity.peers.insert(*peer, Traits { is_seen: true, ..Traits::default() });
        }
        let host = OwnHost {
            config: &self.config,
            namespaces: &self.namespaces,
            homes: &homes,
            identity: &identity,
            ports: &self.ports,
            ported_elsewhere: &self.elsewhere,
            stations: &self.stations,
        };
        let numbers = |peers: BTreeSet<PeerId>| peers.into_iter().map(|peer| peer.0).collect();
        (numbers(host.local(local.parse().unwrap())), numbers(host.remote(remote.parse().unwrap())))
    }
}

/// n1's host, which is the daemon's.
fn node() -> Vec<Namespace> {
    let mut node = facts(vec![device(1, 2, "eth0", Kind::Other)], &[(2, "10.0.0.1"), (2, "fe80::1")]);
    node.networks.push((2, "10.0.0.1/24".parse().unwrap()));
    node.networks.push((2, "fe80::1/64".parse().unwrap()));
    node.defaults.push(via("0.0.0.0/0", 2, "10.0.0.254"));
    vec![space("", node)]
}

/// The bridge's host, which is no peer.
fn bridge() -> Vec<Namespace> {
    let mut namespaces = switched();
    namespaces[0].facts.networks.push((9, "10.0.0.14/24".parse().unwrap()));
    namespaces[2].facts.addresses.push((3, "fe80::2".parse().unwrap()));
    namespaces
}

#[test]
fn listed_addresses_name_both_ends() {
    let known = Known::new(node(), "addresses: [10.0.0.3]");
    assert_eq!(known.ends("10.0.0.1", "10.0.0.2"), (vec![1], vec![2]));
    assert_eq!(known.ends("10.0.0.1", "192.0.2.7"), (vec![1], vec![0]), "by a router");
    assert_eq!(
        known.ends("10.0.0.1", "10.0.0.77"),
        (vec![1], vec![0]),
        "n2 and n3 have no other names than their addresses"
    );
    let known = Known::new(bridge(), "addresses: [10.0.0.3]");
    assert_eq!(known.ends("10.0.0.14", "10.0.0.2"), (vec![0], vec![2]));
}

#[test]
fn this_hosts_end_is_its_peer_whatever_the_address() {
    let known = Known::new(node(), "addresses: [10.0.0.3], vip: [10.0.0.100]");
    assert_eq!(known.ends("fe80::1", "10.0.0.2").0, [1]);
    assert_eq!(known.ends("10.0.0.100", "10.0.0.2").0, [1], "held here, whoever lists it");
    let mut known = Known::new(node(), "addresses: [10.0.0.3]");
    known.identity.moved.insert("10.0.0.3".parse().unwrap(), PeerId(1));
    assert_eq!(known.ends("10.0.0.3", "10.0.0.2").0, [1], "taken over");
    assert_eq!(known.ends("10.0.0.1", "10.0.0.3").1, [1, 3]);
    assert_eq!(Known::new(bridge(), "addresses: [10.0.0.3]").ends("fe80::9", "10.0.0.2").0, [0]);
}

#[test]
fn a_link_local_far_end_is_who_has_it_or_its_mac_address() {
    let known = Known::new(bridge(), "addresses: [10.0.0.3]");
    assert_eq!(known.ends("fe80::9", "fe80::2").1, [2], "seen in its namespace");
    let mut known = Known::new(node(), "addresses: [10.0.0.3], mac: \"02:09:09:09:09:09\"");
    assert_eq!(known.ends("fe80::1", "fe80::7").1, [0, 3], "it is not resolved: in doubt");
    known.stations.neighbours.push((2, "fe80::7".parse().unwrap(), MAC));
    assert_eq!(known.ends("fe80::1", "fe80::7").1, [3]);
    known.stations.neighbours[0].2 = [2; 6];
    assert_eq!(known.ends("fe80::1", "fe80::7").1, [0], "someone else's");
}

/// A guest whose namespace is not seen may claim any address.
#[test]
fn an_unlisted_far_end_may_be_the_guest_behind_its_bridge_port() {
    let mut known = Known::new(bridge(), "addresses: [10.0.0.3]");
    known.ports.insert(13, Port { peer: PeerId(3), end: End::Host, is_shared: false });
    assert_eq!(known.ends("10.0.0.14", "10.0.0.77").1, [0, 3], "nothing says where it is");
    assert_eq!(known.ends("10.0.0.14", "192.0.2.7").1, [0, 3], "no route says that it is far away");
    known.namespaces[0].facts.defaults.push(via("0.0.0.0/0", 8, "198.51.100.1"));
    assert_eq!(known.ends("10.0.0.14", "192.0.2.7").1, [0], "it came by a router");
    known.stations.neighbours.push((9, "10.0.0.77".parse().unwrap(), MAC));
    known.stations.ports.push((MAC, 12));
    assert_eq!(known.ends("10.0.0.14", "10.0.0.77").1, [0], "it is behind another port");
    known.elsewhere.insert(PeerId(3));
    assert_eq!(
        known.ends("10.0.0.14", "10.0.0.77").1,
        [0, 3],
        "that peer has a port that this host's tables do not show"
    );
    known.elsewhere.clear();
    known.stations.ports[0].1 = 13;
    assert_eq!(known.ends("10.0.0.14", "10.0.0.77").1, [0, 3]);
    known.ports.insert(13, Port { peer: PeerId(3), end: End::Host, is_shared: true });
    assert_eq!(known.ends("10.0.0.14", "10.0.0.77").1, [0, 3]);
}
