//! `interfaces: auto` where devices are stacked: one of each stack is picked, and what passes it is cut once. Needs
//! root, and each test the kernel's devices of its kind.

injector_lab::group!(kernels);

#[path = "support/ground.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod ground;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use ground::Ground;
use injector_lab::needs;
use injector_lab::skip;

/// Peers with both addresses of a host number.
fn peers(ground: &Ground, peers: &[(&str, u8)]) -> String {
    let peer = |(name, host): &(&str, u8)| {
        format!("{name}: {{ addresses: [{}, \"{}\"] }}", ground.ipv4(*host), ground.ipv6(*host))
    };
    peers.iter().map(peer).collect::<Vec<_>>().join(", ")
}

/// A host with the hidden n3 at the far end of its `u0`, on the test's subnet; the host itself is no peer.
fn uplinked() -> Ground {
    let mut ground = Ground::new();
    ground.plug("n3", "u0");
    ground.give("n3", "eth0", 3);
    ground
}

#[test]
#[needs(root)]
fn macvlans_and_their_parent() {
    let mut ground = uplinked();
    ground.hide("n3");
    ground.give("h", "u0", 14);
    for (node, host) in [("n1", 1), ("n2", 2)] {
        ground.add(node);
        if !ground.can("h", "link add m0 link u0 type macvlan mode bridge") {
            return skip("macvlans_and_their_parent", "this kernel makes no macvlan devices");
        }
        ground.ip("h", &format!("link set m0 netns {}", ground.netns(node)));
        ground.ip(node, "link set m0 up");
        ground.give(node, "m0", host);
    }
    ground.assert_flows(("h", 14), ("n3", 3));
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    // The parent for the neighbour behind it; the nodes on it by their own, not again by the parent.
    ground.assert_chosen(&daemon, &["n1/m0", "n2/m0", "u0"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_macvlan_beside_its_parent() {
    let ground = uplinked();
    if !ground.can("h", "link add m0 link u0 type macvlan mode private") {
        return skip("a_macvlan_beside_its_parent", "this kernel makes no macvlan devices");
    }
    ground.ip("h", "link set m0 up");
    ground.give("h", "m0", 1);
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["m0", "n3/eth0"]);
    let (near, far) = (("h", ground.ipv4(1)), ("n3", ground.ipv4(3)));
    assert_eq!(ground.delivered(near, far, 9, 9), 9);
    daemon.apply("p", &ground::links("n1", "n3"));
    assert_eq!(ground.delivered(near, far, 9, 0), 0);
    assert_eq!(ground.delivered(far, near, 9, 0), 0);
    let view = daemon.partition("p");
    assert_eq!((ground::dropped(&view, "n1", "n3"), ground::dropped(&view, "n3", "n1")), (9, 9));
    daemon.heal("p");
    assert_eq!(ground.delivered(near, far, 9, 9), 9);
}

#[test]
#[needs(root, every_kernel)]
fn a_vlan_and_its_parent() {
    let mut ground = uplinked();
    if !ground.can("h", "link add u0.5 link u0 type vlan id 5") {
        return skip("a_vlan_and_its_parent", "this kernel makes no 802.1Q devices");
    }
    ground.ip("h", "link set u0.5 up");
    ground.ip("n3", "link add eth0.5 link eth0 type vlan id 5");
    ground.ip("n3", "link set eth0.5 up");
    // n1 in the VLAN, n3 untagged, both at the far end; n2 on a veth of its own.
    for (host, dev) in [(14, "u0"), (13, "u0.5")] {
        ground.ip("h", &format!("address add {}/32 dev {dev}", ground.ipv4(host)));
        ground.ip("h", &format!("address add {}/128 dev {dev} nodad", ground.ipv6(host)));
    }
    for (host, dev) in [(3, "u0"), (1, "u0.5")] {
        ground.ip("h", &format!("route add {}/32 dev {dev}", ground.ipv4(host)));
        ground.ip("h", &format!("route add {}/128 dev {dev}", ground.ipv6(host)));
    }
    ground.ip("n3", &format!("address add {}/32 dev eth0.5", ground.ipv4(1)));
    ground.ip("n3", &format!("address add {}/128 dev eth0.5 nodad", ground.ipv6(1)));
    ground.routed("n2", "v2", 2);
    for (host, dev, from) in [(13, "eth0.5", 1), (14, "eth0", 3), (2, "eth0.5", 1)] {
        for (to, src) in [(ground.ipv4(host), ground.ipv4(from)), (ground.ipv6(host), ground.ipv6(from))] {
            let at = if to.is_ipv4() { ground.ipv4(13) } else { ground.ipv6(13) };
            let via = if host == 2 { format!("via {at} onlink") } else { String::new() };
            ground.ip("n3", &format!("route replace {to} {via} dev {dev} src {src}"));
        }
    }
    ground.hide("n3");
    let vlan_alone = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2)]));
    ground.assert_chosen(&vlan_alone, &["u0.5", "v2"]);
    drop(vlan_alone);
    // With a peer on the parent, that one sees the VLAN's frames as well: tags in or beside the packet.
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["u0", "v2"]);
    let (near, far) = (("n3", ground.ipv4(1)), ("n2", ground.ipv4(2)));
    let untouched = (("n3", ground.ipv4(3)), ("h", ground.ipv4(14)));
    assert_eq!(ground.delivered(near, far, 9, 9), 9);
    daemon.apply("p", &ground::links("n1", "n2"));
    assert_eq!(ground.delivered(near, far, 9, 0), 0);
    assert_eq!(ground.delivered(far, near, 9, 0), 0);
    assert_eq!(ground.delivered(untouched.0, untouched.1, 9, 9), 9);
    let view = daemon.partition("p");
    assert_eq!((ground::dropped(&view, "n1", "n2"), ground::dropped(&view, "n2", "n1")), (9, 9));
    daemon.heal("p");
    assert_eq!(ground.delivered(near, far, 9, 9), 9);
}

#[test]
#[needs(root, every_kernel)]
fn a_bond_whichever_slave_carries_it() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    ground.plug("n1", "p1");
    ground.cable("n1", "q1", "eth1");
    for port in ["p1", "q1"] {
        ground.ip("h", &format!("link set {port} master br0"));
    }
    if !ground.can("n1", "link add bond0 type bond mode active-backup miimon 100") {
        return skip("a_bond_whichever_slave_carries_it", "this kernel makes no bonding devices");
    }
    for slave in ["eth0", "eth1"] {
        ground.ip("n1", &format!("link set {slave} down"));
        ground.ip("n1", &format!("link set {slave} master bond0"));
    }
    ground.ip("n1", "link set bond0 up");
    ground.give("n1", "bond0", 1);
    ground.bridged("n2", "p2", "br0", 2);
    ground.bridged("n3", "p3", "br0", 3);
    for (node, host) in [("n2", 2), ("n3", 3)] {
        ground.assert_flows(("h", 14), (node, host));
    }
    // By its MAC address as well, which the slaves share.
    let mac = ground.mac("n1", "bond0");
    let n1 = format!("n1: {{ addresses: [{}, \"{}\"], mac: \"{mac}\" }}", ground.ipv4(1), ground.ipv6(1));
    let daemon = ground.daemon(&format!("{n1}, {}", peers(&ground, &[("n2", 2), ("n3", 3)])));
    ground.assert_chosen(&daemon, &["n1/bond0", "p2", "p3"]);
    for slave in ["eth0", "eth1"] {
        ground.ip("n1", &format!("link set bond0 type bond active_slave {slave}"));
        ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    }
}
