//! What tests of coverage share: peers, refusals, and the coverage of links as a dry run shows it.

use injector_core::api::{Code, InForce, PartitionRequest, Problem};
use injector_lab::until;

use crate::host_lab::HostLab;
use crate::live::daemon::Daemon;

/// Peers with both addresses of a host number.
pub fn peers(lab: &HostLab, peers: &[(&str, u8)]) -> String {
    let peer = |(name, host): &(&str, u8)| {
        format!("{name}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(*host), lab.ipv6(*host))
    };
    peers.iter().map(peer).collect::<Vec<_>>().join(", ")
}

/// The refusal of a partition with links that are not covered. Where the kernel holds up whoever reads hooks, a cut may be
/// carried out before the daemon knows of a program that came just before it; it proves nothing then.
pub fn refused(daemon: &Daemon, request: &PartitionRequest) -> Problem {
    until("it is refused", || match daemon.try_apply("refused", request) {
        Err(problem) => {
            assert_eq!((problem.code, problem.status), (Code::NotCovered, 409), "{problem:?}");
            assert!(daemon.status().partitions.is_empty(), "nothing is cut");
            Some(problem)
        }
        Ok(view) => {
            daemon.heal("refused");
            let record = daemon.record("refused");
            let is_proved = record.links.iter().all(|link| link.in_force == Some(InForce::Yes));
            assert!(!is_proved, "{view:#?}, {record:#?}");
            None
        }
    })
}

/// The state of each link by a dry run, as `n1→n2 covered`.
pub fn states(daemon: &Daemon, request: &PartitionRequest) -> Vec<String> {
    let request = serde_json::to_vec(request).unwrap();
    let (status, view) = daemon.raw("PUT", "/v1/partitions/dry?dry_run=true", &request);
    assert_eq!(status, 200, "{view}");
    let links = view["coverage"].as_array().unwrap();
    let word = |link: &serde_json::Value, key: &str| link[key].as_str().unwrap().to_owned();
    links
        .iter()
        .map(|link| format!("{}→{} {}", word(link, "src"), word(link, "dst"), word(link, "state")))
        .collect()
}

/// A process inside a node's namespace; it ends with the lab.
pub fn process_in(lab: &mut HostLab, node: &str) -> u32 {
    let mut sleep = lab.command(node, "sleep");
    lab.start("sleep", sleep.arg("600")).unwrap();
    let pid = lab.processes().last().unwrap().id();
    // Before that it is `ip`, in the namespace of this test.
    until("the process is in its namespace", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n").then_some(())
    });
    pid
}
