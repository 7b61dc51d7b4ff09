//! The real daemon on real namespaces, as root.

pub mod daemon;
pub mod foreign;
#[path = "../kernel.rs"]
pub mod kernel;
pub mod lab;
#[path = "../privilege.rs"]
pub mod privilege;
pub mod tap;
pub mod traffic;

pub use privilege::can_run;
