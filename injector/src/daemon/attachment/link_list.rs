//! The interfaces of a network namespace at an instant.

use crate::netlink::LinkFacts;
use injector_core::clock::MonoNs;

/// The interfaces of a namespace, as they were read.
pub(super) struct LinkList {
    /// The instant before they were read.
    pub begun: MonoNs,
    pub links: Vec<LinkFacts>,
}

impl LinkList {
    /// The list of a namespace whose thread has ended: it has no interfaces.
    pub(super) fn nothing() -> Self {
        Self { begun: MonoNs::now(), links: Vec::new() }
    }
}
