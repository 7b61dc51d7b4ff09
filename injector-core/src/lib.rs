//! The pure core of the partition injector: what peers, links and cuts are, how a partition is planned, what the API
//! carries, how a recovery is measured, and how many of them are summarised and reported.
//!
//! Nothing here opens a socket, runs a task or loads a program: this crate builds and is tested on any machine with
//! stable Rust. Files are read and written in `config`, `run` and `report` alone.

pub mod answer;
pub mod api;
pub mod campaign;
pub mod clock;
pub mod config;
pub mod containers;
pub mod figures;
mod flat;
pub mod identity;
pub mod ledger;
pub mod measure;
pub mod metrics;
pub mod model;
pub mod nearest;
pub mod object;
pub mod plan;
pub mod report;
pub mod roles;
pub mod run;
pub mod sample;
pub mod shown;
pub mod stats;
pub mod timeline;
pub mod topology;
pub mod watch;
