//! The evidence that the daemon keeps of a partition, besides the kernel's counts. The files beside this
//! folder collect it.

pub mod strangers;
pub mod witness;
