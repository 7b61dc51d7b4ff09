//! Labs: three peers and a client in network namespaces of their own, joined by a bridge.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::build::{Programs, programs};
use crate::command::{Interrupted, again_as_root, check_interrupt, pause};
use crate::setup::{Need, setup};

mod http;
mod netns;
mod process;
mod quorum;
mod restate;

pub use process::Process;

/// The cluster that a lab runs.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// The example service of this workspace
    Quorum,
    /// Three real Restate servers
    Restate,
}

impl System {
    /// What must be installed for it.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Quorum => &[Need::Build, Need::Network],
            Self::Restate => &[Need::Build, Need::Network, Need::Restate],
        }
    }
}

/// A peer of the lab.
#[derive(Clone, Copy)]
pub struct Node(u8);

impl Node {
    /// The three of them.
    pub const ALL: [Self; 3] = [Self(1), Self(2), Self(3)];

    /// `n1`
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// `10.99.0.1`
    pub fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.0)
    }

    /// `fd99::1`
    pub fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, self.0.into())
    }

    fn others(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| other.0 != self.0)
    }
}

/// A running lab. Dropped, it leaves nothing behind.
pub struct Lab {
    // In the order of their end: what runs, then where it runs, then what it wrote.
    processes: Vec<Process>,
    network: netns::Network,
    folder: Folder,
}

impl Lab {
    /// Clears away what dead runs left, then brings up the network, the cluster, and a config for the daemon.
    pub fn up(system: System, programs: &Programs) -> Result<Self> {
        netns::remove_leftovers()?;
        Folder::remove_leftovers();
        let folder = Folder::create()?;
        let network = netns::Network::create()?;
        let mut lab = Self { processes: Vec::new(), network, folder };
        let endpoints = match system {
            System::Quorum => quorum::start(&mut lab, programs)?,
            System::Restate => restate::start(&mut lab)?,
        };
        let config = lab.config_text(&endpoints);
        fs::write(lab.config(), config).with_context(|| format!("writing {}", lab.config().display()))?;
        Ok(lab)
    }

    /// The daemon's config.
    pub fn config(&self) -> PathBuf {
        self.folder.0.join("lab.yaml")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.0.join("injector.sock")
    }

    /// Where the lab's logs and data are.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// The namespace of a peer, or of `client`.
    pub fn netns(&self, of: &str) -> String {
        self.network.name(of)
    }

    /// Starts a program that ends with the lab; its output goes to a log in the lab's folder.
    pub fn start(&mut self, name: &str, command: &mut std::process::Command) -> Result<()> {
        let process = Process::start(name, command, &self.folder.0)?;
        self.processes.push(process);
        Ok(())
    }

    /// Fails if a program of the lab has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        check_interrupt()?;
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Asks again and again until the answer is yes, a program has died, or time is over.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            self.check()?;
            match done(self) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    let logs: Vec<String> = self.processes.iter().map(Process::log_end).collect();
                    bail!("{what} took longer than {} s: {error:#}\n{}", limit.as_secs(), logs.join("\n"));
                }
                Err(_) => pause(Duration::from_millis(200))?,
            }
        }
    }

    /// A request from the client's namespace: the status and everything behind the status line.
    fn request(&self, address: IpAddr, port: u16, request: &http::Request) -> Result<(u16, String)> {
        http::request(&self.network.file("client"), (address, port).into(), request)
    }

    fn config_text(&self, endpoints: &str) -> String {
        let peers = Node::ALL.map(|node| {
            format!("  {}: {{ addresses: [{}, \"{}\"] }}\n", node.name(), node.ipv4(), node.ipv6())
        });
        let interfaces =
            Node::ALL.map(|node| format!("  - {{ name: eth0, netns: {} }}\n", self.netns(&node.name())));
        format!(
            "# Written for the lab of process {pid}; it ends with it.\n\
             socket: {{ path: {socket}, group: root, mode: \"0600\" }}\n\
             peers:\n{peers}interfaces:\n{interfaces}{endpoints}",
            peers = peers.concat(),
            interfaces = interfaces.concat(),
            pid = std::process::id(),
            socket = self.socket().display()
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // All are asked first, so that they end side by side; each is waited for when it is dropped.
        self.processes.iter().rev().for_each(Process::ask_to_end);
    }
}

/// The lab's folder, removed with it.
struct Folder(PathBuf);

impl Folder {
    const SUFFIX: &str = "-lab";

    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("inj{}{}", std::process::id(), Self::SUFFIX));
        // It must be new: in a folder that anyone can write to, one that exists may be a trap.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    fn remove_leftovers() {
        for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_suffix(Self::SUFFIX)?.strip_prefix("inj"));
            if pid.and_then(|pid| pid.parse().ok()).is_some_and(netns::is_dead) {
                // Another user's folder may refuse; it is not ours then.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// `cargo xtask lab`: brings a lab up, says how to use it, and tears it down on Ctrl-C.
pub fn show(system: System) -> Result<ExitCode> {
    setup(system.needs())?;
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    let mut lab = Lab::up(system, &programs)?;
    let path = match system {
        System::Quorum => "/",
        System::Restate => "/Set/0/get",
    };
    println!(
        "The lab is up. As root:\n\
         \x20 ip netns exec {client} curl -s http://{address}:8080{path}\n\
         \x20 {injector} start --config {config}\n\
         \x20 {injector} partition isolate n1 --for 5s --name p --socket {socket}\n\
         \x20 {injector} wait p --socket {socket}\n\
         Namespaces: {namespaces}, {client}. Logs: {folder}. Ctrl-C tears it down.",
        client = lab.netns("client"),
        address = Node::ALL[0].ipv4(),
        injector = programs.injector().display(),
        config = lab.config().display(),
        socket = lab.socket().display(),
        namespaces = Node::ALL.map(|node| lab.netns(&node.name())).join(", "),
        folder = lab.folder().display(),
    );
    loop {
        match lab.check().and_then(|()| pause(Duration::from_secs(1))) {
            Err(error) if error.is::<Interrupted>() => break,
            result => result?,
        }
    }
    println!("\nTearing the lab down.");
    Ok(ExitCode::SUCCESS)
}
