//! Instants and spans: the only clock that this project subtracts is `CLOCK_MONOTONIC` of one host.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instant: nanoseconds of `CLOCK_MONOTONIC` of this host, the clock of `bpf_ktime_get_ns`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// The present instant.
    pub fn now() -> Self {
        Self(read(ClockId::Monotonic) as u64)
    }

    /// The kernel's "not stamped" is 0; here it is `None`.
    pub fn stamped(raw: u64) -> Option<Self> {
        (raw != 0).then_some(Self(raw))
    }

    /// Nanoseconds from `earlier` to `self`, or `None` if `earlier` is later.
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// The span from `earlier`, zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoNs {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MonoNs {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// An instant of the wall clock: nanoseconds since the Unix epoch. Shown to people, never subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WallNs(pub i64);

/// The offset between the wall clock and the monotonic clock, as read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallOffset(i64);

impl WallOffset {
    /// Reads both clocks; the monotonic reads bracket the wall read, and their middle is used.
    pub fn now() -> Self {
        let before = read(ClockId::Monotonic);
        let wall = read(ClockId::Realtime);
        let after = read(ClockId::Monotonic);
        Self(wall - i64::midpoint(before, after))
    }

    /// The wall time of a monotonic instant, by this offset.
    pub fn wall(self, at: MonoNs) -> WallNs {
        WallNs(self.0.saturating_add_unsigned(at.0))
    }

    /// The monotonic instant of a wall time, by this offset; instants before boot become 0.
    pub fn mono(self, at: WallNs) -> MonoNs {
        MonoNs(u64::try_from(at.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// A time from an instant on, ended or not. Without its end it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeRange {
    /// From.
    pub from_ns: MonoNs,
    /// Until; `null` if it lasts.
    pub until_ns: Option<MonoNs>,
}

impl TimeRange {
    /// Whether it has an instant in common with the time between two others.
    pub fn overlaps(&self, from: MonoNs, until: MonoNs) -> bool {
        self.from_ns < until && self.until_ns.is_none_or(|end| end > from)
    }

    /// Whether it has ended when another begins.
    pub fn is_before(&self, other: &Self) -> bool {
        self.until_ns.is_some_and(|until| until <= other.from_ns)
    }

    /// Its length from `from` on; where it lasts, up to `until`.
    pub fn length(&self, from: MonoNs, until: MonoNs) -> u64 {
        self.until_ns.unwrap_or(until).since(self.from_ns.max(from)).unwrap_or_default()
    }

    /// All of time.
    pub const ALWAYS: Self = Self { from_ns: MonoNs(0), until_ns: None };

    /// The time that is in both.
    pub fn common(self, other: Self) -> Option<Self> {
        let from_ns = self.from_ns.max(other.from_ns);
        let until_ns = match (self.until_ns, other.until_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        until_ns.is_none_or(|until| until > from_ns).then_some(Self { from_ns, until_ns })
    }

    /// The times that are in both lists.
    pub fn all_common(a: &[Self], b: &[Self]) -> Vec<Self> {
        a.iter().flat_map(|a| b.iter().filter_map(|b| a.common(*b))).collect()
    }

    /// The times that are in any of a list, in their order, each as long as it can be.
    pub fn merged(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_by_key(|range| range.from_ns);
        let mut merged: Vec<Self> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.until_ns.is_none_or(|until| until >= range.from_ns) => {
                    last.until_ns = last.until_ns.zip(range.until_ns).map(|(a, b)| a.max(b));
                }
                _ => merged.push(range),
            }
        }
        merged
    }
}

fn read(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// Whose clock stamps are of. Instants of two clocks must never be subtracted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HostClock {
    /// The host's name, for people.
    pub host: String,
    /// The boot of that host, from `/proc/sys/kernel/random/boot_id`: its monotonic clock begins with it.
    pub boot: String,
}

/// A length of time, written as in `"250ms"`, `"5s"`, `"1m 30s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of whole milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The span in nanoseconds, saturating at 584 years.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The longest span that can be written: a century.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

/// Why a text is not a [`Span`].
#[derive(Debug, thiserror::Error)]
pub enum SpanError {
    /// The text can't be read as a duration.
    #[error("\"{text}\" is not a duration ({source}); write it as \"250ms\", \"5s\" or \"1m 30s\"")]
    Unreadable {
        /// The text.
        text: String,
        /// The parser's error.
        source: humantime::DurationError,
    },
    /// The duration is longer than a century.
    #[error("\"{text}\" is too long; write a shorter duration")]
    TooLong {
        /// The text.
        text: String,
    },
}

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let span = humantime::parse_duration(text)
            .map_err(|source| SpanError::Unreadable { text: text.to_owned(), source })?;
        // Sums of a few such spans, and instants so far ahead, are still within every type's range.
        if span > LONGEST {
            return Err(SpanError::TooLong { text: text.to_owned() });
        }
        Ok(Self(span))
    }
}

