//! Where peers live, by what the kernel says of links, addresses, routes and neighbours. Pure: facts go in, and surveys, names
//! and coverage come out. `daemon::attachment` gathers the facts and acts on what is found.

pub mod choice;
pub mod coverage;
pub mod devices;
pub mod eras;
pub mod follow;
pub mod homes;
pub mod hops;
pub mod link_coverage;
pub mod local;
pub mod mismatch;
pub mod naming;
pub mod nat;
pub mod own_host;
pub mod picture;
pub mod places;
pub mod segments;
pub mod space;
pub mod strangers;
pub mod survey;
pub mod taps;
#[cfg(test)]
pub(crate) mod test_topologies;
