//! One config in force: its maps, programs, namespaces' threads, probes and lease. Started and ended together, at the
//! start and by a reload alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, watch};

use super::attachment::{EventSinks, InterfaceEvent, Interfaces, ObservedState};
use super::config_file::Prepared;
use super::start_error::{StartError, io};
use crate::alarm::Alarm;
use crate::datapath::{
    Clocks, Kernel, LeaseWatcher, Names, Pins, Wakeups, all_names, cgroup_root, programs_of_others,
};
use crate::engine;
use crate::fault;
use crate::local::LocalPeers;
use crate::netns::Workers;
use crate::probe::schedule::{self, Rate};
use crate::rights::{self, Rights, Role};
use injector_core::config::{Config, Netns};
use injector_core::ledger::Lapsed;
use injector_core::model::PeerId;
use injector_core::sample::{EndpointId, Sample};

/// The parts that every config in force needs: made once, while the process has all its rights.
pub struct Bootstrap {
    /// `None` without the right to make a `bpf` filesystem: then one instance of the programs serves all interfaces.
    pins: Option<Pins>,
    /// The root of all cgroups, if the config had peers on this machine at the start.
    cgroup: Option<OwnedFd>,
    pub(super) rights: Rights,
    /// The supervisor: each config in force has threads of its own.
    workers: Workers,
    /// The names of the programs that were there before ours.
    initial_names: Names,
    /// The programs of other injectors that were there before ours, by their ids, each with its injector's pid.
    pub(super) other_injectors: BTreeMap<u32, u32>,
    /// For what is followed.
    pub(super) alarm: Alarm,
}

impl Bootstrap {
    /// Makes it. Then the calling thread gives up what it does not need: before anything is attached, so that whatever
    /// is done later with fewer rights was done with them before.
    pub fn prepare(config: &Config, alarm: Alarm) -> Result<Self, StartError> {
        let pins = if rights::may_make_filesystems() { Some(Pins::new()?) } else { None };
        let has_local = config.local_peers().next().is_some();
        let cgroup = has_local.then(cgroup_root).transpose().map_err(crate::local::Error::from)?;
        let rights = Rights::of(config);
        rights.bar()?;
        let workers = Workers::limited(rights, alarm.clone())?;
        let (initial_names, other_injectors) = (all_names(), programs_of_others());
        rights.take(Role::Daemon)?;
        Ok(Self { pins, cgroup, rights, workers, initial_names, other_injectors, alarm })
    }

    /// The start is over: the supervisor, too, gives up what it does not need.
    pub async fn drop_start_rights(&mut self) -> Result<(), StartError> {
        Ok(self.workers.drop_start_rights().await?)
    }
}

/// A config in force. Its probes and the threads inside its namespaces end when it is dropped.
pub struct ActiveConfig {
    pub config: Config,
    pub kernel: Kernel,
    pub interfaces: Interfaces,
    /// The programs that give sockets of peers on this machine their owners.
    pub local: Option<LocalPeers>,
    /// How often it probes.
    pub rate: watch::Sender<Rate>,
    pub lease_watcher: LeaseWatcher,
}

/// The channels on which its threads report.
pub struct Incoming {
    pub lapsed: mpsc::UnboundedReceiver<Lapsed>,
    pub interface_news: mpsc::UnboundedReceiver<InterfaceEvent>,
    /// Readings of hooks, which commands wait for: they do not wait behind the news.
    pub hooks_found: mpsc::UnboundedReceiver<InterfaceEvent>,
    pub wakeups: Wakeups,
    pub samples: mpsc::UnboundedReceiver<Sample>,
    pub probing: Probing,
}

/// The parts that new probes are given.
pub struct Probing {
    rates: watch::Receiver<Rate>,
    sink: mpsc::UnboundedSender<Sample>,
    /// Where each endpoint is.
    addresses: Vec<watch::Sender<Option<IpAddr>>>,
}

