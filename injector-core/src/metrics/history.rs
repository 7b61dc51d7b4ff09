//! The fold: from closed records, toggles and probes to counters and histograms.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use super::labels::{Labels, NONE};
use crate::api::{EndpointRecord, HealedBy, Outcome, RecoveryRecord};
use crate::clock::MonoNs;
use crate::config::Config;
use crate::model::Shape;
use crate::sample::Sample;
use crate::stats::sides::cut_off;
use crate::topology::words::SHAPES;

/// Bounds of recovery times in seconds, up to the longest deadline.
const RECOVERY: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0, 3600.0,
];
/// Bounds of the daemon's own lateness in seconds.
const LATENESS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
/// Beyond this many links, a record's cut-off peers are not counted: that takes time with the square of the
/// peers.
const MOST_LINKS: usize = 2_048;

/// The change that was timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toggle {
    /// A cut began.
    Cut,
    /// A cut ended.
    Heal,
}

impl Toggle {
    /// The change as a label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Heal => "heal",
        }
    }
}

/// The cause of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToggledBy {
    /// A request: it is late by the time from its arrival to the store that toggles.
    Request,
    /// The kernel, at an instant that was set before: the toggle is exact, and the daemon notices it late.
    Clock,
}

impl ToggledBy {
    /// The cause as a label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Clock => "clock",
        }
    }
}

/// Every outcome, and none.
pub const OUTCOMES: [Option<Outcome>; 6] = [
    Some(Outcome::Recovered),
    Some(Outcome::NotRecovered),
    Some(Outcome::Censored),
    Some(Outcome::Unknown),
    Some(Outcome::HarnessFailed),
    None,
];

/// Every cause of a heal.
pub const HEALERS: [HealedBy; 5] =
    [HealedBy::Request, HealedBy::Deadline, HealedBy::Lease, HealedBy::Shutdown, HealedBy::Disconnect];

/// The cause of a heal, as a label.
pub fn healer_word(by: HealedBy) -> &'static str {
    match by {
        HealedBy::Request => "request",
        HealedBy::Deadline => "deadline",
        HealedBy::Lease => "lease",
        HealedBy::Shutdown => "shutdown",
        HealedBy::Disconnect => "disconnect",
    }
}

/// An outcome as a label; an outcome that is not known is one of its own.
pub fn outcome_word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Recovered) => "recovered",
        Some(Outcome::NotRecovered) => "not_recovered",
        Some(Outcome::Censored) => "censored",
        Some(Outcome::Unknown) => "unknown",
        Some(Outcome::HarnessFailed) => "harness_failed",
        None => NONE,
    }
}

/// The counts for a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapeHistory {
    /// Partitions that took effect, or were scheduled.
    pub cuts: u64,
    /// Closed partitions by outcome.
    pub closed: BTreeMap<&'static str, u64>,
    /// Times from the heal to the instant at which all required endpoints were ready.
    pub ready: Histogram,
    /// Times from the heal to the instant at which all required endpoints were settled.
    pub settled: Histogram,
}

/// The counts for an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointHistory {
    /// Closed partitions by the endpoint's own outcome.
    pub closed: BTreeMap<&'static str, u64>,
    /// Times from the heal to ready.
    pub ready: Histogram,
    /// Times from the heal to settled.
    pub settled: Histogram,
}

impl Default for ShapeHistory {
    fn default() -> Self {
        let (ready, settled) = (Histogram::new(RECOVERY), Histogram::new(RECOVERY));
        Self { cuts: 0, closed: BTreeMap::new(), ready, settled }
    }
}

impl Default for EndpointHistory {
    fn default() -> Self {
        Self { closed: BTreeMap::new(), ready: Histogram::new(RECOVERY), settled: Histogram::new(RECOVERY) }
    }
}

/// The counts since the daemon's start.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// By the word of the shape as asked; every shape is there, so that a first cut is seen as an increase.
    pub shapes: Labels<ShapeHistory>,
    /// Closed partitions by peer that was cut off from the rest, and by outcome.
    pub peers: Labels<BTreeMap<&'static str, u64>>,
    /// By endpoint.
    pub endpoints: Labels<EndpointHistory>,
    /// Heals by what healed.
    pub heals: BTreeMap<&'static str, u64>,
    /// How late toggles were.
    pub toggles: BTreeMap<(Toggle, ToggledBy), Histogram>,
    /// How late probes left.
    pub probes: Histogram,
    /// Probes that were never sent: the prober fell behind, or their command could not be started.
    pub unsent_probes: u64,
    /// Programs that another process has detached.
    pub attachments_lost: AttachmentsLost,
    /// The drops of closed partitions.
    closed_drops: Drops,
    /// The most that was ever shown.
    shown_drops: Drops,
}

