//! The data that the daemon keeps of one partition beside its place in life, from its request to its final
//! record.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::daemon::attachment::{CutLinks, LinkCoverage};
use crate::daemon::evidence::strangers::Strangers;
use crate::daemon::evidence::witness::Witness;
use crate::daemon::verify::check::Check;
use crate::server::command::Requester;
use injector_core::api::{
    CoverageState, First, LinkCounters, LinkCoverageView, LinkRecord, LinkTotals, MOST_LISTED,
    PartitionRequest, PartitionState, PartitionView, ProbeView, RecoveryRecord, TcpState, Warning,
};
use injector_core::clock::{MonoNs, Span};
use injector_core::ledger::{Entry, Life};
use injector_core::measure::host::Pressure;
use injector_core::model::{Link, NamedLink, PeerName, PeerNames, Protocol, Scope, Shape};
use injector_core::topology::RolePeers;

/// A partition: its place in life, which the ledger keeps, and its experiment.
pub type Partition = Entry<Experiment>;

/// The request, and the evidence of its effect.
pub struct Experiment {
    /// The user that asked for it.
    pub by: Requester,
    /// The request as asked, defaults filled in.
    pub request: PartitionRequest,
    /// The shape after drawing, roles and presets.
    pub resolved: Shape<PeerName>,
    /// After its heal: the interfaces that our programs were on then, and whose hooks were not read since. From 2 s after the heal on,
    /// these remain as they are.
    pub unread_hooks: BTreeSet<u32>,
    /// The peers of its roles when it was asked for.
    pub roles: RolePeers,
    /// The seed, if something was drawn.
    pub seed: Option<u64>,
    /// How long after the heal the cluster may take.
    pub deadline: Span,
    /// Whether its links' TCP sockets were asked for.
    pub sockets_asked: bool,
    /// The TCP sockets of its links' senders, shortly before the deadline.
    pub sockets: BTreeMap<Link, Vec<TcpState>>,
    /// The bytes that connections between its peers received during the cut.
    pub witness: Witness,
    /// The strangers that its peers met: senders and receivers that no address names.
    pub strangers: Strangers,
    /// The active check of its links, if it was asked for and the partition was made live.
    pub check: Option<Check>,
    /// Links of its shape with neither end here.
    pub not_here: Vec<Link>,
    /// Required endpoints that were not healthy when it was cut, or asked for.
    pub not_healthy: Vec<String>,
    /// The coverage of its links when it was asked for, in their order.
    pub coverage: Vec<Covered>,
    /// The links that were not covered then and are left out on purpose.
    pub left_out: BTreeSet<Link>,
    /// The warnings that make its record doubtful.
    pub warnings: Vec<Warning>,
    /// For each endpoint the sample of its log from which on this partition's evidence begins.
    pub samples_from: Vec<u64>,
    /// CPU and I/O pressure at the cut.
    pub pressure: Pressures,
    /// Stamps that were lost before the cut, if that could be read.
    pub lost_before: Option<u64>,
    /// First events that were announced.
    pub announced: HashSet<(String, First)>,
    /// The drops of its links when they were last counted.
    pub counted: Option<Counted>,
    /// The final record.
    pub record: Option<Arc<RecoveryRecord>>,
    /// Every probe of the record, kept for a while.
    pub probes: Arc<Vec<ProbeView>>,
    /// The view of the partition in lists since its record was closed.
    pub listed: Option<Arc<PartitionView>>,
}

/// How far a link was covered when its partition was asked for. Links that say the same share the words: there may be very many.
#[derive(Clone, Debug)]
pub struct Covered {
    state: CoverageState,
    reason: Arc<str>,
    remedy: Option<Arc<str>>,
}

impl Covered {
    /// The coverage of links, in their order.
    pub fn all(found: &[LinkCoverage]) -> Vec<Self> {
        let mut words: HashSet<Arc<str>> = HashSet::new();
        let mut shared = |text: &str| {
            if let Some(known) = words.get(text) {
                return Arc::clone(known);
            }
            let new: Arc<str> = text.into();
            words.insert(Arc::clone(&new));
            new
        };
        let covered = found.iter().map(|link| Self {
            state: link.state,
            reason: shared(&link.reason),
            remedy: link.remedy.as_deref().map(&mut shared),
        });
        covered.collect()
    }

    fn view(&self, names: &PeerNames, link: Link) -> LinkCoverageView {
        let NamedLink { src, dst } = named(names, link);
        let (reason, remedy) = (Some(self.reason.to_string()), self.remedy.as_deref().map(str::to_owned));
        LinkCoverageView { src, dst, state: self.state, reason, remedy }
    }
}

/// A sum over a partition's links.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// The sum.
    pub totals: LinkTotals,
    /// When it was made,
    pub at: std::time::Instant,
    /// and how long that took.
    pub cost: std::time::Duration,
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
    /// The pressures now.
    pub fn read() -> Self {
        let read = |kind: &str| {
            let text = std::fs::read_to_string(format!("/proc/pressure/{kind}")).ok()?;
            Pressure::parse(&text, MonoNs::now()).ok()
        };
        Self { cpu: read("cpu"), io: read("io") }
    }
}

