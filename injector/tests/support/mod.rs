//! What the tests of the verdict share.
#![allow(dead_code, reason = "each test uses its share")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod frame;
pub mod kernel;
pub mod model;
pub mod packet;
pub mod pool;
pub mod programs;
pub mod setup;
pub mod stack;
