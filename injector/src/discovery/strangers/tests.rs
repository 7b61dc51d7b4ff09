use super::super::homes::homes;
use super::super::test_topologies::{config, device, facts, space, switched, via};
use super::*;
use crate::netlink::{Kind, LinkFacts};
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
    let one = Reading { since: MonoNs(1), by: MonoNs(1) };
    sightings.record_device(mac, PeerId(3), (None, "eth0"), one);
    assert_eq!(
        sightings.peer_matches(&config, &identity, &from(mac, "192.0.2.7")),
        may_be(&[2, 3]),
        "it has moved"
    );
    identity.peers.entry(PeerId(2)).or_default().forwards = true;
    assert_eq!(sightings.peer_matches(&config, &identity, &from(mac, "192.0.2.7")), may_be(&[3]));
}

/// An instant, in seconds: far enough from others for a frame to be on its way.
fn at(seconds: u64) -> MonoNs {
    MonoNs(seconds * 1_000_000_000)
}

/// Three peers on a switch, of whom the second one's home is looked at.
struct Watched {
    config: Config,
    spaces: Vec<Namespace>,
    homes: BTreeMap<PeerId, Home>,
    sightings: Sightings,
}

impl Watched {
    fn new() -> Self {
        let (config, spaces) = (config(""), switched());
        let homes = homes(&config, &spaces, &BTreeMap::new());
        Self { config, spaces, homes, sightings: Sightings::default() }
    }

    /// The MAC address of the second peer's device.
    fn mac(&self) -> Mac {
        self.spaces[2].facts.links[0].mac.unwrap()
    }

    /// Takes in a survey that began at an instant, and that namespaces did not answer; these name the second peer.
    fn survey(&mut self, seconds: u64, unanswered: &[&Namespace], macs: &[Mac]) {
        let unanswered = unanswered.iter().map(|space| space.netns.clone()).collect();
        let read = ReadTime { since: at(seconds), unanswered };
        let identity =
            Identity { macs: macs.iter().map(|mac| (*mac, PeerId(2))).collect(), ..Identity::default() };
        let by = MonoNs(at(seconds).0 + 100_000_000);
        self.sightings.update(&self.config, (&read, by, &self.spaces), &self.homes, &identity);
    }

    /// Whose the frames of a stranger may be that came within a time.
    fn matched(&self, mac: Mac, first: u64, last: u64) -> Vec<PeerMatch> {
        let stranger = Stranger { first: at(first), last: at(last), ..from(mac, "192.0.2.7") };
        self.sightings.peer_matches(&self.config, &Identity::default(), &stranger)
    }
}

fn is(name: &str) -> Vec<PeerMatch> {
    vec![PeerMatch::Is(PeerId(2), format!("{name} in netns b"))]
}

/// The MAC address of a device that is gone, or has another one, may be anyone's afterwards.
#[test]
fn a_mac_address_that_a_peer_has_given_up_is_its_own_no_longer() {
    let mut lab = Watched::new();
    let mac = lab.mac();
    lab.survey(100, &[], &[mac]);
    assert_eq!(lab.matched(mac, 1, 900), is("eth0"));
    lab.spaces[2].facts.links[0].mac = Some(MAC);
    lab.survey(200, &[], &[]);
    assert_eq!(lab.matched(mac, 1, 99), is("eth0"));
    assert_eq!(lab.matched(mac, 1, 900), may_be(&[2]), "some of it may have been someone else's");
    assert_eq!(lab.matched(mac, 201, 900), []);
    // The device has the MAC address again.
    lab.spaces[2].facts.links[0].mac = Some(mac);
    lab.survey(900, &[], &[mac]);
    assert_eq!(lab.matched(mac, 201, 950), may_be(&[2]));
    lab.survey(901, &[], &[mac]);
    assert_eq!(lab.matched(mac, 902, 950), is("eth0"));
    // News say that it is gone, before a survey does.
    lab.sightings.record_given_up(mac, PeerId(2), at(1000));
    assert_eq!(lab.matched(mac, 902, 950), may_be(&[2]), "nobody knows since when");
    assert_eq!(lab.matched(mac, 1001, 1100), []);
    // A survey that began before them says otherwise, until the news that came meanwhile is taken in again.
    lab.survey(999, &[], &[mac]);
    lab.sightings.record_given_up(mac, PeerId(2), at(1000));
    assert_eq!(lab.matched(mac, 902, 950), is("eth0"));
    assert_eq!(lab.matched(mac, 1001, 1100), []);
    lab.sightings.forget(at(1100));
    assert_eq!(lab.matched(mac, 902, 950), [], "no record is open that it counts for");
}

