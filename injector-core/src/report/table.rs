//! Plain-text tables.

use std::fmt::Write;

use crate::shown::reorders;

/// Columns that are as wide as their widest cell; the first is aligned left, the others right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        // Names are user input: a terminal must not obey them.
        let clean = |cell: String| cell.chars().filter(|&c| !c.is_control() && !reorders(c)).collect();
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Whether it has no rows but its head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Writes it, indented by two.
    pub fn write(&self, out: &mut String) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let written =
                    if at == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
                written.expect("writing to a String cannot fail");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}
