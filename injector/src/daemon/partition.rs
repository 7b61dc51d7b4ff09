//! One partition, from its request to its final record.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::api::types::{
    CoverageState, Healed, HealedBy, LinkCounters, LinkCoverageView, PartitionRequest, PartitionState,
    PartitionView, ProbeView, RecoveryRecord, Stamped, TcpState, Warning,
};
use crate::clock::{MonoNs, Span, WallOffset};
use crate::daemon::command::ConnectionId;
use crate::daemon::interfaces::CutLinks;
use crate::daemon::strangers::Strangers;
use crate::daemon::verify::Check;
use crate::daemon::witness::Witness;
use crate::datapath::Interval;
use crate::measure::host::Pressure;
use crate::measure::{Broken, Closed};
use crate::model::{Link, NamedLink, PeerNames, Protocol, Scope};
use crate::plan::{Cell, SlotIndex};
use crate::topology::Resolved;

/// One partition.
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Counts every partition of this daemon.
    pub generation: u32,
    /// As asked, defaults filled in.
    pub request: PartitionRequest,
    /// Shape and links after drawing.
    pub resolved: Resolved,
    /// The seed, if something was drawn.
    pub seed: Option<u64>,
    /// How long after the heal the cluster may take.
    pub deadline: Span,
    /// Where in its life it is.
    pub state: PartitionState,
    /// Its slot, until its record is closed.
    pub slot: Option<SlotIndex>,
    /// The connection whose end heals it.
    pub owner: Option<ConnectionId>,
    /// Since when it holds its slot.
    pub prepared_at: MonoNs,
    /// From when the kernel cuts.
    pub starts_at: MonoNs,
    /// From when the kernel no longer does.
    pub ends_at: MonoNs,
    /// The cut, once it took effect.
    pub cut: Option<Stamped>,
    /// The heal.
    pub heal: Option<Stamped>,
    /// What healed it.
    pub healed_by: Option<HealedBy>,
    /// Other partitions that held its links when it was healed.
    pub still_cut: BTreeMap<Link, Vec<String>>,
    /// Whether its links' TCP sockets were looked for.
    pub sockets_asked: bool,
    /// The TCP sockets of its links' senders, shortly before the deadline.
    pub sockets: BTreeMap<Link, Vec<TcpState>>,
    /// What connections between its peers received during the cut.
    pub witness: Witness,
    /// Whom its peers met without an address that names them.
    pub strangers: Strangers,
    /// The active check of its links, if it was asked for and the partition was made live.
    pub check: Option<Check>,
    /// Links of its shape with neither end here.
    pub not_here: Vec<Link>,
    /// How far its links were covered when it was asked for, in their order.
    pub coverage: Vec<LinkCoverageView>,
    /// The links that were not covered then and are left out on purpose.
    pub left_out: BTreeSet<Link>,
    /// What makes its record doubtful.
    pub warnings: Vec<Warning>,
    /// What it affects in the matrix.
    pub cells: Vec<Cell>,
    /// Per endpoint, from which sample of its log on this partition's evidence begins.
    pub samples_from: Vec<u64>,
    /// CPU and I/O pressure at the cut.
    pub pressure: Pressures,
    /// The data plane's counters at the cut.
    pub counters_before: Vec<u64>,
    /// The partition that became active before this one's record was final.
    pub closed_by: Option<Closed>,
    /// What broke.
    pub broken: Option<Broken>,
    /// Firsts already told as events.
    pub told: HashSet<(String, &'static str)>,
    /// The final record.
    pub record: Option<Box<RecoveryRecord>>,
    /// Every probe of the record, kept for a while.
    pub probes: Vec<ProbeView>,
}

/// Readings of `/proc/pressure`; `None` where the kernel has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressures {
    /// CPU.
    pub cpu: Option<Pressure>,
    /// I/O.
    pub io: Option<Pressure>,
}

impl Pressures {
    /// As they are now.
    pub fn read() -> Self {
        let read = |kind: &str| {
            let text = std::fs::read_to_string(format!("/proc/pressure/{kind}")).ok()?;
            Pressure::parse(&text, MonoNs::now()).ok()
        };
        Self { cpu: read("cpu"), io: read("io") }
    }
}

/// A stamped interval, with the wall clock at its end.
pub fn stamped(interval: Interval, offset: WallOffset) -> Stamped {
    Stamped { begin_ns: interval.begin, end_ns: interval.end, wall: offset.wall(interval.end) }
}

/// An instant that was set ahead.
pub fn instant(at: MonoNs, offset: WallOffset) -> Stamped {
    Stamped { begin_ns: at, end_ns: at, wall: offset.wall(at) }
}

/// A link by name.
pub fn named(names: &PeerNames, link: Link) -> NamedLink {
    NamedLink { src: names.name(link.src).to_owned(), dst: names.name(link.dst).to_owned() }
}

impl Partition {
    /// Whether it cuts, or will.
    pub fn is_live(&self) -> bool {
        matches!(self.state, PartitionState::Scheduled | PartitionState::Active)
    }

    /// Whether its record can still change.
    pub fn is_open(&self) -> bool {
        self.state != PartitionState::Closed
    }

    /// Its links, as their coverage depends on all of them.
    pub fn cut_links(&self) -> CutLinks<'_> {
        let may_be_grouped = |scope: &Scope| scope.protocol != Protocol::Tcp;
        let is_grouped = self.request.scopes.is_empty() || self.request.scopes.iter().any(may_be_grouped);
        CutLinks { links: &self.resolved.links, is_grouped }
    }

    /// Its heal, if it has ended.
    pub fn healed(&self) -> Option<Healed> {
        let heal = self.heal?;
        Some(Healed {
            name: self.name.clone(),
            generation: self.generation,
            begin_ns: heal.begin_ns,
            end_ns: heal.end_ns,
            wall: heal.wall,
            healed_by: self.healed_by?,
        })
    }

    /// The drop counters after its record was closed.
    pub fn final_counters(&self) -> Vec<LinkCounters> {
        let links = self.record.iter().flat_map(|record| &record.links);
        links
            .map(|link| LinkCounters {
                src: link.src.clone(),
                dst: link.dst.clone(),
                dropped_packets: link.dropped_packets,
                dropped_bytes: link.dropped_bytes,
            })
            .collect()
    }

    /// Lets go of what only an open record needs.
    pub fn shrink(&mut self) {
        self.slot = None;
        self.still_cut = BTreeMap::new();
        self.cells = Vec::new();
        self.witness = Witness::default();
        self.strangers = Strangers::default();
        self.check = None;
        self.sockets = BTreeMap::new();
        self.samples_from = Vec::new();
        self.told = HashSet::new();
    }

    /// What the API shows of it; `links` are its counters as they are now.
    pub fn view(&self, names: &PeerNames, links: Vec<LinkCounters>) -> PartitionView {
        let committed = self.state != PartitionState::Prepared;
        PartitionView {
            name: self.name.clone(),
            generation: self.generation,
            state: self.state,
            request: self.request.clone(),
            resolved: self.resolved.shape.clone(),
            seed: self.seed,
            links,
            effective: self.cut,
            ends_at_ns: committed.then_some(self.ends_at),
            healed: self.healed(),
            coverage: self
                .coverage
                .iter()
                .filter(|link| !committed || link.state != CoverageState::Covered)
                .cloned()
                .collect(),
            not_here: self.not_here.iter().map(|link| named(names, *link)).collect(),
            warnings: self.warnings.clone(),
        }
    }
}
