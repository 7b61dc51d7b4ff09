//! Namespaces that a test builds on: the host `h`, where the daemon starts, and nodes on its veths. A hidden node's
//! namespace has no name: all that is known of it is what the host sees.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use injector_core::api::{PartitionRequest, PartitionView, VerdictOptions};
pub use injector_lab::PATIENCE;
use injector_lab::{End, Lab, Subnet};

use crate::live::daemon::Daemon;

/// The next hop of nodes on routed veths: the host answers for it.
pub const GATEWAY: &str = "169.254.1.1";

/// Hides the names of all namespaces from what a command starts.
fn hide_namespaces(command: &mut Command) {
    let call = |answer: libc::c_int| if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: between fork and exec system calls alone are made, with numbers and constant texts.
    unsafe {
        command.pre_exec(move || {
            call(libc::unshare(libc::CLONE_NEWNS))?;
            let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
            call(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()))?;
            let (tmpfs, names) = (c"tmpfs".as_ptr(), c"/run/netns".as_ptr());
            call(libc::mount(tmpfs, names, tmpfs, 0, none.cast()))
        });
    }
}

/// A lab with a host; it has addresses of its own.
pub struct HostLab(Lab);

impl Deref for HostLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for HostLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl HostLab {
    /// With the host alone, which passes packets on.
    pub fn new() -> Self {
        let mut lab = Lab::builder("g").subnet(Subnet::own()).up().unwrap();
        lab.add("h");
        for of in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            lab.sysctl("h", of, "1");
        }
        lab.ip("h", &format!("address add {GATEWAY}/32 dev lo"));
        Self(lab)
    }

    /// With nodes that have both addresses of a host number, on ports of the host's `br0`. None of them is hidden.
    pub fn switched(nodes: &[(&str, &str, u8)]) -> Self {
        let mut lab = Self::new();
        lab.bridge("br0", 14);
        for (node, port, host) in nodes {
            lab.attach(node, port, "br0", *host);
        }
        lab
    }

    /// With the nodes n1 and n2, between which the host routes by IPv4.
    pub fn routed_pair() -> Self {
        let mut lab = Self::new();
        for (node, port, host) in [("n1", "h1", 1), ("n2", "h2", 2)] {
            lab.plug(node, port);
            lab.ip("h", &format!("route replace {}/32 dev {port}", lab.ipv4(host)));
            lab.ip(node, &format!("address add {}/32 dev eth0", lab.ipv4(host)));
            lab.leave_by_gateway(node);
        }
        lab
    }

    /// A veth from the host, up at its end, to `eth0` of a new namespace.
    pub fn plug(&mut self, of: &str, host_end: &str) {
        self.add(of);
        self.cable(of, host_end, "eth0");
    }

    /// A veth from the host, up at both ends.
    pub fn cable(&self, of: &str, host_end: &str, nic: &str) {
        self.0.cable(("h", host_end), (of, nic));
    }

    /// A hidden node with both addresses of a host number, on a veth of its own: the host routes.
    pub fn routed(&mut self, of: &str, host_end: &str, host: u8) {
        self.plug(of, host_end);
        self.route(of, host_end, host);
    }

    /// Hides a plugged node, gives it both addresses of a host number, and routes them there.
    pub fn route(&mut self, of: &str, host_end: &str, host: u8) {
        // First: a daemon that looks meanwhile must not find the addresses in a namespace with a name.
        self.hide(of);
        let (v4, v6) = (self.ipv4(host), self.ipv6(host));
        self.ip("h", &format!("address add fe80::1/64 dev {host_end} nodad"));
        self.ip("h", &format!("route replace {v4}/32 dev {host_end}"));
        self.ip("h", &format!("route replace {v6}/128 dev {host_end}"));
        self.ip(of, &format!("address add {v4}/32 dev eth0"));
        self.ip(of, &format!("address add {v6}/128 dev eth0 nodad"));
        self.leave_by_gateway(of);
    }

    /// All that a node sends elsewhere goes to the host.
    pub fn leave_by_gateway(&self, of: &str) {
        self.ip(of, &format!("route add {GATEWAY} dev eth0 scope link"));
        self.ip(of, &format!("route add default via {GATEWAY} dev eth0 onlink"));
        self.ip(of, "route add default via fe80::1 dev eth0");
    }

    /// A bridge on the host, with an address of the test's subnet that is no peer's.
    pub fn bridge(&self, name: &str, host: u8) {
        self.0.bridge("h", name);
        self.give("h", name, host);
    }

    /// A hidden node with both addresses of a host number, on a port of the host's bridge.
    pub fn bridged(&mut self, of: &str, port: &str, bridge: &str, host: u8) {
        self.plug(of, port);
        // Before it has addresses, as in `route`.
        self.hide(of);
        self.put_on_bridge(of, port, bridge, host);
    }

    fn attach(&mut self, of: &str, port: &str, bridge: &str, host: u8) {
        self.plug(of, port);
        self.put_on_bridge(of, port, bridge, host);
    }

    /// Joins a plugged node, which may be hidden, to a bridge.
    fn put_on_bridge(&self, of: &str, port: &str, bridge: &str, host: u8) {
        self.ip("h", &format!("link set {port} master {bridge}"));
        for command in self.subnet().commands(host, "eth0") {
            self.ip(of, &command);
        }
    }

    /// Starts a daemon on the host.
    pub fn daemon(&self, peers: &str) -> Daemon {
        self.daemon_on(peers, "auto")
    }

    /// Starts one on the host, on some interfaces.
    pub fn daemon_on(&self, peers: &str, interfaces: &str) -> Daemon {
        self.within("h", || Daemon::start(&config(peers, interfaces)))
    }

    /// Starts one on the host that sees no named namespaces: others come and go all the time, and each is a reason to
    /// look again.
    pub fn daemon_without_names(&self, peers: &str) -> Daemon {
        self.daemon_without_names_in("h", peers, "auto")
    }

    /// The same in another namespace, as on a host of its own, and on some interfaces.
    pub fn daemon_without_names_in(&self, of: &str, peers: &str, interfaces: &str) -> Daemon {
        self.within(of, || Daemon::start_with(&config(peers, interfaces), hide_namespaces))
    }

    /// Why a daemon on the host does not start.
    pub fn refusal(&self, peers: &str) -> String {
        let started = self.within("h", || Daemon::try_start(&config(peers, "auto")).map(drop));
        let (status, log) = started.expect_err("it must not start");
        assert!(!status.success());
        log
    }

    /// The interfaces that a daemon is attached to, with this test's names of their namespaces.
    pub fn chosen(&self, daemon: &Daemon) -> BTreeSet<String> {
        let attached = daemon.status().attachments.into_iter().filter(|found| found.hook.is_some());
        attached
            .map(|found| match found.netns {
                None => found.interface,
                Some(netns) => format!("{}/{}", self.short(&netns), found.interface),
            })
            .collect()
    }

    /// Asserts what was chosen.
    pub fn assert_chosen(&self, daemon: &Daemon, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(self.chosen(daemon), wanted, "{:#?}\n{}", daemon.status().attachments, daemon.log());
    }

    /// Waits until something was chosen.
    pub fn wait_chosen(&self, daemon: &Daemon, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let end = Instant::now() + PATIENCE;
        while self.chosen(daemon) != wanted {
            assert!(Instant::now() < end, "never: {wanted:?}; {}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that traffic flows both ways, over both addresses. What was just plugged may lose the first packets.
    pub fn assert_flows(&self, a: (&str, u8), b: (&str, u8)) {
        for (a_end, b_end) in self.ends(a, b) {
            for (from, to) in [(a_end, b_end), (b_end, a_end)] {
                let end = Instant::now() + PATIENCE;
                while self.delivered_within(from, to, 3, 3, Duration::from_secs(2)) < 3 {
                    assert!(Instant::now() < end, "{from:?} → {to:?}");
                }
            }
        }
    }

    /// Both ends, by IPv4 and by IPv6.
    fn ends<'a>(&self, a: (&'a str, u8), b: (&'a str, u8)) -> [(End<'a>, End<'a>); 2] {
        [((a.0, self.ipv4(a.1)), (b.0, self.ipv4(b.1))), ((a.0, self.ipv6(a.1)), (b.0, self.ipv6(b.1)))]
    }

    /// Positive control → cut → heal of the link between two nodes (named as their peers), with others that stay
    /// untouched. The kernel must have dropped each packet that was sent, and counted it once.
    pub fn assert_cut(
        &self,
        daemon: &Daemon,
        a: (&str, u8),
        b: (&str, u8),
        untouched: ((&str, u8), (&str, u8)),
    ) {
        const SENT: usize = 20;
        self.assert_flows(a, b);
        self.assert_flows(untouched.0, untouched.1);
        daemon.apply("p", &links(a.0, b.0));
        for (a_end, b_end) in self.ends(a, b) {
            assert_eq!(self.delivered(a_end, b_end, SENT, 0), 0, "{a_end:?} → {b_end:?} passes");
            assert_eq!(self.delivered(b_end, a_end, SENT, 0), 0, "{b_end:?} → {a_end:?} passes");
        }
        self.assert_flows(untouched.0, untouched.1);
        let view = daemon.partition("p");
        for (src, dst) in [(a.0, b.0), (b.0, a.0)] {
            // Over IPv4 and over IPv6.
            assert_eq!(dropped(&view, src, dst), 2 * SENT as u64, "{src} → {dst}: {view:#?}");
        }
        daemon.heal("p");
        self.assert_flows(a, b);
    }
}

/// What was dropped on a link.
pub fn dropped(view: &PartitionView, src: &str, dst: &str) -> u64 {
    let link = view.links.iter().flatten().find(|link| link.src == src && link.dst == dst);
    link.unwrap_or_else(|| panic!("no link {src}→{dst} in {view:#?}")).dropped_packets.unwrap()
}

/// A request that cuts both links between two peers. Of hidden nodes nothing proves that an interface leads to one
/// alone: frames to groups are not covered, and left out on purpose.
pub fn links(a: &str, b: &str) -> PartitionRequest {
    let links = crate::live::daemon::links(&[(a, b), (b, a)], Duration::from_mins(9));
    PartitionRequest {
        verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
        ..links
    }
}

fn config(peers: &str, interfaces: &str) -> String {
    format!("peers: {{ {peers} }}\ninterfaces: {interfaces}\n")
}
