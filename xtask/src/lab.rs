//! `cargo xtask lab`, and the clusters that demo and campaigns run: peers and a client on a switch, with a real system on
//! the peers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use injector_lab::{AttachPoint, CLIENT, Lab, SWITCH};

use crate::build::{Programs, programs};
use crate::command::{Interrupted, again_as_root, is_interrupted, pause, workspace};
use crate::injector::{At, Injector};
use crate::setup::{Need, setup};

mod common;
mod etcd;
mod inside;
mod quorum;
mod rabbitmq;
mod redis;
mod restate;
mod sshd;
mod system;
mod vms;

use system::{Daemons, Make, System};

/// Every system that a lab can run, by its name.
pub const SYSTEMS: [(&str, Make); 7] = [
    ("quorum", quorum::system),
    ("etcd", etcd::system),
    ("redis", redis::system),
    ("rabbitmq", rabbitmq::system),
    ("restate", restate::system),
    ("vms", vms::system),
    ("vms-inside", vms::with_daemons_inside),
];

/// How long a system may take until it serves.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long the slowest recovery is observed.
const OBSERVE_MAX: Duration = Duration::from_mins(1);

/// The names of the systems, for the command line.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(SYSTEMS.map(|(name, _)| name))
}

/// What can be chosen of a lab.
#[derive(Clone, Debug, clap::Args)]
pub struct Choice {
    /// How many peers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    pub peers: u8,
    /// Which version of the system, where there are several: any that is published
    #[arg(long)]
    pub version: Option<String>,
    /// What the daemon on the host asks.
    #[arg(skip)]
    pub probes: Probes,
}

/// What the daemon on the host asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probes {
    /// What the system says.
    #[default]
    OfSystem,
    /// What a daemon inside the first guest would ask, so that both ways can be compared.
    OfFirstGuest,
}

/// A system that was chosen, and what it needs installed.
pub struct Chosen {
    system: Box<dyn System>,
    peers: u8,
    probes: Probes,
}

impl Chosen {
    /// Finds the system, and installs what its lab needs and no more.
    ///
    /// # Errors
    /// There is no such system or version, or it is not available here.
    pub fn install(name: &str, choice: &Choice) -> Result<Self> {
        let known = SYSTEMS.iter().find(|(known, _)| *known == name);
        let (_, make) = known.with_context(|| format!("there is no lab {name}"))?;
        let system = make(choice.version.as_deref())?;
        setup(&[Need::Build, Need::Network])?;
        system.install()?;
        Ok(Self { system, peers: choice.peers, probes: choice.probes })
    }

    /// The campaign file that measures it, unless another one is asked for.
    pub fn campaign(&self) -> PathBuf {
        workspace().join(self.system.campaign())
    }

    /// The campaign file of the short form.
    pub fn short_campaign(&self) -> PathBuf {
        workspace().join(self.system.short_campaign())
    }

    /// How many peers have a required endpoint at the daemon that measures.
    pub fn required_peers(&self) -> usize {
        match self.system.daemons() {
            Daemons::OnHost => self.peers.into(),
            Daemons::InGuests => 1,
        }
    }

    /// Whether one daemon cuts the links of every peer.
    pub fn cuts_every_peer(&self) -> bool {
        self.system.daemons() == Daemons::OnHost
    }
}

/// A lab with a cluster that serves, and a config for a daemon.
pub struct Cluster {
    /// The lab. Dropped, it leaves nothing behind.
    pub lab: Lab,
    /// The system that runs, with its version.
    pub version: String,
    system: Box<dyn System>,
    probes: Probes,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.system.stop(&self.lab);
    }
}

impl Cluster {
    /// Clears away what dead runs left, then brings up the network, the cluster, and a config for the daemon. `observe`
    /// takes the place of the system's own time of observation.
    ///
    /// # Errors
    /// The system does not come up.
    pub fn up(chosen: Chosen, programs: &Programs, observe: Option<Duration>) -> Result<Self> {
        for name in injector_lab::remove_leftovers()? {
            println!("Removed namespace {name}, left behind by a process that is gone.");
        }
        let Chosen { system, peers, probes } = chosen;
        let version = system.version()?;
        let builder = Lab::builder("lab").public().peers(peers).client().interrupted_by(is_interrupted);
        let lab = if system.has_guests() { builder.guests() } else { builder }.up()?;
        let mut cluster = Self { lab, version, system, probes };
        println!("Waiting for {} on {peers} peers.", cluster.version);
        cluster.system.start(&mut cluster.lab, programs)?;
        let system = &cluster.system;
        cluster.lab.wait_until("service on every peer", PATIENCE, |lab| system.ready(lab))?;
        match cluster.system.daemons() {
            Daemons::OnHost => write(&cluster.config(), &cluster.config_text(observe)?)?,
            Daemons::InGuests => {
                let times = cluster.times(observe)?;
                for peer in cluster.lab.peer_names() {
                    write(
                        &inside::config_file(&cluster.lab, &peer),
                        &inside::config(&cluster.lab, &peer, &times),
                    )?;
                }
            }
        }
        Ok(cluster)
    }

