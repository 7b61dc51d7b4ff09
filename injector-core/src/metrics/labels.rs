//! Values of a label that come from a config: a bound keeps the number of time series from growing with every reload.

use std::collections::BTreeMap;

/// How many values a label has of its own; what comes later is counted under [`OTHER`].
pub const MOST_LABELS: usize = 64;
/// Replaces every value beyond [`MOST_LABELS`]. No name in a config has parentheses.
pub const OTHER: &str = "(other)";
/// Replaces a value that is missing or unknown.
pub const NONE: &str = "(none)";

/// Counts for each value of a label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels<T> {
    values: BTreeMap<String, T>,
}

impl<T: Default> Labels<T> {
    /// The counts for a value. Once there are [`MOST_LABELS`] values, all new ones share the counts of
    /// [`OTHER`].
    pub fn of(&mut self, value: &str) -> &mut T {
        let is_own = self.values.contains_key(value) || self.values.len() < MOST_LABELS || value == NONE;
        self.values.entry(if is_own { value } else { OTHER }.to_owned()).or_default()
    }

    /// Every value with what is counted for it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.values.iter().map(|(value, counted)| (value.as_str(), counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_bound_share_one_series_and_none_is_lost() {
        let mut labels: Labels<u64> = Labels::default();
        for at in 0..1_000 {
            *labels.of(&format!("n{at}")) += 1;
            *labels.of("n0") += 1;
        }
        *labels.of(NONE) += 1;
        assert_eq!(labels.iter().count(), MOST_LABELS + 2, "the bound, (other) and (none)");
        assert_eq!(*labels.of("n0"), 1_001);
        assert_eq!(*labels.of(OTHER), 1_000 - MOST_LABELS as u64);
        assert_eq!(labels.iter().map(|(_, count)| count).sum::<u64>(), 2_001);
    }
}
