//! The real data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_log::EbpfLogger;
use injector_common::Word;
use injector_common::key::{GROUP, LinkKey, ROLL_SEVERAL, ResponseKey, RollKey};
use injector_common::record::{
    DROPS_AT, JUDGED_AT, Lease, LinkStamps, VERDICT_CONTEXT_WORDS, Wakeup, counter, earliest,
};
use injector_common::slot::Slot;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::identify::NameMaps;
use super::mapped::Mapped;
use super::object::{Clocks, Object};
use super::overlaps::{self, BySlot, CommonStamps, Overlaps};
use super::owner::Owner;
use super::strangers::StrangerMap;
use super::{DatapathError, Gate, Pins, SlotAging};
use crate::alarm::Guard;
use crate::fault;
use injector_core::config::Config;
use injector_core::identity::{Identity, Mac, Stranger};
use injector_core::ledger::{DataPlane, Interval, Lapsed};
use injector_core::model::{Link, PeerId};
use injector_core::plan::{Age, Cell, Column, Presence, SlotIndex};

/// The maps of a loaded object.
pub struct Kernel {
    object: Object,
    gate: Gate,
    slots: Array<MapData, Slot>,
    matrix: Mapped,
    roll: Mapped,
    links: PerCpuHashMap<MapData, LinkKey, LinkStamps>,
    overlaps: Overlaps,
    rolls: HashMap<MapData, RollKey, u32>,
    responses: PerCpuHashMap<MapData, ResponseKey, u64>,
    counters: PerCpuArray<MapData, u64>,
    contexts: PerCpuArray<MapData, [u64; VERDICT_CONTEXT_WORDS]>,
    names: NameMaps,
    strangers: StrangerMap,
    side: usize,
    /// How many links had stamps when they were last gone through, over all slots: the cost of going through
    /// them, against that of looking up each link of a partition.
    stamped: AtomicUsize,
    log: Option<Log>,
    /// Lets freed slots age; without it each waits when it is taken again.
    slot_aging: Option<SlotAging>,
    /// Slots that were freed before the thread was started.
    freed: u64,
}

impl Kernel {
    /// Creates the maps for a config; nothing is attached yet.
    pub fn load(config: &Config, clocks: Clocks) -> Result<Self, DatapathError> {
        Self::load_with(Some(&Pins::new()?), config, clocks)
    }

    /// [`Self::load`] with a filesystem for pins that was made before: it takes no `CAP_SYS_ADMIN`.
    pub fn load_with(pins: Option<&Pins>, config: &Config, clocks: Clocks) -> Result<Self, DatapathError> {
        let mut object = Object::load(pins, config, clocks)?;
        let side = config.names.len();
        let owner = Owner::ours().map_err(|source| DatapathError::Owner { source })?;
        let commit = mapped(&object, "COMMIT", 1)?;
        let lease = mapped(&object, "LEASE", size_of::<Lease>() / size_of::<u64>())?;
        let cells = object.cells();
        let matrix = mapped(&object, "MATRIX", cells)?;
        let roll = mapped(&object, "ROLL", side)?;
        let of = |name| move |source| DatapathError::Map { name, source };
        Ok(Self {
            gate: Gate::new(commit, lease, owner),
            matrix,
            roll,
            slots: object.take("SLOTS")?.try_into().map_err(of("SLOTS"))?,
            links: object.take("LINKS")?.try_into().map_err(of("LINKS"))?,
            overlaps: Overlaps::take(&mut object)?,
            rolls: object.take("ROLLS")?.try_into().map_err(of("ROLLS"))?,
            responses: object.take("RESPONSES")?.try_into().map_err(of("RESPONSES"))?,
            counters: object.take("COUNTERS")?.try_into().map_err(of("COUNTERS"))?,
            contexts: object.take("CONTEXT")?.try_into().map_err(of("CONTEXT"))?,
            names: NameMaps::take(&mut object, config)?,
            strangers: StrangerMap::take(&mut object)?,
            object,
            side,
            stamped: AtomicUsize::new(0),
            log: None,
            slot_aging: None,
            freed: 0,
        })
    }

    /// The commit word and the lease.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Writes what names frames besides the addresses of the config; what did not change is not touched.
    ///
    /// # Errors
    /// If a map can't be written: some of it is written then, and the rest is tried again with the next change.
    pub fn identify(&mut self, identity: &Identity) -> Result<(), DatapathError> {
        fault::at("bind/names")
            .map_err(|error| DatapathError::Map { name: "PORTS", source: error.into() })?;
        self.names.write(identity)
    }

