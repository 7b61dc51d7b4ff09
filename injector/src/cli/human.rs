//! Times, counts and tables as people read them. What is missing is `–`, never 0.

use std::fmt::{self, Display, Write as _};
use std::time::{Duration, SystemTime};

use injector_core::api::HealedBy;
use injector_core::clock::{MonoNs, WallNs};

/// What replaces missing data.
pub const NONE: &str = "–";

/// A length of time with three or four digits: `1.234 s`, `12.3 ms`, `45.6 µs`, `789 ns`.
pub fn span(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let value = ns as f64;
    // Where rounding would give 1000.0 of a unit, the next one is taken.
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_950 => format!("{:.1} µs", value / 1e3),
        999_950..999_950_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.3} s", value / 1e9),
    }
}

/// A length that bounds another from below, with the digits of [`span`]: rounded up, it would claim more than is known.
pub fn lower_bound(ns: u64) -> String {
    let shown = match ns {
        0..1_000 => 1,
        1_000..1_000_000 => 100,
        1_000_000..1_000_000_000 => 100_000,
        _ => 1_000_000,
    };
    span(ns / shown * shown)
}

/// [`span`] of what may be missing.
pub fn span_or_none(ns: Option<u64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), span)
}

/// The time from one instant to another that may be missing.
pub fn after(start: Option<MonoNs>, at: Option<MonoNs>) -> String {
    span_or_none(start.zip(at).and_then(|(start, at)| at.since(start)))
}

/// A wall-clock instant in UTC.
pub fn wall(at: WallNs) -> String {
    let epoch = SystemTime::UNIX_EPOCH;
    let span = Duration::from_nanos(at.0.unsigned_abs());
    let time = if at.0 < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.map_or_else(|| NONE.to_owned(), |time| humantime::format_rfc3339_micros(time).to_string())
}

/// A word for a word of the API, such as an outcome.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => NONE.to_owned(),
    }
}

/// What ended a partition.
pub fn healer(by: HealedBy) -> &'static str {
    match by {
        HealedBy::Request => "on request",
        HealedBy::Deadline => "in the kernel, when its time (--for or max_for) was over",
        HealedBy::Lease => "by the dead-man's switch",
        HealedBy::Shutdown => "by the daemon's shutdown",
        HealedBy::Disconnect => "because its owner disconnected",
    }
}

/// A text or [`NONE`].
pub fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// `yes`, `no` or [`NONE`].
pub fn yes_no(value: Option<bool>) -> String {
    or_none(value.map(|yes| if yes { "yes" } else { "no" }))
}

/// Columns, as wide as their widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a header.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_uppercase).to_vec()] }
    }

    /// Adds a row with as many cells as the header.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.rows[0].len());
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_missing_is_a_dash() {
        assert_eq!(span(789), "789 ns");
        assert_eq!(span(45_600), "45.6 µs");
        assert_eq!(span(12_340_000), "12.3 ms");
        assert_eq!(span(1_234_000_000), "1.234 s");
        assert_eq!((span(999_949), span(999_950)), ("999.9 µs".to_owned(), "1.0 ms".to_owned()));
        assert_eq!((span(999_949_999), span(999_950_000)), ("999.9 ms".to_owned(), "1.000 s".to_owned()));
        assert_eq!(span_or_none(None), "–");
        assert_eq!((span(1_999_950), lower_bound(1_999_950)), ("2.0 ms".to_owned(), "1.9 ms".to_owned()));
        assert_eq!(lower_bound(999_999_999), "999.9 ms");
        assert_eq!(lower_bound(12_345_999_999), "12.345 s");
        assert_eq!(lower_bound(999), "999 ns");
        assert_eq!(after(Some(MonoNs(5)), Some(MonoNs(3))), "–");
        assert_eq!(wall(WallNs(1_500_000_000)), "1970-01-01T00:00:01.500000Z");
    }

    #[test]
    fn columns_align_by_characters() {
        let mut table = Table::new(["link", "drops"]);
        table.row(["n1→n2".to_owned(), "7".to_owned()]);
        table.row([NONE.to_owned(), "12".to_owned()]);
        assert_eq!(table.to_string(), "LINK   DROPS\nn1→n2  7\n–      12\n");
    }
}
