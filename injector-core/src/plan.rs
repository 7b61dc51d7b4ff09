//! Plans the writes that make the wanted cuts, and how each write is undone. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use injector_common::packet::{Packet, flag, protocol};
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot, SlotScope, side};
use injector_common::{SLOTS, Word};

use crate::config::Protect;
use crate::model::{Link, Neighbour, PeerId, Percent, PortSide, Protocol, Scope, Traffic};

/// The index of one of the 32 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u8);

impl SlotIndex {
    /// The slot's bit in a half of the commit word.
    pub fn bit(self) -> u32 {
        1 << self.0
    }
}

/// Whether a slot is in a link's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The slot is in the cells.
    In,
    /// The slot is not in the cells.
    Out,
}

/// A write to the data plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The contents of a slot whose bit is in neither half of the word.
    Slot(SlotIndex, Box<Slot>),
    /// A slot's bit in the cells of what it affects.
    Cells(SlotIndex, Vec<Cell>, Presence),
    /// The commit.
    Word(Word),
}

impl Step {
    /// The slot and the cells that it must leave again to take this step back; a slot that is in no cell and not in the
    /// word needs nothing.
    pub fn undo(&self) -> Option<(SlotIndex, &[Cell])> {
        match self {
            Self::Cells(slot, cells, Presence::In) => Some((*slot, cells)),
            Self::Slot(..) | Self::Cells(..) | Self::Word(_) => None,
        }
    }
}

/// A scope as the programs see it.
pub fn slot_scope(scope: Scope) -> SlotScope {
    let (first, last) = scope.ports.unwrap_or((0, 0));
    SlotScope {
        first,
        last,
        protocol: match scope.protocol {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Icmp => protocol::ICMP,
            Protocol::Sctp => protocol::SCTP,
            Protocol::Number(number) => number,
        },
        side: match scope.side {
            PortSide::Either => side::EITHER,
            PortSide::Src => side::SRC,
            PortSide::Dst => side::DST,
        },
        pad: 0,
    }
}

/// Whether a packet of an IP protocol from one address and port to another is never dropped, as the programs see it.
pub fn is_protected(protect: &[Protect], protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> bool {
    let packet = Packet { protocol, sport: from.1, dport: to.1, flags: flag::PORTS, ..Packet::default() };
    protect.iter().any(|protect| match protect {
        Protect::Address(address) => [from.0, to.0].contains(address),
        Protect::Scope(scope) => slot_scope(*scope).may_hold(&packet),
    })
}

/// How a partition treats ARP and neighbour discovery, by what was asked for and what the config protects; `None` if that
/// contradicts it.
///
/// A protected scope may hold packets between any two hosts, and they arrive only while both know each other's MAC address. So
/// nothing of it is dropped while there is such a scope. A protected address needs no such rule: the programs compare it with
/// the addresses in each ARP or neighbour discovery frame.
pub fn neighbour(asked: Neighbour, protect: &[Protect]) -> Option<Neighbour> {
    let has_scope = protect.iter().any(|protect| matches!(protect, Protect::Scope(_)));
    match asked {
        Neighbour::Auto | Neighbour::Keep if has_scope => Some(Neighbour::Keep),
        Neighbour::Drop if has_scope => None,
        asked => Some(asked),
    }
}

/// The steps that must be written before a partition can be committed.
pub fn prepare(index: SlotIndex, slot: Slot, cells: &[Cell]) -> Vec<Step> {
    vec![Step::Slot(index, Box::new(slot)), Step::Cells(index, cells.to_vec(), Presence::In)]
}

/// A cell of the matrix: a link, or all that a peer sends to groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The sender.
    pub src: PeerId,
    /// The receivers.
    pub dst: Column,
    /// Whether ARP and neighbour discovery are dropped as well.
    pub neighbours: bool,
}

/// The receivers of a [`Cell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// A peer.
    Peer(PeerId),
    /// All who would get a copy of a group frame that leaves the sender's port.
    Group,
}

