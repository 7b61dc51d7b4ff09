//! Whom the peers of a partition met during its cut without an address that names them.

use std::collections::BTreeMap;

use injector_core::identity::{Stranger, StrangerId};

/// What a partition knows of strangers.
#[derive(Debug, Default)]
pub struct Strangers {
    /// What had passed before the cut.
    pub(in crate::daemon) before: BTreeMap<StrangerId, u64>,
    /// What had passed until the heal.
    pub(in crate::daemon) after: Option<Vec<Stranger>>,
}
