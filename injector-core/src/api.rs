//! The types that cross the socket: requests, views, the recovery record, problems.
//!
//! Every missing datum is `null`, never zero and never left out of a record.

mod coverage;
mod event;
mod name;
mod outage;
mod problem;
mod record;
mod reload;
mod request;
mod verdict_options;
mod verify;
mod view;
mod warning;

pub use coverage::{
    Coverage, CoverageState, CoverageSummary, ExitView, LinkCoverageView, NameSource, NameView,
};
pub use event::{Event, EventKind, First};
pub use name::partition_name;
pub use outage::{ClusterOutage, FailOver, Outage};
pub use problem::{Code, Problem};
pub use record::{
    Bypassed, EndpointRecord, HostRecord, InForce, LinkRecord, OLDEST_RECORD_SCHEMA, Outcome, Phases,
    RECORD_SCHEMA, RecoveryRecord, ShapePair, TcpState, Uncovered, role_suffix, role_words,
};
pub use reload::{ConfigOutcome, RefusedConfig};
pub use request::*;
pub use verdict_options::VerdictOptions;
pub(crate) use verdict_options::verdict_fields;
pub use verify::{CheckForm, LinkCheck, Verify};
pub use view::*;
pub use warning::{Warning, WarningCode};
