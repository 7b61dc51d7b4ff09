//! Restate, each server with a service of its own beside it, calls going through the replicated log.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use injector_lab::http::Request;
use injector_lab::{CLIENT, Lab};

use super::common::{answers, each_peer, roles_by_script, write_script};
use super::system::System;
use crate::build::Programs;
use crate::command::{output, workspace};
use crate::setup::restate::{DEFAULT_VERSION, Release};

/// The port of the fabric: nodes among themselves, and the metadata service.
const FABRIC: u16 = 5122;
const ADMIN: u16 = 9070;
const INGRESS: u16 = 8080;

/// Passes on to the metadata's leader: a read takes a round of its quorum, a write is a write of its log. (`/health`
/// answers on an isolated node too.) It has no `wire`, since the servers call each other on the same port.
const METADATA: &str = "restate.metadata_proxy_svc.MetadataProxySvc";

/// `GetRequest { key: "nodes_config" }` as protobuf, in base64.
const GET: &str = "Cgxub2Rlc19jb25maWc=";
/// `PutRequest` of the key "injector-lab", whose value has the version 1 and the byte "1", whatever is there now.
const PUT: &str = "CgxpbmplY3Rvci1sYWISBwoCCAESATEaAggB";

/// Finds who leads the partition: from the tool's table, whose lines have a node such as `N1:3` before the
/// role.
const ROLES: &str = r#"#!/bin/sh
# roles.sh Leader|Follower: the peers whose partition processor has that role now.
for node in NODES; do
    table=$(RESTATECTL --connect-timeout 500 --request-timeout 1000 --address "http://$node:5122" partitions list) && break
done
printf '%s\n' "$table" | grep -w "$1" | grep -w Active | grep -o '\bN[0-9]*:' | tr -d : | tr N n | grep .
"#;

struct Restate(Release);

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    Ok(Box::new(Restate(Release::new(version.unwrap_or(DEFAULT_VERSION))?)))
}

impl System for Restate {
    fn version(&self) -> Result<String> {
        // `restate-server 1.7.12`
        let said = output(Command::new(self.0.server()).arg("--version"))?;
        Ok(format!("Restate {}", said.trim().rsplit(' ').next().unwrap_or_default()))
    }

    fn install(&self) -> Result<bool> {
        self.0.install()
    }

    fn start(&self, lab: &mut Lab, _programs: &Programs) -> Result<()> {
        let (server, node) = (self.0.server(), self.0.node()?);
        // The service finds its packages beside itself.
        let configs = workspace().join("configs/restate");
        let service = lab.folder().join("service.mjs");
        std::fs::copy(configs.join("service.mjs"), &service).context("copying the service")?;
        std::os::unix::fs::symlink(self.0.modules(), lab.folder().join("node_modules"))
            .context("linking its packages")?;
        let tool = self.0.tool();
        let nodes =
            lab.peer_names().iter().map(|peer| lab.addresses(peer)[0].to_string()).collect::<Vec<_>>();
        let script = ROLES.replace("NODES", &nodes.join(" ")).replace("RESTATECTL", &tool.to_string_lossy());
        write_script(&lab.folder().join("roles.sh"), &script)?;

        let subnet = lab.subnet();
        let fabric = |id: u8| format!("http://{}:{FABRIC}", subnet.ipv4(id));
        let peers: Vec<(u8, String)> = (1..).zip(lab.peer_names()).collect();
        let metadata: Vec<String> = peers.iter().map(|(id, _)| format!("\"{}/\"", fabric(*id))).collect();
        for (id, name) in peers {
            let mut command = lab.command(&name, &server);
            command.args(["--cluster-name", "lab", "--node-name", &name, "--force-node-id", &id.to_string()]);
            command.args(["--auto-provision", if id == 1 { "true" } else { "false" }]);
            command.arg("--config-file").arg(configs.join("restate.toml"));
            command.arg("--base-dir").arg(lab.folder().join(&name));
            command.env("RESTATE_DEFAULT_NUM_PARTITIONS", "1");
            command.env("RESTATE_ADVERTISED_ADDRESS", fabric(id));
            command.env("RESTATE_METADATA_CLIENT__ADDRESSES", format!("[{}]", metadata.join(",")));
            command.env("DO_NOT_TRACK", "true");
            lab.start(&name, &mut command)?;

            let mut command = lab.command(&name, &node);
            lab.start(&format!("{name}-service"), command.arg(&service))?;
        }
        Ok(())
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        // Registering again changes nothing. Each server finds the service in its own namespace.
        let json = br#"{"uri":"http://localhost:9080"}"#;
        answers(lab, (lab.ipv4(1), ADMIN), &Request { method: "POST", path: "/deployments", json })?;
        for role in ["Leader", "Follower"] {
            let mut command = lab.command(CLIENT, lab.folder().join("roles.sh"));
            let peers = output(command.arg(role))?;
            ensure!(!peers.trim().is_empty(), "there is no {role}");
        }
        let mut peers = lab.peer_names().into_iter().zip(1..);
        peers.try_for_each(|(_, host)| answers(lab, (lab.ipv4(host), INGRESS), &Request::get("/Set/0/get")))
    }

    fn endpoints(&self, lab: &Lab) -> String {
        // Probes are load, and a starved Restate suspects its nodes: a fifth of the default rate is plenty here, and less on
        // more peers. Keys vary, since calls on one key queue behind each other.
        let slower = if lab.peer_names().len() > 3 { 2 } else { 1 };
        let [ingress, read, write] = [50, 100, 200].map(|interval| format!("{}ms", interval * slower));
        format!(
            r#"  - name: ingress
    peers: [{peers}]
    role: required
    probe: {{ http: {{ url: "http://{{address}}:{INGRESS}/Set/{{seq}}/get", expect: {{ status: 200 }} }}, interval: {ingress}, timeout: 1s, connection: fresh }}
    wire: {{ port: {INGRESS}, success: http }}
    netns: {client}
  - name: metadata-read
    peers: [{peers}]
    role: advisory
    probe: {{ grpc: {{ target: "{{address}}:{FABRIC}", method: {METADATA}/Get, message: "{GET}" }}, interval: {read}, timeout: 1s, connection: fresh }}
    netns: {client}
  - name: metadata-write
    peers: [{peers}]
    role: advisory
    probe: {{ grpc: {{ target: "{{address}}:{FABRIC}", method: {METADATA}/Put, message: "{PUT}" }}, interval: {write}, timeout: 1s, connection: fresh }}
    netns: {client}
"#,
            peers = each_peer(lab),
            client = lab.netns(CLIENT)
        )
    }

    fn roles(&self, lab: &Lab) -> String {
        roles_by_script(lab, "5s", [("leader", "Leader"), ("followers", "Follower")])
    }

    fn observe(&self) -> Duration {
        // A sequencer that missed a seal backs off for 8 s.
        Duration::from_secs(12)
    }

    fn attempt(&self, lab: &Lab) -> String {
        format!("curl -s http://{}:{INGRESS}/Set/0/get", lab.ipv4(1))
    }
}
