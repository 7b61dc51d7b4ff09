//! The example service on three peers.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::http::Request;
use super::{Lab, Node};
use crate::build::Programs;

/// Starts the nodes and waits until each has a quorum; answers the config's part about endpoints.
pub fn start(lab: &mut Lab, programs: &Programs) -> Result<String> {
    for node in Node::ALL {
        let peers: Vec<String> =
            node.others().map(|peer| format!("{}={}", peer.name(), peer.ipv4())).collect();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.netns(&node.name())]).arg(programs.quorum());
        command.args(["--node", &node.name(), "--seed", "7", "--peers", &peers.join(",")]);
        command.args(["--listen", &format!("{},{}", node.ipv4(), node.ipv6())]);
        lab.start(&node.name(), &mut command)?;
    }
    lab.wait_until("the first quorum", Duration::from_secs(20), |lab| {
        Node::ALL.into_iter().flat_map(|node| [node.ipv4().into(), node.ipv6().into()]).try_for_each(
            |address| {
                let get = Request { method: "GET", path: "/", json: "" };
                let (status, _) = lab.request(address, 8080, &get).context("asking a node")?;
                ensure!(status == 200, "{address} answers {status}");
                Ok(())
            },
        )
    })?;
    // This service has no late relapses of its own, so a short observation is enough for it.
    Ok(format!(
        r#"endpoints:
  - name: ingress
    peers: [n1, n2, n3]
    role: required
    probe: {{ http: {{ url: "http://{{address}}:8080/", expect: {{ status: 200 }} }}, interval: 10ms, timeout: 1s, connection: fresh }}
    wire: {{ port: 8080, success: http }}
    netns: {client}
ready: {{ consecutive: 5, observe: 4s, observe_max: 30s, tolerate: 0s }}
deadline: 20s
"#,
        client = lab.netns("client")
    ))
}
