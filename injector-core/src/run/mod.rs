//! The run directory of a campaign: what it holds, how it is written, and how it is read again.

mod comparable;
mod conduct;
mod differences;
pub mod dir;
mod error;
mod file;
pub mod layout;
mod loaded;
mod probes;
pub mod read;
pub mod settings;

pub use conduct::{Conduct, Hooks};
pub use error::ReadError;
pub(crate) use file::remedy;
pub use loaded::{Detail, LinkTimes, Run};
pub use probes::{ProbeFile, Probes, probes};
