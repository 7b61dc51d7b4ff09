//! What several hosts cut, for programs and for people.

use serde::Serialize;

use injector_core::api::PartitionView;
use injector_core::clock::WallNs;
use injector_core::model::{PeerName, Shape};
use injector_core::topology::RolePeers;

/// A partition on several hosts, or what it would cut.
#[derive(Clone, Debug, Serialize)]
pub struct HostsCut {
    /// Its name, the same on every host.
    pub name: String,
    /// The shape as asked.
    pub shape: Shape,
    /// After drawing, roles and presets, which one host did for all.
    pub resolved: Shape<PeerName>,
    /// The peers of each role in the shape.
    pub roles: RolePeers,
    /// The seed that all hosts were given; `null` if nothing was drawn.
    pub seed: Option<u64>,
    /// How many links the shape has.
    pub links: usize,
    /// When all of it begins, on the client's wall clock; `null` in a dry run.
    pub begins: Option<WallNs>,
    /// The longest time that may lie between the begins on two hosts; `null` in a dry run.
    pub spread_ns: Option<u64>,
    /// What each host cuts, in the order in which they were named.
    pub hosts: Vec<HostCut>,
}

/// What one host cuts.
#[derive(Clone, Debug, Serialize)]
pub struct HostCut {
    /// The host, as it was named.
    pub host: String,
    /// The partition there; `null` if no link of the shape is this host's.
    pub partition: Option<PartitionView>,
    /// When it cuts by the client's clock; `null` in a dry run, and where there is no partition.
    pub begin: Option<Begin>,
}

/// The begin of a cut on a host, by the client's clocks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Begin {
    /// The begin of the cut's interval, on the client's wall clock.
    pub begin: WallNs,
    /// Its end.
    pub end: WallNs,
    /// By how much `begin` and `end` may be wrong, either way.
    pub bound_ns: u64,
    /// How far the host's wall clock is ahead of the client's, with the same bound. The cut does not depend on it.
    pub wall_ahead_ns: i64,
}
