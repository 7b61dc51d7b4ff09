//! Peers on this machine.

use super::*;
use crate::config::{Listen, Netns};

fn peers(text: &str) -> Result<Config, String> {
    Config::parse(&format!("peers: {{ {text} }}\ninterfaces: auto\n"), "test.yaml")
        .map_err(|errors| errors.to_string())
}

#[test]
fn a_peer_is_known_by_the_ports_that_it_listens_on() {
    let config =
        peers("a: { listens: [2379, \"127.0.0.2:80\", \"::1\"] }, b: { listens: [\"2380\"], netns: n }");
    let config = config.unwrap();
    let [a, b] = [0, 1].map(|at| config.peers[at].local.clone().unwrap());
    let v4 = "127.0.0.2".parse().unwrap();
    assert_eq!(
        a.listens(),
        [Listen::Port(2379), Listen::At(v4, 80), Listen::Address("::1".parse().unwrap())]
    );
    assert_eq!((a.netns, b.netns), (None, Some(Netns::Name("n".to_owned()))));
    assert_eq!(config.peers[0].service_address(), Some(v4));
    assert_eq!(config.peers[1].service_address(), Some("127.0.0.1".parse().unwrap()));
    assert_eq!(config.local_spaces().len(), 2);
}

#[test]
fn a_port_belongs_to_one_peer() {
    peers("a: { listens: [\"10.0.0.1:1\"] }, b: { listens: [\"10.0.0.2:1\"] }").unwrap();
    peers("a: { listens: [1] }, b: { listens: [1], netns: n }").unwrap();
}

#[test]
fn a_peer_is_known_by_its_process_cgroup_or_unit() {
    let config =
        peers("a: { pid: 7 }, b: { cgroup: /lab/b }, c: { unit: etcd@1.service, netns: n }").unwrap();
    let by: Vec<String> = config.local_peers().map(|(_, local)| local.by.to_string()).collect();
    assert_eq!(by, ["process 7", "cgroup /lab/b", "unit etcd@1.service"]);
    peers("a: { cgroup: lab/a }, b: { cgroup: /lab/ab }").unwrap();
}
