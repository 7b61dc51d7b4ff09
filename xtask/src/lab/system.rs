//! The interface of a system under test in a lab. A system is a file beside this one, and its line in
//! [`super::SYSTEMS`].

use std::time::Duration;

use anyhow::{Result, ensure};
use injector_lab::Lab;

use crate::build::Programs;

/// A system that a lab runs on its peers. Its texts are parts of the daemon's config, in YAML.
pub trait System {
    /// Its name and version with a blank between them, as in `etcd 3.4.23`.
    ///
    /// # Errors
    /// The system does not run on this machine.
    fn version(&self) -> Result<String>;

    /// Installs what it needs beside what every lab needs; answers whether there was anything to do. It must start
    /// nothing on this machine.
    ///
    /// # Errors
    /// The system is not available here.
    fn install(&self) -> Result<bool>;

    /// Whether its peers are virtual machines on taps of the switch, and not namespaces.
    fn has_guests(&self) -> bool {
        false
    }

    /// Where its daemons run.
    fn daemons(&self) -> Daemons {
        Daemons::OnHost
    }

    /// The campaign file that measures it, unless another one is asked for.
    fn campaign(&self) -> &'static str {
        "configs/labs/campaign.yaml"
    }

    /// The campaign file of the short form.
    fn short_campaign(&self) -> &'static str {
        "configs/labs/short.yaml"
    }

    /// Starts its programs in the namespaces of the peers. They end with the lab.
    ///
    /// # Errors
    /// A program can't be started.
    fn start(&self, lab: &mut Lab, programs: &Programs) -> Result<()>;

    /// Succeeds as soon as every peer serves. A lab asks again and again, so it must return soon; what has to be set up
    /// only once the system runs belongs here too, and must bear being repeated.
    ///
    /// # Errors
    /// The part that does not serve yet.
    fn ready(&self, lab: &Lab) -> Result<()>;

    /// The entries of `endpoints:`. One is required and one advisory at least, and both need more than a process that
    /// listens: a quorum, or the primary.
    fn endpoints(&self, lab: &Lab) -> String;

    /// The entries of `roles:`: who is `@leader`, who are `@followers`.
    fn roles(&self, lab: &Lab) -> String;

    /// How long an endpoint must serve until it counts as settled: longer than the system's own back-offs last.
    fn observe(&self) -> Duration;

    /// A command that shows that it serves, to be run in the client's namespace.
    fn attempt(&self, lab: &Lab) -> String;

    /// Ends what would not end with the lab's programs: nothing, if a system makes no daemons of its own.
    fn stop(&self, _lab: &Lab) {}
}

/// Where the daemons of a lab run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Daemons {
    /// A daemon on the host, on the ports of the switch or in the namespaces of the peers.
    OnHost,
    /// A daemon in each guest, reached by ssh. Each isolates its own peer, and leaves the links of the others
    /// to them.
    InGuests,
}

/// How a system is made: from the version that was asked for, if any.
pub type Make = fn(Option<&str>) -> Result<Box<dyn System>>;

/// Refuses a version, for a system that has the one of its packages alone.
///
/// # Errors
/// A version was asked for.
pub fn one_version(name: &str, asked: Option<&str>) -> Result<()> {
    ensure!(asked.is_none(), "the lab {name} has one version alone: leave --version out");
    Ok(())
}
