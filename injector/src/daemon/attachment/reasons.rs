//! The words of reasons and remedies that name rules and devices.

use crate::discovery::devices::shown_device;
use crate::discovery::link_coverage::{Detour, Rewrite, SourceRule};
use crate::discovery::nat::{TranslatedDestination, Translation};
use crate::discovery::places::Place;
use crate::netlink::nft_walk::Chance;
use injector_core::config::Netns;
use injector_core::model::PeerNames;

/// Why hooks do not see all packets of a link by the addresses of both peers.
pub fn translated(names: &PeerNames, detour: &Detour) -> String {
    let (near, far) = (names.name(detour.near), names.name(detour.far));
    let open = if detour.places.is_empty() {
        String::new()
    } else {
        format!(", and not every device of {far} is hooked")
    };
    match &detour.rewrite {
        Rewrite::Destination(rule) => {
            format!("{}: the hooks of {near} see another address{open}", sends_on(far, rule))
        }
        Rewrite::Source(rule) => {
            format!("{}: the hooks of {near} see another address{open}", replaces(far, rule))
        }
        Rewrite::Both(on, source) => {
            format!(
                "{}; {}: what carries both other addresses passes",
                sends_on(far, on),
                replaces(near, source)
            )
        }
        Rewrite::WithoutNat(rule) => sends_on(far, rule),
    }
}

fn sends_on(far: &str, rule: &Translation) -> String {
    let Translation { space, rule, destination, .. } = rule;
    match destination {
        TranslatedDestination::Peer(_, address) => {
            format!("{rule} in {space} sends packets on to {address} of {far}")
        }
        TranslatedDestination::Computed => {
            format!(
                "{rule} in {space} sends packets on to addresses that it looks up, which may be those of {far}"
            )
        }
        TranslatedDestination::Rewritten => {
            format!(
                "{rule} in {space} writes other addresses into packets, which may be those to {far} or from it: no hook need see them by their own"
            )
        }
        TranslatedDestination::Unread(why) => {
            format!("the rules of NAT in {space} are not all known ({why}), and may send packets on to {far}")
        }
    }
}

fn replaces(sender: &str, SourceRule { space, snat }: &SourceRule) -> String {
    let may = if snat.chance == Chance::Surely { "replaces" } else { "may replace" };
    format!("chain {} of nftables in {space} {may} the source of packets from {sender}", snat.chain)
}

/// The remedy for NAT between two peers.
pub fn see_both(names: &PeerNames, detour: &Detour) -> String {
    let (near, far) = (names.name(detour.near), names.name(detour.far));
    if matches!(detour.rewrite, Rewrite::Both(..) | Rewrite::WithoutNat(_)) {
        return format!(
            "cut {near} off from world too, or have {near} and {far} reach each other by their own addresses alone and remove the rule for the test"
        );
    }
    if detour.places.is_empty() {
        return format!("attach to every device of {far}, or begin the same partition at a daemon that does");
    }
    let lines: Vec<String> = detour.places.iter().map(line).collect();
    format!("add a device of {far} to interfaces: {}", lines.join(" or "))
}

/// A device, for people.
pub fn shown_place(place: &Place) -> String {
    shown_device(&place.name, place.netns.as_ref())
}

/// Devices, for people.
pub fn shown_places(places: &[Place]) -> String {
    places.iter().map(shown_place).collect::<Vec<_>>().join(", ")
}

/// The entry of the config for an interface.
pub fn line(place: &Place) -> String {
    let netns = match &place.netns {
        None => String::new(),
        Some(Netns::Pid(pid)) => format!(", netns: {{ pid: {pid} }}"),
        Some(Netns::Container(container)) => format!(", netns: {{ container: {container} }}"),
        Some(netns) => format!(", netns: {netns}"),
    };
    format!("{{ name: {}{netns} }}", place.name)
}

/// A namespace in words.
pub(super) fn place(netns: Option<&Netns>) -> String {
    netns.map_or_else(|| "the daemon's own namespace".to_owned(), ToString::to_string)
}