    /// Forgets whose frames came from a MAC address, which its device has given up.
    ///
    /// # Errors
    /// If the map can't be written.
    pub fn forget_mac(&mut self, mac: Mac) -> Result<(), DatapathError> {
        self.names.forget_mac(mac)
    }

    /// Has the programs match responses at the addresses that the endpoints have now.
    ///
    /// # Errors
    /// If the map can't be written.
    pub fn rewire(&mut self, config: &Config) -> Result<(), DatapathError> {
        self.object.rewire(config)
    }

    /// The addresses that peers claim by their frames, each with the peer that claimed it last.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn learned_claims(&self) -> Result<Vec<(IpAddr, PeerId)>, DatapathError> {
        self.names.learned_claims()
    }

    /// The strangers that peers met: senders and receivers that no address names.
    ///
    /// # Errors
    /// If the map can't be read.
    pub fn strangers(&self) -> Result<Vec<Stranger>, DatapathError> {
        self.strangers.read()
    }

    /// Forgets them.
    ///
    /// # Errors
    /// If the map can't be written.
    pub fn forget_strangers(&mut self) -> Result<(), DatapathError> {
        self.strangers.clear()
    }

    /// The object, to make instances of.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The object, for its log.
    pub fn object_mut(&mut self) -> &mut Object {
        &mut self.object
    }

    /// The ring of wakeups; must be called within a tokio runtime.
    pub fn wakeups(&mut self) -> Result<Wakeups, DatapathError> {
        let name = "WAKEUPS";
        let ring: RingBuf<MapData> =
            self.object.take(name)?.try_into().map_err(|source| DatapathError::Map { name, source })?;
        let fail = |source| DatapathError::Mmap { name, source };
        // A descriptor of its own, since the ring lends out its only one.
        let fd = ring.as_fd().try_clone_to_owned().map_err(fail)?;
        // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
        let ready = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| fail(error.into()))?;
        Ok(Wakeups { ready, ring })
    }

    /// Passes the programs' log on to this process's; must be called within a tokio runtime.
    pub fn start_log(&mut self) -> Result<(), DatapathError> {
        let fail = |source| DatapathError::Mmap { name: "AYA_LOGS", source };
        let mut logger =
            EbpfLogger::init(&mut self.object.base()).map_err(|error| fail(std::io::Error::other(error)))?;
        let fd = logger.as_fd().try_clone_to_owned().map_err(fail)?;
        // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
        let ready = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| fail(error.into()))?;
        self.log = Some(Log(tokio::spawn(async move {
            while let Ok(mut guard) = ready.readable().await {
                guard.clear_ready();
                logger.flush();
            }
        })));
        Ok(())
    }

    /// Starts the thread that lets freed slots age, so that taking one again does not wait.
    ///
    /// # Errors
    /// If there can't be one more thread.
    pub fn start_slot_aging(&mut self, guard: Guard) -> std::io::Result<()> {
        fault::at("load/slot-aging")?;
        self.slot_aging = Some(SlotAging::start(guard)?);
        Ok(())
    }

    /// Says which interfaces roll the loss of a peer's links.
    ///
    /// # Errors
    /// If the map for peers with several of them can't be read or written, or is full: nothing is changed then but
    /// what no program reads yet.
    pub fn bind_roll(&mut self, peer: PeerId, interfaces: &BTreeSet<u32>) -> Result<(), DatapathError> {
        let fail = |source| DatapathError::Map { name: "ROLLS", source };
        fault::at("bind/roll").map_err(|error| fail(error.into()))?;
        let at = match interfaces.len() {
            0 => 0,
            1 => interfaces.first().copied().unwrap_or(0),
            _ => ROLL_SEVERAL,
        };
        if at == ROLL_SEVERAL {
            for interface in interfaces {
                let key = RollKey { peer: u32::from(peer.0), interface: *interface };
                self.rolls.insert(key, 1, 0).map_err(fail)?;
            }
        }
        self.roll.store(usize::from(peer.0), u64::from(at));
        let stale = self.rolls.keys().filter_map(Result::ok).filter(|key| {
            key.peer == u32::from(peer.0) && (at != ROLL_SEVERAL || !interfaces.contains(&key.interface))
        });
        for key in stale.collect::<Vec<_>>() {
            self.rolls.remove(&key).map_err(fail)?;
        }
        Ok(())
    }
}

