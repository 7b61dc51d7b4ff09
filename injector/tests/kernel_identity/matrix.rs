//! What becomes of each kind of frame in each shape, by which ends are hooked, beside what a switch port does that is off.

use std::fmt::Write as _;

use crate::frames::{DRAWN, GATEWAY, advertisement, arp, dhcp, mac, one, plain, solicitation, udp};
use crate::path::Step::{From, To};
use crate::path::{CutLink, HookPath, Outcome, SIDES, Setup, UPLINK, between, isolate, isolate_from_all};

/// Who gets the frame, or the copy of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Peer(u16),
    World,
    /// The switch itself.
    Switch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Data,
    /// ARP and neighbour discovery.
    Neighbour,
}

struct FrameKind {
    name: &'static str,
    src: u16,
    to: Receiver,
    class: Class,
    frame: Vec<u8>,
}

fn kinds() -> Vec<FrameKind> {
    use Receiver::{Peer, Switch, World};
    let kind = |name, src, to, class, frame| FrameKind { name, src, to, class, frame };
    let data = |name, to, frame| kind(name, 1, to, Class::Data, frame);
    let neighbour = |name, to, frame| kind(name, 1, to, Class::Neighbour, frame);
    let lacp = plain(mac(1), [0x01, 0x80, 0xc2, 0, 0, 2], 0x8809);
    vec![
        data("n1→n2, listed addresses", Peer(2), one(1, "10.0.0.1", 2, "10.0.0.2")),
        data("n1→n2, n1's address not listed", Peer(2), one(1, "2001:db8::77", 2, "fd00::2")),
        data("n1→n2, link-local", Peer(2), one(1, "fe80::1", 2, "fe80::2")),
        data("n1→n2, link-local, n1's MAC new", Peer(2), udp(DRAWN, "fe80::9", mac(2), "fe80::2")),
        data("n1→n2, no IP", Peer(2), plain(mac(1), mac(2), 0x88b5)),
        kind("n2→n1, listed addresses", 2, Peer(1), Class::Data, one(2, "10.0.0.2", 1, "10.0.0.1")),
        data("n1→client, listed address of n1", World, udp(mac(1), "10.0.0.1", GATEWAY, "198.51.100.7")),
        data("multicast of n1, copy for n2", Peer(2), advertisement(1)),
        data("multicast of n1, copy for a host of the world", World, advertisement(1)),
        data("DHCP of n1, copy for a server of the world", World, dhcp(mac(1))),
        neighbour("ARP request of n1 for n2", Peer(2), arp(mac(1), "10.0.0.1", "10.0.0.2")),
        neighbour("ARP request of n1 for n3, copy for n2", Peer(2), arp(mac(1), "10.0.0.1", "10.0.0.3")),
        neighbour("ARP request of n1 for the gateway", World, arp(mac(1), "10.0.0.1", "10.0.0.254")),
        neighbour("announcement of n1 (ARP), copy for n2", Peer(2), arp(mac(1), "10.0.0.1", "10.0.0.1")),
        neighbour("DAD of n1, copy for n2", Peer(2), solicitation(mac(1), "::", "2001:db8::5")),
        data("LACP of n1", Switch, lacp),
    ]
}

struct Shape {
    name: &'static str,
    cut: Vec<CutLink>,
    /// Whether it turns n1's port off, as a switch has it; else it parts two ports.
    is_port_off: bool,
}

fn shapes() -> Vec<Shape> {
    let shape = |name, cut, is_port_off| Shape { name, cut, is_port_off };
    vec![
        shape("isolate n1", isolate(1), true),
        shape("isolate n1, world too", isolate_from_all(1), true),
        shape("links n1–n2", between(1, 2), false),
        shape("link n1→n2", vec![(1, 2)], false),
        shape("link n2→n1", vec![(2, 1)], false),
    ]
}

/// Whether a port that is off (or an access list between two ports) drops it.
fn is_off(kind: &FrameKind, shape: &Shape) -> bool {
    let Receiver::Peer(dst) = kind.to else { return shape.is_port_off };
    shape.is_port_off || shape.cut.contains(&(kind.src, dst))
}

/// What is hooked: both ends, the sender's port alone, the receiver's alone.
const HOOKED: [&str; 3] = ["both ends", "sender's port", "receiver's port"];

/// What becomes of a frame, by what is hooked; `None` where the receiver has no port.
fn ours(path: &mut HookPath, kind: &FrameKind, shape: &Shape) -> [Option<bool>; 3] {
    let src = u32::from(kind.src);
    let dst = match kind.to {
        Receiver::Peer(peer) => Some(u32::from(peer)),
        Receiver::World | Receiver::Switch => None,
    };
    let mut drops = |setup: Setup, steps: Vec<_>| {
        let outcomes = SIDES.map(|side| path.send(side, &setup, &[(kind.frame.clone(), steps.clone())]));
        let [first, ..] = outcomes.map(|Outcome { is_dropped, .. }| is_dropped);
        assert!(
            outcomes.iter().all(|outcome| outcome.is_dropped == first),
            "{} in {}: the sides differ: {outcomes:?}",
            kind.name,
            shape.name
        );
        first
    };
    let setup = || Setup::of(shape.cut.clone());
    let whole = vec![From(src), dst.map_or(To(UPLINK), To)];
    let at_receiver = dst.map(|dst| drops(setup().hooked(&[dst]), vec![To(dst)]));
    [Some(drops(setup(), whole)), Some(drops(setup().hooked(&[src]), vec![From(src)])), at_receiver]
}

/// Why a frame fares otherwise than with the port off.
fn why(kind: &FrameKind, shape: &Shape, at: usize) -> &'static str {
    let is_two_way = shape.cut.contains(&(1, 2)) && shape.cut.contains(&(2, 1));
    match (kind.to, kind.class, at) {
        (Receiver::Switch, ..) => "between a port and its switch; without it the port itself goes down",
        (Receiver::World, ..) if !shape.cut.contains(&(1, 0)) => "the shape does not name the world",
        (_, Class::Neighbour, _) if !is_two_way => {
            "kept in a one-way cut: without ARP the other direction ends too, after 8.4 s"
        }
        (Receiver::Peer(_), _, 1) => "who receives is known at the receiver's port",
        (Receiver::Peer(_), _, 2) => "who sent is known at the sender's port",
        _ => "",
    }
}

/// The matrix, as Markdown.
pub fn matrix(path: &mut HookPath) -> String {
    let mut text = format!(
        "| frame | shape | port off | ours: {} | why they differ |\n|---|---|---|---|---|---|---|\n",
        HOOKED.join(" | ours: ")
    );
    let shown = |is_dropped: bool| if is_dropped { "drop" } else { "pass" };
    for kind in kinds() {
        for shape in shapes() {
            let off = is_off(&kind, &shape);
            let ours = ours(path, &kind, &shape);
            let mut reasons: Vec<String> = Vec::new();
            for (at, _) in ours.iter().enumerate().filter(|(_, ours)| ours.is_some_and(|ours| ours != off)) {
                let why = why(&kind, &shape, at);
                assert!(
                    !why.is_empty(),
                    "{} in {}, {}: no reason to differ",
                    kind.name,
                    shape.name,
                    HOOKED[at]
                );
                if !reasons.iter().any(|reason| reason == why) {
                    reasons.push(why.to_owned());
                }
            }
            let ours = ours.map(|ours| ours.map_or("–", shown));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                kind.name,
                shape.name,
                shown(off),
                ours.join(" | "),
                reasons.join("; ")
            );
        }
    }
    text
}
