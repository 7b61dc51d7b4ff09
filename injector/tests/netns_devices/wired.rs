//! Three peers, each on a device of one kind.

use std::fmt;
use std::process::Command;

use injector_lab::{Lab, SWITCH, Subnet};

/// The peers with their host numbers: a cut's two ends, and one that stays untouched.
pub const PEERS: [(&str, u8); 3] = [("n1", 1), ("n2", 2), ("n3", 3)];

/// A device that lies on another has its name in the peer's namespace, as has a bond.
const UPPER: &str = "d0";
/// The namespace in the middle of what is not switched: of tunnels with two ends, and of routed peers.
const HUB: &str = "hub";
const HUB_HOST: u8 = 14;

/// What carries a peer's traffic, and is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// In the peer's namespace.
    Veth,
    /// The other end of the peer's veth.
    BridgePort,
    /// 802.1Q on a veth of another namespace.
    Vlan,
    /// With one veth in it.
    Bond,
    /// On a veth of another namespace.
    Macvlan,
    /// The same, in the mode L2.
    Ipvlan,
    /// A veth whose master is a VRF.
    VrfMember,
    /// The VRF itself.
    Vrf,
    /// Without keys: nothing passes it.
    Wireguard,
    /// Over the veths of other namespaces.
    Vxlan,
    /// The same, from each to a hub.
    Geneve,
    /// In the mode L3, which is the kernel's default; a hub routes.
    Netkit,
    /// A veth with this queueing discipline.
    Fq,
    /// The same.
    FqCodel,
    /// The same, with a delay.
    Netem,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Veth => "veth",
            Self::BridgePort => "bridge port",
            Self::Vlan => "802.1Q VLAN",
            Self::Bond => "bond",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::VrfMember => "VRF: its member",
            Self::Vrf => "VRF: the device itself",
            Self::Wireguard => "WireGuard",
            Self::Vxlan => "VXLAN",
            Self::Geneve => "GENEVE",
            Self::Netkit => "netkit",
            Self::Fq => "veth with fq",
            Self::FqCodel => "veth with fq_codel",
            Self::Netem => "veth with netem",
        })
    }
}

impl Device {
    /// How `ip` makes one in the namespace below a peer's; `None` for what does not lie on another device.
    fn upper(self, lab: &Lab, host: u8) -> Option<String> {
        Some(match self {
            Self::Vlan => "link eth0 type vlan id 5".to_owned(),
            Self::Macvlan => "link eth0 type macvlan mode bridge".to_owned(),
            Self::Ipvlan => "link eth0 type ipvlan mode l2".to_owned(),
            Self::Wireguard => "type wireguard".to_owned(),
            Self::Vxlan => "type vxlan id 5 dstport 4789 group 239.1.1.1 ttl 4 dev eth0".to_owned(),
            Self::Geneve => format!("type geneve id {host} remote {}", lab.ipv4(HUB_HOST)),
            _ => return None,
        })
    }

    /// The root queueing discipline of a peer's device, if it is a special one.
    fn discipline(self) -> Option<&'static str> {
        match self {
            Self::Fq => Some("fq"),
            Self::FqCodel => Some("fq_codel"),
            Self::Netem => Some("netem delay 2ms"),
            _ => None,
        }
    }
}

/// The peers; gone when dropped.
pub struct Wired {
    pub lab: Lab,
    device: Device,
}

impl Wired {
    /// Makes them; what the kernel says, if it does not have such a device.
    pub fn new(device: Device) -> Result<Self, String> {
        // The daemon looks at every namespace that has a name here: addresses of this lab alone.
        let lab = Lab::builder("d").subnet(Subnet::own()).up().unwrap_or_else(|error| panic!("{error}"));
        let mut wired = Self { lab, device };
        match device {
            Device::Netkit => wired.route()?,
            _ => wired.switch()?,
        }
        Ok(wired)
    }

    fn switch(&mut self) -> Result<(), String> {
        self.lab.add(SWITCH);
        self.lab.bridge(SWITCH, "br0");
        if self.device == Device::Geneve {
            self.plug(HUB);
            self.lab.give(HUB, "eth0", HUB_HOST);
            self.lab.bridge(HUB, "br1");
        }
        for (peer, host) in PEERS {
            match self.device.upper(&self.lab, host) {
                Some(words) => self.lay(peer, host, &words)?,
                None => self.join(peer, host)?,
            }
        }
        Ok(())
    }

    /// A new namespace with `eth0` on the switch, without addresses.
    fn plug(&mut self, of: &str) {
        let port = format!("p-{of}");
        self.lab.add(of);
        self.lab.cable((SWITCH, &port), (of, "eth0"));
        self.lab.ip(SWITCH, &format!("link set {port} master br0"));
    }