impl Kernel {
    /// Goes through all stamps for those of one partition.
    fn walk(&self, slot: u32, generation: u32) -> Result<BTreeMap<Link, LinkStamps>, DatapathError> {
        let mut found = BTreeMap::new();
        let mut stamped = 0;
        for key in self.links.keys() {
            let key = key.map_err(|source| DatapathError::Map { name: "LINKS", source })?;
            stamped += 1;
            // Drops for all receivers at once are on no link.
            if (key.slot, key.generation) == (slot, generation)
                && key.dst != GROUP
                && let Some(sum) = self.stamps(&key)?
            {
                found.insert(Link { src: PeerId(key.src), dst: PeerId(key.dst) }, sum);
            }
        }
        self.stamped.store(stamped, Ordering::Relaxed);
        Ok(found)
    }

    /// The stamps of one link, summed over all CPUs; `None` if it has none.
    fn stamps(&self, key: &LinkKey) -> Result<Option<LinkStamps>, DatapathError> {
        match self.links.get(key, 0) {
            Ok(stamps) => {
                let mut sum = LinkStamps::default();
                stamps.iter().for_each(|stamps| sum.merge(stamps));
                Ok(Some(sum))
            }
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(DatapathError::Map { name: "LINKS", source }),
        }
    }
}

fn mapped(object: &Object, name: &'static str, words: usize) -> Result<Mapped, DatapathError> {
    // The map stays in `object`: programs that are loaded later refer to it by its descriptor.
    match object.base().map(name) {
        Some(aya::maps::Map::Array(data)) => fault::at("load/mmap")
            .and_then(|()| Mapped::new(data.fd(), words))
            .map_err(|source| DatapathError::Mmap { name, source }),
        _ => Err(DatapathError::NoMap { name }),
    }
}

