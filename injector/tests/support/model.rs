//! The reference model of the verdict, written from the contract of identity and not from the programs: it has its own
//! reading of frames, its own names and its own slots, and shares no code with the kernel side but the records that the
//! two are compared by.

pub mod name_counts;
pub mod names;
pub mod reading;
pub mod verdict_config;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use injector_common::key::{GROUP, LinkKey, ResponseKey};
use injector_common::record::LinkStamps;
use injector_core::model::{PortSide, Scope};

use names::{Ends, Hook, Names};
use reading::plain;
pub use reading::{Content, Reading, read};
use verdict_config::Response;

/// From how long after the cut on a drop at the receiver's port is late.
const LATE: u64 = 1_000_000_000;

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    pub generation: u32,
    /// Sender and receiver ([`GROUP`] for all who get a copy of what leaves the sender's port), and whether ARP and
    /// neighbour discovery are dropped too.
    pub links: BTreeMap<(u16, u16), bool>,
    pub starts: u64,
    pub ends: u64,
    /// Dropped are the packets whose random number is below; `None` is every packet.
    pub loss: Option<u32>,
    /// Period and on-time.
    pub flap: Option<(u64, u64)>,
    pub scopes: Vec<Scope>,
}

/// One packet's moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: u64,
    /// The clock that names are dated by: it lags.
    pub coarse: u64,
    pub random: u32,
}

/// What happens while partitions are live or watched.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub names: Names,
    pub live: BTreeMap<u8, Partition>,
    pub watched: BTreeMap<u8, Partition>,
    pub lease: u64,
    pub lapsed: bool,
    /// Whether a frame came out of a port whose peer its other names contradict.
    pub odd: bool,
    pub judged: u64,
    pub dropped: u64,
    pub unparsed: u64,
    pub protected: u64,
    pub foreign: u64,
    pub unnamed: u64,
    pub stamps: BTreeMap<LinkKey, LinkStamps>,
    pub responses: BTreeMap<ResponseKey, u64>,
    /// By generation, whether it is TCP, and the two ends: which of them sent payload after the heal.
    pub conversations: HashMap<(u32, bool, BTreeSet<Speaker>), BTreeSet<Speaker>>,
}

/// One end of a conversation: an address with the port of a TCP connection, or with the peer.
type Speaker = (IpAddr, u16);

/// One frame at one hook.
struct FrameAtHook<'a> {
    reading: &'a Reading<'a>,
    ends: Ends,
    at: Moment,
    rolls: bool,
}

impl Model {
    /// Judges a frame and records what the programs are to record; whether it is dropped.
    pub fn drops(&mut self, frame: &[u8], hook: Hook, at: Moment) -> bool {
        let reading = read(frame);
        let is_idle = self.live.is_empty() && self.watched.is_empty();
        self.names.take_claim(&reading, hook, at.coarse, is_idle);
        if is_idle {
            return false;
        }
        self.judged += 1;
        self.unparsed += u64::from(reading.addresses.is_none());
        if reading.is_for_the_switch() {
            return false;
        }
        self.names.learn(&reading, hook, at.coarse);
        let Some(ends) = self.names.ends(&reading, hook, at.coarse) else { return false };
        let rolls = self.names.rolls(&reading, ends, hook, at.coarse);
        let seen = FrameAtHook { reading: &reading, ends, at, rolls };
        let (deciders, mut after) = self.decide(&seen);
        if deciders.is_empty() {
            if !self.live.is_empty() {
                self.count_leaks(&seen, hook);
            }
        } else if self.names.config.protects(&reading) {
            self.protected += 1;
        } else {
            self.dropped += 1;
            // The link of the peer to whose port it was flooded lost nothing.
            if !self.names.is_flooded(&reading, ends, hook, at.coarse) {
                self.count_drop(&seen, hook, &deciders, frame.len());
            }
            return true;
        }
        let watched = self.watched.iter().filter(|(_, partition)| partition.holds(ends));
        after.extend(
            watched.map(|(slot, partition)| (partition.key(*slot, ends), partition.extent(&reading))),
        );
        let is_flooded = !after.is_empty() && self.names.is_flooded(&reading, ends, hook, at.coarse);
        let is_protected = self.names.config.protects(&reading);
        for (key, extent) in after {
            if reading.proves_nothing() {
                continue;
            }
            self.stamps.entry(key).or_default();
            if !is_flooded && !is_protected && extent != Extent::None {
                self.watch(key, extent, &reading, at.now);
            }
        }
        self.respond(&reading, at.now);
        false
    }

