//! The eBPF object: loaded once for its maps, then once per interface with the same maps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use injector_common::exact::Entry;
use injector_common::key::{Address, EndpointKey, MacOwner, VIP, mapped, prefix, whole};
use injector_common::slot::SlotScope;
use injector_common::wire::{MAX_PREFIX, Wire, kind};
use injector_common::{ABI_VERSION, feature};

use super::exact::AddressTable;
use super::loaders::{Loaders, kept};
use super::pins::{Folder, Pins};
use super::{DatapathError, chain};
use crate::fault;
use injector_core::config::{Config, Protect, WireSuccess};
use injector_core::plan::slot_scope;
use injector_core::sample::EndpointId;

/// The object for interfaces.
static OBJECT: Loaders = Loaders::of(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector")));
/// The object for peers on this machine.
static LOCAL_OBJECT: Loaders =
    Loaders::of(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-local")));

/// The object's programs.
pub(super) const INGRESS: &str = "injector_in";

pub(super) const EGRESS: &str = "injector_out";

pub(super) const XDP: &str = "injector_xdp";

/// A program for TC hooks.
pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| chain(&error))
}

/// The maps that all instances share; read-only data alone is an instance's own.
const SHARED: [&str; 31] = [
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
    "HELD",
    "CLAIMS",
    "INTERFACES",
    "PORTS",
    "TRAITS",
    "TRANSIT",
    "ODD",
    "STRANGERS",
    "PROTECT_ADDRESSES",
    "PROTECT_SCOPES",
    "ENDPOINTS",
    "LINKS",
    "OVERLAPS",
    "RESPONSES",
    "STREAMS",
    "CONVERSATIONS",
    "COUNTERS",
    "WAKEUPS",
    "CONTEXT",
    "TEST",
    "AYA_LOGS",
];

/// The ring of the programs' own log: they log the lapse of a lease and nothing per packet.
const LOG_BYTES: u32 = 1 << 14;
/// How many addresses in the prefixes of a config may be seen to move between peers.
const MOVED: u32 = 1 << 14;
/// Memory that the link stamps may take over all CPUs.
const LINKS_BYTES: usize = 64 << 20;
/// The bytes that one CPU's stamps of a link take in the kernel, its own and those of an overlap, with the
/// maps' overhead.
const LINK_BYTES: usize = 136 + 80;

/// The maps that the programs of peers on this machine and those on `lo` share besides the others.
const LOCAL_SHARED: [&str; 6] = ["OWNERS", "PROCESSES", "CGROUPS", "SPACES", "LISTENS", "USED"];

/// A namespace of peers on this machine, by the number that the programs have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpaceId(pub u16);

/// The facts by which the object is sized and specialised.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    features: u32,
    side: u32,
    exact: AddressTable,
    prefixes: u32,
    protect_addresses: u32,
    protect_scopes: u32,
    endpoints: u32,
    links: u32,
}

/// How the object's clock and random numbers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// The kernel's clocks.
    Real,
    /// Clocks from the `TEST` map: for `BPF_PROG_TEST_RUN` alone.
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
            exact: AddressTable::of(&addresses),
            prefixes: count(prefixes),
            protect_addresses: count(config.protect.len() - scopes),
            protect_scopes: count(scopes),
            endpoints: count(endpoints),
            links: count(links),
        }
    }
}

/// The use for which an instance is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A single interface, by its id from 1: the programs know it when they are loaded.
    One(u32),
    /// Many interfaces of one namespace, by a number for that: the programs look up which one a packet is at.
    Many(u32),
    /// The loopback device of peers on this machine, by its id and the number of its namespace.
    Loopback(u32, SpaceId),
}

/// The source of instances.
#[derive(Clone)]
pub(super) enum Source {
    /// Instances are loaded, and find the maps by their pins: all maps, and those of peers on this machine.
    Pins(Arc<Sizes>, Arc<Folder>, Option<Arc<Folder>>),
    /// There is only this instance, for all interfaces of the daemon's own namespace.
    Only(Arc<Mutex<Ebpf>>),
}