/// Seconds in a day.
const DAY: u64 = 24 * 60 * 60;

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Months and years have no fixed length: days are the longest unit that says how long it is.
        let days = self.0.as_secs() / DAY;
        let rest = Duration::new(self.0.as_secs() % DAY, self.0.subsec_nanos());
        match (days, rest.is_zero()) {
            (0, _) => write!(f, "{}", humantime::format_duration(rest)),
            (1, true) => f.write_str("1day"),
            (1, false) => write!(f, "1day {}", humantime::format_duration(rest)),
            (_, true) => write!(f, "{days}days"),
            (_, false) => write!(f, "{days}days {}", humantime::format_duration(rest)),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a duration", "examples": ["250ms", "5s", "1m 30s"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_write_them() {
        for (text, expected) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m 30s", 90_000),
            ("1day 1s", 86_401_000),
            ("31days", 2_678_400_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::millis(expected));
            assert_eq!(span.to_string(), text);
        }
        for text in ["1000years", "500000000000years"] {
            assert!(text.parse::<Span>().is_err(), "{text} overflows what it is added to");
        }
        assert!("5".parse::<Span>().unwrap_err().to_string().contains("write it as"));
    }

    #[test]
    fn wall_offset_round_trips() {
        let offset = WallOffset::now();
        let now = MonoNs::now();
        assert_eq!(offset.mono(offset.wall(now)), now);
    }

    #[test]
    fn a_time_without_an_end_lasts() {
        let (ended, open) = (range(10, Some(20)), range(15, None));
        let within = |range: TimeRange, from, until| range.overlaps(MonoNs(from), MonoNs(until));
        assert!(within(ended, 19, 30) && !within(ended, 20, 30) && !within(ended, 5, 10));
        assert!(within(open, 1_000, 1_001) && !within(open, 5, 15));
        assert!(ended.is_before(&range(20, None)) && !ended.is_before(&open) && !open.is_before(&ended));
        assert_eq!(ended.length(MonoNs(12), MonoNs(99)), 8);
        assert_eq!(open.length(MonoNs(0), MonoNs(99)), 84);
        assert_eq!(ended.length(MonoNs(30), MonoNs(99)), 0);
    }

    #[test]
    fn subtracting_a_later_instant_is_none() {
        assert_eq!(MonoNs(5).since(MonoNs(7)), None);
        assert_eq!(MonoNs(7).since(MonoNs(5)), Some(2));
        assert_eq!(MonoNs::stamped(0), None);
    }

    fn range(from: u64, until: Option<u64>) -> TimeRange {
        TimeRange { from_ns: MonoNs(from), until_ns: until.map(MonoNs) }
    }

    #[test]
    fn only_what_is_in_both_is_common() {
        let a = [range(10, Some(20)), range(30, None)];
        assert_eq!(
            TimeRange::all_common(&a, &[range(15, Some(35))]),
            [range(15, Some(20)), range(30, Some(35))]
        );
        assert_eq!(TimeRange::all_common(&a, &[range(20, Some(30))]), []);
        assert_eq!(TimeRange::all_common(&a, &[]), []);
        assert_eq!(TimeRange::all_common(&a, &[TimeRange::ALWAYS]), a);
        assert_eq!(TimeRange::all_common(&[range(5, None)], &[range(9, None)]), [range(9, None)]);
    }

    #[test]
    fn times_that_touch_are_one() {
        let ranges = vec![range(20, Some(30)), range(10, Some(20)), range(40, Some(41)), range(12, Some(14))];
        assert_eq!(TimeRange::merged(ranges), [range(10, Some(30)), range(40, Some(41))]);
        assert_eq!(TimeRange::merged(vec![range(10, None), range(20, Some(30))]), [range(10, None)]);
    }
}
