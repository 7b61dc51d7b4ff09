//! The facts that name the ends of a frame besides the addresses of the config: bound ports, MACs of NICs,
//! addresses that NICs hold. Discovery computes them, the data plane writes them to the programs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::clock::MonoNs;
use crate::model::PeerId;

/// A MAC address.
pub type Mac = [u8; 6];

/// A MAC address in words.
pub fn shown_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Everything that names a frame's ends and may change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Bound ports, by the id that an attached interface has in the programs.
    pub ports: BTreeMap<u32, Port>,
    /// The MAC addresses of NICs that are seen, each with the one peer that has it.
    pub macs: BTreeMap<Mac, PeerId>,
    /// MAC addresses of NICs of a peer that someone else's device has too: they name nobody, also where frames with them come
    /// out of the peer's port, and where the config says that they are the peer's.
    pub doubled: BTreeSet<Mac>,
    /// Addresses that the config does not list, each with the one peer on whose NIC it is seen.
    pub held: BTreeMap<IpAddr, PeerId>,
    /// Addresses that the config does not list and that a peer's NIC and someone else's are seen to hold, each with the peer, or
    /// `None` if several peers hold it: it moves between them, and ports say who has it.
    pub shared: BTreeMap<IpAddr, Option<PeerId>>,
    /// Addresses that the config does not list and that a peer holds only on devices that nothing leaves by, such as `lo` and a bridge
    /// for containers. Any host may have the same one for itself, so they name the peer only together with its port or the MAC address
    /// of its NIC.
    pub private: BTreeMap<IpAddr, PeerId>,
    /// Addresses that several peers hold, with one that forwards among them: each with that peer. Frames for
    /// such an address that the peer's port receives are for that peer, and frames from the address that the
    /// port sends may be another's.
    pub forwarders: BTreeMap<IpAddr, BTreeSet<PeerId>>,
    /// Addresses that the config lists for one peer and that another one (the value) is seen to hold: from then on the
    /// programs treat them as `vip:`.
    pub moved: BTreeMap<IpAddr, PeerId>,
    /// The traits of each peer; a peer without an entry has all the defaults.
    pub peers: BTreeMap<PeerId, Traits>,
}

impl Identity {
    /// The peers that have a bound port of their own, which names their frames.
    pub fn bound(&self) -> BTreeSet<PeerId> {
        self.ports.values().filter(|port| !port.is_shared).map(|port| port.peer).collect()
    }
}

/// An interface for which it is proved that one peer alone is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The peer.
    pub peer: PeerId,
    /// The end of the peer's link that the interface is.
    pub end: End,
    /// Whether another peer is behind it too, as a nested guest is: such a port names no frame.
    pub is_shared: bool,
}

/// The end of a peer's link that an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A NIC of the peer's own: the peer sends at egress and receives at ingress.
    Own,
    /// The other end: a tap, or the host end of a veth. The peer sends at ingress and receives at egress.
    Host,
}

/// The facts about a peer that decide how its frames are named.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its namespace is seen, it is no next hop of a route that is seen, and it has nothing to forward to: what its port
    /// or MAC sends is its own, whatever the address.
    pub is_plain: bool,
    /// Its host would pass on what others send through its one NIC: nothing shows whether anyone does. Once a packet is seen at its
    /// port on its way to another peer, it is not plain.
    pub may_forward: bool,
    /// The peer passes on what others send: the config says `forwards: true`, or the peer is the next hop of
    /// a route that is seen.
    pub forwards: bool,
    /// Its namespace is seen: its addresses are known from there, and are not learned from its frames.
    pub is_seen: bool,
    /// All its MAC addresses are among [`Identity::macs`]: a unicast frame to another one is not for it, whatever port it
    /// comes by.
    pub has_known_macs: bool,
}

/// How a peer and a stranger met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contact {
    /// The peer received frames.
    From,
    /// The peer sent frames.
    To,
    /// The peer's port sent frames from an address that is neither listed nor claimed, to another peer.
    UnlistedSource,
}

/// A peer, and someone whom no address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StrangerId {
    /// The peer.
    pub peer: PeerId,
    /// The stranger's MAC address; zero for [`Contact::UnlistedSource`].
    pub mac: Mac,
    /// The direction of the frames.
    pub contact: Contact,
}

/// The packets that passed between a peer and a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The stranger and the peer.
    pub id: StrangerId,
    /// How many packets.
    pub packets: u64,
    /// When the first one passed.
    pub first: MonoNs,
    /// When the last one passed.
    pub last: MonoNs,
    /// The stranger's address in the first one; `None` if that had none.
    pub address: Option<IpAddr>,
}