impl From<Link> for Cell {
    fn from(link: Link) -> Self {
        Self { src: link.src, dst: Column::Peer(link.dst), neighbours: false }
    }
}

/// The facts that a partition's cells depend on, besides its links.
pub struct CellContext<'a> {
    /// Every peer, without the world.
    pub peers: &'a [PeerId],
    /// Whether a peer passes on what others send. Of the world: whether the peers reach anything through it.
    pub forwards: &'a dyn Fn(PeerId) -> bool,
    /// Whether a hooked port is bound to a peer.
    pub is_bound: &'a dyn Fn(PeerId) -> bool,
}

/// The cells of a partition.
///
/// ARP and neighbour discovery are dropped by pair of peers, as `neighbour` says: at most where the partition cuts both
/// ways and neither peer is on the way of another's packets, and by `auto` only where it cuts all traffic. What a peer
/// sends to a group is dropped at its own port only if all its links are cut, and those to the world too or to a peer whose
/// port is not known.
pub fn cells(traffic: &Traffic, links: &[Link], context: &CellContext<'_>) -> Vec<Cell> {
    let cut: BTreeSet<Link> = links.iter().copied().collect();
    let is_lossless = traffic.loss == Percent::ALL;
    let is_full = traffic.drops_every_packet();
    let both = |a: PeerId, b: PeerId| {
        cut.contains(&Link { src: a, dst: b }) && cut.contains(&Link { src: b, dst: a })
    };
    // The world is on the way of all packets that leave the peers' network: it is cut off where nothing else is left.
    let is_needed = |peer: PeerId, other: PeerId| match peer {
        PeerId::WORLD => !context.peers.iter().all(|peer| *peer == other || both(*peer, other)),
        peer => (context.forwards)(peer),
    };
    // Dropped in a one-way cut, they would end the other way too; dropped for a router, all that it leads to.
    let spares_nothing = |link: Link| {
        both(link.src, link.dst) && !is_needed(link.src, link.dst) && !is_needed(link.dst, link.src)
    };
    let drops_neighbours = |link: Link| match traffic.neighbour {
        Neighbour::Keep => false,
        Neighbour::Drop => spares_nothing(link),
        Neighbour::Auto => is_full && spares_nothing(link),
    };
    let cell = |link: &Link| Cell { neighbours: drops_neighbours(*link), ..Cell::from(*link) };
    let mut cells: Vec<Cell> = links.iter().map(cell).collect();
    for src in context.peers.iter().copied().filter(|_| is_lossless) {
        let mut to_peers = context.peers.iter().filter(|dst| **dst != src).map(|dst| Link { src, dst: *dst });
        let to_world = Link { src, dst: PeerId::WORLD };
        let spares_nobody = cut.contains(&to_world)
            || to_peers.clone().any(|link| cut.contains(&link) && !(context.is_bound)(link.dst));
        if spares_nobody && to_peers.clone().next().is_some() && to_peers.all(|link| cut.contains(&link)) {
            let mut of_src = cut.range(to_world..=Link { src, dst: PeerId(u16::MAX) });
            // Without its questions for the world's MAC addresses the peer would lose the world, too.
            let neighbours = cut.contains(&to_world) && of_src.all(|link| drops_neighbours(*link));
            cells.push(Cell { src, dst: Column::Group, neighbours });
        }
    }
    cells
}

/// The contents of a partition's slot, except for its generation and its times.
pub fn slot(traffic: &Traffic) -> Slot {
    let mut scopes = [SlotScope::default(); MAX_SCOPES];
    for (into, scope) in scopes.iter_mut().zip(&traffic.scopes) {
        *into = slot_scope(*scope);
    }
    let share = |nanos: u64, share: f64| (nanos as f64 * share).round() as u64;
    let (flap_period, flap_on) = traffic.flap.map_or((0, 0), |flap| {
        let period = flap.period.as_nanos();
        (period, share(period, flap.on.share()))
    });
    Slot {
        loss: share(LOSS_ALL, traffic.loss.share()),
        flap_period,
        flap_on,
        scope_count: traffic.scopes.len().min(MAX_SCOPES) as u32,
        full: u32::from(traffic.drops_every_packet()),
        scopes,
        ..Slot::default()
    }
}

