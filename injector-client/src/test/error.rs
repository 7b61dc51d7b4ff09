//! Why a guard could not do what it was asked.

use std::time::Duration;

use injector_core::api::{Code, Healed, HealedBy, InForce, PartitionState, PartitionView, RecoveryRecord};
use injector_core::clock::Span;
use injector_core::model::ScopeError;

use super::verdict::NotRecovered;
use crate::{AddressError, ClientError};

/// Why a guard could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The daemon refused, or can't be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The environment names no daemon.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A scope that is none.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The partition did not last, or packets passed it: what the test saw was not under the partition.
    #[error("\"{name}\" was not in force until it was healed: {why}")]
    NotInForce {
        /// The partition.
        name: String,
        /// The reason: what ended it, or which link leaked.
        why: String,
    },
    /// The system did not settle in time, or it is not known whether it did.
    #[error(transparent)]
    NotRecovered(#[from] Box<NotRecovered>),
    /// The bound is beyond the partition's deadline, until which its record is watched.
    #[error(
        "the record of \"{name}\" is watched for {deadline} after the heal, and not for {within}; give the cut a longer deadline \
         (Cut::deadline)"
    )]
    BeyondDeadline {
        /// The partition.
        name: String,
        /// The bound that was asked for.
        within: Span,
        /// The deadline.
        deadline: Span,
    },
    /// This process can't keep the connection to the daemon.
    #[error("no thread keeps the connection to the daemon: {0}")]
    Thread(String),
}

/// Refuses a bound beyond the deadline: a record is watched until then, and says nothing of later.
pub(super) fn is_watched(record: &RecoveryRecord, within: Duration) -> Result<(), GuardError> {
    let deadline = Duration::from_nanos(record.deadline_ns);
    if within <= deadline {
        return Ok(());
    }
    Err(GuardError::BeyondDeadline {
        name: record.name.clone(),
        within: Span(within),
        deadline: Span(deadline),
    })
}

/// Whether a partition was in force until this heal.
pub(super) fn in_force(
    before: &PartitionView,
    healed: &Healed,
    record: &RecoveryRecord,
) -> Result<(), GuardError> {
    let not = |why: String| Err(GuardError::NotInForce { name: before.name.clone(), why });
    match healed.healed_by {
        HealedBy::Request if before.state == PartitionState::Active => {
            match record.link_not_in_force(&before.request.verdict) {
                None => Ok(()),
                Some((link, InForce::Unknown)) => not(format!(
                    "it is not known whether packets of {}→{} passed the cut, and strict counts that as no",
                    link.src, link.dst
                )),
                Some((link, _)) => {
                    not(format!("packets of {}→{} passed the cut, or could pass", link.src, link.dst))
                }
            }
        }
        HealedBy::Request => not("another client healed it".to_owned()),
        HealedBy::Deadline => not("its time was over; let it last longer, or raise max_for".to_owned()),
        HealedBy::Lease => not("the daemon was held up, and the lease ended it".to_owned()),
        HealedBy::Shutdown => not("the daemon was stopped".to_owned()),
        HealedBy::Disconnect => not("the connection that owned it broke".to_owned()),
    }
}

/// The name of a partition is another one's by now.
pub(super) fn taken_over(name: &str) -> GuardError {
    GuardError::NotInForce {
        name: name.to_owned(),
        why: "it was healed, and another client has its name".to_owned(),
    }
}

/// The record, if it is this partition's. After a restart of the daemon another client's partition may have its name and
/// generation. No record says which request made it, but no two begin at one nanosecond.
pub(super) fn its_own(record: RecoveryRecord, applied: &PartitionView) -> Result<RecoveryRecord, GuardError> {
    match record.cut.zip(applied.effective) {
        Some((cut, effective)) if cut != effective => Err(taken_over(&applied.name)),
        _ => Ok(record),
    }
}

/// A daemon that does not know the partition was restarted.
pub(super) fn forgotten(name: &str, error: ClientError) -> GuardError {
    match error {
        ClientError::Problem(problem) if problem.code == Code::UnknownPartition => GuardError::NotInForce {
            name: name.to_owned(),
            why: "the daemon does not know it any more: it was restarted".to_owned(),
        },
        error => error.into(),
    }
}
