//! `interfaces: auto` where devices are stacked: one of each stack is picked, and what passes it is cut once. Needs
//! root, and each test the kernel's devices of its kind.

injector_lab::group!(kernels);

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use host_lab::HostLab;
use injector_lab::needs;
use injector_lab::skip;

/// Peers with both addresses of a host number.
fn peers(lab: &HostLab, peers: &[(&str, u8)]) -> String {
    let peer = |(name, host): &(&str, u8)| {
        format!("{name}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(*host), lab.ipv6(*host))
    };
    peers.iter().map(peer).collect::<Vec<_>>().join(", ")
}

/// A host with the hidden n3 at the far end of its `u0`, on the test's subnet; the host itself is no peer.
fn uplinked() -> HostLab {
    let mut lab = HostLab::new();
    lab.plug("n3", "u0");
    lab.give("n3", "eth0", 3);
    lab
}

#[test]
#[needs(root)]
fn macvlans_and_their_parent() {
    let mut lab = uplinked();
    lab.hide("n3");
    lab.give("h", "u0", 14);
    for (node, host) in [("n1", 1), ("n2", 2)] {
        lab.add(node);
        if !lab.can("h", "link add m0 link u0 type macvlan mode bridge") {
            return skip("macvlans_and_their_parent", "this kernel makes no macvlan devices");
        }
        lab.ip("h", &format!("link set m0 netns {}", lab.netns(node)));
        lab.ip(node, "link set m0 up");
        lab.give(node, "m0", host);
    }
    lab.assert_flows(("h", 14), ("n3", 3));
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    // The parent for the neighbour behind it; the nodes on it by their own, not again by the parent.
    lab.assert_chosen(&daemon, &["n1/m0", "n2/m0", "u0"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_macvlan_beside_its_parent() {
    let lab = uplinked();
    if !lab.can("h", "link add m0 link u0 type macvlan mode private") {
        return skip("a_macvlan_beside_its_parent", "this kernel makes no macvlan devices");
    }
    lab.ip("h", "link set m0 up");
    lab.give("h", "m0", 1);
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["m0", "n3/eth0"]);
    let (near, far) = (("h", lab.ipv4(1)), ("n3", lab.ipv4(3)));
    assert_eq!(lab.delivered(near, far, 9, 9), 9);
    daemon.apply("p", &host_lab::links("n1", "n3"));
    assert_eq!(lab.delivered(near, far, 9, 0), 0);
    assert_eq!(lab.delivered(far, near, 9, 0), 0);
    let view = daemon.partition("p");
    assert_eq!((host_lab::dropped(&view, "n1", "n3"), host_lab::dropped(&view, "n3", "n1")), (9, 9));
    daemon.heal("p");
    assert_eq!(lab.delivered(near, far, 9, 9), 9);
}

#[test]
#[needs(root, every_kernel)]
fn a_vlan_and_its_parent() {
    let mut lab = uplinked();
    if !lab.can("h", "link add u0.5 link u0 type vlan id 5") {
        return skip("a_vlan_and_its_parent", "this kernel makes no 802.1Q devices");
    }
    lab.ip("h", "link set u0.5 up");
    lab.ip("n3", "link add eth0.5 link eth0 type vlan id 5");
    lab.ip("n3", "link set eth0.5 up");
    // n1 in the VLAN, n3 untagged, both at the far end; n2 on a veth of its own.
    for (host, dev) in [(14, "u0"), (13, "u0.5")] {
        lab.ip("h", &format!("address add {}/32 dev {dev}", lab.ipv4(host)));
        lab.ip("h", &format!("address add {}/128 dev {dev} nodad", lab.ipv6(host)));
    }
    for (host, dev) in [(3, "u0"), (1, "u0.5")] {
        lab.ip("h", &format!("route add {}/32 dev {dev}", lab.ipv4(host)));
        lab.ip("h", &format!("route add {}/128 dev {dev}", lab.ipv6(host)));
    }
    lab.ip("n3", &format!("address add {}/32 dev eth0.5", lab.ipv4(1)));
    lab.ip("n3", &format!("address add {}/128 dev eth0.5 nodad", lab.ipv6(1)));
    lab.routed("n2", "v2", 2);
    for (host, dev, from) in [(13, "eth0.5", 1), (14, "eth0", 3), (2, "eth0.5", 1)] {
        for (to, src) in [(lab.ipv4(host), lab.ipv4(from)), (lab.ipv6(host), lab.ipv6(from))] {
            let at = if to.is_ipv4() { lab.ipv4(13) } else { lab.ipv6(13) };
            let via = if host == 2 { format!("via {at} onlink") } else { String::new() };
            lab.ip("n3", &format!("route replace {to} {via} dev {dev} src {src}"));
        }
    }
    lab.hide("n3");
    let vlan_alone = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2)]));
    lab.assert_chosen(&vlan_alone, &["u0.5", "v2"]);
    drop(vlan_alone);
    // With a peer on the parent, that one sees the VLAN's frames as well: tags in or beside the packet.
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["u0", "v2"]);
    let (near, far) = (("n3", lab.ipv4(1)), ("n2", lab.ipv4(2)));
    let untouched = (("n3", lab.ipv4(3)), ("h", lab.ipv4(14)));
    assert_eq!(lab.delivered(near, far, 9, 9), 9);
    daemon.apply("p", &host_lab::links("n1", "n2"));
    assert_eq!(lab.delivered(near, far, 9, 0), 0);
    assert_eq!(lab.delivered(far, near, 9, 0), 0);
    assert_eq!(lab.delivered(untouched.0, untouched.1, 9, 9), 9);
    let view = daemon.partition("p");
    assert_eq!((host_lab::dropped(&view, "n1", "n2"), host_lab::dropped(&view, "n2", "n1")), (9, 9));
    daemon.heal("p");
    assert_eq!(lab.delivered(near, far, 9, 9), 9);
}

#[test]
#[needs(root, every_kernel)]
fn a_bond_whichever_slave_carries_it() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    lab.plug("n1", "p1");
    lab.cable("n1", "q1", "eth1");
    for port in ["p1", "q1"] {
        lab.ip("h", &format!("link set {port} master br0"));
    }
    if !lab.can("n1", "link add bond0 type bond mode active-backup miimon 100") {
        return skip("a_bond_whichever_slave_carries_it", "this kernel makes no bonding devices");
    }
    for slave in ["eth0", "eth1"] {
        lab.ip("n1", &format!("link set {slave} down"));
        lab.ip("n1", &format!("link set {slave} master bond0"));
    }
    lab.ip("n1", "link set bond0 up");
    lab.give("n1", "bond0", 1);
    lab.bridged("n2", "p2", "br0", 2);
    lab.bridged("n3", "p3", "br0", 3);
    for (node, host) in [("n2", 2), ("n3", 3)] {
        lab.assert_flows(("h", 14), (node, host));
    }
    // By its MAC address as well, which the slaves share.
    let mac = lab.mac("n1", "bond0");
    let n1 = format!("n1: {{ addresses: [{}, \"{}\"], mac: \"{mac}\" }}", lab.ipv4(1), lab.ipv6(1));
    let daemon = lab.daemon(&format!("{n1}, {}", peers(&lab, &[("n2", 2), ("n3", 3)])));
    lab.assert_chosen(&daemon, &["n1/bond0", "p2", "p3"]);
    for slave in ["eth0", "eth1"] {
        lab.ip("n1", &format!("link set bond0 type bond active_slave {slave}"));
        lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    }
}
