//! Events about interfaces, and their effects.

use super::hook_reading::HooksFound;
use super::programs::SharedKey;
use super::reading::Surveyed;
use crate::datapath::{DatapathError, Instance};
use crate::netlink::LinkFacts;
use crate::netlink::news::News;
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::config::Netns;
use injector_core::model::PeerId;
use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::sync::mpsc;

/// The sending ends of the channels on which the daemon's task receives events about interfaces.
pub struct EventSinks {
    /// Readings of hooks, which commands wait for,
    pub hooks: mpsc::UnboundedSender<InterfaceEvent>,
    /// and everything else.
    pub news: mpsc::UnboundedSender<InterfaceEvent>,
}

impl EventSinks {
    /// The channels, with the receivers of readings of hooks and of the rest.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<InterfaceEvent>, mpsc::UnboundedReceiver<InterfaceEvent>) {
        let (hooks, hooks_found) = mpsc::unbounded_channel();
        let (news, interface_news) = mpsc::unbounded_channel();
        (Self { hooks, news }, hooks_found, interface_news)
    }
}

/// News of a namespace, by name, and the instant at which it came.
pub type KeptNews = (Option<Netns>, MonoNs, News);

/// An event about interfaces that the daemon's task is notified of.
#[derive(Debug)]
pub enum InterfaceEvent {
    /// Something happened in a namespace.
    News {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
        /// When the news came.
        at: MonoNs,
        /// The news.
        news: News,
    },
    /// The interfaces of a namespace, which were asked for.
    Links {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
        /// When we learned of the first reason to ask.
        at: MonoNs,
        /// The instant before they were read: since then there may be others.
        begun: MonoNs,
        /// The interfaces, or why they can't be read.
        links: Result<Vec<LinkFacts>, String>,
    },
    /// A namespace was cleaned of what dead daemons left, as far as possible.
    Cleaned {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
    },
    /// Mounts changed: a name may refer to another namespace now, or for none.
    Mounts {
        /// When the news came.
        at: MonoNs,
    },
    /// Names whose namespaces nobody could read have to be checked again.
    Names {
        /// When the first reason to came.
        at: MonoNs,
    },
    /// Programs are verified, or refused.
    Prepared {
        /// The id of the interface that they are for.
        id: u32,
        /// The programs, or why there are none.
        instance: Result<Instance, DatapathError>,
    },
    /// Programs are verified, or refused, that interfaces of one namespace share.
    Shared {
        /// The key of the interfaces that share them,
        key: SharedKey,
        /// and the programs, or why there are none.
        instance: Result<Instance, DatapathError>,
    },
    /// A namespace's thread has attached our programs to an interface, or taken them off.
    JobDone,
    /// The hooks of a namespace's interfaces were read.
    Hooks {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
        /// The state of the hooks.
        found: HooksFound,
    },
    /// Cgroups of peers on this machine may have been recreated.
    Cgroups,
    /// Programs are not attached that give sockets of peers on this machine their owners.
    OwnersLost,
    /// A scan of the processes of peers on this machine has ended.
    Local {
        /// When the scan began.
        begun: MonoNs,
        /// The result, or why there is none.
        found: Box<Result<crate::local::Found, crate::local::Error>>,
    },
    /// The engine says something of containers.
    Engine(crate::engine::News),
    /// A survey of where the peers live is due.
    Survey {
        /// When the first reason to came.
        at: MonoNs,
    },
    /// A survey of where the peers live has ended.
    Surveyed {
        /// When the first reason to came.
        at: MonoNs,
        /// When the survey began.
        begun: tokio::time::Instant,
        /// The result.
        surveyed: Box<Surveyed>,
    },
}

/// The facts about cuts that matter while interfaces change.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// When the first of the cuts began whose record is open.
    pub open_since: Option<MonoNs>,
    /// Whether a live one rolls its loss.
    pub is_rolling: bool,
}

/// The effects of an event.
#[derive(Debug, Default)]
pub struct Changes {
    /// Entries for the timeline: the interface, and what happened to it.
    pub reported: Vec<(String, String)>,
    /// Namespaces that have a new thread: their probes restart.
    pub reborn: Vec<Netns>,
    /// Whether something may have changed on hooks that ours are on.
    pub hooks: bool,
    /// The addresses of peers that are containers, if they were searched for.
    pub contained: Option<BTreeMap<PeerId, Vec<IpAddr>>>,
}
