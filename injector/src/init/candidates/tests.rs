use super::*;
use crate::discovery::test_topologies::device;
use crate::netlink::facts::Facts;
use crate::netns::Workers;

fn link(index: u8, name: &str, kind: Kind) -> LinkFacts {
    device(0, index.into(), name, kind)
}

/// A host with these namespaces, where nothing listens.
fn host(spaces: Vec<Namespace>) -> Host {
    let (listeners, labels) = Default::default();
    Host { spaces, listeners, serving: Vec::new(), labels, workers: Workers::default() }
}

fn space(netns: Option<&str>, facts: Facts) -> Namespace {
    let (away, aliases) = Default::default();
    Namespace { netns: netns.map(|name| Netns::Name(name.to_owned())), facts, away, aliases }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const BRIDGE: u8 = 1;

/// A port of the bridge whose other end is in a namespace that this one knows by an id.
fn port(index: u8, name: &str, away: i32) -> LinkFacts {
    let master = Some(BRIDGE.into());
    LinkFacts { master, is_below_away: true, away: Some(away), ..link(index, name, Kind::Veth) }
}

/// The MAC address of a node.
fn node(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

#[test]
fn guests_behind_taps_and_hosts_behind_bridge_ports_are_found() {
    let tap = |index, name| LinkFacts { master: Some(BRIDGE.into()), ..link(index, name, Kind::Tap) };
    let facts = Facts {
        links: vec![
            link(BRIDGE, "br0", Kind::Bridge),
            tap(2, "tap2"),
            tap(3, "tap3"),
            // This one is no port: what is behind it is a neighbour on the device itself.
            link(4, "tap4", Kind::Tap),
            port(5, "veth5", 50),
            port(6, "veth6", 60),
            port(7, "veth7", 70),
            port(8, "veth8", 80),
            // An IP tunnel into a process is no guest.
            LinkFacts { layer: LinkLayerType::None, ..link(9, "tun9", Kind::Tap) },
        ],
        ports: [(2, 2), (3, 3), (5, 5), (55, 5), (7, 7), (8, 8)]
            .map(|(number, index)| (node(number), index))
            .to_vec(),
        neighbours: vec![
            (BRIDGE.into(), address("10.0.0.2"), node(2)),
            (BRIDGE.into(), address("fe80::2"), node(2)),
            (BRIDGE.into(), address("fd00::2"), node(2)),
            (4, address("10.0.1.4"), node(4)),
            (BRIDGE.into(), address("10.0.0.5"), node(5)),
            (BRIDGE.into(), address("10.0.0.7"), node(7)),
            (BRIDGE.into(), address("10.0.0.8"), node(8)),
        ],
        ..Facts::default()
    };
    let mut own = space(None, facts);
    // The other end of veth8 is in a namespace that was read.
    own.away.insert(80, None);
    let known = Facts {
        links: vec![link(1, "eth0", Kind::Veth)],
        addresses: vec![(1, address("10.0.0.7"))],
        ..Facts::default()
    };
    let found = candidates(&host(vec![own, space(Some("n7"), known)]));
    let of = |name: &str| found.candidates.iter().find(|one| one.name == name).cloned();
    let guest = of("tap2").unwrap();
    assert_eq!(guest.home, Home::Guest("tap2".to_owned()));
    assert_eq!(guest.addresses, [address("10.0.0.2"), address("fd00::2")]);
    assert_eq!((guest.mac, guest.doubt, &*guest.why), (None, None, "behind tap tap2, a port of br0"));
    // No address is known: the MAC names it.
    let silent = of("tap3").unwrap();
    assert_eq!((silent.addresses, silent.mac, silent.doubt), (vec![], Some(node(3)), None));
    let direct = of("tap4").unwrap();
    assert_eq!((direct.addresses, &*direct.why), (vec![address("10.0.1.4")], "behind tap tap4"));
    let several = of("veth5").unwrap();
    assert_eq!(
        (several.home, several.addresses),
        (Home::Port("veth5".to_owned()), vec![address("10.0.0.5")])
    );
    assert_eq!(several.doubt.as_deref(), Some("2 MAC addresses are behind it: several nodes, or a router"));
    // Nothing was received from veth6; veth7 leads to n7, which is found as a namespace; veth8 likewise.
    let names: Vec<&str> = found.candidates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["n7", "tap2", "tap3", "tap4", "veth5"]);
    let [note] = &found.notes[..] else { panic!("{:?}", found.notes) };
    assert!(note.starts_with("behind veth veth6, a port of br0: nothing has been received yet; "), "{note}");
}

#[test]
fn neighbours_on_the_hosts_own_network_are_named_and_are_no_candidates() {
    let neighbours = |count: u8| {
        let far = (0..count).map(|number| (2, IpAddr::from([192, 0, 2, number]), node(number)));
        // The bridge is this host's own, and link-local addresses name nobody.
        let near = [(1, address("10.0.0.1"), node(101)), (2, address("fe80::1"), node(102))];
        let facts = Facts {
            links: vec![link(1, "br0", Kind::Bridge), link(2, "eth0", Kind::Other)],
            neighbours: near.into_iter().chain(far).collect(),
            ..Facts::default()
        };
        let found = candidates(&host(vec![space(None, facts)]));
        assert!(found.candidates.is_empty(), "{:?}", found.candidates);
        found.notes
    };
    assert_eq!(neighbours(0), [""; 0]);
    assert_eq!(
        neighbours(2),
        ["seen on this host's own network: 192.0.2.0 (a neighbour on eth0), 192.0.2.1 (a neighbour on eth0)"]
    );
    let many = neighbours(20).remove(0);
    assert!(
        many.contains("192.0.2.15 ") && !many.contains("192.0.2.16 ") && many.ends_with(", 4 more"),
        "{many}"
    );
}

#[test]
fn a_common_beginning_ends_with_a_separator() {
    assert_eq!(common(&["lab-n1", "lab-n2"]), "lab-");
    assert_eq!(common(&["n1", "n2"]), "");
    assert_eq!(common(&["inj1-t0-n1", "inj1-t0-n12"]), "inj1-t0-");
    assert_eq!(common(&["a-b"]), "a-");
}

/// A namespace that may pass packets on, with so many devices that have an address.
fn passing_on(devices: u8) -> Host {
    let facts = Facts {
        links: (1..=devices).map(|index| link(index, &format!("eth{index}"), Kind::Other)).collect(),
        addresses: (1..=devices).map(|index| (index.into(), [10, index, 0, 1].into())).collect(),
        forwards: true,
        ..Facts::default()
    };
    host(vec![space(Some("n1"), facts)])
}

#[test]
fn what_may_pass_packets_on_is_doubted_only_with_two_devices() {
    let doubt = |devices: u8| candidates(&passing_on(devices)).candidates[0].doubt.clone();
    assert_eq!(doubt(1), None);
    assert!(doubt(2).unwrap().contains("it passes on what others send"));
}

fn one(name: &str) -> Candidate {
    Candidate {
        name: name.to_owned(),
        addresses: Vec::new(),
        mac: None,
        home: Home::Space(Netns::Name(name.to_owned())),
        why: String::new(),
        ports: None,
        doubt: None,
    }
}

/// Candidates that are doubted: `serving` and `idle` are namespaces that do and do not listen, `far` is
/// one of a process.
#[test]
fn clients_other_kinds_and_twins_are_doubted() {
    let serving = |name: &str, address: &str| Candidate {
        ports: Some([80].into()),
        addresses: vec![address.parse().unwrap()],
        ..one(name)
    };
    let idle = Candidate { ports: Some(BTreeSet::new()), ..serving("client", "10.0.0.9") };
    let far = Candidate { home: Home::Space(Netns::Pid(7)), ..serving("far", "10.0.0.1") };
    let mut all = vec![serving("a", "10.0.0.1"), serving("b", "10.0.0.2"), idle, far];
    doubt_other_kinds(&mut all);
    doubt_clients(&mut all);
    doubt_twins(&mut all);
    let doubted = |all: &[Candidate]| -> Vec<String> {
        all.iter().filter(|one| one.doubt.is_some()).map(|one| one.name.clone()).collect()
    };
    assert_eq!(doubted(&all), ["client", "far"], "the twin is no likely one");
    let mut twins = vec![serving("a", "10.0.0.1"), serving("b", "10.0.0.1"), serving("c", "10.0.0.3")];
    doubt_twins(&mut twins);
    assert_eq!(doubted(&twins), ["a", "b"]);
}

#[test]
fn names_are_short_allowed_and_unique() {
    let mut candidates = vec![one("lab-b"), one("lab-ä"), one("lab-_"), one("lab-world")];
    name(&mut candidates);
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 4, "{names:?}");
    assert!(names.contains(&"b") && names.contains(&"node-world") && names.contains(&"_-2"), "{names:?}");
}

#[test]
fn loopback_and_link_local_addresses_name_nobody() {
    for (address, is) in [
        ("10.0.0.1", true),
        ("fd00::1", true),
        ("127.0.0.2", false),
        ("169.254.1.1", false),
        ("fe80::1", false),
        ("::1", false),
    ] {
        assert_eq!(is_node(address.parse().unwrap()), is, "{address}");
    }
}
