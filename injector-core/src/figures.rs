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

/// An interval of times; an end that is not reached is a dash.
pub fn times([low, high]: [Option<u64>; 2]) -> String {
    if low.is_none() && high.is_none() {
        return MISSING.to_owned();
    }
    let (low, high) = (maybe_time(low), maybe_time(high));
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
    interval
        .map_or_else(|| MISSING.to_owned(), |[low, high]| format!("{} to {} %", digits(low), digits(high)))
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
}
