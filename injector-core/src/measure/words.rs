//! Figures in the words of a record.

use std::time::Duration;

use crate::clock::Span;

/// A time as people read it: to the nearest millisecond. What is shorter is shown to the microsecond: it is not nothing.
pub(super) fn seconds(span: Duration) -> Span {
    if span < Duration::from_millis(1) {
        let micros = span.as_nanos().div_ceil(1_000);
        return Span(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
    }
    let nearest = span.saturating_add(Duration::from_micros(500)).as_millis();
    Span::millis(u64::try_from(nearest).unwrap_or(u64::MAX))
}
