//! The run directory of a campaign: what it holds, how it is written, and how it is read again.

pub mod dir;
mod loaded;
mod probes;
pub mod read;
pub mod settings;

pub use loaded::{Detail, LinkTimes, Run};
pub use probes::ProbeFile;
