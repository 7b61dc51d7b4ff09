use super::super::homes::homes;
use super::super::test_topologies::{config, device, facts, space, switched, via};
use super::*;
use crate::netlink::{Kind, LinkFacts};
use injector_common::key::PASSAGE;
use injector_core::clock::MonoNs;
use injector_core::identity::StrangerId;

const MAC: Mac = [2, 9, 9, 9, 9, 9];

/// A reading since an instant, in which all answered.
fn read(since: u64) -> ReadTime {
    ReadTime { since: MonoNs(since), unanswered: BTreeSet::new() }
}

/// A frame that the first peer received from a MAC address and an address.
fn from(mac: Mac, address: &str) -> Stranger {
    let id = StrangerId { peer: PeerId(1), mac, contact: Contact::From };
    let address = Some(address.parse().unwrap());
    Stranger { id, packets: 3, first: MonoNs(1), last: MonoNs(2), address }
}

/// The guesses where the second and the third peer are not seen, and the first one's namespace is as it is given.
fn matched(change: impl FnOnce(&mut Namespace), mac: Mac, address: &str) -> Vec<PeerMatch> {
    let config = config("");
    let mut node = facts(vec![device(1, 2, "eth0", Kind::Other)], &[(2, "10.0.0.1")]);
    node.networks.push((2, "10.0.0.1/24".parse().unwrap()));
    let mut spaces = vec![space("", facts(Vec::new(), &[])), space("a", node)];
    change(&mut spaces[1]);
    let homes = homes(&config, &spaces, &BTreeMap::new());
    let mut sightings = Sightings::default();
    let identity = Identity::default();
    sightings.update(&config, (&read(1), MonoNs(1), &spaces), &homes, &identity);
    sightings.peer_matches(&config, &identity, &from(mac, address))
}

fn may_be(peers: &[u16]) -> Vec<PeerMatch> {
    peers.iter().map(|peer| PeerMatch::MayBe(PeerId(*peer))).collect()
}

#[test]
fn a_neighbour_entry_says_whose_the_mac_may_be() {
    let neighbour = |address: &'static str, mac: Mac| {
        move |space: &mut Namespace| space.facts.neighbours.push((2, address.parse().unwrap(), mac))
    };
    assert_eq!(matched(neighbour("10.0.0.3", MAC), MAC, "10.0.0.77"), may_be(&[3]));
    assert_eq!(matched(neighbour("10.0.0.3", MAC), MAC, "2001:db8::1"), may_be(&[3]), "whatever the address");
    // The third one is found elsewhere; of the second one nothing is known.
    assert_eq!(matched(neighbour("10.0.0.3", [2; 6]), MAC, "10.0.0.77"), may_be(&[2]));
}

#[test]
fn of_peers_that_nothing_is_known_of_those_on_the_link_may_be_it() {
    assert_eq!(matched(|_| (), MAC, "10.0.0.77"), may_be(&[2, 3]));
    assert_eq!(matched(|_| (), MAC, "fe80::77"), may_be(&[2, 3]));
    assert_eq!(matched(|_| (), MAC, "192.0.2.7"), [], "it came by a router");
    let elsewhere = |space: &mut Namespace| space.facts.networks[0].1 = "10.0.0.1/31".parse().unwrap();
    assert_eq!(matched(elsewhere, MAC, "10.0.0.0"), [], "they are on other links");
}

#[test]
fn a_next_hop_is_nobody() {
    let behind_a_gateway = |space: &mut Namespace| {
        space.facts.defaults.push(via("0.0.0.0/0", 2, "10.0.0.254"));
        space.facts.neighbours.push((2, "10.0.0.254".parse().unwrap(), MAC));
        space.facts.neighbours.push((2, "10.0.0.2".parse().unwrap(), MAC));
    };
    assert_eq!(matched(behind_a_gateway, MAC, "198.51.100.1"), []);
    assert_eq!(matched(behind_a_gateway, MAC, "10.0.0.77"), [], "proxy ARP");
}

