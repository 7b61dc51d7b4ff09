//! Reports: from a run directory to text, HTML, JUnit, CSV and JSON, and the comparison of two.

pub mod read;
pub mod run_dir;
pub mod settings;
