//! `RabbitMQ` with a quorum queue, of Debian's package.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use injector_lab::{CLIENT, Lab};
use serde_json::Value;

use super::common::{each_peer, roles_by_script, write_script};
use super::system::{System, one_version};
use crate::build::Programs;
use crate::command::output;
use crate::setup::packages::Packages;
use crate::setup::tree::Tree;

const ERLANG: &str = "usr/lib/erlang";

const TREE: Tree = Tree {
    name: "rabbitmq",
    packages: &["rabbitmq-server"],
    version: |tree| {
        // Erlang needs to run, with its cryptography.
        let mut erl = Command::new("sh");
        erl.args(["-c", &erl_script(tree), "erl", "-noshell", "-eval"]);
        output(erl.arg("ok = crypto:start(), halt().").envs([tree.libraries()]))?;
        let servers = tree.path("usr/lib/rabbitmq/lib");
        let entries = fs::read_dir(&servers).with_context(|| format!("reading {}", servers.display()))?;
        let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let version = names.find_map(|name| name.strip_prefix("rabbitmq_server-").map(str::to_owned));
        Ok(format!("RabbitMQ {}", version.context("there is no server in the package")?))
    },
};

/// The queue, as the management's paths name it. The virtual host is `/`.
const QUEUE: &str = "/api/queues/%2F/lab";
const MANAGEMENT: u16 = 15672;
/// `guest:guest` in base64.
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// `roles.sh leader|followers`: of the queue. The management of any peer knows it.
const ROLES: &str = r#"#!/bin/sh
for address in ADDRESSES; do
    queue=$(curl -sf -m 2 -u guest:guest "http://$address:MANAGEMENTQUEUE") && break
done
leader=$(printf %s "$queue" | grep -o '"leader":"rabbit@[^"]*"' | cut -d@ -f2 | tr -d '"')
[ -n "$leader" ] || exit 1
[ "$1" = leader ] && echo "$leader" && exit
for address in ADDRESSES; do [ "$address" = "$leader" ] || echo "$address"; done
"#;

struct RabbitMq;

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    one_version("rabbitmq", version)?;
    Ok(Box::new(RabbitMq))
}

/// Starts Erlang where it was unpacked; the package's own script expects it where it would be installed.
fn erl_script(tree: &Tree) -> String {
    format!(
        "export ROOTDIR={} EMU=beam PROGNAME=erl\nBINDIR=$(echo $ROOTDIR/erts-*/bin)\nexport BINDIR\nexec $BINDIR/erlexec \"$@\"\n",
        tree.path(ERLANG).display()
    )
}

/// Asks the management of the first peer, from the client.
fn ask(lab: &Lab, method: &str, path: &str, json: &str) -> Result<Value> {
    let mut curl = lab.command(CLIENT, "curl");
    curl.args(["-sSf", "-m", "5", "-u", "guest:guest", "-X", method]);
    if !json.is_empty() {
        curl.args(["-H", "content-type: application/json", "-d", json]);
    }
    let answer = output(curl.arg(format!("http://{}:{MANAGEMENT}{path}", lab.ipv4(1))))?;
    if answer.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&answer).context(answer) }
}

impl System for RabbitMq {
    fn version(&self) -> Result<String> {
        (TREE.version)(&TREE)
    }

    fn install(&self) -> Result<bool> {
        let curl = Packages::default().program("curl", "curl").install("asking RabbitMQ who leads")?;
        Ok(TREE.install()? | curl)
    }