    /// A peer on the switch itself.
    fn join(&mut self, peer: &str, host: u8) -> Result<(), String> {
        self.plug(peer);
        let device = match self.device {
            Device::Bond => {
                made(&self.lab, peer, "ip", "link add d0 type bond mode active-backup miimon 100")?;
                self.lab.ip(peer, "link set eth0 down");
                self.lab.ip(peer, "link set eth0 master d0");
                self.lab.ip(peer, "link set d0 up");
                UPPER
            }
            Device::VrfMember | Device::Vrf => {
                made(&self.lab, peer, "ip", "link add d0 type vrf table 10")?;
                self.lab.ip(peer, "link set d0 up");
                self.lab.ip(peer, "link set eth0 master d0");
                "eth0"
            }
            _ => "eth0",
        };
        self.lab.give(peer, device, host);
        match self.device.discipline() {
            Some(discipline) => {
                made(&self.lab, peer, "tc", &format!("qdisc replace dev eth0 root {discipline}"))
            }
            None => Ok(()),
        }
    }

    /// A peer whose only device lies on one of another namespace, as a container's does.
    fn lay(&mut self, peer: &str, host: u8, words: &str) -> Result<(), String> {
        let below = peer.replace('n', "w");
        self.plug(&below);
        self.lab.add(peer);
        let outer = 10 + host;
        if matches!(self.device, Device::Vxlan | Device::Geneve) {
            self.lab.give(&below, "eth0", outer);
        }
        made(&self.lab, &below, "ip", &format!("link add {UPPER} {words}"))?;
        if self.device == Device::Geneve {
            let outer = self.lab.ipv4(outer);
            self.lab.ip(HUB, &format!("link add g{host} type geneve id {host} remote {outer}"));
            self.lab.ip(HUB, &format!("link set g{host} master br1 up"));
        }
        self.lab.ip(&below, &format!("link set {UPPER} netns {}", self.lab.netns(peer)));
        self.lab.ip(peer, &format!("link set {UPPER} up"));
        self.lab.give(peer, UPPER, host);
        Ok(())
    }

    /// Peers on pairs of netkit, between which a hub passes packets on.
    fn route(&mut self) -> Result<(), String> {
        self.lab.add(HUB);
        for of in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            self.lab.sysctl(HUB, of, "1");
        }
        for (peer, host) in PEERS {
            self.lab.add(peer);
            // An `ip` that is older than netkit takes no options of it: the kernel names the other end itself.
            made(&self.lab, HUB, "ip", &format!("link add k{host} type netkit"))?;
            self.lab.ip(HUB, &format!("link set nk0 netns {} name {UPPER}", self.lab.netns(peer)));
            self.lab.ip(HUB, &format!("link set k{host} up"));
            self.lab.ip(peer, &format!("link set {UPPER} up"));
            let [v4, v6] = [self.lab.ipv4(host), self.lab.ipv6(host)];
            self.lab.ip(peer, &format!("address add {v4}/32 dev {UPPER}"));
            self.lab.ip(peer, &format!("address add {v6}/128 dev {UPPER} nodad"));
            for (family, at) in [("-4", format!("{v4}/32")), ("-6", format!("{v6}/128"))] {
                self.lab.ip(HUB, &format!("{family} route replace {at} dev k{host}"));
                self.lab.ip(peer, &format!("{family} route replace default dev {UPPER}"));
            }
        }
        Ok(())
    }

    /// The device that is hooked for a peer, and the short name of its namespace.
    fn hooked<'a>(&self, peer: &'a str) -> (String, &'a str) {
        match self.device {
            Device::BridgePort => (format!("p-{peer}"), SWITCH),
            Device::Veth | Device::VrfMember | Device::Fq | Device::FqCodel | Device::Netem => {
                ("eth0".to_owned(), peer)
            }
            _ => (UPPER.to_owned(), peer),
        }
    }

    /// A daemon's config, with a hook as the config names it.
    pub fn config(&self, hook: &str) -> String {
        let peers = PEERS.map(|(peer, host)| self.lab.peer(peer, host)).join(", ");
        // Of the two whose link is cut: each more would cost an emulated processor many seconds.
        let interfaces = [PEERS[0], PEERS[1]].map(|(peer, _)| {
            let (name, of) = self.hooked(peer);
            format!("{{ name: {name}, netns: {}, hook: {hook} }}", self.lab.netns(of))
        });
        format!("peers: {{ {peers} }}\ninterfaces: [{}]\n", interfaces.join(", "))
    }

    /// Whether frames on the hooked devices have an Ethernet header.
    pub fn is_ethernet(&self) -> bool {
        let (name, of) = self.hooked(PEERS[0].0);
        self.lab.ip(of, &format!("-o link show dev {name}")).contains("link/ether")
    }

    /// The device that sockets are bound to; in a VRF an unbound one finds no address.
    pub fn bound_to(&self) -> Option<&'static str> {
        matches!(self.device, Device::VrfMember | Device::Vrf).then_some(UPPER)
    }

    /// A text without this lab's part of the names of namespaces, so that it is the same in each run.
    pub fn plain(&self, text: &str) -> String {
        text.replace(&self.lab.netns(""), "")
    }
}

/// Runs a program inside a namespace; the first line of its errors, if it fails.
fn made(lab: &Lab, of: &str, program: &str, words: &str) -> Result<(), String> {
    let output = lab.within(of, || Command::new(program).args(words.split_whitespace()).output());
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it fails without a word");
    Err(first.trim_start_matches("Error: ").trim_end_matches('.').to_owned())
}
