//! A switch that does not know where a MAC address is sends a frame to all its ports. What a peer gets so is no traffic of the
//! link to that peer: it proves no cut, and stamps no first packet. Needs root.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use injector_core::api::{LinkRecord, RecoveryRecord};
use injector_lab::needs;
use live::daemon::{Daemon, links};
use live::lab::{AttachPoint, CLIENT, Lab, SWITCH, addresses, ipv4};

const LONG: Duration = Duration::from_mins(2);
const PACKETS: u64 = 20;

/// Why the switch does not know where the client is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    /// It learns nothing.
    Hub,
    /// The client has been silent for long.
    Forgot,
}

/// A link-local address of a node.
fn link_local(node: &str) -> IpAddr {
    let host = if node == CLIENT { 9 } else { node[1..].parse().unwrap() };
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, host))
}

/// Two peers, and the client, whom n1 alone sends to.
struct Flood {
    lab: Lab,
    daemon: Daemon,
    switch: Switch,
}

impl Flood {
    fn new(place: AttachPoint, switch: Switch) -> Self {
        let lab = Lab::new(2);
        for node in ["n1", "n2", CLIENT] {
            lab.ip(node, &format!("address add {}/64 dev eth0 nodad", link_local(node)));
        }
        for node in ["n2", CLIENT] {
            let mac = lab.mac(node, "eth0");
            for address in [addresses(node)[0], link_local(node)] {
                lab.ip("n1", &format!("neigh replace {address} lladdr {mac} nud permanent dev eth0"));
            }
        }
        match switch {
            Switch::Hub => drop(lab.ip(SWITCH, "link set br0 type bridge ageing_time 0")),
            Switch::Forgot => lab.sysctl(CLIENT, "ipv6/conf/eth0/disable_ipv6", "1"),
        }
        let peers = [1, 2].map(|host| format!("  n{host}: {{ addresses: [{}] }}\n", ipv4(host)));
        let interfaces = ["n1", "n2"].map(|node| lab.interface(node, place, "auto"));
        let text = format!("peers:\n{}interfaces:\n{}", peers.concat(), interfaces.concat());
        let daemon = Daemon::start(&text);
        Self { lab, daemon, switch }
    }

    /// Sends to the client, who hears all of it, and lets n2's port have a copy of each.
    fn send_to_client(&self) {
        let mut targets = vec![addresses(CLIENT)[0]];
        if self.switch == Switch::Hub {
            targets.push(link_local(CLIENT));
        } else {
            // Gone, if it was known at all.
            let mac = self.lab.mac(CLIENT, "eth0");
            let known = self
                .lab
                .command(SWITCH, "bridge")
                .args(["-json", "fdb", "show", "br", "br0"])
                .output()
                .unwrap();
            let known: serde_json::Value = serde_json::from_slice(&known.stdout).unwrap();
            for entry in known.as_array().unwrap().iter().filter(|entry| entry["mac"] == *mac.as_str()) {
                let port = entry["ifname"].as_str().unwrap();
                self.lab.run(SWITCH, "bridge", &["fdb", "del", &mac, "dev", port, "master"]);
            }
        }
        for target in targets {
            self.send(CLIENT, target, true);
        }
    }

    fn send(&self, to: &str, target: IpAddr, arrives: bool) {
        let scope = self.lab.within("n1", || {
            // SAFETY: a string that ends with zero.
            unsafe { libc::if_nametoindex(c"eth0".as_ptr()) }
        });
        let any: IpAddr = if target.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
        let receiver = self.lab.within(to, || UdpSocket::bind((any, 0)).unwrap());
        receiver
            .set_read_timeout(Some(
                Duration::from_secs(if arrives { 5 } else { 0 }).max(Duration::from_millis(100)),
            ))
            .unwrap();
        let port = receiver.local_addr().unwrap().port();
        let at = match target {
            IpAddr::V4(_) => SocketAddr::new(target, port),
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)),
        };
        let sender = self.lab.within("n1", || UdpSocket::bind((any, 0)).unwrap());
        let mut heard = 0;
        for _ in 0..PACKETS {
            sender.send_to(b"x", at).unwrap();
            heard += u64::from(receiver.recv(&mut [0; 8]).is_ok());
        }
        assert_eq!(heard, if arrives { PACKETS } else { 0 }, "n1 → {target}");
    }

    /// How many packets n2's NIC got.
    fn received(&self) -> u64 {
        let shown = self.lab.ip("n2", "-json -statistics link show dev eth0");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }

    fn cut(&self, name: &str, during: impl FnOnce()) {
        self.daemon.apply(name, &links(&[("n1", "n2")], LONG));
        during();
        self.daemon.heal(name);
    }
}

fn link(record: &RecoveryRecord) -> &LinkRecord {
    record.links.iter().find(|link| link.src == "n1").unwrap()
}

fn nothing_counts(place: AttachPoint, switch: Switch) {
    let flood = Flood::new(place, switch);
    flood.cut("flooded", || flood.send_to_client());
    let before = flood.received();
    flood.send_to_client();
    assert!(flood.received() >= before + PACKETS, "the switch floods nothing to n2");
    let record = flood.daemon.record_now("flooded");
    let seen = link(&record);
    assert_eq!(
        (seen.dropped_packets, seen.leaked_packets, seen.late_packets),
        (Some(0), Some(0), Some(0)),
        "{record:#?}"
    );
    assert_eq!((seen.first_packet_ns, seen.first_data_ns), (None, None), "{record:#?}");
    assert!(!seen.proved && !record.proved, "{record:#?}");

    // What is for n2 counts, at addresses that the config lists and others.
    let to_n2 = [addresses("n2")[0], link_local("n2")];
    flood.cut("meant", || {
        for target in to_n2 {
            flood.send("n2", target, false);
        }
    });
    flood.send("n2", to_n2[1], true);
    let record = flood.daemon.record_now("meant");
    let seen = link(&record);
    assert_eq!(seen.dropped_packets, Some(2 * PACKETS), "{record:#?}");
    assert!(seen.proved && seen.first_packet_ns.is_some(), "{record:#?}");
}

#[test]
#[needs(root)]
fn copies_of_a_hub_are_no_traffic_of_a_link_on_the_peers_nic() {
    nothing_counts(AttachPoint::OwnNic, Switch::Hub);
}

#[test]
#[needs(root)]
fn copies_of_a_hub_are_no_traffic_of_a_link_on_bridge_ports() {
    nothing_counts(AttachPoint::BridgePort, Switch::Hub);
}

#[test]
#[needs(root)]
fn copies_for_a_silent_host_are_no_traffic_of_a_link() {
    nothing_counts(AttachPoint::OwnNic, Switch::Forgot);
}
