//! The client of the partition injector's daemon, for test suites and for the command line: typed calls over the
//! daemon's socket or ssh, and campaigns of many trials.
//!
//! [`hosts`] cuts on several hosts at one instant. [`test`] has guards that heal when they are dropped.
//!
//! A partition whose owner is the connection lives as long as the [`Client`] that applied it.

pub mod campaign;
mod client;
pub mod hosts;
pub mod process_group;
mod request_id;
pub mod test;
mod transport;
pub mod trial;
mod version;

pub use client::{Client, ClientError};
pub use injector_core::{api, clock, model};
pub use request_id::own_request_id;
pub use transport::{Address, AddressError, DEFAULT_SOCKET, SshHost, SshHostError};
