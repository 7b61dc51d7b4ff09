//! A daemon, and what attacks it.

use std::any::Any;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::{Daemon, Lab, launch};

/// Users of this group may cut and heal.
const SOCKET: &str = "socket: { group: nogroup }\n";

type Arrange = Box<dyn FnOnce(&mut Command)>;
type Begin = Box<dyn FnOnce(&Scene, &mut Attackers)>;

/// One kind of attack.
pub struct Attack {
    pub name: &'static str,
    /// What is counted of it, and how many there must be even in the short form: fewer are no attack.
    pub unit: &'static str,
    pub least: u64,
    pub prepare: fn(&Arc<Lab>, &mut Attackers) -> Setting,
}

/// What an attack needs of the daemon, and how it begins once that runs.
pub struct Setting {
    pub endpoints: String,
    /// Further lines of the config, and entries of `interfaces:`.
    pub config: String,
    pub interfaces: String,
    /// The namespace that the daemon runs in, if it is not the test's.
    pub within: Option<&'static str>,
    /// What is changed of its command; then its log is the command's, too.
    pub arrange: Option<Arrange>,
    pub begin: Begin,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            endpoints: String::new(),
            config: String::new(),
            interfaces: String::new(),
            within: None,
            arrange: None,
            begin: Box::new(|_, _| {}),
        }
    }
}

/// A daemon in a lab of three peers.
pub struct Scene {
    // The daemon ends first.
    pub daemon: Daemon,
    pub lab: Arc<Lab>,
}

impl Scene {
    /// Starts a daemon with what an attack needs, and the attack.
    pub fn begin(lab: &Arc<Lab>, setting: Setting, attackers: &mut Attackers) -> Self {
        let Setting { endpoints, config, interfaces, within, arrange, begin } = setting;
        let nics =
            ["n1", "n2", "n3"].map(|node| format!("  - {{ name: eth0, netns: {} }}\n", lab.netns(node)));
        let endpoints = if endpoints.is_empty() { "  []\n".to_owned() } else { endpoints };
        let text = format!(
            "{SOCKET}{}interfaces:\n{}{interfaces}endpoints:\n{endpoints}ready: {{ observe: 500ms, observe_max: 2s }}\n{config}",
            lab.peers(),
            nics.concat()
        );
        let mut launch = launch(lab, "d", &text);
        if let Some(arrange) = arrange {
            launch = launch.with_own_output();
            arrange(launch.command());
        }
        let start = || Daemon::launched(launch);
        let daemon = if let Some(of) = within { lab.within(of, start) } else { start() };
        let scene = Self { daemon, lab: Arc::clone(lab) };
        begin(&scene, attackers);
        scene
    }
}

/// Those who attack, until they are stopped or dropped.
#[derive(Default)]
pub struct Attackers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    held: Vec<Box<dyn Any>>,
}

impl Attackers {
    /// Repeats an act, which must end soon, on a thread of its own; it answers how much it has done.
    pub fn repeat(&mut self, mut act: impl FnMut() -> u64 + Send + 'static) {
        let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                done.fetch_add(act(), Ordering::Relaxed);
            }
        }));
    }

    /// What counts what was done, for those who work on threads of their own.
    pub fn tally(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    /// Keeps something until the end.
    pub fn hold(&mut self, what: impl Any) {
        self.held.push(Box::new(what));
    }

    /// How much has been done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn end(&mut self) -> Vec<std::thread::Result<()>> {
        self.stop.store(true, Ordering::Relaxed);
        self.held.clear();
        self.threads.drain(..).map(JoinHandle::join).collect()
    }

    /// Ends all of them, and fails if one has failed.
    pub fn stop(mut self) {
        for ended in self.end() {
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.end();
    }
}
