//! The lab's network: a switch, three peers and a client, each in a namespace named after this process.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Node;
use crate::command::output;

const SWITCH: &str = "sw";
const CLIENT: &str = "client";

/// The namespaces; dropped, they are gone.
pub struct Network {
    /// `inj1234-`: whoever finds a namespace can tell whether its maker still lives.
    prefix: String,
    made: Vec<String>,
}

impl Network {
    /// Makes the namespaces, the bridge and the links between them.
    pub fn create() -> Result<Self> {
        let mut network = Self { prefix: format!("inj{}-", std::process::id()), made: Vec::new() };
        for of in [SWITCH, CLIENT].map(str::to_owned).into_iter().chain(Node::ALL.map(Node::name)) {
            let name = network.name(&of);
            output(ip().args(["netns", "add", &name]))?;
            network.made.push(name);
        }
        let switch = network.name(SWITCH);
        // Snooping would hold back neighbour discovery until a querier is known.
        in_netns(&switch, "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        in_netns(&switch, "link set br0 up")?;
        for node in Node::ALL {
            network.join(&node.name(), &node.ipv4().to_string(), &node.ipv6().to_string())?;
        }
        network.join(CLIENT, "10.99.0.254", "fd99::fe")?;
        Ok(network)
    }

    /// A namespace's name, such as `inj1234-n1`.
    pub fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// A namespace's file.
    pub fn file(&self, of: &str) -> PathBuf {
        Path::new("/run/netns").join(self.name(of))
    }

    /// A veth pair between the switch and a namespace, whose end is named `eth0`.
    fn join(&self, of: &str, ipv4: &str, ipv6: &str) -> Result<()> {
        let (switch, netns) = (self.name(SWITCH), self.name(of));
        in_netns(&switch, &format!("link add v-{of} type veth peer name eth0 netns {netns}"))?;
        in_netns(&switch, &format!("link set v-{of} master br0 up"))?;
        in_netns(&netns, "link set lo up")?;
        in_netns(&netns, &format!("address add {ipv4}/24 dev eth0"))?;
        // Without duplicate address detection it can be used at once.
        in_netns(&netns, &format!("address add {ipv6}/64 dev eth0 nodad"))?;
        in_netns(&netns, "link set eth0 up")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The links go with their namespaces.
        for name in &self.made {
            if let Err(error) = output(ip().args(["netns", "delete", name])) {
                eprintln!("namespace {name} stays behind: {error:#}");
            }
        }
    }
}

fn in_netns(netns: &str, words: &str) -> Result<()> {
    output(ip().args(["-netns", netns]).args(words.split(' '))).map(drop)
}

fn ip() -> Command {
    let mut ip = Command::new("ip");
    // A signal to the terminal's group must not stop a step of the teardown.
    std::os::unix::process::CommandExt::process_group(&mut ip, 0);
    ip
}

/// Removes namespaces whose makers died without doing it (SIGKILL), and what still runs inside them.
pub fn remove_leftovers() -> Result<()> {
    for line in output(ip().args(["netns", "list"]))?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if !maker(name).is_some_and(is_dead) {
            continue;
        }
        println!("Removing namespace {name}, left behind by a process that is gone.");
        for pid in output(ip().args(["netns", "pids", name]))?.lines().filter_map(|pid| pid.parse().ok()) {
            // SAFETY: kill has no memory effects; the pid was just listed inside a namespace of ours.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        // Another run may be removing the same one.
        let _ = output(ip().args(["netns", "delete", name]));
    }
    Ok(())
}

/// The process that a namespace is named after, if it is one of ours.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix("inj")?.split_once('-')?.0.parse().ok()
}

/// Whether a process is gone. A pid that was given to another process counts as alive: nothing is removed then.
pub fn is_dead(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_our_prefix_and_a_pid_have_a_maker() {
        assert_eq!(maker("inj1234-n1"), Some(1234));
        assert_eq!(maker("inj7-client"), Some(7));
        for other in ["n1", "inj-n1", "injector-1", "inj12x-n1", "inj1234"] {
            assert_eq!(maker(other), None, "{other}");
        }
        assert!(!is_dead(std::process::id()));
    }
}
