//! Clocks of several hosts: how far each is ahead of ours, and which instant of ours is which instant of theirs.
//!
//! An [`Offset`] is the only thing that relates monotonic clocks of two hosts. It says how wrong it may be.

use std::time::Duration;

use injector_core::clock::MonoNs;

/// By how much two clocks may drift apart, in parts per million: the clocks of computers are within 50 of a second's length.
const DRIFT_PPM: u64 = 100;

/// The shortest time from the moment when all hosts are prepared to the cut.
const LEAD: Duration = Duration::from_secs(1);

/// How long before the cut every host must have confirmed it: the time in which the others can be healed before it.
pub const MARGIN: Duration = Duration::from_millis(250);

/// A host's clock, read between two readings of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Our clock when the question was sent.
    pub sent: MonoNs,
    /// The host's clock.
    pub theirs: MonoNs,
    /// Our clock when the answer was there.
    pub answered: MonoNs,
}

impl Reading {
    fn round_trip(&self) -> u64 {
        self.answered.0.saturating_sub(self.sent.0)
    }
}

/// How far a host's monotonic clock is ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    ahead_ns: i64,
    /// Half of the round trip: the host read its clock at an unknown moment within it.
    half_trip_ns: u64,
    /// Our clock when it was measured.
    measured: MonoNs,
}

impl Offset {
    /// From the reading with the shortest round trip; `None` without readings.
    pub fn of(readings: &[Reading]) -> Option<Self> {
        let best = readings.iter().min_by_key(|reading| reading.round_trip())?;
        let middle = u64::midpoint(best.sent.0, best.answered.0);
        Some(Self {
            ahead_ns: best.theirs.0.cast_signed().wrapping_sub(middle.cast_signed()),
            half_trip_ns: best.round_trip().div_ceil(2),
            measured: MonoNs(middle),
        })
    }

    /// An instant of our clock on the host's.
    pub fn theirs(&self, ours: MonoNs) -> MonoNs {
        MonoNs(ours.0.saturating_add_signed(self.ahead_ns))
    }

    /// An instant of the host's clock on ours.
    pub fn ours(&self, theirs: MonoNs) -> MonoNs {
        MonoNs(theirs.0.saturating_sub_signed(self.ahead_ns))
    }

    /// By how many nanoseconds a conversion of an instant of ours may be wrong, either way.
    pub fn bound(&self, ours: MonoNs) -> u64 {
        let since = ours.0.abs_diff(self.measured.0);
        self.half_trip_ns.saturating_add(since / 1_000_000 * DRIFT_PPM)
    }
}

/// How long after now the hosts begin, if the slowest of them took so long to prepare: it may take that long to enable, too.
pub fn lead(slowest: Duration) -> Duration {
    LEAD + slowest * 2
}

/// The longest time that may lie between the begins on two of the hosts. Each begin is on our clock, with its bound.
pub fn spread(begins: &[(MonoNs, u64)]) -> u64 {
    let pairs = begins.iter().enumerate().flat_map(|(at, a)| begins[at + 1..].iter().map(move |b| (a, b)));
    let between = |((a, a_bound), (b, b_bound)): (&(MonoNs, u64), &(MonoNs, u64))| {
        a.0.abs_diff(b.0).saturating_add(*a_bound).saturating_add(*b_bound)
    };
    pairs.map(between).max().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    fn reading(sent: u64, theirs: u64, answered: u64) -> Reading {
        Reading { sent: MonoNs(sent), theirs: MonoNs(theirs), answered: MonoNs(answered) }
    }

    #[test]
    fn the_shortest_round_trip_decides() {
        // The true offset is 1,000: the answer of the first was slow on its way back.
        let readings = [reading(0, 1_010, 900), reading(2_000, 3_030, 2_040), reading(4_000, 5_100, 4_500)];
        let offset = Offset::of(&readings).unwrap();
        assert_eq!((offset.ahead_ns, offset.half_trip_ns), (1_010, 20));
        assert_eq!(offset.theirs(MonoNs(5_000)), MonoNs(6_010));
        assert_eq!(offset.ours(MonoNs(6_010)), MonoNs(5_000));
        assert_eq!(Offset::of(&[]), None);
    }

    /// Wherever within the round trip the host reads its clock, the bound holds.
    #[test]
    fn the_true_offset_is_within_the_bound() {
        for ahead in [-500_i64, 0, 7_000_000] {
            for read_at in 0..=101_u64 {
                let sent = 1_000_000;
                let theirs = (sent + read_at).saturating_add_signed(ahead);
                let offset = Offset::of(&[reading(sent, theirs, sent + 101)]).unwrap();
                let true_instant = (sent + 50).saturating_add_signed(ahead);
                let error = offset.theirs(MonoNs(sent + 50)).0.abs_diff(true_instant);
                assert!(error <= offset.bound(MonoNs(sent + 50)), "{ahead} {read_at}: {error}");
            }
        }
    }

    #[test]
    fn a_host_that_booted_later_has_an_instant_of_its_own() {
        let offset = Offset::of(&[reading(9_000_000_000, 5, 9_000_000_010)]).unwrap();
        assert_eq!(offset.theirs(MonoNs(9_000_000_105)), MonoNs(105));
        assert_eq!(offset.ours(MonoNs(105)), MonoNs(9_000_000_105));
        assert_eq!(offset.theirs(MonoNs(5)), MonoNs(0), "before its boot");
    }

    #[test]
    fn the_bound_grows_with_the_time_since_it_was_measured() {
        let offset = Offset::of(&[reading(0, 0, 200)]).unwrap();
        let second = 1_000_000_000;
        assert_eq!(offset.bound(MonoNs(100)), 100);
        assert_eq!(offset.bound(MonoNs(100 + 2 * second)), 100 + 200_000);
    }

    #[test]
    fn the_spread_is_that_of_the_two_furthest_apart() {
        assert_eq!(spread(&[]), 0);
        assert_eq!(spread(&[(MonoNs(5), 100)]), 0, "one host is simultaneous with itself");
        let begins = [(MonoNs(100), 10), (MonoNs(100), 40), (MonoNs(103), 1)];
        assert_eq!(spread(&begins), 50);
        assert_eq!(spread(&[(MonoNs(0), 1), (MonoNs(90), 1), (MonoNs(30), 2)]), 92);
    }

    #[test]
    fn slow_hosts_get_more_time() {
        assert_eq!(lead(Duration::ZERO), LEAD);
        assert!(lead(Duration::from_secs(2)) >= Duration::from_secs(4) && LEAD > MARGIN);
    }
}
