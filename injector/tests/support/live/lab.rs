//! Network namespaces joined by a bridge: `n1`, `n2`, … and a `client` that is no peer.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the daemon's programs sit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the node's own interface, in its namespace.
    OwnNic,
    /// On the other end of its cable: a port of the bridge.
    BridgePort,
}

/// The namespaces; gone when dropped, also by a panic.
pub struct Lab {
    /// Begins as the lab of `cargo xtask` does, which clears away what a killed process left.
    prefix: String,
    nodes: u8,
    made: Vec<String>,
}

/// The namespace of the bridge.
pub const SWITCH: &str = "sw";
/// The namespace that is no peer.
pub const CLIENT: &str = "client";
const CLIENT_HOST: u8 = 254;

impl Lab {
    /// Nodes `n1` to `n<nodes>`, the client, and the switch between them.
    pub fn new(nodes: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("inj{}-t{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { prefix, nodes, made: Vec::new() };
        let mut add = String::new();
        for of in [SWITCH.to_owned(), CLIENT.to_owned()].into_iter().chain(lab.node_names()) {
            let name = lab.netns(&of);
            add += &format!("netns add {name}\n");
            lab.made.push(name);
        }
        batch(None, &add);
        // Snooping would hold back neighbour discovery until a querier is known.
        let mut switch =
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n"
                .to_owned();
        let hosts = (1..=nodes).map(|host| (format!("n{host}"), host));
        let hosts: Vec<(String, u8)> = hosts.chain([(CLIENT.to_owned(), CLIENT_HOST)]).collect();
        for (of, _) in &hosts {
            switch += &format!(
                "link add p-{of} type veth peer name eth0 netns {}\nlink set p-{of} master br0 up\n",
                lab.netns(of)
            );
        }
        batch(Some(&lab.netns(SWITCH)), &switch);
        for (of, host) in &hosts {
            // Without duplicate address detection an address can be used at once.
            let inside = format!(
                "link set lo up\naddress add {}/16 dev eth0\naddress add {}/64 dev eth0 nodad\nlink set eth0 up\n",
                ipv4(*host),
                ipv6(*host)
            );
            batch(Some(&lab.netns(of)), &inside);
        }
        lab
    }

    /// `n1`, `n2`, …
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|node| format!("n{node}")).collect()
    }

    /// The full name of a namespace.
    pub fn netns(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// The namespace's file.
    pub fn file(&self, of: &str) -> PathBuf {
        Path::new("/run/netns").join(self.netns(of))
    }

    /// Runs something on a thread inside a namespace. A socket made there stays of that namespace wherever it is
    /// used.
    pub fn within<T: Send>(&self, of: &str, job: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.file(of)).unwrap();
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
        batch(Some(&self.netns(of)), &format!("{words}\n"));
    }

    /// The `peers:` and `interfaces:` of a config, every node with both addresses; `hook` as in the config.
    pub fn config(&self, place: Place, hook: &str) -> String {
        let mut text = "peers:\n".to_owned();
        for host in 1..=self.nodes {
            text += &format!("  n{host}: {{ addresses: [{}, \"{}\"] }}\n", ipv4(host), ipv6(host));
        }
        text += "interfaces:\n";
        for node in self.node_names() {
            text += &self.interface(&node, place, hook);
        }
        text
    }

    /// One entry of `interfaces:`.
    pub fn interface(&self, node: &str, place: Place, hook: &str) -> String {
        let (name, netns) = self.end(node, place);
        format!("  - {{ name: {name}, netns: {netns}, hook: {hook} }}\n")
    }

    /// An end of a node's cable: the interface and the full name of its namespace.
    pub fn end(&self, node: &str, place: Place) -> (String, String) {
        match place {
            Place::OwnNic => ("eth0".to_owned(), self.netns(node)),
            Place::BridgePort => (format!("p-{node}"), self.netns(SWITCH)),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // One by one: a batch would stop at the first that fails.
        for name in &self.made {
            let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
        }
    }
}

/// The address of a host number.
pub fn ipv4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, host).into()
}

/// The address of a host number.
pub fn ipv6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, host.into()).into()
}

/// The addresses of a node or the client, IPv4 first.
pub fn addresses(of: &str) -> [IpAddr; 2] {
    let host = if of == CLIENT { CLIENT_HOST } else { of[1..].parse().unwrap() };
    [ipv4(host), ipv6(host)]
}

/// Runs many `ip` commands in one process.
fn batch(netns: Option<&str>, lines: &str) {
    let mut command = Command::new("ip");
    if let Some(netns) = netns {
        command.args(["-netns", netns]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
}
