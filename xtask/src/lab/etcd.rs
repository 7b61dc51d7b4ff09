//! etcd, of Debian's package.

use std::time::Duration;

use anyhow::Result;
use injector_lab::http::Request;
use injector_lab::{CLIENT, Lab};

use super::common::{answers, each_peer};
use super::system::{System, one_version};
use crate::build::Programs;
use crate::command::output;
use crate::setup::tree::Tree;

const TREE: Tree = Tree {
    name: "etcd",
    packages: &["etcd-server"],
    version: |tree| {
        let said = output(tree.command("usr/bin/etcd").arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().replace("etcd Version:", "etcd"))
    },
};

/// The ports for clients, and among members.
const CLIENTS: u16 = 2379;
const MEMBERS: u16 = 2380;

struct Etcd;

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    one_version("etcd", version)?;
    Ok(Box::new(Etcd))
}

impl System for Etcd {
    fn version(&self) -> Result<String> {
        (TREE.version)(&TREE)
    }

    fn install(&self) -> Result<bool> {
        TREE.install()
    }

    fn start(&self, lab: &mut Lab, _programs: &Programs) -> Result<()> {
        let hosts = || lab.peer_names().into_iter().zip(1..);
        let url = |host, port| format!("http://{}:{port}", lab.ipv4(host));
        let members: Vec<String> =
            hosts().map(|(name, host)| format!("{name}={}", url(host, MEMBERS))).collect();
        let commands = hosts().map(|(name, host)| {
            let mut command = lab.command(&name, TREE.path("usr/bin/etcd"));
            command.args(["--name", &name, "--data-dir"]).arg(lab.folder().join(&name));
            for (option, port) in [("client", CLIENTS), ("peer", MEMBERS)] {
                let at = url(host, port);
                command.args([format!("--listen-{option}-urls"), at.clone()]);
                // The options are `initial-advertise-peer-urls` for members, and `advertise-client-urls` for
                // clients.
                let first = if option == "peer" { "initial-" } else { "" };
                command.args([format!("--{first}advertise-{option}-urls"), at]);
            }
            command.args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"]);
            // A member says which state it is in only there.
            command.arg("--enable-v2=true");
            // Old versions of the keys that probes write are compacted away.
            command.args(["--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000"]);
            (name, command)
        });
        let commands: Vec<_> = commands.collect();
        for (name, mut command) in commands {
            lab.start(&name, &mut command)?;
        }
        Ok(())
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        let mut peers = lab.peer_names().into_iter().zip(1..);
        peers.try_for_each(|(_, host)| answers(lab, (lab.ipv4(host), CLIENTS), &Request::get("/health")))
    }

    fn endpoints(&self, lab: &Lab) -> String {
        // `/health` is 200 only where a read by the quorum succeeds. "bGFi" is "lab" in base64.
        format!(
            r#"  - name: ingress
    peers: [{peers}]
    role: required
    probe: {{ http: {{ url: "http://{{address}}:{CLIENTS}/health" }}, interval: 50ms, timeout: 2s }}
    wire: {{ port: {CLIENTS}, success: http }}
    netns: {client}
  - name: write
    peers: [{peers}]
    role: advisory
    probe:
      http: {{ url: "http://{{address}}:{CLIENTS}/v3/kv/put", method: POST, body: '{{"key": "bGFi", "value": "bGFi"}}' }}
      interval: 100ms
      timeout: 2s
    netns: {client}
"#,
            peers = each_peer(lab),
            client = lab.netns(CLIENT)
        )
    }

    fn roles(&self, lab: &Lab) -> String {
        format!(
            r#"  leader:
    http: {{ url: "http://{{address}}:{CLIENTS}/v3/maintenance/status", method: POST, body: "{{}}", pointer: /leader, same_as: /header/member_id }}
    netns: {client}
  followers:
    http: {{ url: "http://{{address}}:{CLIENTS}/v2/stats/self", pointer: /state, equals: StateFollower }}
    netns: {client}
"#,
            client = lab.netns(CLIENT)
        )
    }

    fn observe(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn attempt(&self, lab: &Lab) -> String {
        format!("curl -s http://{}:{CLIENTS}/health", lab.ipv4(1))
    }
}
