//! Figures as people read them; what is missing is a dash.

use std::fmt::Display;

use crate::api::Outcome;

/// The text that replaces a missing figure.
pub const MISSING: &str = "–";

/// A time: `310 ms`, `2.31 s`, `83 s`.
pub fn time(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    match ns {
        0 => "0".to_owned(),
        1..500 => "< 1 µs".to_owned(),
        500..999_500 => format!("{} µs", (ns + 500) / 1000),
        999_500..999_500_000 => format!("{} ms", (ns + 500_000) / 1_000_000),
        999_500_000..10_000_000_000 => format!("{seconds:.2} s"),
        10_000_000_000..100_000_000_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A time, or a dash.
pub fn maybe_time(ns: Option<u64>) -> String {
    ns.map_or_else(|| MISSING.to_owned(), time)
}

/// A count and what is counted, whose plural takes an s: `1 peer`, `2 peers`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Which way a figure is rounded: a lower bound down and an upper bound up, so that the figure is a bound too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Down.
    Lower,
    /// Up.
    Upper,
}

impl Bound {
    /// A time that bounds another, as [`time`] shows it.
    pub fn time(self, ns: u64) -> String {
        let unit = match ns {
            0..999_500 => 1_000,
            999_500..999_500_000 => 1_000_000,
            999_500_000..10_000_000_000 => 10_000_000,
            10_000_000_000..100_000_000_000 => 100_000_000,
            _ => 1_000_000_000,
        };
        match self {
            Self::Lower if ns < 1_000 => time(0),
            Self::Lower => time(ns / unit * unit),
            Self::Upper => time(ns.div_ceil(unit).saturating_mul(unit)),
        }
    }

    /// A share that bounds another, in percent.
    pub fn percent(self, share: f64) -> String {
        format!("{} %", self.digits(share))
    }

    /// A difference of shares that bounds another, in points of percent with one decimal.
    pub fn points(self, share: f64) -> String {
        format!("{:.1} points", self.rounded(share * 100.0, 10.0))
    }

    fn digits(self, share: f64) -> String {
        let percent = share * 100.0;
        let is_small = 0.0 < percent && percent < 1.0;
        let (per_unit, decimals) = if is_small { (100.0, 2) } else { (10.0, 1) };
        format!("{:.decimals$}", self.rounded(percent, per_unit))
    }

    fn rounded(self, value: f64, per_unit: f64) -> f64 {
        // A figure that is exact in decimals is not moved by what binary digits make of it.
        let parts = value * per_unit;
        let whole = match self {
            Self::Lower => (parts + 1e-7).floor(),
            Self::Upper => (parts - 1e-7).ceil(),
        };
        // Adding 0 makes −0 a 0.
        whole / per_unit + 0.0
    }
}

/// An interval of times; an end that is not reached is a dash.
pub fn times([low, high]: [Option<u64>; 2]) -> String {
    if low.is_none() && high.is_none() {
        return MISSING.to_owned();
    }
    let bound = |bound: Bound, ns: Option<u64>| ns.map_or_else(|| MISSING.to_owned(), |ns| bound.time(ns));
    let (low, high) = (bound(Bound::Lower, low), bound(Bound::Upper, high));
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} to {high}"),
        _ => format!("{low} to {high}"),
    }
}

/// A set time, as people set it: `20s`.
pub fn deadline(ns: Option<u64>) -> String {
    ns.map_or_else(
        || MISSING.to_owned(),
        |ns| crate::clock::Span(std::time::Duration::from_nanos(ns)).to_string(),
    )
}

/// A test's probability, or a dash.
pub fn probability(p: Option<f64>) -> String {
    match p {
        None => MISSING.to_owned(),
        Some(p) if p < 1e-4 => "< 0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
    }
}

/// A test's probability in a sentence: `= 0.0004`, `< 0.0001`.
pub fn probability_words(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("= {p:.4}") }
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    format!("{} %", digits(share))
}

/// Percent with one decimal, with two where one would hide everything.
fn digits(share: f64) -> String {
    let percent = share * 100.0;
    if 0.0 < percent && percent < 1.0 { format!("{percent:.2}") } else { format!("{percent:.1}") }
}

/// A share, or a dash.
pub fn maybe_percent(share: Option<f64>) -> String {
    share.map_or_else(|| MISSING.to_owned(), percent)
}

/// An interval of shares.
pub fn percents(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(
        || MISSING.to_owned(),
        |[low, high]| format!("{} to {}", Bound::Lower.digits(low), Bound::Upper.percent(high)),
    )
}

/// An outcome in words.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Recovered => "recovered",
        Outcome::NotRecovered => "not recovered",
        Outcome::Censored => "censored",
        Outcome::Unknown => "unknown",
        Outcome::HarnessFailed => "harness failed",
    }
}

/// A wall-clock instant as UTC, to the second.
pub fn wall(at: crate::clock::WallNs) -> String {
    let since = std::time::Duration::from_nanos(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_three_digits() {
        for (ns, text) in [
            (0, "0"),
            (400, "< 1 µs"),
            (900, "1 µs"),
            (32_739, "33 µs"),
            (1_701_479, "2 ms"),
            (999_700, "1 ms"),
            (999_700_000, "1.00 s"),
            (310_400_000, "310 ms"),
            (2_314_000_000, "2.31 s"),
            (19_960_000_000, "20.0 s"),
            (125_000_000_000, "125 s"),
        ] {
            assert_eq!(time(ns), text);
        }
        assert_eq!(times([None, None]), "–");
        assert_eq!(times([Some(13_000_000), None]), "13 ms to –");
        assert_eq!(times([Some(13_000_000), Some(21_000_000)]), "13 to 21 ms");
        assert_eq!(deadline(Some(20_000_000_000)), "20s");
        assert_eq!(probability(Some(0.000_01)), "< 0.0001");
        assert_eq!(percents(Some([0.0, 0.0606])), "0.0 to 6.1 %");
    }

    #[test]
    fn bounds_stay_bounds_when_rounded() {
        let (lower, upper) = (Bound::Lower, Bound::Upper);
        assert_eq!(percents(Some([0.0126, 0.9751])), "1.2 to 97.6 %");
        assert_eq!(percents(Some([0.005_04, 0.975])), "0.50 to 97.5 %");
        assert_eq!(percents(Some([0.0, 1.0])), "0.0 to 100.0 %");
        assert_eq!(percents(Some([0.0, 0.0])), "0.0 to 0.0 %");
        assert_eq!((lower.percent(0.003), upper.percent(0.003)), ("0.30 %".to_owned(), "0.30 %".to_owned()));
        assert_eq!(
            (lower.points(-0.0304), upper.points(0.0304)),
            ("-3.1 points".to_owned(), "3.1 points".to_owned())
        );
        for (ns, low, high) in [
            (0, "0", "0"),
            (700, "0", "1 µs"),
            (1_400, "1 µs", "2 µs"),
            (700_000_000, "700 ms", "700 ms"),
            (915_700_001, "915 ms", "916 ms"),
            (2_995_000_000, "2.99 s", "3.00 s"),
            (9_999_000_000, "9.99 s", "10.0 s"),
            (19_960_000_000, "19.9 s", "20.0 s"),
            (125_400_000_000, "125 s", "126 s"),
        ] {
            assert_eq!((lower.time(ns).as_str(), upper.time(ns).as_str()), (low, high));
        }
        assert_eq!(times([Some(13_400_000), Some(20_100_000)]), "13 to 21 ms");
    }
}