    fn config_text(&self, observe: Option<Duration>) -> Result<String> {
        let (lab, system) = (&self.lab, &self.system);
        let mut text = format!(
            "# Written for the lab of process {}; it ends with it.\n\
             socket: {{ path: {}, group: root, mode: \"0600\" }}\n",
            std::process::id(),
            self.socket().display()
        );
        let network =
            if system.has_guests() { lab.guest_config() } else { lab.config(AttachPoint::OwnNic, "auto") };
        let endpoints = match self.probes {
            Probes::OfSystem => system.endpoints(lab),
            Probes::OfFirstGuest => inside::endpoints(lab, inside::MEASURED, Some(&lab.netns(CLIENT))),
        };
        writeln!(text, "{network}endpoints:\n{endpoints}")?;
        writeln!(text, "roles:\n{}", system.roles(lab))?;
        text += &self.times(observe)?;
        Ok(text)
    }

    /// The config's part of how long everything may take.
    fn times(&self, observe: Option<Duration>) -> Result<String> {
        let mut text = String::new();
        let observe = observe.unwrap_or_else(|| self.system.observe());
        writeln!(
            text,
            "ready: {{ consecutive: 5, observe: {}s, observe_max: {}s, tolerate: 0s }}\ndeadline: 20s",
            observe.as_secs(),
            OBSERVE_MAX.as_secs()
        )?;
        Ok(text)
    }

    /// The daemon's config.
    pub fn config(&self) -> PathBuf {
        self.lab.folder().join("lab.yaml")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.lab.folder().join("injector.sock")
    }

    /// The daemon that measures.
    pub fn daemon(&self) -> At {
        match self.system.daemons() {
            Daemons::OnHost => At::Socket(self.socket()),
            Daemons::InGuests => inside::measuring(&self.lab),
        }
    }

    /// Starts the lab's daemons, which end with it, and waits until every endpoint is healthy.
    ///
    /// # Errors
    /// A daemon does not start, or an endpoint stays unhealthy.
    pub fn start_daemon(&mut self, injector: &Injector<'_>) -> Result<()> {
        match self.system.daemons() {
            Daemons::OnHost => {
                let mut start = Command::new(injector.program);
                start.args(["start", "--config"]).arg(self.config());
                self.lab.start("injector", &mut start)?;
            }
            Daemons::InGuests => inside::start(&mut self.lab)?,
        }
        println!("Waiting until every endpoint is healthy.");
        Ok(self.lab.wait_until("becoming healthy", Duration::from_mins(1), |_| injector.is_healthy())?)
    }
}

/// The options of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Options {
    /// Which system
    #[arg(value_parser = names())]
    system: String,
    #[command(flatten)]
    choice: Choice,
}

#[cfg(test)]
impl Options {
    /// The system that is brought up.
    pub fn system(&self) -> &str {
        &self.system
    }
}

/// `cargo xtask lab`: brings a lab up, says how to use it, and tears it down on Ctrl-C.
pub fn show(options: &Options) -> Result<ExitCode> {
    let chosen = Chosen::install(&options.system, &options.choice)?;
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    let mut cluster = Cluster::up(chosen, &programs, None)?;
    match cluster.system.daemons() {
        Daemons::OnHost => println!("{}", on_host(&cluster, &programs)),
        Daemons::InGuests => {
            inside::start(&mut cluster.lab)?;
            println!("{}", inside::usage(&cluster.lab, &programs));
        }
    }
    println!("Logs: {}. Ctrl-C tears it down.", cluster.lab.folder().display());
    let mut running = || -> Result<()> {
        loop {
            cluster.lab.check()?;
            pause(Duration::from_secs(1))?;
        }
    };
    match running() {
        Err(error) if Interrupted::is(&error) => {}
        ended => ended?,
    }
    println!("\nTearing the lab down.");
    Ok(ExitCode::SUCCESS)
}

/// How a lab is used whose daemon the user starts on the host.
fn on_host(cluster: &Cluster, programs: &Programs) -> String {
    let of_peers =
        if cluster.system.has_guests() { vec![SWITCH.to_owned()] } else { cluster.lab.peer_names() };
    let namespaces = of_peers.iter().map(|of| cluster.lab.netns(of)).collect::<Vec<_>>();
    format!(
        "The lab is up. As root:\n\
         \x20 ip netns exec {client} {attempt}\n\
         \x20 {injector} start --config {config}\n\
         \x20 {injector} partition isolate @leader --for 5s --name p --socket {socket}\n\
         \x20 {injector} wait p --socket {socket}\n\
         Namespaces: {namespaces}, {client}.",
        client = cluster.lab.netns(CLIENT),
        attempt = cluster.system.attempt(&cluster.lab),
        injector = programs.injector().display(),
        config = cluster.config().display(),
        socket = cluster.socket().display(),
        namespaces = namespaces.join(", "),
    )
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
