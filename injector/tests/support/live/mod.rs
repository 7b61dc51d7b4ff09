//! The real daemon on real namespaces, as root.

pub mod daemon;
pub mod foreign;
#[path = "../kernel.rs"]
pub mod kernel;
pub mod lab;
pub mod tap;
pub mod traffic;

/// A lab of so many peers, and a daemon with its programs on their own interfaces.
pub fn up(peers: u8) -> (lab::Lab, daemon::Daemon) {
    let lab = lab::Lab::new(peers);
    let daemon = daemon::Daemon::start(&lab.config(lab::AttachPoint::OwnNic, "auto"));
    (lab, daemon)
}
