//! The example service on the peers of a lab.

use std::net::IpAddr;
use std::path::Path;

use crate::error::Error;
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
    /// Which address of a peer the others join by: the place in [`Lab::addresses`].
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
        let nodes = lab.peer_names();
        for node in &nodes {
            let others = nodes.iter().filter(|other| *other != node);
            let peers = others.map(|other| format!("{other}={}", lab.addresses(other)[self.join]));
            let listen = lab.addresses(node);
            let listen = listen.iter().take(self.listen).map(IpAddr::to_string);
            let mut command = lab.command(node, self.program);
            command.args(["--node", node, "--seed", &self.seed.to_string()]);
            command.args(["--peers", &peers.collect::<Vec<_>>().join(",")]);
            command.args(["--listen", &listen.collect::<Vec<_>>().join(",")]).args(self.faults);
            lab.start(node, &mut command)?;
        }
        Ok(())
    }
}
