//! Redis with Sentinel, of Debian's packages: a server and a sentinel on each peer.

use std::time::Duration;

use anyhow::{Context as _, Result};
use injector_lab::{CLIENT, Lab};

use super::common::{each_peer, roles_by_script, write_script};
use super::system::{System, one_version};
use crate::build::Programs;
use crate::command::output;
use crate::setup::tree::Tree;

const TREE: Tree = Tree {
    name: "redis",
    packages: &["redis-server", "redis-sentinel", "redis-tools"],
    version: |tree| {
        output(tree.command("usr/bin/redis-cli").arg("--version"))?;
        // `Redis server v=7.0.15 sha=…`
        let said = output(tree.command("usr/bin/redis-server").arg("--version"))?;
        let version = said.split(' ').find_map(|word| word.strip_prefix("v="));
        Ok(format!("Redis {}", version.context("redis-server says no version")?))
    },
};

const SERVER: u16 = 6379;
const SENTINEL: u16 = 26379;

/// The beginning of every script.
const HEAD: &str = "#!/bin/sh\nexport LD_LIBRARY_PATH=LIBRARIES\n";

/// A write as clients make it: to the primary that the peer's sentinel names, and onto one replica at least.
const WRITE: &str = r#"set -- $(CLI -h "$ADDRESS" -p SENTINEL sentinel get-master-addr-by-name lab)
[ -n "$1" ] || exit 1
answer=$(CLI -h "$1" -p SERVER <<END
set lab $SEQ
wait 1 500
END
)
case $answer in *[1-9]) ;; *) exit 1 ;; esac
"#;

/// A read from the peer's own server, which refuses it while its link to the primary is down.
const READ: &str = r#"exec CLI -e -h "$ADDRESS" -p SERVER get lab
"#;

/// `roles.sh leader|followers`: the primary that the sentinels name, or the others.
const ROLES: &str = r#"for address in ADDRESSES; do
    primary=$(CLI -h "$address" -p SENTINEL sentinel get-master-addr-by-name lab | head -n 1)
    [ -n "$primary" ] && break
done
[ -n "$primary" ] || exit 1
[ "$1" = leader ] && echo "$primary" && exit
for address in ADDRESSES; do [ "$address" = "$primary" ] || echo "$address"; done
"#;

struct Redis;

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    one_version("redis", version)?;
    Ok(Box::new(Redis))
}

/// Sentinels of a majority agree on a failover.
fn quorum(lab: &Lab) -> usize {
    lab.peer_names().len() / 2 + 1
}

impl System for Redis {
    fn version(&self) -> Result<String> {
        (TREE.version)(&TREE)
    }

    fn install(&self) -> Result<bool> {
        TREE.install()
    }

    fn start(&self, lab: &mut Lab, _programs: &Programs) -> Result<()> {
        let hosts: Vec<(String, u8)> = lab.peer_names().into_iter().zip(1..).collect();
        let addresses: Vec<String> = hosts.iter().map(|(_, host)| lab.ipv4(*host).to_string()).collect();
        for (file, text) in [("write.sh", WRITE), ("read.sh", READ), ("roles.sh", ROLES)] {
            let text = format!("{HEAD}{text}")
                .replace("LIBRARIES", &TREE.libraries().1.to_string_lossy())
                .replace("CLI", &TREE.path("usr/bin/redis-cli").to_string_lossy())
                .replace("ADDRESSES", &addresses.join(" "))
                .replace("SENTINEL", &SENTINEL.to_string())
                .replace("SERVER", &SERVER.to_string());
            write_script(&lab.folder().join(file), &text)?;
        }
        let first = lab.ipv4(1);
        for (name, host) in hosts {
            let data = lab.folder().join(&name);
            std::fs::create_dir_all(&data).with_context(|| format!("creating {}", data.display()))?;
            let mut server = lab.command(&name, TREE.path("usr/bin/redis-server"));
            server.envs([TREE.libraries()]);
            server.args(["--port", &SERVER.to_string(), "--protected-mode", "no", "--save", "", "--dir"]);
            server.arg(&data);
            // Stale reads and writes are refused: a replica without its primary serves no reads, and a
            // primary without a replica takes no writes.
            server.args(["--replica-serve-stale-data", "no", "--min-replicas-to-write", "1"]);
            server.args(["--min-replicas-max-lag", "2", "--repl-timeout", "3"]);
            server.args(["--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"]);
            if host != 1 {
                server.args(["--replicaof", &first.to_string(), &SERVER.to_string()]);
            }
            lab.start(&name, &mut server)?;

            // A sentinel writes what it learns into its file.
            let file = data.join("sentinel.conf");
            let text = format!(
                "port {SENTINEL}\nprotected-mode no\ndir {data}\nsentinel monitor lab {first} {SERVER} {quorum}\n\
                 sentinel down-after-milliseconds lab 1000\nsentinel failover-timeout lab 5000\n",
                data = data.display(),
                quorum = quorum(lab)
            );
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            let mut sentinel = lab.command(&name, TREE.path("usr/bin/redis-sentinel"));
            sentinel.arg(&file).envs([TREE.libraries()]);
            lab.start(&format!("{name}-sentinel"), &mut sentinel)?;
        }
        Ok(())
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        for host in (1..).take(lab.peer_names().len()) {
            let address = lab.ipv4(host).to_string();
            // Whether it knows enough of the others to fail over.
            let mut known = lab.command(CLIENT, TREE.path("usr/bin/redis-cli"));
            known.args(["-e", "-h", &address, "-p", &SENTINEL.to_string(), "sentinel", "ckquorum", "lab"]);
            output(known.envs([TREE.libraries()]))?;
            for script in ["write.sh", "read.sh"] {
                let mut command = lab.command(CLIENT, lab.folder().join(script));
                output(command.env("ADDRESS", &address).env("SEQ", "0"))?;
            }
        }
        Ok(())
    }

    fn endpoints(&self, lab: &Lab) -> String {
        let of = |name: &str, role: &str, script: &str, interval: &str| {
            format!(
                "  - {{ name: {name}, peers: [{peers}], role: {role}, probe: {{ exec: {{ command: [{script}] }}, \
                 interval: {interval}, timeout: 1s }}, netns: {client} }}\n",
                peers = each_peer(lab),
                script = lab.folder().join(script).display(),
                client = lab.netns(CLIENT)
            )
        };
        // Each probe starts processes, which is load: half a second is often enough to see a failover.
        of("ingress", "required", "write.sh", "500ms") + &of("read", "advisory", "read.sh", "500ms")
    }

    fn roles(&self, lab: &Lab) -> String {
        roles_by_script(lab, "2s", [("leader", "leader"), ("followers", "followers")])
    }

    fn observe(&self) -> Duration {
        Duration::from_secs(6)
    }

    fn attempt(&self, lab: &Lab) -> String {
        format!("env ADDRESS={} SEQ=1 {}", lab.ipv4(1), lab.folder().join("write.sh").display())
    }
}