/// Whoever had the MAC address before is not the peer that has it now.
#[test]
fn a_mac_address_was_someone_elses_before_it_came() {
    let mac = [2, 0, 0, 0, 0, 77];
    let found = Reading { since: at(200), by: at(200) };
    let netns = Watched::new().spaces[2].netns.clone();
    let record = |lab: &mut Watched| {
        lab.sightings.record_device(mac, PeerId(2), (netns.as_ref(), "eth1"), found);
    };
    let mut lab = Watched::new();
    record(&mut lab);
    assert_eq!(lab.matched(mac, 1, 300), is("eth1"), "nothing shows that it was not there");

    let mut lab = Watched::new();
    lab.survey(100, &[], &[]);
    record(&mut lab);
    assert_eq!(lab.matched(mac, 1, 99), []);
    assert_eq!(lab.matched(mac, 101, 300), is("eth1"), "before it was noticed");

    // Someone else was seen with it, even if that is long ago.
    let mut lab = Watched::new();
    let link = LinkFacts { mac: Some(mac), ..device(0, 99, "dummy0", Kind::Other) };
    lab.spaces[0].facts.links.push(link);
    lab.survey(50, &[], &[]);
    lab.spaces[0].facts.links.pop();
    lab.survey(100, &[], &[]);
    record(&mut lab);
    assert_eq!(lab.matched(mac, 101, 300), may_be(&[2]));
    assert_eq!(lab.matched(mac, 201, 300), is("eth1"));

    // Its home had it already, and named nobody by it, since someone else had it too.
    let mut lab = Watched::new();
    lab.spaces[2].facts.links.push(LinkFacts { mac: Some(mac), ..device(2, 99, "eth1", Kind::Other) });
    lab.survey(100, &[], &[]);
    record(&mut lab);
    assert_eq!(lab.matched(mac, 1, 99), is("eth1"));
    lab.sightings.record_doubled(mac);
    assert_eq!(lab.matched(mac, 1, 99), may_be(&[2]));
}

/// What is not read says nothing new: its facts are those of the last time.
#[test]
fn a_home_that_does_not_answer_leaves_its_mac_addresses_in_doubt() {
    let mut lab = Watched::new();
    let mac = lab.mac();
    lab.survey(100, &[], &[mac]);
    let home = lab.spaces[2].clone();
    lab.survey(200, &[&home], &[mac]);
    assert_eq!(lab.matched(mac, 50, 99), is("eth0"));
    assert_eq!(lab.matched(mac, 50, 150), may_be(&[2]));
    assert_eq!(lab.matched(mac, 300, 900), may_be(&[2]));
    lab.survey(400, &[], &[mac]);
    assert_eq!(lab.matched(mac, 500, 900), is("eth0"));
}

/// Where a peer lives may change while its device is where it was.
#[test]
fn a_home_that_moves_away_from_its_device_leaves_it_in_doubt() {
    let mut lab = Watched::new();
    let mac = lab.mac();
    lab.survey(100, &[], &[mac]);
    lab.homes.get_mut(&PeerId(2)).unwrap().at = 0;
    lab.survey(200, &[], &[]);
    assert_eq!(lab.matched(mac, 300, 900), may_be(&[2]));
    lab.spaces[2].facts.links[0].mac = Some(MAC);
    lab.survey(400, &[], &[]);
    assert_eq!(lab.matched(mac, 500, 900), []);
}
