//! The real daemon on real namespaces, as root.

pub mod daemon;
pub mod foreign;
pub mod lab;
#[path = "../privilege.rs"]
pub mod privilege;
pub mod tap;
pub mod traffic;

pub use privilege::can_run;