/// The loaded maps, and how to make one more instance of the programs with them.
pub struct Object {
    /// Holds the maps. Where other instances can't find them, its programs are the only ones.
    base: Arc<Mutex<Ebpf>>,
    sizes: Arc<Sizes>,
    /// Through these, instances find the maps; `None` without the right to make a `bpf` filesystem.
    pins: Option<Arc<Folder>>,
    /// Through these, instances find the further maps of peers on this machine, if the config has any.
    local_pins: Option<Arc<Folder>>,
}

impl Object {
    /// Creates the maps and fills in what the config fixes.
    pub fn load(pins: Option<&Pins>, config: &Config, clocks: Clocks) -> Result<Self, DatapathError> {
        let sizes = Sizes::of(config, clocks);
        let abi = object_abi(OBJECT.file()).unwrap_or(0);
        if abi != ABI_VERSION {
            return Err(DatapathError::Abi { object: abi, daemon: ABI_VERSION });
        }
        let local_pins = match pins {
            Some(pins) if config.local_peers().next().is_some() => {
                Some(Arc::new(pins.folder(&LOCAL_SHARED)?))
            }
            _ => None,
        };
        let pins = pins.map(|pins| pins.folder(&SHARED)).transpose()?;
        let mut base = match &pins {
            Some(pins) => instance(&sizes, pins, Use::Many(0))?,
            None => loaded(|| OBJECT.load_once(|loader| set(loader, &sizes, Use::Many(0))))?,
        };
        fill(&mut base, &sizes, config)?;
        let (base, sizes) = (Arc::new(Mutex::new(base)), Arc::new(sizes));
        Ok(Self { base, sizes, pins: pins.map(Arc::new), local_pins })
    }

    /// The embedded ELF file.
    pub fn file() -> &'static [u8] {
        OBJECT.file()
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

    /// A further instance of the programs, for an interface id from 1; none of its programs is loaded yet.
    pub fn instance(&self, interface: u32) -> Result<Ebpf, DatapathError> {
        self.another(Use::One(interface))
    }

    /// A further instance for many interfaces of one namespace, by a number for that namespace.
    pub fn instance_of_many(&self, space: u32) -> Result<Ebpf, DatapathError> {
        self.another(Use::Many(space))
    }

    fn another(&self, what_for: Use) -> Result<Ebpf, DatapathError> {
        let pins = self.pins.as_ref().ok_or(DatapathError::Pins { source: rustix::io::Errno::PERM })?;
        instance(&self.sizes, pins, what_for)
    }

    /// The source of further instances.
    pub(super) fn source(&self) -> Source {
        match &self.pins {
            Some(pins) => Source::Pins(Arc::clone(&self.sizes), Arc::clone(pins), self.local_pins.clone()),
            None => Source::Only(Arc::clone(&self.base)),
        }
    }

    /// The programs for peers on this machine, none of them loaded; with where the fields that they read are in the
    /// kernel's structs.
    pub(super) fn local_instance(&self, offsets: [u32; 3]) -> Result<Ebpf, DatapathError> {
        let missing = || DatapathError::Pins { source: rustix::io::Errno::PERM };
        let (pins, further) = self.pins.as_ref().zip(self.local_pins.as_ref()).ok_or_else(missing)?;
        local_instance(&self.sizes, pins, further, LocalUse::Processes(offsets))
    }

    /// A further handle of one of the maps of peers on this machine.
    pub(super) fn local_map(&self, name: &'static str) -> Result<MapData, DatapathError> {
        let further = self.local_pins.as_ref().ok_or(DatapathError::NoMap { name })?;
        MapData::from_pin(further.path(name)).map_err(|source| DatapathError::Map { name, source })
    }

    /// Takes one of the maps.
    pub fn take(&mut self, name: &'static str) -> Result<Map, DatapathError> {
        self.base().take_map(name).ok_or(DatapathError::NoMap { name })
    }

    /// The instance that holds the maps.
    pub fn base(&self) -> MutexGuard<'_, Ebpf> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The words of the matrix.
    pub fn cells(&self) -> usize {
        self.sizes.side as usize * (self.sizes.side as usize + 1)
    }

