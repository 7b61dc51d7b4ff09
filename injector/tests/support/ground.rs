//! Namespaces that a test builds on: the host `h`, where the daemon starts, and nodes on its veths. A hidden node's
//! namespace has no name: all that is known of it is what the host sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use injector_core::api::{PartitionRequest, PartitionView, VerdictOptions};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::live::daemon::Daemon;

/// How long anything may take on a loaded or emulated machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The next hop of nodes on routed veths: the host answers for it.
pub const GATEWAY: &str = "169.254.1.1";

/// The namespaces; gone when dropped, also by a panic.
pub struct Ground {
    prefix: String,
    number: u8,
    spaces: BTreeMap<String, File>,
    named: BTreeSet<String>,
}

impl Ground {
    /// With the host alone, which passes packets on.
    pub fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        assert!(number < 16, "a process has addresses for 16 of these");
        let prefix = format!("inj{}-g{number}-", std::process::id());
        let mut ground = Self { prefix, number, spaces: BTreeMap::new(), named: BTreeSet::new() };
        ground.add("h");
        ground.within("h", || {
            for of in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{of}"), "1").unwrap();
            }
        });
        ground.ip("h", &format!("address add {GATEWAY}/32 dev lo"));
        ground
    }

    /// The full name of a namespace.
    pub fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// An IPv4 address of this test alone, of a host from 1 to 14.
    pub fn ipv4(&self, host: u8) -> IpAddr {
        let [.., high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(100, 64 + high % 64, low, self.number * 16 + host).into()
    }

    /// An IPv6 address of this test alone.
    pub fn ipv6(&self, host: u8) -> IpAddr {
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let pid = [a, b, c, d].map(u16::from);
        Ipv6Addr::new(
            0xfd64,
            pid[0] << 8 | pid[1],
            pid[2] << 8 | pid[3],
            self.number.into(),
            0,
            0,
            0,
            host.into(),
        )
        .into()
    }

    /// Makes a namespace.
    pub fn add(&mut self, of: &str) {
        let name = self.name(of);
        run(&format!("netns add {name}"));
        self.named.insert(name.clone());
        self.spaces.insert(of.to_owned(), File::open(format!("/run/netns/{name}")).unwrap());
        self.ip(of, "link set lo up");
    }

    /// Takes a namespace's name away; it lives on.
    pub fn hide(&mut self, of: &str) {
        let name = self.name(of);
        run(&format!("netns delete {name}"));
        self.named.remove(&name);
    }

    /// Runs something on a thread inside a namespace. A socket made there, and a process started there, stay in it.
    pub fn within<T: Send>(&self, of: &str, job: impl FnOnce() -> T + Send) -> T {
        let file = &self.spaces[of];
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                job()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` inside a namespace.
    pub fn ip(&self, of: &str, words: &str) {
        self.within(of, || run(words));
    }

    /// Whether `ip` can do that inside a namespace.
    pub fn can(&self, of: &str, words: &str) -> bool {
        self.within(of, || {
            Command::new("ip").args(words.split_whitespace()).output().unwrap().status.success()
        })
    }

    /// A veth from the host, up at its end, to `eth0` of a new namespace.
    pub fn plug(&mut self, of: &str, host_end: &str) {
        self.add(of);
        self.cable(of, host_end, "eth0");
    }

    /// A veth from the host, up at both ends.
    pub fn cable(&self, of: &str, host_end: &str, nic: &str) {
        let name = self.name(of);
        self.ip("h", &format!("link add {host_end} type veth peer name {nic} netns {name}"));
        self.ip("h", &format!("link set {host_end} up"));
        self.ip(of, &format!("link set {nic} up"));
    }

    /// A hidden node with both addresses of a host number, on a veth of its own: the host routes.
    pub fn routed(&mut self, of: &str, host_end: &str, host: u8) {
        self.plug(of, host_end);
        self.route(of, host_end, host);
    }

    /// Gives a plugged node both addresses of a host number, routes them there, and hides it.
    pub fn route(&mut self, of: &str, host_end: &str, host: u8) {
        let (v4, v6) = (self.ipv4(host), self.ipv6(host));
        self.ip("h", &format!("address add fe80::1/64 dev {host_end} nodad"));
        self.ip("h", &format!("route replace {v4}/32 dev {host_end}"));
        self.ip("h", &format!("route replace {v6}/128 dev {host_end}"));
        self.ip(of, &format!("address add {v4}/32 dev eth0"));
        self.ip(of, &format!("address add {v6}/128 dev eth0 nodad"));
        self.leave_by_gateway(of);
        self.hide(of);
    }

    /// All that a node sends elsewhere goes to the host.
    pub fn leave_by_gateway(&self, of: &str) {
        self.ip(of, &format!("route add {GATEWAY} dev eth0 scope link"));
        self.ip(of, &format!("route add default via {GATEWAY} dev eth0 onlink"));
        self.ip(of, "route add default via fe80::1 dev eth0");
    }

    /// A bridge on the host, with an address of the test's subnet that is no peer's.
    pub fn bridge(&self, name: &str, host: u8) {
        // Snooping would hold back neighbour discovery until a querier is known.
        self.ip("h", &format!("link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        self.ip("h", &format!("address add {}/28 dev {name}", self.ipv4(host)));
        self.ip("h", &format!("address add {}/64 dev {name} nodad", self.ipv6(host)));
        self.ip("h", &format!("link set {name} up"));
    }

    /// A hidden node with both addresses of a host number, on a port of the host's bridge.
    pub fn bridged(&mut self, of: &str, port: &str, bridge: &str, host: u8) {
        self.plug(of, port);
        self.ip("h", &format!("link set {port} master {bridge}"));
        self.subnet(of, "eth0", host);
        self.hide(of);
    }

    /// Gives a device both addresses of a host number, in the test's subnet.
    pub fn subnet(&self, of: &str, nic: &str, host: u8) {
        self.ip(of, &format!("address add {}/28 dev {nic}", self.ipv4(host)));
        self.ip(of, &format!("address add {}/64 dev {nic} nodad", self.ipv6(host)));
    }

    /// A device's MAC address.
    pub fn mac(&self, of: &str, nic: &str) -> String {
        self.within(of, || {
            let output = Command::new("ip").args(["-o", "link", "show", nic]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
            words.nth(1).unwrap_or_else(|| panic!("{nic} has no MAC address: {text}")).to_owned()
        })
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
    pub fn secluded_daemon(&self, peers: &str) -> Daemon {
        self.within("h", || {
            // SAFETY: the calls take numbers and texts that outlive them; this thread alone gets another view of mounts.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
                let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
                assert_eq!(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()), 0);
                let (tmpfs, names) = (c"tmpfs".as_ptr(), c"/run/netns".as_ptr());
                assert_eq!(libc::mount(tmpfs, names, tmpfs, 0, none.cast()), 0);
            }
            Daemon::start(&config(peers, "auto"))
        })
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
                Some(netns) => format!("{}/{}", netns.replace(&self.prefix, ""), found.interface),
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

    /// How many of some datagrams get from one address to another. `hoped` is how many are waited for: the rest of
    /// the time is not needed to show that they are not coming, since the kernel counted them.
    pub fn delivered(&self, from: End<'_>, to: End<'_>, count: usize, hoped: usize) -> usize {
        self.received(from, to, count, hoped, PATIENCE)
    }

    fn received(&self, from: End<'_>, to: End<'_>, count: usize, hoped: usize, patience: Duration) -> usize {
        let receiver = self.within(to.0, || UdpSocket::bind((to.1, 0)).unwrap());
        let sender = self.within(from.0, || UdpSocket::bind((from.1, 0)).unwrap());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let mut got = 0;
        let mut take = |patience: Duration, enough: usize| {
            receiver.set_read_timeout(Some(patience)).unwrap();
            while got < enough && receiver.recv(&mut buffer).is_ok() {
                got += 1;
            }
            got
        };
        for sent in 0..count {
            sender.send(b"ground").unwrap();
            // Before the receiver's buffer is full, or that of an address that is being resolved.
            if sent % 32 == 31 {
                take(Duration::from_millis(5), count);
            }
        }
        take(patience, hoped);
        take(Duration::from_millis(50), count)
    }

    /// Asserts that traffic flows both ways, over both addresses. What was just plugged may lose the first packets.
    pub fn assert_flows(&self, a: (&str, u8), b: (&str, u8)) {
        for (a_end, b_end) in self.ends(a, b) {
            for (from, to) in [(a_end, b_end), (b_end, a_end)] {
                let end = Instant::now() + PATIENCE;
                while self.received(from, to, 3, 3, Duration::from_secs(2)) < 3 {
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

/// A namespace, and an address in it.
pub type End<'a> = (&'a str, IpAddr);

/// What was dropped on a link.
pub fn dropped(view: &PartitionView, src: &str, dst: &str) -> u64 {
    let link = view.links.iter().flatten().find(|link| link.src == src && link.dst == dst);
    link.unwrap_or_else(|| panic!("no link {src}→{dst} in {view:#?}")).dropped_packets
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

impl Drop for Ground {
    fn drop(&mut self) {
        for name in &self.named {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn run(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
