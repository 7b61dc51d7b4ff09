//! Times without a hook of ours. Pure.

use injector_core::clock::{MonoNs, TimeRange};

/// A time from an instant on, open or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From.
    pub from: MonoNs,
    /// Until; `None` if it lasts.
    pub until: Option<MonoNs>,
}

impl From<Gap> for TimeRange {
    fn from(gap: Gap) -> Self {
        Self { from_ns: gap.from, until_ns: gap.until }
    }
}

impl Gap {
    /// All of time.
    pub const ALWAYS: Self = Self { from: MonoNs(0), until: None };

    /// The time that is in both.
    pub fn common(self, other: Self) -> Option<Self> {
        let from = self.from.max(other.from);
        let until = match (self.until, other.until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        until.is_none_or(|until| until > from).then_some(Self { from, until })
    }
}

/// The times that are in both.
pub fn common(a: &[Gap], b: &[Gap]) -> Vec<Gap> {
    a.iter().flat_map(|a| b.iter().filter_map(|b| a.common(*b))).collect()
}

/// The times that are in any, in their order, each as long as it can be.
pub fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|gap| gap.from);
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(last) if last.until.is_none_or(|until| until >= gap.from) => {
                last.until = last.until.zip(gap.until).map(|(a, b)| a.max(b));
            }
            _ => merged.push(gap),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: u64, until: Option<u64>) -> Gap {
        Gap { from: MonoNs(from), until: until.map(MonoNs) }
    }

    #[test]
    fn only_what_is_in_both_is_common() {
        let a = [gap(10, Some(20)), gap(30, None)];
        assert_eq!(common(&a, &[gap(15, Some(35))]), [gap(15, Some(20)), gap(30, Some(35))]);
        assert_eq!(common(&a, &[gap(20, Some(30))]), []);
        assert_eq!(common(&a, &[]), []);
        assert_eq!(common(&a, &[Gap::ALWAYS]), a);
        assert_eq!(common(&[gap(5, None)], &[gap(9, None)]), [gap(9, None)]);
    }

    #[test]
    fn times_that_touch_are_one() {
        let gaps = vec![gap(20, Some(30)), gap(10, Some(20)), gap(40, Some(41)), gap(12, Some(14))];
        assert_eq!(merged(gaps), [gap(10, Some(30)), gap(40, Some(41))]);
        assert_eq!(merged(vec![gap(10, None), gap(20, Some(30))]), [gap(10, None)]);
    }
}
