//! The daemon: one task owns all state.

pub mod command;
