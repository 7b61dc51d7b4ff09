//! Times in the data of the page: short, since there are many.

/// Nanoseconds in one unit of the page.
pub const UNIT: u64 = 100_000;

/// A time in units of the page, or `null`.
pub fn number(ns: Option<u64>) -> String {
    ns.map_or_else(|| "null".to_owned(), |ns| (ns / UNIT).to_string())
}
