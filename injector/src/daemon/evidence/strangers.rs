//! Evidence about the strangers that the peers of a partition met during its cut.

use std::collections::BTreeMap;

use injector_core::identity::{Stranger, StrangerId};

/// A partition's evidence about strangers.
#[derive(Debug, Default)]
pub struct Strangers {
    /// The packets that had passed before the cut; `None` if they could not be read.
    pub(in crate::daemon) before: Option<BTreeMap<StrangerId, u64>>,
    /// The packets that had passed until the heal, once it is healed.
    pub(in crate::daemon) after: Option<StrangersFound>,
}

/// The strangers that were counted up to an instant; `None` if they could not be read.
pub(in crate::daemon) type StrangersFound = Option<Vec<Stranger>>;
