//! Three nodes of Kubernetes, as far as docs/recipes/kubernetes.md needs them: what containerd and a plain plugin of its network
//! leave behind. Each node has a bridge with the cable of a pod, and routes to the other nodes' pods. The page is run on the
//! first node, which has a name for the namespace of its own pod alone.

use std::path::Path;

use injector_lab::http::Request;
use injector_lab::{Lab, PATIENCE};

/// The node of the page.
pub const OWN: &str = "node-1";
/// What the node calls the namespace of its pod.
pub const POD: &str = "cni-5f0d9a5e-7c1b-4d0e-9a57-3c2f8b1d6e40";
/// The network between the nodes.
const FABRIC: &str = "fabric";
/// The page's pods: one on each node.
const PODS: [(&str, &str); 3] = [("db-0", "10.244.1.7"), ("db-1", "10.244.2.9"), ("db-2", "10.244.3.4")];
const PORT: u16 = 5432;

/// Brings them up, with a cluster that serves in the pods.
pub fn up() -> Lab {
    let mut lab = Lab::builder("docs").up().unwrap();
    lab.add(FABRIC);
    lab.bridge(FABRIC, "br0");
    for (number, (pod, address)) in (1..).zip(PODS) {
        join(&mut lab, number);
        run_pod(&mut lab, number, pod, address);
    }
    lab.wait_until("the pods serve", PATIENCE, serve).unwrap();
    hide(&mut lab);
    lab
}

/// Joins a node to the others.
fn join(lab: &mut Lab, number: usize) {
    let (node, port) = (format!("node-{number}"), format!("p{number}"));
    lab.add(&node);
    lab.cable((&node, "eth0"), (FABRIC, &port));
    lab.ip(FABRIC, &format!("link set {port} master br0"));
    lab.ip(&node, &format!("address add 172.18.0.{number}/24 dev eth0"));
    for other in (1..=PODS.len()).filter(|other| *other != number) {
        lab.ip(&node, &format!("route add 10.244.{other}.0/24 via 172.18.0.{other}"));
    }
    lab.sysctl(&node, "ipv4/ip_forward", "1");
    lab.bridge(&node, "cni0");
    lab.ip(&node, &format!("address add 10.244.{number}.1/24 dev cni0"));
}

/// Starts a pod on a node.
fn run_pod(lab: &mut Lab, number: usize, pod: &str, address: &str) {
    let node = format!("node-{number}");
    lab.add(pod);
    lab.cable((&node, "veth0"), (pod, "eth0"));
    lab.ip(&node, "link set veth0 master cni0");
    lab.ip(pod, &format!("address add {address}/24 dev eth0"));
    lab.ip(pod, &format!("route add default via 10.244.{number}.1"));
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples").join("quorum");
    let others = PODS.iter().filter(|(other, _)| *other != pod);
    let others: Vec<String> = others.map(|(other, address)| format!("{other}={address}")).collect();
    let mut command = lab.command(pod, &program);
    command.args(["--node", pod, "--seed", "1", "--peers", &others.join(","), "--listen", address]);
    command.args(["--port", &PORT.to_string()]);
    lab.start(pod, &mut command).unwrap();
}

/// Leaves the one name that the first node has.
fn hide(lab: &mut Lab) {
    for (number, (pod, _)) in (1..).zip(PODS) {
        lab.hide(pod);
        lab.hide(&format!("node-{number}"));
    }
    lab.hide(FABRIC);
    let name = format!("/run/netns/{POD}");
    std::fs::write(&name, "").unwrap();
    lab.run(PODS[0].0, "mount", &["--bind", "/proc/self/ns/net", &name]);
}

/// Whether each pod serves the node of the page.
fn serve(lab: &Lab) -> Result<(), String> {
    for (pod, address) in PODS {
        let at = (address.parse().unwrap(), PORT);
        let (status, said) =
            lab.request(OWN, at, &Request::get("/")).map_err(|error| format!("{pod}: {error}"))?;
        if status != 200 {
            return Err(format!("{pod}: {status} {said}"));
        }
    }
    Ok(())
}
