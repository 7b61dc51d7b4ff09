//! How far links are covered by hooks, and what a peer's frames are named by.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a link's paths pass hooks of ours; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CoverageState {
    /// All of them do: every device of one end is hooked.
    Covered,
    /// What is known of them does.
    Unknown,
    /// Some of what is known does not.
    Partly,
    /// Nothing that is known does.
    Not,
}

impl fmt::Display for CoverageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Covered => "covered",
            Self::Unknown => "unknown",
            Self::Partly => "partly covered",
            Self::Not => "not covered",
        })
    }
}

/// How far one link is covered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkCoverageView {
    /// The sender.
    pub src: String,
    /// The receiver.
    pub dst: String,
    /// How far.
    pub state: CoverageState,
    /// Why.
    pub reason: Option<String>,
    /// What to write into the config, where something helps.
    pub remedy: Option<String>,
}

/// How far the link of a record was covered, from the cut to the heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// The worst of that time.
    pub state: CoverageState,
    /// Why.
    pub reason: Option<String>,
    /// Whether it is unknown because rules of NAT may give packets between the two other addresses: a drop by the peers' own
    /// addresses says nothing of those packets.
    #[serde(default)]
    pub is_translated: bool,
}

/// How far the links between the peers are covered now, frames to groups left aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageSummary {
    /// Directed links that are covered.
    pub covered: usize,
    /// Those for which it is not known.
    pub unknown: usize,
    /// Those that are partly covered.
    pub partly: usize,
    /// Those that are not.
    pub not: usize,
    /// Links that are not known to be covered, the worst first; at most 20.
    pub links: Vec<LinkCoverageView>,
}

impl fmt::Display for CoverageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        write!(
            f,
            "of {} directed links {} are covered, {} unknown, {} partly covered, {} not covered",
            self.covered + self.unknown + self.partly + self.not,
            self.covered,
            self.unknown,
            self.partly,
            self.not
        )?;
        for (at, link) in self.links.iter().take(SHOWN).enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            write!(f, "{}→{} {}", link.src, link.dst, link.state)?;
            if let Some(reason) = &link.reason {
                write!(f, " ({reason})")?;
            }
        }
        if self.links.len() > SHOWN {
            f.write_str("; …")?;
        }
        Ok(())
    }
}

/// What a name of a peer was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The config's `addresses`.
    Listed,
    /// The config's `mac`.
    ListedMac,
    /// The config's `vip`.
    Vip,
    /// A device of the peer holds this address.
    Held,
    /// A device of the peer has this MAC address.
    Mac,
    /// This interface is bound to the peer.
    Port,
    /// The config's `listens`: ports of processes on this machine.
    Listens,
    /// A process on this machine: all its sockets are the peer's.
    Process,
    /// The config's `cgroup` or `unit`: the sockets of processes in it are the peer's.
    Cgroup,
}

impl NameSource {
    /// The source in words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::ListedMac => "listed mac",
            Self::Vip => "vip",
            Self::Held => "held",
            Self::Mac => "mac",
            Self::Port => "port",
            Self::Listens => "listens",
            Self::Process => "process",
            Self::Cgroup => "cgroup",
        }
    }
}

/// Something that a peer's frames are named by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameView {
    /// An address, a prefix, a MAC address, an interface, a listening port or a process.
    pub name: String,
    /// What it was taken from.
    pub source: NameSource,
    /// The device that has it, or what else is to be said of it.
    pub from: Option<String>,
}

/// A device by which a peer's frames leave its home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitView {
    /// The device.
    pub interface: String,
    /// The attached interface that sees its frames; `null` where none does.
    pub hook: Option<String>,
}
