//! Cumulative histograms of times, as Prometheus takes them.

use std::time::Duration;

/// How often a time was at most as long as each of some bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Times that lie in each bucket alone; the last one has no bound.
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// An empty one; the bounds are seconds and rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    /// Counts a time.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// Each bound in seconds with how many times were at most so long; the last bound, infinity, is left out.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let cumulative = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(cumulative)
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the values in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_at_a_bound_is_within_it_and_buckets_add_up() {
        let mut histogram = Histogram::new(&[0.5, 1.0, 2.0]);
        for millis in [0, 500, 501, 1_000, 2_000, 2_001, 90_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(0.5, 2), (1.0, 4), (2.0, 5)]);
        assert_eq!(histogram.count(), 7);
        assert!((histogram.sum_seconds() - 96.002).abs() < 1e-9, "{}", histogram.sum_seconds());
    }
}