/// The part of a list that a view shows: from an entry on if that is asked for, else all of it or, of a long one, nothing.
pub fn part<T>(from: Option<usize>, list: &[T]) -> Option<&[T]> {
    match from {
        None => (list.len() <= MOST_LISTED).then_some(list),
        Some(from) => {
            let rest = &list[from.min(list.len())..];
            Some(&rest[..rest.len().min(MOST_LISTED)])
        }
    }
}

/// A link by name.
pub fn named(names: &PeerNames, link: Link) -> NamedLink {
    NamedLink { src: names.name(link.src).to_owned(), dst: names.name(link.dst).to_owned() }
}

/// The first of some names, and how many more there are.
pub fn shortened(names: &[String]) -> String {
    const MOST: usize = 12;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MOST);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Experiment {
    /// The links of its partition, as their coverage depends on all of them.
    pub fn cut_links<'a>(&self, life: &'a Life) -> CutLinks<'a> {
        let may_be_grouped = |scope: &Scope| scope.protocol != Protocol::Tcp;
        let is_grouped =
            self.request.traffic.scopes.is_empty() || self.request.traffic.scopes.iter().any(may_be_grouped);
        CutLinks { links: &life.links, is_grouped }
    }

    /// The drop counters of a part of its links after its record was closed; `None` if they are not to be listed.
    pub fn final_counters(&self, from: Option<usize>) -> Option<Vec<LinkCounters>> {
        let links = self.record.as_ref().map_or(&[][..], |record| &record.links);
        let counters = |link: &LinkRecord| LinkCounters {
            src: link.src.clone(),
            dst: link.dst.clone(),
            dropped_packets: link.dropped_packets,
            dropped_bytes: link.dropped_bytes,
        };
        Some(part(from, links)?.iter().map(counters).collect())
    }

    /// The drops of its links in all, after its record was closed.
    pub fn final_totals(&self) -> LinkTotals {
        let links = || self.record.iter().flat_map(|record| &record.links);
        LinkTotals {
            links: links().count(),
            not_here: self.not_here.len(),
            dropped_packets: links().map(|link| link.dropped_packets).sum(),
            dropped_bytes: links().map(|link| link.dropped_bytes).sum(),
        }
    }

    /// The view of the partition in lists, its record being closed: made once.
    pub fn closed_view(&mut self, life: &Life) -> Arc<PartitionView> {
        if let Some(listed) = &self.listed {
            return Arc::clone(listed);
        }
        let view = Arc::new(self.summary(life, self.final_totals()));
        self.listed = Some(Arc::clone(&view));
        view
    }

    /// Lets go of what only an open record needs.
    pub fn shrink(&mut self) {
        self.counted = None;
        self.witness = Witness::default();
        self.strangers = Strangers::default();
        self.check = None;
        self.unread_hooks = BTreeSet::new();
        self.sockets = BTreeMap::new();
        self.samples_from = Vec::new();
        self.announced = HashSet::new();
    }

    /// The partition as the API shows it, its lists from one of their entries on or whole where they are
    /// short; `links` are its counters as they are now.
    pub fn view(
        &self,
        life: &Life,
        names: &PeerNames,
        totals: LinkTotals,
        from: Option<usize>,
        links: Option<Vec<LinkCounters>>,
    ) -> PartitionView {
        let committed = life.state != PartitionState::Prepared;
        let all = life.links.iter().zip(&self.coverage);
        let shown = all.filter(|(_, covered)| !committed || covered.state != CoverageState::Covered);
        let shown: Vec<(&Link, &Covered)> = shown.collect();
        let not_here = part(from, &self.not_here);
        PartitionView {
            links,
            coverage: part(from, &shown)
                .map(|part| part.iter().map(|(link, covered)| covered.view(names, **link)).collect()),
            not_here: not_here.map(|part| part.iter().map(|link| named(names, *link)).collect()),
            not_healthy: Some(self.not_healthy.clone()),
            ..self.summary(life, totals)
        }
    }

    /// The partition as the API shows it, without the parts that grow with its links.
    pub fn summary(&self, life: &Life, totals: LinkTotals) -> PartitionView {
        let committed = life.state != PartitionState::Prepared;
        PartitionView {
            name: life.name.clone(),
            generation: life.generation,
            state: life.state,
            request: self.request.clone(),
            resolved: self.resolved.clone(),
            roles: self.roles.clone(),
            seed: self.seed,
            totals,
            links: None,
            effective: life.cut,
            ends_at_ns: committed.then_some(life.ends_at),
            healed: life.healed(),
            coverage: None,
            not_here: None,
            not_healthy: None,
            warnings: self.warnings.clone(),
        }
    }
}
