//! The eBPF object: loaded once for its maps, then once per interface with the same maps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use injector_common::exact::Entry;
use injector_common::key::{Address, EndpointKey, MacOwner, VIP, mapped, prefix, whole};
use injector_common::slot::SlotScope;
use injector_common::wire::{MAX_PREFIX, Wire, kind};
use injector_common::{ABI_VERSION, feature};

use super::exact::Table;
use super::pins::{Folder, Pins};
use super::{DatapathError, Instances};
use injector_core::config::{Config, Protect, WireSuccess};
use injector_core::plan::slot_scope;
use injector_core::sample::EndpointId;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector"));

/// The maps that all instances share; read-only data alone is an instance's own.
const SHARED: [&str; 27] = [
    "COMMIT",
    "LEASE",
    "SLOTS",
    "MATRIX",
    "ROLL",
    "ROLLS",
    "PEERS",
    "PREFIXES",
    "MACS",
    "LEARNED",
    "CLAIMS",
    "PORTS",
    "TRAITS",
    "ODD",
    "STRANGERS",
    "PROTECT_ADDRESSES",
    "PROTECT_SCOPES",
    "ENDPOINTS",
    "LINKS",
    "RESPONSES",
    "STREAMS",
    "CONVERSATIONS",
    "COUNTERS",
    "WAKEUPS",
    "SCENE",
    "TEST",
    "AYA_LOGS",
];

/// The ring of the programs' own log: they log the lapse of a lease and nothing per packet.
const LOG_BYTES: u32 = 1 << 14;
/// How many addresses in the prefixes of a config may be seen to move between peers.
const MOVED: u32 = 1 << 14;
/// Memory that the link stamps may take over all CPUs.
const LINKS_BYTES: usize = 64 << 20;
/// What one CPU's stamps of a link take in the kernel, with the map's overhead.
const LINK_BYTES: usize = 136;

/// What the object is sized and specialised by.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    features: u32,
    side: u32,
    exact: Table,
    prefixes: u32,
    protect_addresses: u32,
    protect_scopes: u32,
    endpoints: u32,
    links: u32,
}

/// How the object's clock and random numbers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// By the kernel.
    Real,
    /// From the `TEST` map: for `BPF_PROG_TEST_RUN` alone.
    Test,
}

impl Sizes {
    fn of(config: &Config, clocks: Clocks) -> Self {
        let count = |n: usize| u32::try_from(n).expect("configs are bounded");
        let addresses = config.peers.iter().flat_map(|peer| {
            let id = u32::from(peer.id.0);
            peer.addresses.iter().map(move |address| (wire_address(*address), id))
        });
        let moving = config.peers.iter().flat_map(|peer| &peer.vip);
        let moving = moving.map(|address| (wire_address(*address), VIP));
        let addresses: BTreeMap<_, _> = addresses.chain(moving).collect();
        let prefixes = config.peers.iter().map(|peer| peer.prefixes.len()).sum::<usize>();
        let macs = config.peers.iter().filter(|peer| peer.mac.is_some()).count();
        let scopes = config.protect.iter().filter(|protect| matches!(protect, Protect::Scope(_))).count();
        let endpoints = config.endpoints.iter().filter(|endpoint| endpoint.wire.is_some()).count();
        let mut features = 0;
        for (needed, bit) in [
            (!addresses.is_empty(), feature::EXACT),
            (prefixes > 0, feature::PREFIX),
            (macs > 0, feature::MAC),
            (!config.protect.is_empty(), feature::PROTECT),
            (endpoints > 0, feature::WIRE),
            (clocks == Clocks::Test, feature::TEST),
        ] {
            if needed {
                features |= bit;
            }
        }
        let cpus = aya::util::nr_cpus().unwrap_or(1).max(1);
        let side = config.names.len();
        let links = (side * side * 4).clamp(4096, (LINKS_BYTES / LINK_BYTES / cpus).max(4096));
        Self {
            features,
            side: count(side),
            exact: Table::of(&addresses),
            prefixes: count(prefixes),
            protect_addresses: count(config.protect.len() - scopes),
            protect_scopes: count(scopes),
            endpoints: count(endpoints),
            links: count(links),
        }
    }
}

/// The loaded maps, and how to make one more instance of the programs with them.
pub struct Object {
    /// Holds the maps; its programs are never loaded.
    base: Ebpf,
    sizes: Arc<Sizes>,
    /// Through these, instances find the maps.
    pins: Arc<Folder>,
}

