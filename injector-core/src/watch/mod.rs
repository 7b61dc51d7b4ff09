//! The state of a daemon at work, as `injector top` shows it: a fold over its events, its status and its
//! counters. Pure.
//!
//! `injector top` feeds it and puts [`screen`](screen::screen) on a terminal.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::api::{Event, EventKind, PartitionState, PartitionView, RecoveryRecord, Status};
use crate::clock::MonoNs;
use crate::model::natural;
use links::Links;

pub mod links;
pub mod screen;

/// How many final records are kept.
const RECOVERIES: usize = 16;
/// How many changes of an endpoint are kept: more than a screen has columns.
const CHANGES: usize = 1024;
const SECOND: u64 = 1_000_000_000;

/// All that is shown.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The daemon, in a few words.
    pub title: String,
    /// The peers' names, in their natural order.
    pub peers: Vec<String>,
    /// Partitions whose record is open, the oldest first.
    pub partitions: Vec<Live>,
    /// The health of each endpoint over time, by name.
    pub endpoints: BTreeMap<String, Strip>,
    /// Final records, the newest first.
    pub recoveries: VecDeque<Recovery>,
    /// The last thing that happened, for people.
    pub last: Option<String>,
    /// Events that this reader lost.
    pub lost: u64,
}

/// A partition whose record is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// Its shape, in words.
    pub shape: String,
    /// Where in its life it is.
    pub state: PartitionState,
    /// When the kernel ends it.
    pub ends_at: Option<MonoNs>,
    /// When it was healed.
    pub healed_at: Option<MonoNs>,
    /// Packets dropped so far; `None` where they were not counted.
    pub dropped: Option<u64>,
    /// How many links it cuts.
    pub total: usize,
    /// Those of them that were read so far.
    pub links: Links,
}

impl Live {
    fn is_read(&self) -> bool {
        self.links.len() >= self.total
    }
}

/// What is known of the cut of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkCut {
    /// No partition cuts it.
    No,
    /// A partition cuts it.
    Yes {
        /// Packets dropped a second; `None` while a partition's drops were not counted twice, or its links are not all read.
        rate: Option<f64>,
    },
    /// No partition is known to cut it, and the links of one are not all read.
    Unknown,
}

/// Whether an endpoint serves, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strip {
    /// When its state changed, and to what: healthy, not healthy, or not known. In the order of time.
    changes: VecDeque<(MonoNs, Option<bool>)>,
    /// Why it is not healthy.
    pub error: Option<String>,
}

/// The health of an endpoint in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Known to be healthy all the time.
    Yes,
    /// Unhealthy at some time.
    No,
    /// Not known at some time.
    Unknown,
}

impl Strip {
    /// Takes in a state; whether it is the latest. Events of the past come after the status of the present.
    fn change(&mut self, at: MonoNs, state: Option<bool>) -> bool {
        let place = self.changes.partition_point(|(earlier, _)| *earlier <= at);
        let is_latest = place == self.changes.len();
        if place.checked_sub(1).is_some_and(|before| self.changes[before].1 == state) {
            return is_latest;
        }
        // The one after it is no change any more.
        if self.changes.get(place).is_some_and(|(_, after)| *after == state) {
            self.changes[place].0 = at;
        } else {
            self.changes.insert(place, (at, state));
        }
        if self.changes.len() > CHANGES {
            self.changes.pop_front();
        }
        is_latest
    }

    /// The endpoint's state now; `None` if it is not known.
    pub fn now(&self) -> Option<bool> {
        self.changes.back().and_then(|(_, state)| *state)
    }

    /// The last seconds of the daemon's clock, the present one at the end.
    pub fn seconds(&self, now: MonoNs, count: usize) -> Vec<Served> {
        let present = now.0 / SECOND;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        (0..count)
            .rev()
            .map(|ago| {
                present.checked_sub(ago).map_or(Served::Unknown, |second| {
                    self.within(MonoNs(second * SECOND), MonoNs(((second + 1) * SECOND).min(now.0 + 1)))
                })
            })
            .collect()
    }

    fn within(&self, from: MonoNs, until: MonoNs) -> Served {
        let before = self.changes.iter().rev().find(|(at, _)| *at <= from).and_then(|(_, state)| *state);
        let during = self.changes.iter().filter(|(at, _)| *at > from && *at < until).map(|(_, state)| *state);
        let states: Vec<Option<bool>> = std::iter::once(before).chain(during).collect();
        if states.contains(&Some(false)) {
            Served::No
        } else if states.contains(&None) {
            Served::Unknown
        } else {
            Served::Yes
        }
    }
}

/// A final record, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The partition.
    pub name: String,
    /// Its shape, in words.
    pub shape: String,
    /// How it ended.
    pub outcome: Option<crate::api::Outcome>,
    /// Nanoseconds from the heal to ready.
    pub ready_ns: Option<u64>,
    /// Nanoseconds from the heal to settled.
    pub settled_ns: Option<u64>,
    /// Silence, reconnect, return and relapse, in nanoseconds.
    pub phases: [Option<u64>; 4],
}

