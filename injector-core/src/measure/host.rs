//! The host's own condition: `/proc/pressure`, and how late probes left.

use crate::clock::MonoNs;
use crate::sample::Sample;

/// A reading of `/proc/pressure/cpu` or `…/io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// When it was read.
    pub at: MonoNs,
    /// Microseconds since boot in which some task waited.
    pub some_us: u64,
}

/// Why a text is no pressure file.
#[derive(Debug, thiserror::Error)]
#[error("no \"some … total=N\" line in a pressure file; is CONFIG_PSI on?")]
pub struct PressureError;

impl Pressure {
    /// Reads the text of a pressure file.
    pub fn parse(text: &str, at: MonoNs) -> Result<Self, PressureError> {
        let some = text.lines().find_map(|line| line.strip_prefix("some ")).ok_or(PressureError)?;
        let total = some.split_whitespace().find_map(|word| word.strip_prefix("total="));
        let some_us = total.and_then(|total| total.parse().ok()).ok_or(PressureError)?;
        Ok(Self { at, some_us })
    }

    /// The share of the time since `earlier` in which some task waited, 0 to 1; `None` without time between.
    pub fn share_since(self, earlier: Self) -> Option<f64> {
        let waited = self.some_us.checked_sub(earlier.some_us)?;
        let span = self.at.since(earlier.at).filter(|&span| span > 0)?;
        // The kernel adds up in steps of its own: a little more than the span is possible.
        Some((waited as f64 * 1_000.0 / span as f64).min(1.0))
    }
}

/// The 99th percentile (nearest rank) of how late probes left, in nanoseconds; `None` without any.
pub(super) fn lateness_p99<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<u64> {
    let mut late: Vec<u64> =
        samples.map(|sample| sample.begun.since(sample.scheduled).unwrap_or_default()).collect();
    let rank = (late.len() * 99).div_ceil(100).checked_sub(1)?;
    Some(*late.select_nth_unstable(rank).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "some avg10=0.12 avg60=0.40 avg300=0.30 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";

    #[test]
    fn the_share_is_of_the_time_between() {
        let earlier = Pressure::parse(TEXT, MonoNs(1_000_000_000)).unwrap();
        assert_eq!(earlier.some_us, 1_500_000);
        let later = Pressure { at: MonoNs(3_000_000_000), some_us: 2_000_000 };
        assert_eq!(later.share_since(earlier), Some(0.25));
        assert_eq!(earlier.share_since(earlier), None);
        assert_eq!(earlier.share_since(later), None);
        for bad in ["", "full total=1", "some avg10=0", "some total=x"] {
            assert!(Pressure::parse(bad, MonoNs(1)).is_err(), "{bad}");
        }
    }
}
