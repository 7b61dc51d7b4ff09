//! Labs: network namespaces joined by veths and bridges, and the programs that run in them.
//!
//! ```no_run
//! use injector_lab::{CLIENT, Lab};
//!
//! // Three peers and a client on a switch, in namespaces named `inj<pid>-covered0-n1` and so on.
//! let lab = Lab::builder("covered").peers(3).client().up()?;
//! lab.ip("n1", "link add dummy0 type dummy");
//! lab.within(CLIENT, || std::net::TcpStream::connect("10.99.0.1:8080"));
//! # Ok::<(), injector_lab::Error>(())
//! ```
//!
//! A lab leaves nothing behind: when it is dropped, also by a panic, its programs end, then its namespaces and its
//! folder go. [`remove_leftovers`] clears away what a killed process left.
//!
//! What brings a lab up or starts a program returns a `Result`. The short steps of a test, such as [`Lab::ip`], panic
//! with the command that failed.
//!
//! A test declares what it needs with [`needs`], beside `#[test]`.

mod attempt;
mod builder;
mod config;
mod daemon;
mod error;
mod executable;
mod folder;
pub mod http;
mod lab;
mod late;
mod leftovers;
mod namespace;
mod need;
mod process;
mod quorum;
mod subnet;
mod tap;
mod traffic;

pub use attempt::attempt;
pub use builder::LabBuilder;
pub use config::AttachPoint;
pub use daemon::{Cli, Daemon, Launch, NotStarted};
pub use error::Error;
pub use executable::{copy_program, write_program};
pub use folder::Folder;
pub use injector_lab_macros::needs;
pub use lab::{CLIENT, CLIENT_HOST, Guest, Lab, SWITCH};
pub use late::{in_time, is_late_reading, late_during};
pub use leftovers::remove_leftovers;
pub use need::{
    BOOT_GUEST, GUESTS, LONG_MINUTES, Needs, SKIP_LOG, Turn, UNPACKED, has_tcx, kernel_version, meet,
    program, skip,
};
pub use process::{Process, end_with_thread};
pub use quorum::Quorum;
pub use subnet::Subnet;
pub use tap::open_tap;
pub use traffic::{End, keep_all};

use std::time::{Duration, Instant};

/// How long anything may take on a loaded or emulated machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something holds, and returns it.
///
/// # Panics
/// The condition did not hold within [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
