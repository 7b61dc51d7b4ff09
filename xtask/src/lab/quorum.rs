//! The example service of this workspace.

use std::time::Duration;

use anyhow::{Error, Result};
use injector_lab::http::Request;
use injector_lab::{CLIENT, Lab, Quorum};

use super::common::{answers, each_peer};
use super::system::{System, one_version};
use crate::build::Programs;

struct Example {
    /// The time between two probes of an ingress.
    interval: &'static str,
}

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    one_version("quorum", version)?;
    Ok(with_interval("10ms"))
}

/// The service with another pause between two probes.
pub(super) fn with_interval(interval: &'static str) -> Box<dyn System> {
    Box::new(Example { interval })
}

impl System for Example {
    fn version(&self) -> Result<String> {
        Ok(format!("quorum {}", env!("CARGO_PKG_VERSION")))
    }

    fn install(&self) -> Result<bool> {
        Ok(false)
    }

    fn start(&self, lab: &mut Lab, programs: &Programs) -> Result<()> {
        Ok(Quorum { program: &programs.quorum(), seed: 7, faults: &[], join: 0, listen: 2 }.start(lab)?)
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        let addresses = lab.peer_names().into_iter().flat_map(|peer| lab.addresses(&peer));
        addresses.into_iter().try_for_each(|address| answers(lab, (address, 8080), &Request::get("/")))?;
        Quorum::agree(lab, CLIENT).map_err(Error::msg)
    }

    fn endpoints(&self, lab: &Lab) -> String {
        format!(
            r#"  - name: ingress
    peers: [{peers}]
    role: required
    probe: {{ http: {{ url: "http://{{address}}:8080/", expect: {{ status: 200 }} }}, interval: {interval}, timeout: 1s, connection: fresh }}
    wire: {{ port: 8080, success: http }}
    netns: {client}
  - name: listener
    peers: [{peers}]
    role: advisory
    probe: {{ tcp: {{ target: "{{address}}:8080" }}, interval: 50ms, timeout: 1s }}
    netns: {client}
"#,
            peers = each_peer(lab),
            interval = self.interval,
            client = lab.netns(CLIENT)
        )
    }

    fn roles(&self, lab: &Lab) -> String {
        format!(
            r#"  leader: {{ http: {{ url: "http://{{address}}:8080/", pointer: /leader }}, netns: {client} }}
  followers: {{ http: {{ url: "http://{{address}}:8080/", pointer: /state, equals: follower }}, netns: {client} }}
"#,
            client = lab.netns(CLIENT)
        )
    }

    fn observe(&self) -> Duration {
        // The quorum program has no late relapses of its own.
        Duration::from_secs(4)
    }

    fn attempt(&self, lab: &Lab) -> String {
        format!("curl -s http://{}:8080/", lab.ipv4(1))
    }
}