    /// Whether the lease ran out before a frame that a live partition is about. That frame finds it out for all that follow.
    fn is_lapsed(&mut self, ends: Ends, at: Moment) -> bool {
        let is_asked = self.live.values().any(|partition| partition.holds(ends));
        self.lapsed |= is_asked && at.now >= self.lease;
        self.lapsed
    }

    /// The slots that drop a frame, and those of its link that are over.
    fn decide(&mut self, seen: &FrameAtHook<'_>) -> (Vec<u8>, BTreeMap<LinkKey, Extent>) {
        let (mut deciders, mut after) = (Vec::new(), BTreeMap::new());
        if self.is_lapsed(seen.ends, seen.at) {
            return (deciders, after);
        }
        for (slot, partition) in self.live.iter().filter(|(_, partition)| partition.holds(seen.ends)) {
            if seen.at.now >= partition.ends {
                after.insert(partition.key(*slot, seen.ends), partition.extent(seen.reading));
            } else if partition.cuts(seen) {
                deciders.push(*slot);
            }
        }
        (deciders, after)
    }

    fn count_drop(&mut self, seen: &FrameAtHook<'_>, hook: Hook, deciders: &[u8], bytes: usize) {
        let now = seen.at.now;
        let is_late = self.names.passed_its_senders_port(seen.reading, seen.ends, hook, seen.at.coarse);
        for slot in deciders {
            let partition = &self.live[slot];
            let stamps = self.stamps.entry(partition.key(*slot, seen.ends)).or_default();
            if seen.reading.proves_nothing() {
                stamps.group_packets += 1;
                continue;
            }
            if is_late && partition.is_full() && partition.flap.is_none() && now >= partition.starts + LATE {
                stamps.late_packets += 1;
            }
            stamps.dropped_packets += 1;
            stamps.dropped_bytes += bytes as u64;
            first(&mut stamps.first_drop, now);
            stamps.last_drop = now;
        }
    }

    /// Counts a frame that passes the last hook in its way, although another of its names puts it on a link that is cut in
    /// full; and one that a peer sends for someone who is not known.
    fn count_leaks(&mut self, seen: &FrameAtHook<'_>, hook: Hook) {
        if seen.reading.content == Content::Neighbour || seen.ends.1 == GROUP {
            return;
        }
        let now = seen.at.coarse;
        if self.names.is_flooded(seen.reading, seen.ends, hook, now) {
            return;
        }
        let other = self.names.other_links(seen.reading, seen.ends, hook, (self.odd, now));
        self.odd |= other.is_odd;
        self.foreign += u64::from(other.is_foreign);
        self.unnamed += u64::from(self.names.is_with_a_stranger(seen.reading, seen.ends, hook, now));
        if self.names.config.protects(seen.reading) {
            return;
        }
        for ends in other.links {
            if self.is_lapsed(ends, seen.at) {
                continue;
            }
            let leaky = self.live.iter().filter(|(_, partition)| {
                partition.is_full() && partition.holds(ends) && partition.is_on(seen.at.now)
            });
            for (slot, partition) in leaky {
                let stamps = self.stamps.entry(partition.key(*slot, ends)).or_default();
                stamps.leaked_packets += 1;
                first(&mut stamps.first_leak, seen.at.now);
            }
        }
    }