/// The use of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotUse {
    /// Nothing; the slot's age says whether a running program may still read it.
    #[default]
    Free,
    /// Prepared, not in the word.
    Prepared,
    /// In the live half.
    Live,
    /// In the watched half.
    Watched,
}

/// When a slot was freed: a count that rises with each one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub u64);

/// All slots of the daemon: the one source of the commit word.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    uses: [SlotUse; SLOTS as usize],
    used_before: u32,
    /// When each slot was freed last.
    freed: [Age; SLOTS as usize],
}

/// Whether a slot's old contents may still be in the hands of a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never used.
    New,
    /// Used before, and no program can still read it.
    Aged,
    /// Freed just now: wait for running programs before it is written.
    Young,
}

impl SlotTable {
    /// The free slot to take next, without taking it: the lowest (loops over slots end early) that can be written at
    /// once, by the last age that no program can see any more; the one that was freed first if all are young.
    pub fn free(&self, settled: Age) -> Option<(SlotIndex, Freshness)> {
        let is_young = |at: &usize| self.freed[*at] > settled;
        let free = (0..self.uses.len()).filter(|at| self.uses[*at] == SlotUse::Free);
        let at = free.clone().find(|at| !is_young(at)).or_else(|| free.min_by_key(|at| self.freed[*at]))?;
        let index = SlotIndex(at as u8);
        Some((
            index,
            match self.used_before & index.bit() {
                0 => Freshness::New,
                _ if is_young(&at) => Freshness::Young,
                _ => Freshness::Aged,
            },
        ))
    }

    /// Frees a slot whose bit has left the word; programs that read an older word may still read the slot.
    pub fn release(&mut self, index: SlotIndex, age: Age) {
        self.set(index, SlotUse::Free);
        self.freed[usize::from(index.0)] = age;
    }

    /// Puts a slot to a use.
    pub fn set(&mut self, index: SlotIndex, to: SlotUse) {
        self.used_before |= index.bit();
        self.uses[usize::from(index.0)] = to;
    }

    /// The use of a slot.
    pub fn get(&self, index: SlotIndex) -> SlotUse {
        self.uses[usize::from(index.0)]
    }