    fn start(&self, lab: &mut Lab, _programs: &Programs) -> Result<()> {
        let hosts: Vec<(String, u8)> = lab.peer_names().into_iter().zip(1..).collect();
        let programs = lab.folder().join("bin");
        fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
        write_script(&programs.join("erl"), &format!("#!/bin/sh\n{}", erl_script(&TREE)))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?;

        let addresses: Vec<String> = hosts.iter().map(|(_, host)| lab.ipv4(*host).to_string()).collect();
        let roles = ROLES
            .replace("ADDRESSES", &addresses.join(" "))
            .replace("MANAGEMENT", &MANAGEMENT.to_string())
            .replace("QUEUE", QUEUE);
        write_script(&lab.folder().join("roles.sh"), &roles)?;

        let nodes = addresses.iter().zip(1..);
        let nodes = nodes
            .map(|(address, at)| format!("cluster_formation.classic_config.nodes.{at} = rabbit@{address}"));
        let nodes = nodes.collect::<Vec<_>>().join("\n");
        for (name, host) in hosts {
            let folder = lab.folder().join(&name);
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
            let [config, plugins] = ["rabbitmq.conf", "enabled_plugins"].map(|file| folder.join(file));
            let text = format!(
                "loopback_users = none\nmanagement.tcp.port = {MANAGEMENT}\ndisk_free_limit.absolute = 10MB\n\
                 vm_memory_high_watermark.absolute = 500MB\ncluster_partition_handling = pause_minority\n\
                 cluster_formation.peer_discovery_backend = classic_config\n\
                 cluster_formation.randomized_startup_delay_range.min = 0\n\
                 cluster_formation.randomized_startup_delay_range.max = 1\n{nodes}\n"
            );
            fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
            fs::write(&plugins, "[rabbitmq_management].\n")
                .with_context(|| format!("writing {}", plugins.display()))?;

            // Erlang would leave a port mapper of its own behind.
            let mut mapper = lab.command(&name, TREE.path(ERLANG).join("bin/epmd"));
            lab.start(&format!("{name}-epmd"), mapper.envs([TREE.libraries()]))?;
            let mut server = lab.command(&name, TREE.path("usr/lib/rabbitmq/bin/rabbitmq-server"));
            server.envs([TREE.libraries()]).env("PATH", &path).env("HOME", &folder);
            // The script becomes the server, rather than waiting for it.
            server.env("detached", "1");
            server.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-setcookie lab");
            server.env("RABBITMQ_NODENAME", format!("rabbit@{}", lab.ipv4(host)));
            server.env("RABBITMQ_USE_LONGNAME", "true").env("RABBITMQ_LOGS", "-");
            server.env("RABBITMQ_CONFIG_FILE", &config).env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins);
            for (variable, file) in [
                ("RABBITMQ_MNESIA_BASE", "data"),
                ("RABBITMQ_LOG_BASE", "log"),
                ("RABBITMQ_PID_FILE", "pid"),
                ("RABBITMQ_FEATURE_FLAGS_FILE", "feature_flags"),
                ("RABBITMQ_CONF_ENV_FILE", "none"),
                ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ] {
                server.env(variable, folder.join(file));
            }
            lab.start(&name, &mut server)?;
        }
        Ok(())
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        let all = lab.peer_names().len();
        let nodes = ask(lab, "GET", "/api/nodes", "")?;
        let up =
            nodes.as_array().map_or(0, |nodes| nodes.iter().filter(|node| node["running"] == true).count());
        ensure!(up == all, "{up} of {all} nodes are in the cluster");
        // A queue that exists already is left as it is. Its length is limited: nobody reads what probes
        // publish.
        let queue = r#"{"durable": true, "arguments": {"x-queue-type": "quorum", "x-max-length": 100}}"#;
        ask(lab, "PUT", QUEUE, queue)?;
        let queue = ask(lab, "GET", QUEUE, "")?;
        let online = queue["online"].as_array().map_or(0, Vec::len);
        ensure!(online == all, "{online} of {all} members of the queue are online");
        Ok(())
    }

    fn endpoints(&self, lab: &Lab) -> String {
        // The answer comes once a majority of the queue's members has the message. A parameter is written on every node.
        format!(
            r#"  - name: ingress
    peers: [{peers}]
    role: required
    probe:
      http:
        url: "http://{{address}}:{MANAGEMENT}/api/exchanges/%2F/amq.default/publish"
        method: POST
        headers: {{ authorization: "{GUEST}", content-type: application/json }}
        body: '{{"properties": {{}}, "routing_key": "lab", "payload": "{{seq}}", "payload_encoding": "string"}}'
        expect: {{ body_contains: '"routed":true' }}
      interval: 100ms
      timeout: 2s
    wire: {{ port: {MANAGEMENT}, success: http }}
    netns: {client}
  - name: metadata
    peers: [{peers}]
    role: advisory
    probe:
      http:
        url: "http://{{address}}:{MANAGEMENT}/api/global-parameters/lab"
        method: PUT
        headers: {{ authorization: "{GUEST}", content-type: application/json }}
        body: '{{"value": "{{seq}}"}}'
      interval: 200ms
      timeout: 2s
    netns: {client}
"#,
            peers = each_peer(lab),
            client = lab.netns(CLIENT)
        )
    }

    fn roles(&self, lab: &Lab) -> String {
        roles_by_script(lab, "5s", [("leader", "leader"), ("followers", "followers")])
    }

    fn observe(&self) -> Duration {
        Duration::from_secs(12)
    }

    fn attempt(&self, lab: &Lab) -> String {
        format!("curl -s -u guest:guest http://{}:{MANAGEMENT}{QUEUE}", lab.ipv4(1))
    }
}
