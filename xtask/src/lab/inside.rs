//! Daemons inside guests: each is started and driven by ssh, knows which peer it lives with, and leaves all links between
//! others to them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use injector_lab::{CLIENT, Lab};

use super::common::each_peer;
use super::sshd;
use crate::build::Programs;
use crate::injector::At;

/// The peer whose daemon measures: it is isolated by the campaigns, and leads the example service.
pub(super) const MEASURED: &str = "n1";

/// The config in a guest.
const CONFIG: &str = "/etc/injector/lab.yaml";

/// The time between two probes of the own node, and between two checks whether a node listens. The emulated
/// processor that runs the node and its daemon sends them too: 80 a second, as from a host, were more than it
/// could.
const INTERVAL: &str = "200ms";
const LISTENER_INTERVAL: &str = "500ms";

/// A guest's config as it is kept on the host.
pub(super) fn config_file(lab: &Lab, peer: &str) -> PathBuf {
    lab.folder().join(format!("{peer}.yaml"))
}

/// The config of a guest's daemon, whose times are given. It asks its own node, and the others as far as its cuts let it.
pub(super) fn config(lab: &Lab, peer: &str, times: &str) -> String {
    format!(
        "# Written for the daemon inside {peer}.\n\
         socket: {{ group: root, mode: \"0600\" }}\n\
         {peers}interfaces: [{{ name: eth0 }}]\nhere: [{peer}]\nprotect: [tcp/{port}]\n\
         endpoints:\n{endpoints}\
         roles:\n  leader: {{ http: {{ url: \"http://{{address}}:8080/\", pointer: /leader }} }}\n{times}",
        peers = lab.peers(),
        port = sshd::PORT,
        endpoints = endpoints(lab, peer, None),
    )
}

/// The entries of `endpoints:` of a daemon that measures one peer, asked from a network namespace of the host or from
/// where the daemon runs.
pub(super) fn endpoints(lab: &Lab, peer: &str, from: Option<&str>) -> String {
    let from = from.map_or_else(String::new, |netns| format!("    netns: {netns}\n"));
    format!(
        "\x20 - name: ingress\n    peers: [{peer}]\n    role: required\n    probe: {{ http: {{ url: \
         \"http://{{address}}:8080/\", expect: {{ status: 200 }} }}, connection: fresh, interval: {INTERVAL}, \
         timeout: 1s }}\n{from}\
         \x20 - name: listener\n    peers: [{all}]\n    role: advisory\n    probe: {{ tcp: {{ target: \
         \"{{address}}:8080\" }}, interval: {LISTENER_INTERVAL}, timeout: 1s }}\n{from}",
        all = each_peer(lab),
    )
}

/// Starts the daemon in each guest.
pub(super) fn start(lab: &mut Lab) -> Result<()> {
    println!("Starting a daemon in each guest, by ssh.");
    let peers = lab.peer_names();
    for peer in &peers {
        sshd::connect(lab, peer)?;
        let file = config_file(lab, peer);
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        sshd::write(lab, peer, CONFIG, &text)?;
    }
    // Side by side: an emulated processor takes many seconds to have the programs verified.
    let start = |peer: &String| {
        let mut command = sshd::command(lab, peer, &format!("injector start --config {CONFIG} --detach"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("starting ssh")
    };
    let started = peers.iter().map(start).collect::<Result<Vec<_>>>()?;
    for (peer, child) in peers.iter().zip(started) {
        let output = child.wait_with_output().context("waiting for ssh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the daemon in {peer} does not start: {}", said.trim());
    }
    Ok(())
}

/// The daemon that measures.
pub(super) fn measuring(lab: &Lab) -> At {
    At::Guest { host: sshd::host(lab, MEASURED), ssh: sshd::folder(lab) }
}

/// How the lab is used.
pub(super) fn usage(lab: &Lab, programs: &Programs) -> String {
    let hosts: Vec<String> = lab.peer_names().iter().map(|peer| sshd::host(lab, peer)).collect();
    format!(
        "The lab is up, with a daemon in each guest. As root:\n\
         \x20 ip netns exec {client} curl -s http://{address}:8080/\n\
         \x20 export PATH={ssh}:{programs}:$PATH\n\
         \x20 injector --host {measured} partition isolate {MEASURED} --for 5s --name p\n\
         \x20 injector --host {measured} wait p\n\
         The daemons: {hosts}.",
        client = lab.netns(CLIENT),
        address = lab.addresses(MEASURED)[0],
        ssh = sshd::folder(lab).display(),
        programs = programs.folder.display(),
        measured = sshd::host(lab, MEASURED),
        hosts = hosts.join(", "),
    )
}
