//! The partition injector as a library: the model, the API's types and client, and what the daemon is made of.
//!
//! The modules follow the way of the data: `cli` → `api` → `daemon` → `topology` → `plan` → `datapath` →
//! (kernel) → `measure` → `stats` → `report`. Imports point one way along it.

pub mod api;
pub mod campaign;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod doctor;
pub mod group;
pub mod identity;
pub mod measure;
pub mod model;
pub mod netlink;
pub mod netns;
pub mod packet_socket;
pub mod plan;
pub mod probe;
pub mod report;
pub mod rights;
pub mod stats;
pub mod terminal;
pub mod timeline;
pub mod topology;
