use super::*;

#[test]
fn peers_are_checked() {
    let named = |name: &str| format!("interfaces: auto\npeers:\n  ¶{name}: {{ addresses: [10.0.0.1] }}\n");
    one(&named("world"), "peers.world", "reserved name", "another name");
    for name in ["-n1", "\"n 1\"", "\"n1,n2\"", "\"a:b\"", "a@b", "é", "\"\""] {
        let path = format!("peers.{}", name.trim_matches('"'));
        one(&named(name), &path, "can't be the name of a peer", "use letters, digits");
    }
    one("interfaces: auto\npeers: ¶{}\n", "peers", "there is no peer", "write it as");
    one(
        "interfaces: auto\npeers: ¶[n1]\n",
        "peers",
        "found a list where a mapping is expected",
        "write it as",
    );
    one("interfaces: auto\npeers:\n  ¶n1: {}\n", "peers.n1", "neither an address nor a mac", "addresses: [");
    one("interfaces: auto\npeers:\n  ¶n1:\n", "peers.n1", "neither an address nor a mac", "addresses: [");
    one(
        "interfaces: auto\npeers:\n  ¶n1: { addresses: [] }\n",
        "peers.n1",
        "neither an address",
        "addresses: [",
    );
    one_peer("{ addresses: ¶10.0.0.1 }", "peers.n1.addresses", "a list is expected", "write a list");
    one_peer(
        "{ addresses: [¶10.0.0] }",
        "peers.n1.addresses[0]",
        "\"10.0.0\" is not an IP address",
        "10.2.0.0/16",
    );
    one_peer("{ addresses: [¶10] }", "peers.n1.addresses[0]", "found the number 10 where a text", "10.0.0.1");
    one_peer("{ addresses: [¶10.0.0.0/33] }", "peers.n1.addresses[0]", "is not an IP address", "10.2.0.0/16");
}

#[test]
fn addresses_are_unique_and_usable() {
    one(
        "interfaces: auto\npeers:\n  n1: { addresses: [10.0.0.1] }\n  n2: { addresses: [10.0.0.2, ¶10.0.0.1/32] }\n",
        "peers.n2.addresses[1]",
        "address 10.0.0.1 is given twice, first at peers.n1.addresses[0], line 3",
        "keep one of the two",
    );
    one_peer(
        "{ addresses: [\"fd00::1\", ¶\"fd00:0::1\"] }",
        "peers.n1.addresses[1]",
        "fd00::1 is given twice",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.2.0.0/16, ¶10.2.0.0/16] }",
        "peers.n1.addresses[1]",
        "prefix 10.2.0.0/16 is given twice",
        "keep one",
    );
    parse("interfaces: auto\npeers:\n  n1: { addresses: [10.2.0.0/16, 10.2.0.0/24, 10.2.0.1] }\n");
    for (address, what, remedy) in [
        ("10.2.0.1/16", "10.2.0.1/16 has host bits set", "write 10.2.0.0/16, or the address 10.2.0.1"),
        ("\"fd00::1/64\"", "fd00::1/64 has host bits set", "write fd00::/64"),
        ("0.0.0.0", "the unspecified address", "sends from"),
        ("\"::\"", "the unspecified address", "sends from"),
        ("0.0.0.0/0", "0.0.0.0/0 is everyone", "is world already"),
        ("224.0.0.1", "224.0.0.1 is multicast", "sends from"),
        ("\"ff02::1\"", "ff02::1 is multicast", "sends from"),
        ("239.0.0.0/8", "239.0.0.0/8 is multicast", "sends from"),
        ("255.255.255.255", "the broadcast address", "sends from"),
        ("\"::ffff:10.0.0.1\"", "IPv4-mapped", "write 10.0.0.1"),
    ] {
        one_peer(&format!("{{ addresses: [10.9.9.9, ¶{address}] }}"), "peers.n1.addresses[1]", what, remedy);
    }
}