#[test]
fn a_device_of_a_home_is_that_peer() {
    let config = config("");
    let spaces = switched();
    let homes = homes(&config, &spaces, &BTreeMap::new());
    let mac = spaces[2].facts.links[0].mac.unwrap();
    let mut identity = Identity { macs: BTreeMap::from([(mac, PeerId(2))]), ..Identity::default() };
    let mut sightings = Sightings::default();
    sightings.update(&config, (&read(1), MonoNs(1), &spaces), &homes, &identity);
    // The device is gone by now.
    identity.macs.clear();
    let peer_matches = sightings.peer_matches(&config, &identity, &from(mac, "192.0.2.7"));
    assert_eq!(peer_matches, [PeerMatch::Is(PeerId(2), "eth0 in netns b".to_owned())]);
    let links = [Link { src: PeerId(2), dst: PeerId(1) }, Link { src: PeerId(2), dst: PeerId(3) }];
    let suspects = sightings.suspects(&config, &identity, &links, &[from(mac, "192.0.2.7")]);
    assert_eq!(suspects.iter().map(|suspect| suspect.link).collect::<Vec<_>>(), [links[0]]);
    // Someone else had the MAC address for a while.
    let doubled = Identity { doubled: [mac].into(), ..Identity::default() };
    let mut twice = Sightings::default();
    twice.update(
        &config,
        (&read(1), MonoNs(1), &spaces),
        &homes,
        &Identity { macs: [(mac, PeerId(2))].into(), ..Identity::default() },
    );
    twice.update(&config, (&read(2), MonoNs(2), &spaces), &homes, &doubled);
    assert_eq!(twice.peer_matches(&config, &identity, &from(mac, "192.0.2.7")), may_be(&[2]));
    sightings.record_device(mac, PeerId(3), "eth0 in c".to_owned(), (MonoNs(1), MonoNs(1)));
    assert_eq!(
        sightings.peer_matches(&config, &identity, &from(mac, "192.0.2.7")),
        may_be(&[2, 3]),
        "it has moved"
    );
    identity.peers.entry(PeerId(2)).or_default().forwards = true;
    assert_eq!(sightings.peer_matches(&config, &identity, &from(mac, "192.0.2.7")), may_be(&[3]));
}

/// The MAC address of a device that is gone, or has another one, may be anyone's afterwards.
#[test]
fn a_mac_address_that_a_peer_has_given_up_is_its_own_no_longer() {
    const FAR: u64 = 10 * PASSAGE;
    let config = config("");
    let mut spaces = switched();
    let homes = homes(&config, &spaces, &BTreeMap::new());
    let mac = spaces[2].facts.links[0].mac.unwrap();
    let identity = Identity { macs: BTreeMap::from([(mac, PeerId(2))]), ..Identity::default() };
    let mut sightings = Sightings::default();
    let update = |sightings: &mut Sightings, since, spaces: &[Namespace], identity: &Identity| {
        sightings.update(&config, (&read(since), MonoNs(since + 10), spaces), &homes, identity);
    };
    let matched = |sightings: &Sightings, first, last| {
        let stranger = Stranger { first: MonoNs(first), last: MonoNs(last), ..from(mac, "192.0.2.7") };
        sightings.peer_matches(&config, &Identity::default(), &stranger)
    };
    let is = [PeerMatch::Is(PeerId(2), "eth0 in netns b".to_owned())];
    update(&mut sightings, 100, &spaces, &identity);
    assert_eq!(matched(&sightings, 1, FAR), is);
    spaces[2].facts.links[0].mac = Some(MAC);
    update(&mut sightings, 200, &spaces, &Identity::default());
    assert_eq!(matched(&sightings, 1, 100), is);
    assert_eq!(matched(&sightings, 1, FAR), may_be(&[2]), "some of it may have been someone else's");
    assert_eq!(matched(&sightings, 211 + PASSAGE, FAR), []);
    // The device has the MAC address again.
    spaces[2].facts.links[0].mac = Some(mac);
    update(&mut sightings, FAR, &spaces, &identity);
    assert_eq!(matched(&sightings, 211 + PASSAGE, 2 * FAR), is, "before it was noticed");
    assert_eq!(matched(&sightings, 1, 2 * FAR), may_be(&[2]));
    update(&mut sightings, FAR + 1, &spaces, &identity);
    // News say that it is gone, before a survey does.
    sightings.record_given_up(mac, PeerId(2), MonoNs(3 * FAR));
    assert_eq!(matched(&sightings, FAR + 1, 2 * FAR), may_be(&[2]), "nobody knows since when");
    assert_eq!(matched(&sightings, 3 * FAR + PASSAGE + 1, 4 * FAR), []);
    // A survey that began before them says otherwise, until the news that came meanwhile is taken in again.
    update(&mut sightings, 2 * FAR, &spaces, &identity);
    sightings.record_given_up(mac, PeerId(2), MonoNs(3 * FAR));
    assert_eq!(matched(&sightings, FAR + 1, 2 * FAR), is);
    assert_eq!(matched(&sightings, 3 * FAR + PASSAGE + 1, 4 * FAR), []);
}

