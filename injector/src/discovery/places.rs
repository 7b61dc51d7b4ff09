//! Namespaces and the interfaces in them that packets of peers pass: what the survey is made from, and what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::netlink::facts::Facts;
use injector_core::config::{Device, Netns};

/// A namespace and what it knows.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name; `None` is the daemon's own.
    pub netns: Option<Netns>,
    /// The facts that were read in it.
    pub facts: Facts,
    /// The other namespaces that were asked, by the ids that this one has for them.
    pub away: BTreeMap<i32, Option<Netns>>,
    /// Other names that refer to it, among those that were asked for.
    pub aliases: BTreeSet<Netns>,
}

impl Namespace {
    /// Whether the config means this namespace, whatever it calls it.
    pub fn is(&self, netns: Option<&Netns>) -> bool {
        netns == self.netns.as_ref() || netns.is_some_and(|netns| self.aliases.contains(netns))
    }

    /// Whether a device of the config is the interface of a name in this namespace.
    pub fn has(&self, device: &Device, name: &str) -> bool {
        device.name == name && self.is(device.netns.as_ref())
    }
}

/// An interface that a peer's packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface's namespace.
    pub netns: Option<Netns>,
    /// The interface's name.
    pub name: String,
    /// The facts that show it, in words.
    pub why: String,
}

impl Place {
    /// Whether it is the same interface.
    pub fn is(&self, other: &Self) -> bool {
        self.netns == other.netns && self.name == other.name
    }
}

/// The interfaces in the way of one of a peer's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePath {
    /// The nearest to the peer first.
    pub places: Vec<Place>,
    /// How many of the first of them every packet passes; those after them see only what goes far enough.
    pub sure: usize,
    /// Whether it begins at a NIC of the peer's own: what leaves by it leaves by no other.
    pub is_own: bool,
}

/// The places that are known for one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The paths that its packets take; a peer with several addresses, or several NICs, may have several.
    pub paths: Vec<DevicePath>,
    /// Addresses that lead nowhere, each with the reason.
    pub missing: Vec<String>,
    /// The paths by which its frames leave its home; each may be a path.
    pub exits: Vec<DevicePath>,
    /// Where it may be if nothing else is known of it: a default route's path.
    pub weak: Vec<DevicePath>,
    /// Where it may be: ports of its bridge, with MAC addresses that are nobody's.
    pub candidates: Vec<DevicePath>,
    /// An address that several namespaces have as their own, and those interfaces.
    pub ambiguous: Vec<(IpAddr, Vec<Place>)>,
}
