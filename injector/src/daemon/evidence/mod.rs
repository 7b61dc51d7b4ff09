//! What the daemon keeps of a partition as evidence, besides what the kernel counts. The files beside this folder collect it.

pub mod strangers;
pub mod witness;