#[test]
fn macs_are_unique_and_usable() {
    for (mac, what) in [
        ("\"52:54:00:00:00\"", "is not a MAC address"),
        ("\"52:54:00:00:00:02:03\"", "is not a MAC address"),
        ("\"52:54:00:00:00:2\"", "is not a MAC address"),
        ("\"+2:54:00:00:00:02\"", "is not a MAC address"),
        ("12", "found the number 12 where a text"),
        ("\"01:00:5e:00:00:01\"", "multicast or broadcast"),
        ("\"ff:ff:ff:ff:ff:ff\"", "multicast or broadcast"),
        ("\"00:00:00:00:00:00\"", "no interface's address"),
    ] {
        let remedy =
            if what.contains("found") || what.contains("not a") { "six bytes" } else { "own interface" };
        one_peer(&format!("{{ mac: ¶{mac} }}"), "peers.n1.mac", what, remedy);
    }
    one(
        "interfaces: auto\npeers:\n  n1: { mac: \"52:54:00:00:00:0a\" }\n  n2: { mac: ¶\"52:54:00:00:00:0A\" }\n",
        "peers.n2.mac",
        "given twice, first at peers.n1.mac, line 3",
        "keep one",
    );
}

#[test]
fn a_host_takes_1024_peers() {
    let config = |count: usize| {
        let peers =
            (0..count).map(|at| format!("  p{at}: {{ addresses: [10.1.{}.{}] }}\n", at / 250, at % 250 + 1));
        format!("interfaces: auto\npeers:\n¶{}", peers.collect::<String>().split_off(2).replace("¶", ""))
            .replace("peers:\n¶p0", "peers:\n  ¶p0")
    };
    let full = parse(&config(MAX).replace('¶', ""));
    assert_eq!(full.peers.len(), MAX);
    one(
        &config(MAX + 1),
        "peers",
        "1025 peers are configured, and one host takes 1024",
        "join them by a prefix",
    );
}

const MAX: usize = crate::model::MAX_PEERS;

#[test]
fn the_interface_of_a_virtual_machine() {
    let device = |name: &str, netns: Option<&str>| Device {
        name: name.to_owned(),
        netns: netns.map(|netns| Netns::Name(netns.to_owned())),
    };
    let peers = "peers:\n  n1: { vm: { interface: tap1 } }\n  n2: { addresses: [10.0.0.2], vm: { interface: { name: tap1, netns: x } } }\n";
    let config = parse(&format!("{peers}interfaces: auto\n"));
    let taps: Vec<Option<Device>> = config.peers.iter().map(|peer| peer.tap.clone()).collect();
    assert_eq!(taps, [Some(device("tap1", None)), Some(device("tap1", Some("x")))]);
    // A list of interfaces has them too.
    let config = parse(&format!("{peers}interfaces: [{{ name: eth0 }}, {{ name: tap1, hook: xdp }}]\n"));
    let Interfaces::Named(named) = config.interfaces else { panic!() };
    let named: Vec<_> = named.iter().map(|named| (&*named.name, named.hook, named.peer)).collect();
    let (n1, n2) = (Some(PeerId(1)), Some(PeerId(2)));
    assert_eq!(named, [("eth0", Hook::Auto, None), ("tap1", Hook::Xdp, n1), ("tap1", Hook::Auto, n2)]);
    let both = "peers: { n1: { vm: { interface: ¶tap1 } }, n2: { addresses: [10.0.0.2] } }\ninterfaces: [{ name: tap1, peer: n2 }]\n";
    one(both, "peers.n1.vm.interface", "tap1 is n2's in interfaces", "keep one of the two");
    one(
        "interfaces: auto\npeers: { n1: { vm: { interface: tap1 } }, n2: { vm: { interface: ¶tap1 } } }\n",
        "peers.n2.vm.interface",
        "another peer's too, at peers.n1.vm.interface",
        "keep one of the two",
    );
    one_peer("{ vm: ¶tap1 }", "peers.n1.vm", "where a mapping is expected", "vm: { interface: tap1 }");
    one_peer("{ vm: ¶{} }", "peers.n1.vm.interface", "\"interface\" is missing", "vm: { interface: tap1 }");
    one_peer(
        "{ vm: { interface: ¶lo } }",
        "peers.n1.vm.interface",
        "what a host sends to itself",
        "name the interface",
    );
}
