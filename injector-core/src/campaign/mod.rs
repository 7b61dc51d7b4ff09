//! A campaign's specification, from a file or the command line, and the order of its trials.

pub mod file;
pub mod given;
pub mod order;
mod spec;

pub use spec::{CampaignSpec, SpecError, is_named, rate, stop_when, system};