impl ActiveConfig {
    /// Makes the maps, attaches everywhere and starts to probe.
    ///
    /// # Errors
    /// The reason why a step can't be done: nothing of the others stays then.
    pub async fn start(prepared: Prepared, bootstrap: &Bootstrap) -> Result<(Self, Incoming), StartError> {
        let Prepared { mut config, containers } = prepared;
        let mut kernel = Kernel::load_with(bootstrap.pins.as_ref(), &config, Clocks::Real)?;
        let wakeups = kernel.wakeups()?;
        kernel.start_log()?;
        let (lapse_sink, lapsed) = mpsc::unbounded_channel();
        let lease_watcher = kernel
            .gate()
            .keep(bootstrap.alarm.guard("the thread that watches the lease"), move |lapse| {
                let _ = lapse_sink.send(lapse);
            })
            .map_err(io("the lease thread"))?;
        let guard = bootstrap.alarm.guard("the thread that lets freed slots age");
        kernel.start_slot_aging(guard).map_err(io("the slot-aging thread"))?;
        let (sinks, hooks_found, interface_news) = EventSinks::new();
        let news = sinks.news.clone();
        let mut workers = bootstrap.workers.another();
        workers.contain(&containers.states).await?;
        let (local, found) = {
            let cgroup = bootstrap.cgroup.as_ref();
            LocalPeers::start(&config, kernel.object(), cgroup, bootstrap.rights, &mut workers).await?.unzip()
        };
        let found = found.zip(local.as_ref().map(LocalPeers::query));
        let observed = ObservedState { local: found, containers: containers.states.clone() };
        let mut interfaces = Interfaces::start(
            &config,
            &mut kernel,
            workers,
            bootstrap.initial_names.clone(),
            sinks,
            observed,
        )
        .await?;
        config.place(&interfaces.container_addresses(&config));
        let (rate, rates) = watch::channel(Rate::Idle);
        let (sink, samples) = mpsc::unbounded_channel();
        let probing = Probing::of(&config, rates, sink);
        let begun = async {
            let guard = bootstrap.alarm.guard("the thread that follows containers");
            engine::follow(containers, guard, news, InterfaceEvent::Engine)
                .map_err(io("the engine's thread"))?;
            kernel.rewire(&config)?;
            if let Some(local) = &local {
                local.follow(interfaces.cgroup_notifier()).await?;
            }
            // The threads of namespaces where roles are asked are there before the first request.
            for role in config.roles.values() {
                interfaces.workers.of(role.netns.as_ref()).await?;
            }
            probing.start(&config, None, &mut interfaces.workers).await
        };
        if let Err(error) = begun.await {
            interfaces.detach().await;
            return Err(error);
        }
        fault::here("load/done");
        let incoming = Incoming { lapsed, interface_news, hooks_found, wakeups, samples, probing };
        Ok((Self { config, kernel, interfaces, local, rate, lease_watcher }, incoming))
    }
}

impl Probing {
    fn of(config: &Config, rates: watch::Receiver<Rate>, sink: mpsc::UnboundedSender<Sample>) -> Self {
        let addresses = config.endpoints.iter().map(|endpoint| watch::Sender::new(endpoint.address));
        Self { rates, sink, addresses: addresses.collect() }
    }

    /// Has the probes of endpoints go where these are now.
    pub fn place(&self, config: &Config) {
        for (endpoint, address) in config.endpoints.iter().zip(&self.addresses) {
            address.send_if_modified(|known| std::mem::replace(known, endpoint.address) != endpoint.address);
        }
    }

    /// Starts the probes of one namespace, or of all.
    pub async fn start(
        &self,
        config: &Config,
        only: Option<&Netns>,
        workers: &mut Workers,
    ) -> Result<(), StartError> {
        for (index, endpoint) in config.endpoints.iter().enumerate() {
            if only.is_some() && endpoint.netns.as_ref() != only {
                continue;
            }
            fault::at("load/probes").map_err(io("a probe"))?;
            let worker = workers.of(endpoint.netns.as_ref()).await?;
            let peer = peer_name(config, endpoint.peer);
            let news =
                schedule::Changes { rate: self.rates.clone(), address: self.addresses[index].subscribe() };
            let (endpoint, sink) = (endpoint.clone(), self.sink.clone());
            worker.probe(move || schedule::follow(EndpointId(index), endpoint, peer, news, sink))?;
        }
        Ok(())
    }
}

/// A peer's name.
pub fn peer_name(config: &Config, peer: Option<PeerId>) -> Option<String> {
    peer.map(|peer| config.names.name(peer).to_owned())
}