    /// Has the programs match responses at the addresses that the endpoints of a config have now.
    pub fn rewire(&self, config: &Config) -> Result<(), DatapathError> {
        write_wires(&mut self.base(), config)
    }

    /// The places of the listed addresses in their table.
    pub fn places(&self) -> BTreeMap<Address, u32> {
        let entries = (0..).zip(&self.sizes.exact.entries).filter(|(_, entry)| entry.peer != 0);
        entries.map(|(place, entry)| (entry.address, place)).collect()
    }
}

/// A map of the object, to fill it in.
fn map<'a>(base: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, DatapathError> {
    base.map_mut(name).ok_or(DatapathError::NoMap { name })
}

/// Fills in what the config fixes.
fn fill(base: &mut Ebpf, sizes: &Sizes, config: &Config) -> Result<(), DatapathError> {
    let set = |name, source| DatapathError::Map { name, source };
    fault::at("load/fill").map_err(|source| set("PEERS", source.into()))?;
    let mut peers: Array<&mut MapData, Entry> =
        map(base, "PEERS")?.try_into().map_err(|source| set("PEERS", source))?;
    let entries = sizes.exact.entries.iter();
    for (place, entry) in (0..).zip(entries).filter(|(_, entry)| entry.peer != 0) {
        peers.set(place, entry, 0).map_err(|source| set("PEERS", source))?;
    }
    let mut macs: HashMap<&mut MapData, [u8; 6], MacOwner> =
        map(base, "MACS")?.try_into().map_err(|source| set("MACS", source))?;
    for peer in &config.peers {
        if let Some(mac) = peer.mac {
            let owner = MacOwner { peer: u32::from(peer.id.0), sure: 1 };
            macs.insert(mac, owner, 0).map_err(|source| set("MACS", source))?;
        }
    }
    let mut prefixes: LpmTrie<&mut MapData, Address, u32> =
        map(base, "PREFIXES")?.try_into().map_err(|source| set("PREFIXES", source))?;
    for peer in &config.peers {
        for net in &peer.prefixes {
            let len = net.prefix_len() + if net.addr().is_ipv4() { 96 } else { 0 };
            let key = Key::new(u32::from(len), wire_address(net.network()));
            let value = prefix::value(peer.id.0, len);
            prefixes.insert(&key, value, 0).map_err(|source| set("PREFIXES", source))?;
        }
    }
    let mut addresses: HashMap<&mut MapData, Address, u32> =
        map(base, "PROTECT_ADDRESSES")?.try_into().map_err(|source| set("PROTECT_ADDRESSES", source))?;
    for protect in &config.protect {
        if let Protect::Address(address) = protect {
            addresses
                .insert(wire_address(*address), 1, 0)
                .map_err(|source| set("PROTECT_ADDRESSES", source))?;
        }
    }
    let mut scopes: Array<&mut MapData, SlotScope> =
        map(base, "PROTECT_SCOPES")?.try_into().map_err(|source| set("PROTECT_SCOPES", source))?;
    let protected = config.protect.iter().filter_map(|protect| match protect {
        Protect::Scope(scope) => Some(*scope),
        Protect::Address(_) => None,
    });
    for (index, scope) in (0..).zip(protected) {
        scopes.set(index, slot_scope(scope), 0).map_err(|source| set("PROTECT_SCOPES", source))?;
    }
    write_wires(base, config)
}

/// Writes where the programs match responses, and by which pattern.
fn write_wires(base: &mut Ebpf, config: &Config) -> Result<(), DatapathError> {
    let set = |source| DatapathError::Map { name: "ENDPOINTS", source };
    let mut endpoints: HashMap<&mut MapData, EndpointKey, Wire> =
        map(base, "ENDPOINTS")?.try_into().map_err(set)?;
    let wanted = wires(config);
    let known: Vec<EndpointKey> = endpoints.keys().collect::<Result<_, _>>().map_err(set)?;
    let same = |a: &EndpointKey, b: &EndpointKey| (a.address, a.port) == (b.address, b.port);
    for gone in known.iter().filter(|known| !wanted.iter().any(|(key, _)| same(key, known))) {
        endpoints.remove(gone).map_err(set)?;
    }
    for (key, wire) in wanted {
        endpoints.insert(key, wire, 0).map_err(set)?;
    }
    Ok(())
}

