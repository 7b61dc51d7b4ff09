//! Peers on this machine.

use super::*;
use crate::config::{Listen, Netns};

fn peers(text: &str) -> Result<Config, String> {
    Config::parse(&format!("peers: {{ {text} }}\ninterfaces: auto\n"), "test.yaml")
        .map_err(|errors| errors.to_string())
}

fn refused(text: &str, what: &str) {
    let errors = peers(text).unwrap_err();
    assert!(errors.contains(what), "{text}: {errors}");
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
    refused(
        "a: { listens: [1] }, b: { listens: [1] }",
        "port 1 is a's too (port 1, at peers.a.listens[0], line 1)",
    );
    refused(
        "a: { listens: [\"10.0.0.1\"] }, b: { listens: [1] }",
        "port 1 is a's too (every port of 10.0.0.1",
    );
    refused("a: { listens: [1, \"1\"] }", "port 1 is given twice, first at peers.a.listens[0], line 1");
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

#[test]
fn what_can_not_be_a_listening_port_is_refused_with_the_remedy() {
    for (text, what) in [
        ("a: { listens: [] }", "the list of ports is empty"),
        ("a: { listens: [0] }", "write a whole number from 1 to 65535"),
        ("a: { listens: [70000] }", "write a whole number from 1 to 65535"),
        ("a: { listens: [\"10.0.0.1:0\"] }", "0 is no port"),
        ("a: { listens: [\"0.0.0.0:1\"] }", "write the port alone"),
        ("a: { listens: [\"224.0.0.1:1\"] }", "224.0.0.1 is multicast"),
        ("a: { listens: [\"::ffff:10.0.0.1\"] }", "write 10.0.0.1"),
        ("a: { listens: [http] }", "\"http\" is neither a port nor an address"),
        ("a: { listens: [1], addresses: [10.0.0.1] }", "addresses names what comes from elsewhere"),
        ("a: { addresses: [10.0.0.1], netns: n }", "only a peer on this machine"),
        ("a: { listens: [1], pid: 7 }", "pid and listens both say which processes"),
        ("a: { pid: 0 }", "write a whole number from 1"),
        ("a: { pid: 7 }, b: { pid: 7 }", "process 7 is a's too, at peers.a.pid, line 1"),
        ("a: { cgroup: / }", "the root of all cgroups is everybody's"),
        ("a: { cgroup: /x/../y }", "\"/x/../y\" is not the path of a cgroup"),
        (
            "a: { cgroup: /lab }, b: { cgroup: /lab/b }",
            "cgroup /lab/b is within a's cgroup /lab, at peers.a.cgroup",
        ),
        ("a: { unit: a/b }", "\"a/b\" is not the name of a unit"),
        ("a: { unit: etcd }", "\"etcd\" is not the name of a unit"),
        ("a: { unit: x.service }, b: { unit: x.service }", "unit x.service is a's too"),
    ] {
        refused(text, what);
    }
}
