//! The API: its types, its client, its server.

pub mod client;
pub mod server;
pub mod types;