impl Watch {
    /// Takes in what the daemon says of itself: who there is, and what is not closed.
    pub fn status(&mut self, status: &Status) {
        self.title =
            format!("injector {}, pid {}, config {}", status.version, status.pid, status.config_number);
        let mut peers: Vec<String> = status.peers.keys().map(|peer| peer.0.clone()).collect();
        peers.sort_by(|a, b| natural(a, b));
        self.peers = peers;
        self.endpoints.retain(|name, _| status.endpoints.iter().any(|endpoint| endpoint.name == *name));
        for endpoint in &status.endpoints {
            let strip = self.endpoints.entry(endpoint.name.clone()).or_default();
            strip.change(status.now_ns, endpoint.healthy);
            strip.error.clone_from(&endpoint.last_error);
        }
        self.partitions.retain(|live| {
            status
                .partitions
                .iter()
                .any(|view| (view.generation, &view.name) == (live.generation, &live.name))
        });
        for view in &status.partitions {
            self.partition(status.now_ns, view);
        }
        self.partitions.sort_by_key(|live| live.generation);
    }

    /// Takes in a partition, with the counters of its links if it has them.
    pub fn partition(&mut self, at: MonoNs, view: &PartitionView) {
        if view.state == PartitionState::Closed {
            return self.partitions.retain(|live| live.generation != view.generation);
        }
        let known = self.partitions.iter().position(|live| live.generation == view.generation);
        let at_index = known.unwrap_or_else(|| {
            self.partitions.push(Live {
                name: view.name.clone(),
                generation: view.generation,
                shape: crate::stats::labels::label(&view.resolved),
                state: view.state,
                ends_at: None,
                healed_at: None,
                dropped: None,
                total: 0,
                links: Links::default(),
            });
            self.partitions.len() - 1
        });
        let live = &mut self.partitions[at_index];
        live.state = view.state;
        live.ends_at = view.ends_at_ns;
        live.healed_at = view.healed.as_ref().map(|healed| healed.at.end_ns);
        live.dropped = view.totals.dropped_packets;
        live.total = view.totals.links;
        for link in view.links.iter().flatten() {
            live.links.take(at, link);
        }
    }

    /// Takes in an event.
    pub fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Health { endpoint, healthy, error } => {
                let strip = self.endpoints.entry(endpoint.clone()).or_default();
                if strip.change(event.at_ns, Some(*healthy)) {
                    strip.error.clone_from(error);
                }
            }
            EventKind::Cut { name, .. } => self.last = Some(format!("cut {name}")),
            EventKind::Heal { healed } => {
                self.last = Some(format!("healed {}", healed.name));
                let same = |live: &&mut Live| live.generation == healed.generation;
                if let Some(live) = self.partitions.iter_mut().find(same) {
                    live.state = PartitionState::Watched;
                    live.healed_at = Some(healed.at.end_ns);
                }
            }
            EventKind::Record { generation, .. } => {
                self.partitions.retain(|live| live.generation != *generation);
            }
            EventKind::Mark { text } => self.last = Some(format!("mark: {text}")),
            EventKind::Interface { interface, what } => self.last = Some(format!("{interface}: {what}")),
            EventKind::Config { outcome, .. } => self.last = Some(format!("config: {}", outcome.words())),
            EventKind::LeaseLapsed => {
                self.last = Some("the lease ran out: everything was healed".to_owned());
            }
            EventKind::Lost { count } => self.lost += count,
            EventKind::First { .. } => {}
        }
    }

    /// Takes in a final record.
    pub fn record(&mut self, record: &RecoveryRecord) {
        let phases = &record.phases;
        self.recoveries.push_front(Recovery {
            name: record.name.clone(),
            shape: record.shape.words(),
            outcome: record.outcome,
            ready_ns: record.heal_to_ready_ns,
            settled_ns: record.heal_to_settled_ns,
            phases: [phases.silence_ns, phases.reconnect_ns, phases.return_ns, phases.relapse_ns],
        });
        self.recoveries.truncate(RECOVERIES);
    }

    /// The partitions that cut now.
    fn active(&self) -> impl Iterator<Item = &Live> {
        self.partitions.iter().filter(|live| live.state == PartitionState::Active)
    }

    /// The peers at an end of a link that is known to be cut.
    pub fn cut_peers(&self) -> HashSet<&str> {
        self.active().flat_map(|live| live.links.ends()).collect()
    }

    /// The cut of a link.
    pub fn cut(&self, src: &str, dst: &str) -> LinkCut {
        let mut cut = LinkCut::No;
        let mut is_read = true;
        for live in self.active() {
            is_read &= live.is_read();
            let Some(drops) = live.links.get(src, dst) else { continue };
            let rate = match cut {
                LinkCut::Yes { rate } => rate.zip(drops.rate).map(|(one, other)| one + other),
                LinkCut::No | LinkCut::Unknown => drops.rate,
            };
            cut = LinkCut::Yes { rate };
        }
        match cut {
            _ if is_read => cut,
            LinkCut::Yes { .. } => LinkCut::Yes { rate: None },
            LinkCut::No | LinkCut::Unknown => LinkCut::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