/// The reader of the programs' log; it ends when dropped, and with it its hold on the maps.
struct Log(JoinHandle<()>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The ring of wakeups, as something to wait for.
pub struct Wakeups {
    ready: AsyncFd<std::os::fd::OwnedFd>,
    ring: RingBuf<MapData>,
}

impl Wakeups {
    /// Waits for wake-ups and answers them all.
    pub async fn next(&mut self) -> std::io::Result<Vec<Wakeup>> {
        let mut guard = self.ready.readable().await?;
        // Before the ring is read: a wake-up that comes meanwhile makes it ready again.
        guard.clear_ready();
        let mut wakeups = Vec::new();
        while let Some(item) = self.ring.next() {
            let word = |at: usize| item.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            if let (Some(slot), Some(generation)) = (word(0), word(4)) {
                wakeups.push(Wakeup {
                    slot: u32::from_ne_bytes(slot),
                    generation: u32::from_ne_bytes(generation),
                });
            }
        }
        Ok(wakeups)
    }
}

impl Kernel {
    /// The programs' stamps for a slot's links, summed over all CPUs; only those links that have stamps, in
    /// their order.
    pub fn link_stamps(
        &self,
        index: SlotIndex,
        generation: u32,
        links: &[Link],
    ) -> Result<Vec<(Link, LinkStamps)>, DatapathError> {
        self.stamps_with(index, generation, links, &self.overlaps.of_slots(index.bit())?)
    }

    /// [`Self::link_stamps`] for one of several slots that are shown together: what they have in common is
    /// read once for all of them.
    pub fn link_stamps_among(
        &self,
        index: SlotIndex,
        generation: u32,
        links: &[Link],
        common: &mut CommonStamps,
    ) -> Result<Vec<(Link, LinkStamps)>, DatapathError> {
        self.stamps_with(index, generation, links, common.of(&self.overlaps)?)
    }

    fn stamps_with(
        &self,
        index: SlotIndex,
        generation: u32,
        links: &[Link],
        common: &BySlot,
    ) -> Result<Vec<(Link, LinkStamps)>, DatapathError> {
        let slot = u32::from(index.0);
        fault::at("stamps/read")
            .map_err(|error| DatapathError::Map { name: "LINKS", source: error.into() })?;
        let mut found = BTreeMap::new();
        if links.len() > self.stamped.load(Ordering::Relaxed) {
            found = self.walk(slot, generation)?;
        } else {
            for link in links {
                let key = LinkKey { generation, slot, src: link.src.0, dst: link.dst.0 };
                if let Some(sum) = self.stamps(&key)? {
                    found.insert(*link, sum);
                }
            }
        }
        overlaps::add(common, index, links, &mut found);
        Ok(found.into_iter().collect())
    }

    /// The first responses stamped for a slot: wire id and nanoseconds.
    pub fn responses(&self, index: SlotIndex, generation: u32) -> Result<Vec<(u32, u64)>, DatapathError> {
        let fail = |source| DatapathError::Map { name: "RESPONSES", source };
        let mut found = Vec::new();
        for key in self.responses.keys() {
            let key = key.map_err(fail)?;
            if (key.slot, key.generation) != (u32::from(index.0), generation) {
                continue;
            }
            let mut first = 0;
            for stamp in self.responses.get(&key, 0).map_err(fail)?.iter() {
                earliest(&mut first, *stamp);
            }
            if first != 0 {
                found.push((key.endpoint, first));
            }
        }
        Ok(found)
    }

    /// The counters, over all CPUs, by `injector_common::record::counter`.
    pub fn counters(&self) -> Result<Vec<u64>, DatapathError> {
        let fail = |source| DatapathError::Map { name: "COUNTERS", source };
        let mut counters: Vec<u64> = (0..counter::COUNT)
            .map(|index| Ok(self.counters.get(&index, 0).map_err(fail)?.iter().sum()))
            .collect::<Result<_, DatapathError>>()?;
        let contexts =
            self.contexts.get(&0, 0).map_err(|source| DatapathError::Map { name: "CONTEXT", source })?;
        counters[counter::JUDGED as usize] = contexts.iter().map(|context| context[JUDGED_AT]).sum();
        counters[counter::DROPPED as usize] = contexts.iter().map(|context| context[DROPS_AT]).sum();
        Ok(counters)
    }
}

impl DataPlane for Kernel {
    type Error = DatapathError;

    fn write_slot(&mut self, index: SlotIndex, slot: &Slot) -> Result<(), DatapathError> {
        let name = "SLOTS";
        fault::at("cut/slot").map_err(|error| DatapathError::Map { name, source: error.into() })?;
        self.slots.set(u32::from(index.0), slot, 0).map_err(|source| DatapathError::Map { name, source })
    }

    fn write_cells(&mut self, index: SlotIndex, cells: &[Cell], presence: Presence) {
        fault::here("cut/cells");
        for Cell { src, dst, neighbours } in cells {
            let column = match dst {
                Column::Peer(peer) => usize::from(peer.0),
                Column::Group => self.side,
            };
            let at = usize::from(src.0) * (self.side + 1) + column;
            let bit = u64::from(index.bit());
            let mask = self.matrix.load(at) & !(bit << 32 | bit);
            let neighbours = if *neighbours { bit << 32 } else { 0 };
            self.matrix.store(
                at,
                match presence {
                    Presence::In => mask | bit | neighbours,
                    Presence::Out => mask,
                },
            );
        }
    }

    fn forget(&mut self, index: SlotIndex) -> Result<(), DatapathError> {
        let of = |name| move |source| DatapathError::Map { name, source };
        let slot = u32::from(index.0);
        fault::at("cut/forget").map_err(|error| of("LINKS")(error.into()))?;
        let keys = self.links.keys().filter_map(Result::ok).filter(|key| key.slot == slot);
        for key in keys.collect::<BTreeSet<_>>() {
            self.links.remove(&key).map_err(of("LINKS"))?;
        }
        let keys = self.responses.keys().filter_map(Result::ok).filter(|key| key.slot == slot);
        for key in keys.collect::<BTreeSet<_>>() {
            self.responses.remove(&key).map_err(of("RESPONSES"))?;
        }
        Ok(())
    }

    fn recycle(&mut self, index: SlotIndex) -> Result<(), DatapathError> {
        self.forget(index)?;
        self.overlaps.take_out(index)
    }

    fn store(&mut self, word: Word) -> Result<Interval, Lapsed> {
        fault::here("word/before");
        let stored = self.gate.store(word);
        fault::here("word/after");
        stored
    }

    fn renew(&mut self) -> Option<Lapsed> {
        self.gate.renew()
    }

    fn acknowledge(&mut self) -> Option<Lapsed> {
        self.gate.acknowledge()
    }

    fn wait_aged(&mut self) {
        fault::here("word/wait");
        super::gate::wait_for_programs();
    }

    fn freed(&mut self) -> Age {
        self.freed += 1;
        self.slot_aging.as_ref().map_or(Age(self.freed), SlotAging::freed)
    }

    fn aged(&self) -> Age {
        self.slot_aging.as_ref().map_or(Age(0), SlotAging::aged)
    }
}
