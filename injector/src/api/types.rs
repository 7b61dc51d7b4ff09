//! What crosses the socket: requests, views, the recovery record, problems.
//!
//! Every missing datum is `null`, never zero and never left out of a record.

mod coverage;
mod event;
mod problem;
mod record;
mod request;
mod view;

pub use coverage::{
    Coverage, CoverageState, CoverageSummary, ExitView, LinkCoverageView, NameSource, NameView,
};
pub use event::{ConfigOutcome, Event, EventKind};
pub use problem::{Code, Problem};
pub use record::{
    EndpointRecord, HostRecord, LinkRecord, Outcome, Phases, RECORD_SCHEMA, RecoveryRecord, ShapePair,
    TcpState, Uncovered,
};
pub use request::{Owner, PartitionRequest, StartAt, Trial};
pub use view::{
    AttachmentView, EnableRequest, EndpointAnswer, EndpointView, HealAnswer, Healed, HealedBy, LinkCounters,
    MarkRequest, PartitionState, PartitionView, PeerView, ProbeRules, ProbeView, Rules, Stamped, Status,
    WireSight,
};
