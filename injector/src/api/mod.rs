//! The API: its types, its client, its server.

pub mod types;