    /// The word that says so.
    pub fn word(&self) -> Word {
        let half = |wanted| {
            (0u32..)
                .zip(self.uses)
                .filter(|(_, slot)| *slot == wanted)
                .fold(0, |mask, (at, _)| mask | 1 << at)
        };
        Word::new(half(SlotUse::Live), half(SlotUse::Watched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PeerId;

    #[test]
    fn a_packet_is_protected_by_its_address_or_its_port_as_the_programs_see_it() {
        let protect = [
            Protect::Scope("tcp/22".parse().unwrap()),
            Protect::Scope("udp/53:dst".parse().unwrap()),
            Protect::Address("10.0.0.9".parse().unwrap()),
        ];
        let of = |protocol, from: (&str, u16), to: (&str, u16)| {
            let end = |(address, port): (&str, u16)| (address.parse().unwrap(), port);
            is_protected(&protect, protocol, end(from), end(to))
        };
        let (a, b) = (("10.0.0.1", 4000), ("10.0.0.2", 22));
        assert!(of(protocol::TCP, a, b) && of(protocol::TCP, b, a), "either end's port");
        assert!(!of(protocol::UDP, a, b) && !of(protocol::TCP, a, ("10.0.0.2", 23)));
        assert!(
            of(protocol::UDP, a, ("10.0.0.2", 53)) && !of(protocol::UDP, ("10.0.0.2", 53), a),
            "one end's"
        );
        assert!(of(253, ("10.0.0.9", 0), ("10.0.0.1", 0)) && !of(253, ("10.0.0.2", 0), ("10.0.0.1", 0)));
    }

    #[test]
    fn a_slot_says_what_was_asked() {
        let traffic = Traffic {
            loss: "30%".parse().unwrap(),
            flap: Some("200ms/25%".parse().unwrap()),
            scopes: vec!["tcp/5122".parse().unwrap()],
            ..Traffic::default()
        };
        let slot = slot(&traffic);
        assert_eq!((slot.flap_period, slot.flap_on), (200_000_000, 50_000_000));
        assert_eq!(slot.loss, 1_288_490_189);
        assert_eq!((slot.scope_count, slot.scopes[0].first, slot.scopes[0].last), (1, 5122, 5122));
        assert_eq!(super::slot(&Traffic::default()).loss, LOSS_ALL);
    }

    #[test]
    fn the_word_has_each_slot_in_one_half() {
        let mut table = SlotTable::default();
        let free = |table: &SlotTable| table.free(Age(0));
        assert_eq!(free(&table), Some((SlotIndex(0), Freshness::New)));
        table.set(SlotIndex(0), SlotUse::Live);
        table.set(SlotIndex(1), SlotUse::Prepared);
        table.set(SlotIndex(2), SlotUse::Watched);
        assert_eq!(table.word(), Word::new(0b001, 0b100));
        for at in 0..32 {
            table.set(SlotIndex(at), SlotUse::Live);
        }
        assert_eq!(free(&table), None);
    }

    #[test]
    fn a_young_slot_is_taken_last() {
        let mut table = SlotTable::default();
        for at in 0..4 {
            table.set(SlotIndex(at), SlotUse::Live);
        }
        table.release(SlotIndex(2), Age(1));
        table.release(SlotIndex(0), Age(2));
        assert_eq!(table.free(Age(0)), Some((SlotIndex(4), Freshness::New)), "nothing to wait for");
        assert_eq!(table.free(Age(1)), Some((SlotIndex(2), Freshness::Aged)));
        assert_eq!(table.free(Age(2)), Some((SlotIndex(0), Freshness::Aged)), "the lowest");
        for at in 4..32 {
            table.set(SlotIndex(at), SlotUse::Watched);
        }
        assert_eq!(table.free(Age(0)), Some((SlotIndex(2), Freshness::Young)), "the one freed first");
        assert_eq!(table.free(Age(1)), Some((SlotIndex(2), Freshness::Aged)));
    }

    #[test]
    fn undo_takes_the_cells_out_again() {
        let cells = vec![Cell::from(Link { src: PeerId(1), dst: PeerId(2) })];
        let steps = prepare(SlotIndex(4), slot(&Traffic::default()), &cells);
        let undone: Vec<_> = steps.iter().rev().filter_map(Step::undo).collect();
        assert_eq!(undone, [(SlotIndex(4), &cells[..])]);
    }

    /// The cells of three peers' links, as `src>dst`, `src>*` for groups, with `!` where neighbours are dropped.
    fn shown(traffic: &Traffic, links: &str, forwards: &[u16], unbound: &[u16]) -> String {
        let links: Vec<Link> = links
            .split_whitespace()
            .map(|link| {
                let mut ends = link.split('>').map(|end| PeerId(end.parse().unwrap()));
                Link { src: ends.next().unwrap(), dst: ends.next().unwrap() }
            })
            .collect();
        let context = CellContext {
            peers: &[PeerId(1), PeerId(2), PeerId(3)],
            forwards: &|peer| forwards.contains(&peer.0),
            is_bound: &|peer| !unbound.contains(&peer.0),
        };
        let shown = cells(traffic, &links, &context).into_iter().map(|cell| {
            let dst = match cell.dst {
                Column::Peer(peer) => peer.0.to_string(),
                Column::Group => "*".to_owned(),
            };
            format!("{}>{dst}{}", cell.src.0, if cell.neighbours { "!" } else { "" })
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn neighbours_are_dropped_by_pair() {
        let mut traffic = Traffic::default();
        let both = "1>2 2>1 1>3 3>1";
        assert_eq!(shown(&traffic, both, &[], &[]), "1>2! 2>1! 1>3! 3>1!");
        assert_eq!(shown(&traffic, "1>2", &[], &[]), "1>2", "one way: the other would end at the next ARP");
        assert_eq!(shown(&traffic, "1>2 2>1 1>3", &[], &[]), "1>2! 2>1! 1>3");
        assert_eq!(
            shown(&traffic, both, &[3], &[]),
            "1>2! 2>1! 1>3 3>1",
            "3 is on the way of others' packets"
        );
        assert_eq!(shown(&traffic, "1>0 0>1", &[], &[]), "1>0 0>1", "routers are the world's");
        assert_eq!(
            shown(&traffic, "1>0 0>1 1>2 2>1 1>3 3>1", &[], &[]),
            "1>0! 0>1! 1>2! 2>1! 1>3! 3>1! 1>*!",
            "nothing is left that the world could lead to"
        );
        traffic.neighbour = Neighbour::Drop;
        assert_eq!(shown(&traffic, both, &[], &[]), "1>2! 2>1! 1>3! 3>1!");
        assert_eq!(shown(&traffic, "1>2 2>1 1>3", &[], &[]), "1>2! 2>1! 1>3", "3>1 is to go on");
        assert_eq!(shown(&traffic, both, &[3], &[]), "1>2! 2>1! 1>3 3>1", "so is what 3 forwards");
        traffic.neighbour = Neighbour::Keep;
        assert_eq!(shown(&traffic, "1>2 2>1", &[], &[]), "1>2 2>1");
        traffic.loss = "50%".parse().unwrap();
        traffic.neighbour = Neighbour::Auto;
        assert_eq!(shown(&traffic, "1>2 2>1", &[], &[]), "1>2 2>1");
        traffic.neighbour = Neighbour::Drop;
        assert_eq!(shown(&traffic, "1>2 2>1", &[], &[]), "1>2! 2>1!", "also where only a part is cut");
    }

    #[test]
    fn neighbours_are_kept_for_the_traffic_of_a_protected_scope() {
        let address = Protect::Address("10.0.0.9".parse().unwrap());
        let scope = Protect::Scope("tcp/22".parse().unwrap());
        for asked in [Neighbour::Auto, Neighbour::Keep, Neighbour::Drop] {
            assert_eq!(neighbour(asked, &[]), Some(asked));
            assert_eq!(neighbour(asked, &[address]), Some(asked), "frames about an address name it");
        }
        assert_eq!(neighbour(Neighbour::Auto, &[address, scope]), Some(Neighbour::Keep));
        assert_eq!(neighbour(Neighbour::Keep, &[scope]), Some(Neighbour::Keep));
        assert_eq!(neighbour(Neighbour::Drop, &[scope]), None, "a cut can't do both");
    }

    #[test]
    fn group_frames_are_dropped_at_the_sender_where_nobody_is_spared() {
        let traffic = Traffic::default();
        assert_eq!(shown(&traffic, "1>2 1>3", &[], &[]), "1>2 1>3", "the world gets them");
        assert_eq!(shown(&traffic, "1>2 1>3 1>0", &[], &[]), "1>2 1>3 1>0 1>*");
        assert_eq!(shown(&traffic, "1>2 1>3", &[], &[3]), "1>2 1>3 1>*", "3 can't be spared otherwise");
        assert_eq!(shown(&traffic, "1>2", &[], &[2]), "1>2", "3 is to get them");
        let mut lossy = traffic;
        lossy.loss = "50%".parse().unwrap();
        assert_eq!(shown(&lossy, "1>2 1>3 1>0", &[], &[]), "1>2 1>3 1>0", "lost at each receiver's port");
    }
}