/// How often another process was found to have detached programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachmentsLost {
    /// From an interface.
    pub from_interfaces: u64,
    /// From the root of all cgroups: programs for peers on this machine.
    pub from_cgroups: u64,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets, GSO segments counted each.
    pub packets: u64,
    /// Bytes as the hooks saw them.
    pub bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        let pairs = [Toggle::Cut, Toggle::Heal]
            .into_iter()
            .flat_map(|toggle| [ToggledBy::Request, ToggledBy::Clock].map(|by| (toggle, by)))
            // The kernel starts what was set ahead, and nothing notifies the daemon.
            .filter(|pair| *pair != (Toggle::Cut, ToggledBy::Clock));
        let mut shapes = Labels::default();
        for shape in &SHAPES {
            shapes.of(shape.word);
        }
        Self {
            shapes,
            peers: Labels::default(),
            endpoints: Labels::default(),
            heals: BTreeMap::new(),
            toggles: pairs.map(|pair| (pair, Histogram::new(LATENESS))).collect(),
            probes: Histogram::new(LATENESS),
            unsent_probes: 0,
            attachments_lost: AttachmentsLost::default(),
            closed_drops: Drops::default(),
            shown_drops: Drops::default(),
        }
    }
}

impl History {
    /// A config is put in force: its endpoints and peers are counted from 0 on, so that a first increase is seen.
    pub fn expect(&mut self, config: &Config) {
        for endpoint in &config.endpoints {
            self.endpoints.of(&endpoint.name);
        }
        self.peers.of(NONE);
        for peer in config.names.peers() {
            self.peers.of(config.names.name(peer));
        }
    }

    /// A partition took effect, or was scheduled.
    pub fn cut(&mut self, asked: &Shape) {
        self.shapes.of(asked.written().0).cuts += 1;
    }

    /// A partition that had taken effect was healed.
    pub fn healed(&mut self, by: HealedBy) {
        *self.heals.entry(healer_word(by)).or_default() += 1;
    }

    /// Programs were found to be detached.
    pub fn lost(&mut self, more: AttachmentsLost) {
        self.attachments_lost.from_interfaces += more.from_interfaces;
        self.attachments_lost.from_cgroups += more.from_cgroups;
    }

    /// A toggle was late by so much.
    pub fn toggled(&mut self, toggle: Toggle, by: ToggledBy, late: Duration) {
        if let Some(histogram) = self.toggles.get_mut(&(toggle, by)) {
            histogram.observe(late);
        }
    }

    /// A probe ended.
    pub fn probed(&mut self, sample: &Sample) {
        if sample.is_unsent() {
            self.unsent_probes += 1;
        } else {
            self.probes.observe(sample.begun.saturating_since(sample.scheduled));
        }
    }

    /// A record is final.
    pub fn closed(&mut self, record: &RecoveryRecord) {
        let outcome = outcome_word(record.outcome);
        let is_measured = is_measured(record.outcome);
        let shape = self.shapes.of(record.shape.asked.written().0);
        *shape.closed.entry(outcome).or_default() += 1;
        if is_measured {
            observe(&mut shape.ready, record.heal_to_ready_ns);
            observe(&mut shape.settled, record.heal_to_settled_ns);
        }
        let peers = if record.links.len() <= MOST_LINKS { cut_off(record) } else { None };
        match peers.filter(|peers| !peers.is_empty()) {
            Some(peers) => {
                for peer in peers {
                    *self.peers.of(&peer).entry(outcome).or_default() += 1;
                }
            }
            None => *self.peers.of(NONE).entry(outcome).or_default() += 1,
        }
        let heal = record.heal.map(|heal| heal.end_ns);
        for endpoint in &record.endpoints {
            self.endpoint(endpoint, heal.filter(|_| is_measured && is_measured_alone(endpoint)));
        }
        for link in &record.links {
            // A figure that could not be read is not counted: a sum that only rises can say no more.
            self.closed_drops.packets += link.dropped_packets.unwrap_or(0);
            self.closed_drops.bytes += link.dropped_bytes.unwrap_or(0);
        }
    }

    fn endpoint(&mut self, endpoint: &EndpointRecord, heal: Option<MonoNs>) {
        let history = self.endpoints.of(&endpoint.name);
        *history.closed.entry(outcome_word(endpoint.outcome)).or_default() += 1;
        let since_heal = |at: Option<MonoNs>| Some(at?.0.saturating_sub(heal?.0));
        observe(&mut history.ready, since_heal(endpoint.ready_ns));
        observe(&mut history.settled, since_heal(endpoint.settled_ns));
    }

    /// Takes in what the partitions that are not closed have dropped so far. A sum that could not be read in full is
    /// smaller than an earlier one: the earlier one stays.
    pub fn dropping(&mut self, open: Drops) {
        let now = Drops {
            packets: self.closed_drops.packets + open.packets,
            bytes: self.closed_drops.bytes + open.bytes,
        };
        self.shown_drops = Drops {
            packets: self.shown_drops.packets.max(now.packets),
            bytes: self.shown_drops.bytes.max(now.bytes),
        };
    }

    /// The drops of all partitions since the start, as of the last [`Self::dropping`].
    pub fn drops(&self) -> Drops {
        self.shown_drops
    }
}

/// Whether the times of such a record say something about the system under test.
fn is_measured(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Recovered | Outcome::NotRecovered | Outcome::Censored))
}

fn is_measured_alone(endpoint: &EndpointRecord) -> bool {
    is_measured(endpoint.outcome)
}

/// Counts a time that is known.
fn observe(histogram: &mut Histogram, ns: Option<u64>) {
    if let Some(ns) = ns {
        histogram.observe(Duration::from_nanos(ns));
    }
}

#[cfg(test)]
mod tests;
