//! The partition injector's daemon and command line, as a library for the binary and the tests.
//!
//! The modules follow the way of the data: `cli` → `injector-client` → `server` → `daemon` → (`injector-core`: topology,
//! plan) → `datapath` → (kernel) → (`injector-core`: measure, stats, report). Imports point one way along it.

pub mod address;
pub mod alarm;
pub mod cli;
pub mod daemon;
pub mod datapath;
pub mod descriptors;
pub mod discovery;
pub mod doctor;
pub mod engine;
pub mod fault;
pub mod init;
pub mod ip_socket;
pub mod local;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod packet_socket;
pub mod probe;
pub mod rights;
pub mod server;
pub mod stack;
pub mod terminal;
pub mod turn;
