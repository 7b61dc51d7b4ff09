//! Previews a start for `doctor`: what it would attach to and what that would cover, found without attaching
//! anything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::EventSinks;
use super::Interfaces;
use super::entry::Entry;
use crate::daemon::start_error::StartError;
use crate::datapath::{Kernel, all_names};
use crate::discovery::local::LocalProcesses;
use crate::discovery::mismatch::Mismatch;
use crate::discovery::places::Namespace;
use crate::netns::Workers;
use injector_core::api::CoverageSummary;
use injector_core::clock::TimeRange;
use injector_core::config::{Config, Hook, Netns};
use injector_core::containers::ContainerStates;
use injector_core::model::PeerId;

/// An interface that a start would attach to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The interface's name.
    pub interface: String,
    /// Its namespace; `null` is this one.
    pub netns: Option<String>,
    /// How `auto` finds it; `null` where the config names it.
    pub why: Option<String>,
    /// The peers whose packets pass it.
    pub peers: Vec<String>,
    /// Whether it is there now.
    pub is_there: bool,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
}

/// The effect that a start would have.
pub struct Preview {
    /// The interfaces that it would attach to.
    pub targets: Vec<Target>,
    /// Peers that `auto` does not find, or not wholly, and virtual machines that were seen behind other interfaces than
    /// their own.
    pub mismatches: Vec<Mismatch>,
    /// The observed processes of peers on this machine.
    pub local: LocalProcesses,
    /// The coverage of the links between the peers when one of them is isolated; `None` with too many peers.
    pub coverage: Option<CoverageSummary>,
    /// The namespaces that were read,
    pub spaces: Vec<Namespace>,
    /// those of them that are peers' homes, by peer,
    pub homes: BTreeMap<PeerId, Option<Netns>>,
    /// and the threads inside them.
    pub workers: Workers,
    /// The addresses of peers that are containers.
    pub contained: BTreeMap<PeerId, Vec<IpAddr>>,
}

impl Preview {
    /// Surveys where the peers live, as a start does, and attaches nothing.
    ///
    /// # Errors
    /// The reason why the daemon could not start.
    pub async fn of(
        config: &Config,
        kernel: &Kernel,
        containers: ContainerStates,
    ) -> Result<Self, StartError> {
        let (sinks, ..) = EventSinks::new();
        let mut workers = Workers::default();
        let local = crate::local::preview(config, &mut workers).await.map_err(StartError::from)?;
        let mut interfaces = Interfaces::new(config, kernel, workers, all_names(), sinks);
        interfaces.local = local.map(|found| found.observed).unwrap_or_default();
        interfaces.find(config, containers).await?;
        let is_there = |interfaces: &Interfaces, entry: &Entry| {
            let space = interfaces.known.iter().find(|space| space.netns == entry.interface.netns);
            space.is_some_and(|space| space.facts.links.iter().any(|link| link.name == entry.name()))
        };
        let missing: Vec<usize> = (0..interfaces.entries.len())
            .filter(|at| !is_there(&interfaces, &interfaces.entries[*at]))
            .collect();
        for at in &missing {
            // An interface that is not there covers nothing.
            interfaces.entries[*at].gaps.push(TimeRange::ALWAYS);
        }
        let target = |(at, entry): (usize, &Entry)| Target {
            interface: entry.name().to_owned(),
            netns: entry.interface.netns.as_ref().map(ToString::to_string),
            why: entry.chosen.clone(),
            peers: config
                .names
                .peers()
                .filter(|peer| {
                    let local = config.peer(*peer).and_then(|peer| peer.local.as_ref());
                    let is_on_lo = entry.interface.hook == Hook::Local
                        && local.is_some_and(|local| local.netns == entry.interface.netns);
                    is_on_lo
                        || entry.interface.peer == Some(*peer)
                        || interfaces
                            .coverage
                            .tracks(*peer)
                            .iter()
                            .any(|track| track.interfaces.contains(&entry.id))
                })
                .map(|peer| config.names.name(peer).to_owned())
                .collect(),
            is_there: !missing.contains(&at),
            remedy: missing.contains(&at).then_some("make it, or correct its name"),
        };
        Ok(Self {
            targets: interfaces.entries.iter().enumerate().map(target).collect(),
            mismatches: interfaces.mismatches.iter().cloned().collect(),
            coverage: interfaces.coverage_when_isolated(config),
            contained: interfaces.container_addresses(config),
            homes: interfaces.home_names,
            local: interfaces.local,
            spaces: interfaces.known,
            workers: interfaces.workers,
        })
    }
}

impl Target {
    /// The interface for people, with its namespace.
    pub fn shown(&self) -> String {
        match &self.netns {
            None => self.interface.clone(),
            Some(netns) => format!("{} in netns {netns}", self.interface),
        }
    }
}
