//! The interfaces that a start with a config would attach to, and the links that it would leave uncovered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::check::Remark;
use crate::address::is_link_local;
use crate::daemon::attachment::reading::FactsReading;
use crate::daemon::attachment::{MOST_PEERS, Preview, Target};
use crate::datapath::{Clocks, Kernel};
use crate::discovery::local::LocalProcesses;
use crate::discovery::places::Namespace;
use crate::netns::{Listed, Workers};
use injector_core::api::{CoverageState, CoverageSummary, LinkCoverageView};
use injector_core::config::{Config, ContainerRef, LocalPeer, Netns};
use injector_core::containers::ContainerStates;
use injector_core::model::PeerId;

/// A peer on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct LocalPeerCheck {
    /// The peer.
    pub peer: String,
    /// The key of the config that identifies it, in words.
    pub by: String,
    /// Its processes now, each with its name.
    pub processes: Vec<String>,
    /// Why not all of its frames can be identified; `null` if they can.
    pub error: Option<String>,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<String>,
}

/// The interfaces that a start would attach to, and what they cover.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Network {
    /// The reason why the daemon can't start with this config here; `null` if it can.
    pub error: Option<String>,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
    /// The interfaces that it would attach to.
    pub targets: Vec<Target>,
    /// The peers on this machine.
    pub local: Vec<LocalPeerCheck>,
    /// Peers that are not found, not wholly, or not where the config says.
    pub doubts: Vec<Remark>,
    /// The coverage of the links between the peers; `null` if that was not computed.
    pub coverage: Option<CoverageSummary>,
}

/// The places that the doctor has read, for the checks after it.
#[derive(Default)]
pub(super) struct HostSurvey {
    pub spaces: Vec<Namespace>,
    pub homes: BTreeMap<PeerId, Option<Netns>>,
    pub workers: Workers,
    /// The addresses of peers that are containers.
    pub contained: BTreeMap<PeerId, Vec<IpAddr>>,
}

impl HostSurvey {
    /// Reads the containers that run, where others keep the daemon from starting: their endpoints can be
    /// asked all the same.
    async fn inside(config: &Config, containers: &ContainerStates) -> Self {
        let mut workers = Workers::default();
        // A container that can't be entered is not found, and its endpoint is not asked.
        let _ = workers.contain(containers).await;
        let netns = |container: &ContainerRef| Some(Netns::Container(container.clone()));
        let mut reading = FactsReading::new(&mut workers, true, &Listed::new()).await;
        reading.at(config.containers().map(|(_, container)| netns(container))).await;
        let spaces = reading.done().await.known;
        let addresses = |(peer, container): (PeerId, &ContainerRef)| {
            let space = spaces.iter().find(|space| space.netns == netns(container))?;
            let mut held = space.facts.addresses.clone();
            held.retain(|(_, address)| is_reached_from_elsewhere(*address));
            held.sort_by_key(|(index, address)| (address.is_ipv6(), *index));
            Some((peer, held.into_iter().map(|(_, address)| address).collect()))
        };
        let contained = config.containers().filter_map(addresses).collect();
        Self { spaces, homes: BTreeMap::new(), workers, contained }
    }
}

fn is_reached_from_elsewhere(address: IpAddr) -> bool {
    !is_link_local(address) && !address.is_loopback()
}

impl Network {
    /// Whether the daemon would not start, or would refuse to cut some link.
    pub fn prevents(&self) -> bool {
        self.error.is_some() || self.coverage.as_ref().is_some_and(|all| all.partly + all.not > 0)
    }

    /// The findings where the daemon can't start.
    fn refused(error: String) -> Self {
        let remedy = Some("correct the config, or make on this host what it names");
        Self { error: Some(error), remedy, ..Self::default() }
    }

    /// Surveys the network as a start does, and attaches nothing.
    pub(super) async fn of(
        config: &Config,
        containers: Result<ContainerStates, String>,
        refused: Option<String>,
    ) -> (Self, HostSurvey) {
        let failed = |error: String| (Self::refused(error), HostSurvey::default());
        let containers = match containers {
            Ok(containers) => containers,
            Err(error) => return failed(error),
        };
        if let Some(error) = refused {
            return (Self::refused(error), HostSurvey::inside(config, &containers).await);
        }
        let kernel = match Kernel::load(config, Clocks::Real) {
            Ok(kernel) => kernel,
            Err(error) => return failed(error.to_string()),
        };
        match Preview::of(config, &kernel, containers).await {
            Ok(seen) => (
                Self {
                    error: None,
                    remedy: None,
                    targets: seen.targets,
                    local: local_peers(config, &seen.local),
                    doubts: {
                        let found = seen.mismatches.into_iter().map(|it| Remark::new(it.found, it.remedy));
                        found.chain(seen.coverage.is_none().then(not_judged)).collect()
                    },
                    coverage: seen.coverage.map(|summary| with_remedies(config, summary)),
                },
                HostSurvey {
                    spaces: seen.spaces,
                    homes: seen.homes,
                    workers: seen.workers,
                    contained: seen.contained,
                },
            ),
            Err(error) => failed(error.to_string()),
        }
    }
}

/// Says that there are too many links to judge each.
fn not_judged() -> Remark {
    Remark::new(
        format!(
            "whether all links would pass a hook is not judged: the config has more than {MOST_PEERS} peers"
        ),
        "ask for a cut before it is made: `injector partition SHAPE --dry-run`",
    )
}

fn local_peers(config: &Config, observed: &LocalProcesses) -> Vec<LocalPeerCheck> {
    let check = |(peer, local): (PeerId, &LocalPeer)| {
        let seen = observed.peers.get(&peer).cloned().unwrap_or_default();
        let (error, remedy) = match seen.doubt {
            Some(doubt) => (Some(doubt.why), doubt.remedy),
            None if seen.processes.is_empty() => {
                (None, Some("start it, or correct what it is known by; it is followed when it comes"))
            }
            None => (None, None),
        };
        LocalPeerCheck {
            peer: config.names.name(peer).to_owned(),
            by: local.by.to_string(),
            processes: seen.processes.iter().map(ToString::to_string).collect(),
            error,
            remedy: remedy.map(str::to_owned),
        }
    };
    config.local_peers().map(check).collect()
}

/// Links of a peer that is nowhere in sight have no remedy of their own: the peer has.
fn with_remedies(config: &Config, mut summary: CoverageSummary) -> CoverageSummary {
    for link in &mut summary.links {
        if link.remedy.is_none() && link.state != CoverageState::Covered {
            link.remedy = Some(remedy(config, link));
        }
    }
    summary
}

fn remedy(config: &Config, link: &LinkCoverageView) -> String {
    let is_auto = config.interfaces == injector_core::config::Interfaces::Auto;
    match (link.state, is_auto) {
        (CoverageState::Unknown, _) => format!(
            "a cut continues with a warning; `--verify active` shows whether it holds, and naming all devices of {} or {} in the config settles it",
            link.src, link.dst
        ),
        (_, true) => format!(
            "correct the addresses of {0} and {1} if they are not theirs, start both and let them send something, or name the interface of one of them: vm: {{ interface: NAME }} at the peer",
            link.src, link.dst
        ),
        (_, false) => format!(
            "add the interface by which {} or {} sends to `interfaces`, or write `interfaces: auto`",
            link.src, link.dst
        ),
    }
}