    fn watch(&mut self, key: LinkKey, extent: Extent, reading: &Reading<'_>, now: u64) {
        let stamps = self.stamps.entry(key).or_default();
        let is_cut = extent == Extent::Packet;
        if is_cut {
            first(&mut stamps.first_packet, now);
        }
        if let Content::Tcp { handshake, .. } = &reading.content {
            match handshake {
                (true, false) if is_cut => first(&mut stamps.first_syn, now),
                (true, true) => first(&mut stamps.first_synack, now),
                (_, _) => {}
            }
        }
        // Of datagrams, which no kernel sends again by itself, payload both ways between the two peers is enough.
        let (is_tcp, (source, destination)) = match &reading.content {
            Content::Tcp { ports, payload: (1.., _), .. } => (true, ports.expect("payload has ports")),
            Content::Udp { payload: 1.., .. } | Content::Other { payload: 1.., .. } => {
                (false, (key.src, key.dst))
            }
            _ => return,
        };
        if is_cut {
            first(&mut stamps.first_data, now);
        }
        let (from, to) = reading.addresses.expect("payload has addresses");
        let (from, to) = ((plain(from), source), (plain(to), destination));
        let sent = self.conversations.entry((key.generation, is_tcp, [from, to].into())).or_default();
        sent.insert(from);
        if sent.len() == 2 {
            first(&mut stamps.first_exchange, now);
        }
    }

    fn respond(&mut self, reading: &Reading<'_>, now: u64) {
        let Content::Tcp { ports: Some((port, _)), payload: (length @ 1.., payload), .. } = &reading.content
        else {
            return;
        };
        let Some((from, _)) = reading.addresses else { return };
        let Some((endpoint, response)) = self.names.config.endpoints.get(&(plain(from), *port)) else {
            return;
        };
        let success = match response {
            Response::Any => *length > 0,
            Response::Http => payload.starts_with(b"HTTP/1.1 2") || payload.starts_with(b"HTTP/1.0 2"),
            Response::Prefix(prefix) => payload.starts_with(prefix),
        };
        if !success {
            return;
        }
        let over = self.live.iter().filter(|(_, partition)| now >= partition.ends);
        for (slot, partition) in over.chain(&self.watched) {
            let key =
                ResponseKey { generation: partition.generation, slot: (*slot).into(), endpoint: *endpoint };
            self.responses.entry(key).or_insert(now);
        }
    }
}

fn first(stamp: &mut u64, now: u64) {
    if *stamp == 0 {
        *stamp = now;
    }
}

/// What of a packet's conversation a partition would have dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    None,
    /// The other direction alone.
    Answer,
    /// The packet itself.
    Packet,
}

impl Partition {
    /// By its scopes: before the heal it dropped the packets in one of them, at the times and in the share that it did.
    fn extent(&self, reading: &Reading<'_>) -> Extent {
        let either = |scope: &Scope| Scope { side: PortSide::Either, ..*scope };
        if self.scopes.is_empty() || self.scopes.iter().any(|scope| reading.is_in(*scope)) {
            Extent::Packet
        } else if self.scopes.iter().any(|scope| reading.is_in(either(scope))) {
            Extent::Answer
        } else {
            Extent::None
        }
    }

    fn holds(&self, ends: Ends) -> bool {
        self.links.contains_key(&ends)
    }

    fn key(&self, slot: u8, (src, dst): Ends) -> LinkKey {
        LinkKey { generation: self.generation, slot: slot.into(), src, dst }
    }

    /// Whether it drops all that is on its links.
    fn is_full(&self) -> bool {
        self.scopes.is_empty() && self.loss.is_none()
    }

    fn is_on(&self, now: u64) -> bool {
        let flaps_on = || self.flap.is_none_or(|(period, on)| (now - self.starts) % period < on);
        self.starts <= now && now < self.ends && flaps_on()
    }

    /// Whether it drops a packet of its links before its end.
    fn cuts(&self, seen: &FrameAtHook<'_>) -> bool {
        let FrameAtHook { reading, ends, at, rolls } = seen;
        let meant = if reading.content == Content::Neighbour {
            self.links[ends]
        } else {
            self.scopes.is_empty() || self.scopes.iter().any(|scope| reading.is_in(*scope))
        };
        let lost = self.loss.is_none_or(|below| *rolls && at.random < below);
        self.is_on(at.now) && meant && lost
    }
}
