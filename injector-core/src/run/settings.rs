//! `campaign.json`: what a campaign was asked to do, and where it ran.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::conduct::Conduct;
use super::differences::{differences, value};
use crate::api::{RecoveryRecord, VerdictOptions, Verify};
use crate::campaign::order;
use crate::clock::{MonoNs, Span, WallNs};
use crate::flat::flat;
use crate::model::{Direction, EndpointProbe, Ready, Shape, Traffic, traffic_fields, whole_traffic};
use crate::stats::summary::Plan;
use crate::stats::trial::Trial;

/// The version of [`Campaign`]'s layout.
pub const CAMPAIGN_SCHEMA: u32 = 1;

/// `campaign.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// [`CAMPAIGN_SCHEMA`].
    pub schema: u32,
    /// The settings that decide how trials are made: a resumed campaign must have the same.
    pub settings: Settings,
    /// How it was run, as far as that may change when it is resumed; `null` in older directories.
    #[serde(default)]
    pub conduct: Option<Conduct>,
    /// The versions of the injector and of the systems under test.
    pub versions: Versions,
    /// The kernel's release.
    pub kernel: String,
    /// The command line.
    pub command: Vec<String>,
    /// The daemon's clocks, read together at the start.
    pub clock: Clock,
    /// When it was started.
    pub started: WallNs,
}

/// The settings that decide how trials are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Randomised in blocks.
    pub cells: Vec<Cell>,
    /// Trials, all cells together.
    pub trials: u64,
    /// Trial i draws from (seed, i).
    pub seed: u64,
    /// The time from the heal within which a trial must settle.
    pub deadline: Span,
    /// The pause after each record.
    #[serde(default)]
    pub cool_down: Span,
    /// Back to back: the next cut this long after each heal, whatever the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Span>,
    /// When an endpoint counts as ready and settled.
    pub ready: Ready,
    /// The endpoints' probes.
    pub probes: Vec<EndpointProbe>,
    /// The settings that the verdict depends on.
    pub gates: Gates,
    /// Whether links that are not covered are left out on purpose.
    #[serde(default)]
    pub allow_uncovered: bool,
    /// Whether what is unknown counts as wrong.
    #[serde(default)]
    pub strict: bool,
    /// How cuts are verified; nothing beyond what the hooks count if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

flat! {
    /// A combination of a matrix.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "FlatCell")]
    pub struct Cell;
    #[derive(Deserialize)]
    struct FlatCell;
    {
        /// The shape that is cut.
        pub shape: Shape,
        /// The time for which the cut holds.
        pub hold: Span,
        /// The effect of the cuts on the packets of their links.
        #[serde(serialize_with = "whole_traffic")]
        pub traffic: ..traffic_fields!(Traffic),
    }
}

impl Cell {
    /// A cell that cuts everything on these links.
    pub fn new(shape: Shape, hold: Span) -> Self {
        Self { shape, hold, traffic: Traffic::default() }
    }

    /// The key that is equal for cells whose cuts of the same links are alike: the direction is in the links.
    fn key(&self) -> CellKey {
        CellKey {
            hold: self.hold,
            traffic: Traffic { direction: Direction::Both, ..self.traffic.canonical() },
        }
    }

    /// Its settings beside the shape, where they are not the usual ones.
    fn words(&self) -> String {
        let mut words = vec![format!("for {}", self.hold)];
        words.extend(self.traffic.words());
        words.join(", ")
    }
}

/// See [`Cell::key`].
#[derive(PartialEq, Serialize)]
struct CellKey {
    hold: Span,
    traffic: Traffic,
}

/// The settings that the verdict depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// Endpoints made advisory for this run, by base or full name.
    #[serde(default)]
    pub advisory: Vec<String>,
    /// Whether the verdict is switched off.
    #[serde(default)]
    pub no_gate: bool,
    /// The share beyond the deadline up to which the campaign passes.
    #[serde(default)]
    pub max_rate: f64,
    /// The sequential test, if one was asked for.
    #[serde(default)]
    pub stop_when: Option<StopWhen>,
}

/// The rates of the sequential test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopWhen {
    /// The rate that passes.
    pub p0: f64,
    /// The rate that fails.
    pub p1: f64,
}

/// The versions of the injector and of the systems under test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The injector's version.
    pub injector: String,
    /// Versions of the systems under test, as given by the user.
    #[serde(default)]
    pub systems: BTreeMap<String, String>,
}

impl Versions {
    /// The systems whose versions differ: one of an older version is not the one that the trials were made of.
    pub fn other_systems(&self, other: &Self) -> Vec<String> {
        differences("systems", &value(&self.systems), &value(&other.systems))
    }
}

/// The daemon's clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The monotonic clock that all stamps are of.
    pub mono_ns: MonoNs,
    /// The wall clock at that instant.
    pub wall: WallNs,
}

impl Settings {
    /// The options that the verdicts of its partitions take into account.
    pub fn verdict(&self) -> VerdictOptions {
        VerdictOptions {
            advisory: self.gates.advisory.clone(),
            allow_uncovered: self.allow_uncovered,
            strict: self.strict,
            verify: self.verify,
        }
    }

    /// The facts that the summary needs.
    pub fn plan(&self) -> Plan {
        Plan {
            given_up: None,
            trials: Some(self.trials),
            holds_ns: self.cells.iter().map(|cell| cell.hold.as_nanos()).collect(),
            max_rate: self.gates.max_rate,
            no_gate: self.gates.no_gate,
            stop_when: self.gates.stop_when.map(|rates| (rates.p0, rates.p1)),
        }
    }

    /// The trial of a record, as one of its cell.
    pub fn trial(&self, index: u64, record: &RecoveryRecord) -> Trial {
        let trial = Trial::new(index, record);
        if self.cells.is_empty() {
            return trial;
        }
        let at = order::cell(self.seed, index, self.cells.len());
        let cell = &self.cells[at];
        let differ =
            |other: &Cell| other.hold != cell.hold || other.traffic.canonical() != cell.traffic.canonical();
        let words = self.cells.iter().any(differ).then(|| cell.words());
        // Where all cells cut alike, comparability is of the settings: two such runs may be compared by force.
        let key = if words.is_some() { value(&cell.key()).to_string() } else { String::new() };
        trial.in_cell(at, &key, words.as_deref())
    }
}
