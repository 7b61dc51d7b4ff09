//! Whom the peers of a partition met during its cut without an address that names them.

use std::collections::BTreeMap;

use injector_core::identity::{Stranger, StrangerId};

/// What a partition knows of strangers.
#[derive(Debug, Default)]
pub struct Strangers {
    /// What had passed before the cut; `None` if that could not be read.
    pub(in crate::daemon) before: Option<BTreeMap<StrangerId, u64>>,
    /// What had passed until the heal, once it is healed.
    pub(in crate::daemon) after: Option<StrangersFound>,
}

/// The strangers that were counted up to an instant; `None` if they could not be read.
pub(in crate::daemon) type StrangersFound = Option<Vec<Stranger>>;
