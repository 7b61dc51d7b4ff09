//! How far links are covered, as partitions ask for it.

use injector_core::api::{CoverageState, Uncovered};
use injector_core::model::Link;

/// The coverage of a link over a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCoverage {
    /// The worst of that time.
    pub state: CoverageState,
    /// Why, in words.
    pub reason: String,
    /// Whether it is unknown because rules of NAT may give packets between the two other addresses.
    pub is_translated: bool,
    /// Whether the reason is shown although the link is covered: rules of NAT replace the link between the peers by two links with
    /// the world, or a device was left out on purpose.
    pub is_told: bool,
    /// The entry to write into the config, where one helps.
    pub remedy: Option<String>,
    /// When it was not covered, or partly, and which interfaces were missing.
    pub uncovered: Vec<Uncovered>,
}

/// The links of a partition, and what else decides how they are covered.
#[derive(Clone, Copy, Debug)]
pub struct CutLinks<'a> {
    /// All of them, sorted.
    pub links: &'a [Link],
    /// Whether frames to groups are cut too, which a partition of some ports leaves alone.
    pub is_grouped: bool,
}
