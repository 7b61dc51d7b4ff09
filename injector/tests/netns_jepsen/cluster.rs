//! Three nodes, a server on each, and the daemons: one for all, or one on each node.

use std::time::Duration;

use injector_lab::{AttachPoint, CLIENT, Lab};

use crate::live::daemon::Daemon;
use crate::live::traffic::{Server, Stream};
use crate::suite::Suite;

/// In what time a cluster must be well, and how long it is watched: short, as the servers do what the test asks.
const RULES: &str = "ready: { consecutive: 5, observe: 1s, observe_max: 5s }\ndeadline: 60s\n";

/// Who drops from whom while n1 is isolated.
pub const ISOLATED: &str = r#"{"n1" #{"n2" "n3"} "n2" #{"n1"} "n3" #{"n1"}}"#;

/// How many daemons there are, and how a suite reaches them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// One daemon for all nodes, by its socket.
    One,
    /// A daemon on each node, by commands that run there.
    EachNode,
}

/// The endpoint of a node's server; `more` are further keys.
fn endpoint(node: &str, server: &Server, more: &str) -> String {
    let url = format!("http://{{address}}:{}/", server.port());
    format!(
        "  - {{ name: ingress-{node}, peers: [{node}], probe: {{ http: {{ url: \"{url}\" }} }}{more} }}\n"
    )
}

/// What the suite works on. The suites and servers end before their namespaces do.
pub struct Cluster {
    pub daemons: Vec<Daemon>,
    pub servers: Vec<Server>,
    pub lab: Lab,
}

impl Cluster {
    pub fn start(placement: Placement) -> Self {
        let lab = Lab::new(3);
        let servers = lab.peer_names().iter().map(|node| Server::start(&lab, node)).collect();
        let mut cluster = Self { daemons: Vec::new(), servers, lab };
        cluster.daemons = match placement {
            Placement::One => {
                let netns = format!(", netns: {}", cluster.lab.netns(CLIENT));
                let mut config = cluster.lab.config(AttachPoint::OwnNic, "auto") + RULES + "endpoints:\n";
                for (node, server) in cluster.lab.peer_names().iter().zip(&cluster.servers) {
                    config += &endpoint(node, server, &netns);
                }
                vec![Daemon::start(&config)]
            }
            Placement::EachNode => cluster.lab.peer_names().iter().map(|node| cluster.daemon(node)).collect(),
        };
        cluster.daemons.iter().for_each(Daemon::wait_healthy);
        cluster
    }

    /// Starts a node's own daemon, which probes the node's own server.
    pub fn daemon(&self, node: &str) -> Daemon {
        let all = self.lab.config(AttachPoint::OwnNic, "auto");
        let peers = all.split_once("interfaces:").unwrap().0;
        let at = self.lab.peer_names().iter().position(|name| name == node).unwrap();
        let mut config =
            format!("{peers}{RULES}interfaces: [{{ name: eth0 }}]\nhere: [{node}]\nendpoints:\n");
        config += &endpoint(node, &self.servers[at], "");
        self.lab.within(node, || Daemon::start(&config))
    }

    /// A suite on this machine: it calls the only daemon by its socket, or runs commands for each node.
    pub fn suite(&self, placement: Placement, run: &str, request: &str) -> Suite {
        let nodes = self.lab.peer_names();
        let socket = |daemon: &Daemon| daemon.socket().display().to_string();
        let (net, sessions) = match placement {
            Placement::One => (format!("{{:daemon :one :socket {:?}", socket(&self.daemons[0])), Vec::new()),
            Placement::EachNode => {
                let session = |(node, daemon): (&String, &Daemon)| {
                    let socket = format!("INJECTOR_SOCKET={}", socket(daemon));
                    (node.clone(), ["env", &socket, "sh", "-c"].map(str::to_owned).to_vec())
                };
                let sessions = nodes.iter().zip(&self.daemons).map(session).collect();
                (format!("{{:sudo? false :program {:?}", env!("CARGO_BIN_EXE_injector")), sessions)
            }
        };
        Suite::start(&nodes, run, &format!("{net} {request}}}"), &sessions)
    }

    /// Packets on the links that [`ISOLATED`] cuts, so that each daemon has something to drop.
    pub fn traffic(&self) -> Vec<Stream> {
        let often = Duration::from_millis(10);
        [("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")]
            .map(|(from, to)| Stream::start(&self.lab, from, to, often))
            .into()
    }
}
