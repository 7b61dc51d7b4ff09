//! Three Restate servers, each with a service of its own beside it, calls going through the replicated log.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::http::Request;
use super::{Lab, Node};
use crate::command::{output, workspace};
use crate::setup::{node_program, restate_folder};

/// The port of the fabric: nodes among themselves, and the metadata service.
const FABRIC: u16 = 5122;
const ADMIN: u16 = 9070;
const INGRESS: u16 = 8080;

/// `GetRequest { key: "nodes_config" }` as protobuf, in base64.
const GET_NODES_CONFIG: &str = "Cgxub2Rlc19jb25maWc=";

/// Starts servers and services, registers the service, and waits until every node answers through the log; answers
/// the config's part about endpoints.
pub fn start(lab: &mut Lab) -> Result<String> {
    let modules = restate_folder().join("node_modules");
    let server = modules.join("@restatedev/restate-server-linux-x64/bin/restate-server");
    let node_program = node_program().context("there is no Node; run cargo xtask setup restate")?;

    // The service finds its packages beside itself.
    let configs = workspace().join("configs/restate");
    let service = lab.folder().join("service.mjs");
    std::fs::copy(configs.join("service.mjs"), &service).context("copying the service")?;
    std::os::unix::fs::symlink(&modules, lab.folder().join("node_modules"))
        .context("linking its packages")?;

    let fabric = |node: Node| format!("http://{}:{FABRIC}", node.ipv4());
    let metadata: Vec<String> = Node::ALL.map(|node| format!("\"{}/\"", fabric(node))).to_vec();
    for (id, node) in (1..).zip(Node::ALL) {
        let name = node.name();
        let netns = lab.netns(&name);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns]).arg(&server);
        command.args(["--cluster-name", "lab", "--node-name", &name, "--force-node-id", &format!("{id}")]);
        command.args(["--auto-provision", if id == 1 { "true" } else { "false" }]);
        command.arg("--config-file").arg(configs.join("restate.toml"));
        command.arg("--base-dir").arg(lab.folder().join(&name));
        command.env("RESTATE_DEFAULT_NUM_PARTITIONS", "1");
        command.env("RESTATE_ADVERTISED_ADDRESS", fabric(node));
        command.env("RESTATE_METADATA_CLIENT__ADDRESSES", format!("[{}]", metadata.join(",")));
        command.env("DO_NOT_TRACK", "true");
        lab.start(&name, &mut command)?;

        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns]).arg(&node_program).arg(&service);
        lab.start(&format!("{name}-service"), &mut command)?;
    }

    println!("Waiting for the Restate cluster.");
    let first: IpAddr = Node::ALL[0].ipv4().into();
    lab.wait_until("registering the service", Duration::from_mins(1), |lab| {
        // Each server finds the service in its own namespace.
        let json = r#"{"uri":"http://localhost:9080"}"#;
        let (status, answer) =
            lab.request(first, ADMIN, &Request { method: "POST", path: "/deployments", json })?;
        ensure!((200..300).contains(&status), "{status}: {answer}");
        Ok(())
    })?;
    let restatectl = modules.join("@restatedev/restatectl-linux-x64/bin/restatectl");
    lab.wait_until("a leader and a follower", Duration::from_mins(1), |lab| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.netns(&Node::ALL[0].name())]).arg(&restatectl);
        let list = output(command.args(["--address", &fabric(Node::ALL[0]), "partitions", "list"]))?;
        let active = |role: &str| list.lines().any(|line| line.contains(role) && line.contains("Active"));
        ensure!(active("Leader") && active("Follower"), "{list}");
        Ok(())
    })?;
    lab.wait_until("an answer from every node", Duration::from_mins(1), |lab| {
        for node in Node::ALL {
            let get = Request { method: "GET", path: "/Set/0/get", json: "" };
            let (status, answer) = lab.request(node.ipv4().into(), INGRESS, &get)?;
            ensure!(status == 200, "{}: {status}: {answer}", node.name());
        }
        Ok(())
    })?;
    // Probes are load, and a starved Restate suspects its nodes: a fifth of the default rate is plenty here.
    Ok(format!(
        r#"endpoints:
  - name: ingress
    peers: [n1, n2, n3]
    role: required
    probe: {{ http: {{ url: "http://{{address}}:{INGRESS}/Set/{{seq}}/get", expect: {{ status: 200 }} }}, interval: 50ms, timeout: 1s, connection: fresh }}
    wire: {{ port: {INGRESS}, success: http }}
    netns: {client}
  - name: metadata
    peers: [n1, n2, n3]
    role: advisory
    probe: {{ grpc: {{ target: "{{address}}:{FABRIC}", method: restate.metadata_proxy_svc.MetadataProxySvc/Get, message: "{GET_NODES_CONFIG}" }}, interval: 100ms, timeout: 1s, connection: fresh }}
    wire: {{ port: {FABRIC}, success: grpc }}
    netns: {client}
ready: {{ consecutive: 5, observe: 12s, observe_max: 60s, tolerate: 0s }}
deadline: 20s
"#,
        client = lab.netns("client")
    ))
}
