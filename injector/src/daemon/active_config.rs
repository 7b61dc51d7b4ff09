//! One config in force: its maps, programs, namespaces' threads, probes and lease. Started and ended together, at the
//! start and by a reload alike.

use tokio::sync::{mpsc, watch};

use super::attachment::{InterfaceEvent, Interfaces};
use super::{StartError, io};
use crate::datapath::{Clocks, Kernel, LeaseWatcher, Names, Pins, Wakeups, all_names};
use crate::netns::Workers;
use crate::probe::schedule::{self, Rate};
use crate::rights::{Rights, Role};
use injector_core::config::{Config, Netns};
use injector_core::ledger::Lapsed;
use injector_core::model::PeerId;
use injector_core::sample::{EndpointId, Sample};

/// What every load stands on: made once, while the process has all its rights.
pub struct Bootstrap {
    pins: Pins,
    pub(super) rights: Rights,
    /// The supervisor: each load has threads of its own.
    workers: Workers,
    /// The names of the programs that were there before ours.
    met: Names,
}

impl Bootstrap {
    /// Makes it. Then the calling thread gives up what it does not need: before anything is attached, so that whatever
    /// is done later with fewer rights was done with them before.
    pub fn prepare(config: &Config) -> Result<Self, StartError> {
        let pins = Pins::new()?;
        let rights = Rights::of(config);
        rights.bar()?;
        let workers = Workers::limited(rights)?;
        let met = all_names();
        rights.take(Role::Daemon)?;
        Ok(Self { pins, rights, workers, met })
    }

    /// The start is over: the supervisor, too, gives up what it does not need.
    pub fn settle(&mut self) -> Result<(), StartError> {
        Ok(self.workers.settle()?)
    }
}

/// A config in force. Its probes and the threads inside its namespaces end when it is dropped.
pub struct ActiveConfig {
    pub config: Config,
    pub kernel: Kernel,
    pub interfaces: Interfaces,
    /// How often it probes.
    pub rate: watch::Sender<Rate>,
    pub keeper: LeaseWatcher,
}

/// What is heard of a load.
pub struct Incoming {
    pub lapsed: mpsc::UnboundedReceiver<Lapsed>,
    pub interface_news: mpsc::UnboundedReceiver<InterfaceEvent>,
    pub wakeups: Wakeups,
    pub samples: mpsc::UnboundedReceiver<Sample>,
    pub probing: Probing,
}

/// What new probes of a load are given.
pub struct Probing {
    rates: watch::Receiver<Rate>,
    sink: mpsc::UnboundedSender<Sample>,
}

impl ActiveConfig {
    /// Makes the maps, attaches everywhere and starts to probe.
    ///
    /// # Errors
    /// Whatever keeps any of it from being done: nothing of it stays then.
    pub async fn start(config: Config, ground: &Bootstrap) -> Result<(Self, Incoming), StartError> {
        let mut kernel = Kernel::load_with(&ground.pins, &config, Clocks::Real)?;
        let wakeups = kernel.wakeups()?;
        kernel.start_log()?;
        let (tell_lapse, lapsed) = mpsc::unbounded_channel();
        let keeper = kernel
            .gate()
            .keep(move |lapse| {
                let _ = tell_lapse.send(lapse);
            })
            .map_err(io("the lease thread"))?;
        kernel.start_settler().map_err(io("the settler thread"))?;
        let (news, interface_news) = mpsc::unbounded_channel();
        let workers = ground.workers.another();
        let mut interfaces =
            Interfaces::start(&config, &mut kernel, workers, ground.met.clone(), news).await?;
        let (rate, rates) = watch::channel(Rate::Idle);
        let (sink, samples) = mpsc::unbounded_channel();
        let probing = Probing { rates, sink };
        if let Err(error) = probing.start(&config, None, &mut interfaces.workers) {
            interfaces.detach().await;
            return Err(error);
        }
        let heard = Incoming { lapsed, interface_news, wakeups, samples, probing };
        Ok((Self { config, kernel, interfaces, rate, keeper }, heard))
    }
}

impl Probing {
    /// Starts the probes of one namespace, or of all.
    pub fn start(
        &self,
        config: &Config,
        only: Option<&Netns>,
        workers: &mut Workers,
    ) -> Result<(), StartError> {
        for (index, endpoint) in config.endpoints.iter().enumerate() {
            if only.is_some() && endpoint.netns.as_ref() != only {
                continue;
            }
            let worker = workers.of(endpoint.netns.as_ref())?;
            let peer = peer_name(config, endpoint.peer);
            let (endpoint, rates, sink) = (endpoint.clone(), self.rates.clone(), self.sink.clone());
            worker.spawn(move || schedule::run(EndpointId(index), endpoint, peer, rates, sink))?;
        }
        Ok(())
    }
}

/// A peer's name.
pub fn peer_name(config: &Config, peer: Option<PeerId>) -> Option<String> {
    peer.map(|peer| config.names.name(peer).to_owned())
}
