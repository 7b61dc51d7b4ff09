//! The example service on the peers of a lab.

use std::net::IpAddr;
use std::path::Path;

use crate::error::Error;
use crate::http::Request;
use crate::lab::Lab;

/// How the nodes of the example service are started.
#[derive(Clone, Copy, Debug)]
pub struct Quorum<'a> {
    /// The built example, `examples/quorum`.
    pub program: &'a Path,
    /// The seed of its faults.
    pub seed: u32,
    /// Further flags of every node: the faults to plant.
    pub faults: &'a [&'a str],
    /// The place, in [`Lab::addresses`], of the address by which other peers join a peer.
    pub join: usize,
    /// How many addresses of [`Lab::addresses`] each node listens on.
    pub listen: usize,
}

impl Quorum<'_> {
    /// Starts a node on each peer; it ends with the lab. The port is 8080.
    ///
    /// # Errors
    /// A node can't be started.
    pub fn start(&self, lab: &mut Lab) -> Result<(), Error> {
        for node in lab.peer_names() {
            let mut command = lab.command(&node, self.program);
            command.args(self.arguments(lab, &node));
            lab.start(&node, &mut command)?;
        }
        Ok(())
    }

    /// Checks that every node names the first peer as its leader. A node serves as soon as it reaches a
    /// majority, and two nodes follow a leader of their own until they reach the first.
    ///
    /// # Errors
    /// The answer of a node that names another leader, or the failure of its request.
    pub fn agree(lab: &Lab, from: &str) -> Result<(), String> {
        let nodes = lab.peer_names();
        let first = nodes.iter().min().map(|node| format!("\"leader\":\"{node}\"")).unwrap_or_default();
        for node in &nodes {
            let at = (lab.addresses(node)[0], 8080);
            let (status, said) =
                lab.request(from, at, &Request::get("/")).map_err(|error| error.to_string())?;
            if status != 200 || !said.contains(&first) {
                return Err(format!("{node}: {status} {said}"));
            }
        }
        Ok(())
    }

    /// The words of a node's command line.
    pub fn arguments(&self, lab: &Lab, node: &str) -> Vec<String> {
        let others = lab.peer_names().into_iter().filter(|other| other != node);
        let peers = others.map(|other| format!("{other}={}", lab.addresses(&other)[self.join]));
        let listen = lab.addresses(node);
        let listen = listen.iter().take(self.listen).map(IpAddr::to_string);
        let (peers, listen) = (peers.collect::<Vec<_>>().join(","), listen.collect::<Vec<_>>().join(","));
        let seed = self.seed.to_string();
        let words = ["--node", node, "--seed", &seed, "--peers", &peers, "--listen", &listen];
        words.iter().chain(self.faults).map(|word| (*word).to_owned()).collect()
    }
}
