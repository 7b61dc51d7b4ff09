//! The client of the partition injector's daemon, for test suites and for the command line: typed calls over the
//! daemon's socket or ssh, and campaigns of many trials.
//!
//! A partition whose owner is the connection lives as long as the [`Client`] that applied it.

pub mod campaign;
mod client;
pub mod process_group;
mod transport;
pub mod trial;

pub use client::{Client, ClientError, DEFAULT_SOCKET};
pub use transport::{Address, SshHost, SshHostError};