/// Whoever had the MAC address before is not the peer that has it now.
#[test]
fn a_mac_address_was_someone_elses_before_it_came() {
    let config = config("");
    let mut spaces = switched();
    let homes = homes(&config, &spaces, &BTreeMap::new());
    let mac = [2, 0, 0, 0, 0, 77];
    let mut sightings = Sightings::default();
    let stranger =
        |first, last| Stranger { first: MonoNs(first), last: MonoNs(last), ..from(mac, "192.0.2.7") };
    let matched = |sightings: &Sightings, first, last| {
        sightings.peer_matches(&config, &Identity::default(), &stranger(first, last))
    };
    let is = [PeerMatch::Is(PeerId(2), "eth1 in netns b".to_owned())];
    let had = |is_seen: bool, spaces: &mut Vec<Namespace>| {
        let mut sightings = Sightings::default();
        if is_seen {
            spaces[0].facts.links.push(LinkFacts { mac: Some(mac), ..device(0, 99, "dummy0", Kind::Other) });
        }
        sightings.update(&config, (&read(100), MonoNs(110), spaces), &homes, &Identity::default());
        sightings.record_device(mac, PeerId(2), "eth1 in netns b".to_owned(), (MonoNs(200), MonoNs(210)));
        sightings
    };
    sightings.record_device(mac, PeerId(2), "eth1 in netns b".to_owned(), (MonoNs(200), MonoNs(210)));
    assert_eq!(matched(&sightings, 1, 300), is, "nothing shows that it was not there");
    let sightings = had(false, &mut spaces);
    assert_eq!(matched(&sightings, 1, 100), []);
    assert_eq!(matched(&sightings, 101, 300), is, "before it was noticed");
    let sightings = had(true, &mut spaces);
    assert_eq!(matched(&sightings, 101, 300), may_be(&[2]));
    assert_eq!(matched(&sightings, 210, 300), is);
}

/// What is not read says nothing new.
#[test]
fn a_home_that_does_not_answer_leaves_its_mac_addresses_in_doubt() {
    let config = config("");
    let spaces = switched();
    let homes = homes(&config, &spaces, &BTreeMap::new());
    let mac = spaces[2].facts.links[0].mac.unwrap();
    let identity = Identity { macs: BTreeMap::from([(mac, PeerId(2))]), ..Identity::default() };
    let mut sightings = Sightings::default();
    sightings.update(&config, (&read(100), MonoNs(110), &spaces), &homes, &identity);
    let silent = ReadTime { since: MonoNs(200), unanswered: [spaces[2].netns.clone()].into() };
    sightings.update(&config, (&silent, MonoNs(210), &spaces), &homes, &Identity::default());
    let matched = |last| {
        let stranger = Stranger { first: MonoNs(50), last: MonoNs(last), ..from(mac, "192.0.2.7") };
        sightings.peer_matches(&config, &Identity::default(), &stranger)
    };
    assert_eq!(matched(100), [PeerMatch::Is(PeerId(2), "eth0 in netns b".to_owned())]);
    assert_eq!(matched(150), may_be(&[2]));
    assert_eq!(matched(u64::MAX), may_be(&[2]));
}