pub(super) fn instance(sizes: &Sizes, pins: &Folder, what_for: Use) -> Result<Ebpf, DatapathError> {
    loaded(|| {
        OBJECT.load(|loader| {
            set(loader, sizes, what_for);
            share(loader, pins, &SHARED);
        })
    })
}

/// The use for which an instance of the programs for peers on this machine is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalUse {
    /// A loopback device, by its interface's id and the number of its namespace.
    Loopback(u32, SpaceId),
    /// The programs that give sockets their owners.
    Processes([u32; 3]),
}

pub(super) fn local_instance(
    sizes: &Sizes,
    pins: &Folder,
    further: &Folder,
    what_for: LocalUse,
) -> Result<Ebpf, DatapathError> {
    let (what_for, space, [tgid, signal, live]) = match what_for {
        LocalUse::Loopback(interface, space) => (Use::One(interface), u32::from(space.0), [0; 3]),
        LocalUse::Processes(offsets) => (Use::Many(0), 0, offsets),
    };
    loaded(|| {
        LOCAL_OBJECT.load(|loader| {
            set(loader, sizes, what_for);
            share(loader, pins, &SHARED);
            share(loader, further, &LOCAL_SHARED);
            for (name, value) in
                [("PORT_SPACE", space), ("TASK_TGID", tgid), ("TASK_SIGNAL", signal), ("SIGNAL_LIVE", live)]
            {
                loader.override_global(name, kept(value), true);
            }
        })
    })
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

/// What a loading comes to, unless a fault is to be injected before it.
fn loaded(load: impl FnOnce() -> Result<Ebpf, EbpfError>) -> Result<Ebpf, DatapathError> {
    fault::at("load/maps")
        .map_err(|error| DatapathError::Load { source: Box::new(MapError::from(error).into()) })?;
    load().map_err(|source| DatapathError::Load { source: Box::new(source) })
}

/// Sizes the maps, and sets what the programs know when they are loaded.
fn set(loader: &mut EbpfLoader<'static>, sizes: &Sizes, what_for: Use) {
    let cells = sizes.side * (sizes.side + 1);
    let (interface, space) = match what_for {
        Use::One(interface) | Use::Loopback(interface, _) => (interface, 0),
        Use::Many(space) => (0, space),
    };
    loader
        .override_global("FEATURES", kept(sizes.features), true)
        .override_global("SIDE", kept(sizes.side), true)
        .override_global("EXACT_MASK", kept(sizes.exact.mask()), true)
        .override_global("EXACT_SEED", kept(sizes.exact.seed), true)
        .override_global("INTERFACE", kept(interface), true)
        .override_global("SPACE", kept(space), true)
        .override_global("PROTECTED_SCOPES", kept(sizes.protect_scopes), true)
        .map_max_entries("MATRIX", cells)
        .map_max_entries("ROLL", sizes.side)
        .map_max_entries("PEERS", sizes.exact.mask() + 1)
        .map_max_entries("PREFIXES", if sizes.prefixes == 0 { 1 } else { sizes.prefixes + MOVED })
        .map_max_entries("TRAITS", sizes.side)
        .map_max_entries("TRANSIT", sizes.side)
        .map_max_entries("PROTECT_ADDRESSES", sizes.protect_addresses.max(1))
        .map_max_entries("ENDPOINTS", sizes.endpoints.max(1))
        .map_max_entries("AYA_LOGS", LOG_BYTES)
        .map_max_entries("LINKS", sizes.links)
        .map_max_entries("OVERLAPS", sizes.links)
        .map_max_entries("RESPONSES", (sizes.endpoints * injector_common::SLOTS * 2).max(1));
}

/// Has maps of these names be shared through their pins.
fn share(loader: &mut EbpfLoader<'static>, pins: &Folder, names: &[&'static str]) {
    for name in names {
        loader.map_pin_path(name, pins.path(name));
    }
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
