//! An address that the config does not list moves from a peer that is cut off to someone else, together with its MAC address,
//! as that of a virtual router does: frames to and from its new place are not dropped, and those of the peer still are.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::InForce;
use injector_lab::{End, needs};
use live::daemon::{Daemon, isolate};

const LONG: Duration = Duration::from_mins(9);
/// The MAC address of a virtual router.
const VIRTUAL: &str = "00:00:5e:00:01:33";
const SENT: usize = 10;

/// Three peers and `w`, who is no peer, on ports of the host's bridge. n1 is the virtual router.
struct Moves {
    lab: HostLab,
    daemon: Daemon,
}

impl Moves {
    fn new(is_w_seen: bool, interfaces: impl FnOnce(&HostLab) -> String) -> Self {
        let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3), ("w", "h4", 4)]);
        if !is_w_seen {
            lab.hide("w");
        }
        let peer = |host| format!("n{host}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(host), lab.ipv6(host));
        let daemon = lab.daemon_on(&[1, 2, 3].map(peer).join(", "), &interfaces(&lab));
        let moves = Self { lab, daemon };
        moves.take("n1", "0");
        // As an entry that was confirmed lately.
        let entry = format!("{} lladdr {VIRTUAL} dev eth0 nud permanent", moves.shared("n2").1);
        moves.lab.ip("n2", &format!("neighbour replace {entry}"));
        moves.leads_to("h1");
        moves.wait_for_peers("vr in netns", true);
        for (from, to) in moves.between_n1_and_n2() {
            assert_eq!(moves.delivered(from, to), SENT, "{from:?} → {to:?} before the cut");
        }
        moves.daemon.apply("p", &isolate("n1", LONG));
        moves.assert_cut();
        moves
    }

    fn n2(&self) -> End<'static> {
        ("n2", self.lab.ipv4(2))
    }

    /// A node at the address that moves.
    fn shared<'a>(&self, node: &'a str) -> End<'a> {
        (node, self.lab.ipv4(9))
    }

    /// A node gets a device of the virtual router, with its address.
    fn take(&self, node: &str, announces: &str) {
        for (parameter, value) in [
            ("ipv4/conf/default/arp_notify", announces),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/eth0/rp_filter", "0"),
            // It would send of its own accord.
            ("ipv6/conf/default/disable_ipv6", "1"),
        ] {
            self.lab.sysctl(node, parameter, value);
        }
        self.lab.ip(node, &format!("link add link eth0 name vr address {VIRTUAL} type macvlan mode bridge"));
        self.lab.ip(node, &format!("address add {}/32 dev vr", self.shared(node).1));
        self.lab.ip(node, "link set vr up");
    }

    fn gives_up(&self, node: &str) {
        self.lab.ip(node, "link delete vr");
    }

    /// The bridge sends what is for the virtual router to a port.
    fn leads_to(&self, port: &str) {
        self.lab.run("h", "bridge", &["fdb", "replace", VIRTUAL, "dev", port, "master", "static"]);
    }

    fn delivered(&self, from: End<'_>, to: End<'_>) -> usize {
        self.lab.delivered_within(from, to, SENT, SENT, Duration::from_millis(300))
    }

    /// Both ways, by the address that moves and by n1's own.
    fn between_n1_and_n2(&self) -> [(End<'static>, End<'static>); 4] {
        let (n2, moving, own) = (self.n2(), self.shared("n1"), ("n1", self.lab.ipv4(1)));
        [(n2, moving), (moving, n2), (n2, own), (own, n2)]
    }

    /// n1 and n2 are cut off from each other, by the address that moves too.
    fn assert_cut(&self) {
        self.leads_to("h1");
        for (from, to) in self.between_n1_and_n2() {
            assert_eq!(self.lab.delivered(from, to, SENT, 0), 0, "{from:?} → {to:?} passes the cut");
        }
    }

    /// The address is a node's, and no frame to or from it there is lost.
    fn assert_untouched(&self, node: &str, port: &str) {
        self.leads_to(port);
        for (from, to) in [(self.n2(), self.shared(node)), (self.shared(node), self.n2())] {
            assert_eq!(self.delivered(from, to), SENT, "{from:?} → {to:?} is cut");
        }
    }

    fn wait_for_peers(&self, what: &str, is_wanted: bool) {
        let end = Instant::now() + host_lab::PATIENCE;
        loop {
            let shown = String::from_utf8(self.daemon.cli(&["peers"]).stdout).unwrap();
            if shown.contains(what) == is_wanted {
                return;
            }
            assert!(Instant::now() < end, "{what} {is_wanted}: {shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nothing speaks against the cut.
    fn assert_in_force(&self) {
        self.daemon.heal("p");
        let record = self.daemon.record_now("p");
        for link in record.links.iter().filter(|link| [&link.src, &link.dst].contains(&&"n2".to_owned())) {
            assert_eq!((link.in_force, link.leaked_packets), (Some(InForce::Yes), Some(0)), "{link:#?}");
            assert!(link.proved, "{link:#?}");
        }
    }
}

/// The peers' own interfaces.
fn own(lab: &HostLab) -> String {
    let named = ["n1", "n2", "n3"].map(|node| format!("{{ name: eth0, netns: {} }}", lab.netns(node)));
    format!("[{}]", named.join(", "))
}

/// Nothing but the announcement shows that someone else has the address, and n1 keeps it for a while.
fn an_announced_address_is_not_cut_at_its_new_place(interfaces: impl FnOnce(&HostLab) -> String) {
    let moves = Moves::new(false, interfaces);
    moves.take("w", "1");
    moves.assert_untouched("w", "h4");
    moves.assert_cut();
    moves.gives_up("n1");
    moves.assert_untouched("w", "h4");
    moves.assert_in_force();
}

#[test]
#[needs(root)]
fn an_announced_address_is_not_cut_at_its_new_place_by_the_peers_own_interfaces() {
    an_announced_address_is_not_cut_at_its_new_place(own);
}

#[test]
#[needs(root)]
fn an_announced_address_is_not_cut_at_its_new_place_by_bridge_ports() {
    an_announced_address_is_not_cut_at_its_new_place(|_| {
        "[{ name: h1, peer: n1 }, { name: h2, peer: n2 }, { name: h3, peer: n3 }]".to_owned()
    });
}

/// The daemon sees the address in another namespace, and nothing is sent from there.
#[test]
#[needs(root)]
fn an_address_that_is_seen_elsewhere_is_not_cut_there() {
    let moves = Moves::new(true, |_| "auto".to_owned());
    moves.take("w", "0");
    moves.wait_for_peers("someone else has it too", true);
    moves.assert_untouched("w", "h4");
    moves.assert_cut();
    moves.gives_up("w");
    // It is n1's alone again.
    moves.wait_for_peers("someone else has it too", false);
    moves.take("w", "0");
    moves.wait_for_peers("someone else has it too", true);
    moves.gives_up("n1");
    moves.assert_untouched("w", "h4");
    moves.assert_in_force();
}

#[test]
#[needs(root)]
fn an_address_that_another_peer_takes_over_is_not_cut_there() {
    let moves = Moves::new(true, |_| "auto".to_owned());
    moves.take("n3", "1");
    moves.wait_for_peers("someone else has it too", true);
    moves.assert_untouched("n3", "h3");
    moves.assert_cut();
    moves.gives_up("n1");
    moves.assert_untouched("n3", "h3");
    moves.assert_in_force();
}