impl Object {
    /// Creates the maps and fills in what the config fixes.
    pub fn load(pins: &Pins, config: &Config, clocks: Clocks) -> Result<Self, DatapathError> {
        let sizes = Sizes::of(config, clocks);
        let abi = object_abi(OBJECT).unwrap_or(0);
        if abi != ABI_VERSION {
            return Err(DatapathError::Abi { object: abi, daemon: ABI_VERSION });
        }
        let pins = pins.folder(&SHARED)?;
        let base = loader(&sizes, &pins, 0, |loader| loader.load(OBJECT))?;
        let mut object = Self { base, sizes: Arc::new(sizes), pins: Arc::new(pins) };
        object.fill(config)?;
        Ok(object)
    }

    /// The embedded ELF file.
    pub fn file() -> &'static [u8] {
        OBJECT
    }

    /// Has the kernel verify every program; nothing is attached.
    pub fn rehearse(&self) -> Result<(), DatapathError> {
        let mut ebpf = self.instance(u32::MAX)?;
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                _ => continue,
            };
            loaded.map_err(|source| DatapathError::Program {
                name: name.to_owned(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// One more instance of the programs, for an interface id from 1; none of them is loaded yet.
    pub fn instance(&self, interface: u32) -> Result<Ebpf, DatapathError> {
        instance(&self.sizes, &self.pins, interface)
    }

    /// What makes instances elsewhere, with their programs loaded.
    pub fn instances(&self) -> Instances {
        Instances::new(Arc::clone(&self.sizes), Arc::clone(&self.pins))
    }

    /// Takes one of the maps.
    pub fn take(&mut self, name: &'static str) -> Result<Map, DatapathError> {
        self.base.take_map(name).ok_or(DatapathError::NoMap { name })
    }

    /// One of the maps, to fill it in.
    fn map(&mut self, name: &'static str) -> Result<&mut Map, DatapathError> {
        self.base.map_mut(name).ok_or(DatapathError::NoMap { name })
    }

    /// The instance that holds the maps, for the log reader.
    pub fn base_mut(&mut self) -> &mut Ebpf {
        &mut self.base
    }

    /// The words of the matrix.
    pub fn cells(&self) -> usize {
        self.sizes.side as usize * (self.sizes.side as usize + 1)
    }

    /// The places of the listed addresses in their table.
    pub fn places(&self) -> BTreeMap<Address, u32> {
        let entries = (0..).zip(&self.sizes.exact.entries).filter(|(_, entry)| entry.peer != 0);
        entries.map(|(place, entry)| (entry.address, place)).collect()
    }

    fn fill(&mut self, config: &Config) -> Result<(), DatapathError> {
        let set = |name, source| DatapathError::Map { name, source };
        let sizes = Arc::clone(&self.sizes);
        let mut peers: Array<&mut MapData, Entry> =
            self.map("PEERS")?.try_into().map_err(|source| set("PEERS", source))?;
        let entries = sizes.exact.entries.iter();
        for (place, entry) in (0..).zip(entries).filter(|(_, entry)| entry.peer != 0) {
            peers.set(place, entry, 0).map_err(|source| set("PEERS", source))?;
        }
        let mut macs: HashMap<&mut MapData, [u8; 6], MacOwner> =
            self.map("MACS")?.try_into().map_err(|source| set("MACS", source))?;
        for peer in &config.peers {
            if let Some(mac) = peer.mac {
                let owner = MacOwner { peer: u32::from(peer.id.0), sure: 1 };
                macs.insert(mac, owner, 0).map_err(|source| set("MACS", source))?;
            }
        }
        let mut prefixes: LpmTrie<&mut MapData, Address, u32> =
            self.map("PREFIXES")?.try_into().map_err(|source| set("PREFIXES", source))?;
        for peer in &config.peers {
            for net in &peer.prefixes {
                let len = net.prefix_len() + if net.addr().is_ipv4() { 96 } else { 0 };
                let key = Key::new(u32::from(len), wire_address(net.network()));
                let value = prefix::value(peer.id.0, len);
                prefixes.insert(&key, value, 0).map_err(|source| set("PREFIXES", source))?;
            }
        }
        let mut addresses: HashMap<MapData, Address, u32> =
            self.take("PROTECT_ADDRESSES")?.try_into().map_err(|source| set("PROTECT_ADDRESSES", source))?;
        let mut scopes: Array<MapData, SlotScope> =
            self.take("PROTECT_SCOPES")?.try_into().map_err(|source| set("PROTECT_SCOPES", source))?;
        let mut index = 0;
        for protect in &config.protect {
            match protect {
                Protect::Address(address) => addresses
                    .insert(wire_address(*address), 1, 0)
                    .map_err(|source| set("PROTECT_ADDRESSES", source))?,
                Protect::Scope(scope) => {
                    scopes
                        .set(index, slot_scope(*scope), 0)
                        .map_err(|source| set("PROTECT_SCOPES", source))?;
                    index += 1;
                }
            }
        }
        let mut endpoints: HashMap<MapData, EndpointKey, Wire> =
            self.take("ENDPOINTS")?.try_into().map_err(|source| set("ENDPOINTS", source))?;
        for (key, wire) in wires(config) {
            endpoints.insert(key, wire, 0).map_err(|source| set("ENDPOINTS", source))?;
        }
        Ok(())
    }
}

pub(super) fn instance(sizes: &Sizes, pins: &Folder, interface: u32) -> Result<Ebpf, DatapathError> {
    loader(sizes, pins, interface, |loader| loader.load(OBJECT))
}

/// The wire ids of a config's endpoints: the id is the index of the first endpoint of that address and port.
pub fn wire_ids(config: &Config) -> BTreeMap<EndpointId, u32> {
    let mut first = std::collections::HashMap::new();
    let mut ids = BTreeMap::new();
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        if let (Some(wire), Some(address)) = (&endpoint.wire, endpoint.address) {
            let id = *first.entry((address, wire.port)).or_insert(index as u32);
            ids.insert(EndpointId(index), id);
        }
    }
    ids
}

fn wires(config: &Config) -> Vec<(EndpointKey, Wire)> {
    wire_ids(config)
        .into_iter()
        .filter(|(endpoint, id)| endpoint.0 as u32 == *id)
        .filter_map(|(endpoint, id)| {
            let endpoint = &config.endpoints[endpoint.0];
            let wire = endpoint.wire.as_ref()?;
            let key = EndpointKey { address: wire_address(endpoint.address?), port: wire.port, pad: 0 };
            let mut value = Wire { id, kind: kind::PAYLOAD, prefix_len: 0, pad: 0, prefix: [0; MAX_PREFIX] };
            match &wire.success {
                WireSuccess::Http => value.kind = kind::HTTP1,
                WireSuccess::Grpc => value.kind = kind::HTTP2,
                WireSuccess::Payload => {}
                WireSuccess::Prefix(prefix) => {
                    value.kind = kind::PREFIX;
                    let len = prefix.len().min(MAX_PREFIX);
                    value.prefix_len = len as u8;
                    value.prefix[..len].copy_from_slice(&prefix[..len]);
                }
            }
            Some((key, value))
        })
        .collect()
}

/// An address as the programs see it.
pub fn wire_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => mapped(u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => whole(v6.octets()),
    }
}

