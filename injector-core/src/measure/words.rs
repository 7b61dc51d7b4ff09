//! Figures in the words of a record.

use std::time::Duration;

use crate::clock::Span;

/// A time as people read it: to the nearest millisecond.
pub(super) fn seconds(span: Duration) -> Span {
    let nearest = span.saturating_add(Duration::from_micros(500)).as_millis();
    Span::millis(u64::try_from(nearest).unwrap_or(u64::MAX))
}
