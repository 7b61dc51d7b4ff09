//! The addresses that NAT replaces between two peers, and where.

use crate::discovery::nat::Translation;
use crate::discovery::places::Place;
use crate::discovery::space::Space;
use crate::netlink::nft_walk::SnatMatch;
use injector_core::model::PeerId;

/// A way by which packets between two peers carry other addresses than theirs at hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The peer whose hooks see another address of the other one.
    pub near: PeerId,
    /// The other one,
    pub far: PeerId,
    /// and where hooks could be that see it by its own address.
    pub places: Vec<Place>,
    /// Whether another daemon answers for that one's end.
    pub is_elsewhere: bool,
    /// The part of the packet that is replaced.
    pub rewrite: Rewrite,
}

/// The address that rules replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The destination, which becomes the far peer.
    Destination(Translation),
    /// The source, which was the far peer.
    Source(SourceRule),
    /// Both addresses: neither end's hooks see both peers.
    Both(Translation, SourceRule),
    /// Either address, by a rule that writes to packets without NAT.
    WithoutNat(Translation),
}

/// A rule that replaces the source of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRule {
    /// Its namespace.
    pub space: Space,
    /// Whether it does, and where.
    pub snat: SnatMatch,
}