fn loader(
    sizes: &Sizes,
    pins: &Folder,
    interface: u32,
    load: impl FnOnce(&mut EbpfLoader<'_>) -> Result<Ebpf, aya::EbpfError>,
) -> Result<Ebpf, DatapathError> {
    let cells = sizes.side * (sizes.side + 1);
    let exact_mask = sizes.exact.mask();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("FEATURES", &sizes.features, true)
        .override_global("SIDE", &sizes.side, true)
        .override_global("EXACT_MASK", &exact_mask, true)
        .override_global("EXACT_SEED", &sizes.exact.seed, true)
        .override_global("INTERFACE", &interface, true)
        .override_global("PROTECTED_SCOPES", &sizes.protect_scopes, true)
        .map_max_entries("MATRIX", cells)
        .map_max_entries("ROLL", sizes.side)
        .map_max_entries("PEERS", sizes.exact.mask() + 1)
        .map_max_entries("PREFIXES", if sizes.prefixes == 0 { 1 } else { sizes.prefixes + MOVED })
        .map_max_entries("TRAITS", sizes.side)
        .map_max_entries("PROTECT_ADDRESSES", sizes.protect_addresses.max(1))
        .map_max_entries("ENDPOINTS", sizes.endpoints.max(1))
        .map_max_entries("AYA_LOGS", LOG_BYTES)
        .map_max_entries("LINKS", sizes.links)
        .map_max_entries("RESPONSES", (sizes.endpoints * injector_common::SLOTS * 2).max(1));
    for name in SHARED {
        loader.map_pin_path(name, pins.path(name));
    }
    load(&mut loader).map_err(|source| DatapathError::ActiveConfig { source: Box::new(source) })
}

/// The ABI version that the object was built with, read from its file before any map is made.
fn object_abi(file: &[u8]) -> Option<u32> {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    let file = object::File::parse(file).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(injector_common::ABI_GLOBAL))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let at = usize::try_from(symbol.address().checked_sub(section.address())?).ok()?;
    let bytes = section.data().ok()?.get(at..at + size_of::<u32>())?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
