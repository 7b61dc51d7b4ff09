//! Every map and every read-only global. Sizes marked "config" are set by the loader.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use injector_common::ABI_VERSION;
use injector_common::exact::Entry;
use injector_common::key::{
    Address, Claim, DeviceKey, EndpointKey, INTERFACE_IDS, Learned, LinkKey, MacOwner, OverlapKey, Port,
    ResponseKey, RollKey, StrangerKey, StreamKey,
};
use injector_common::record::{Lease, LinkStamps, OverlapStamps, Stranger, TestInput, counter};
use injector_common::slot::{MAX_SCOPES, Slot, SlotScope};
use injector_common::wire::Wire;

use crate::verdict_context::VerdictContext;

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// Checked by the loader before it attaches anything.
#[unsafe(no_mangle)]
pub static ABI: Global<u32> = Global::new(ABI_VERSION);
/// Bits of `injector_common::feature`.
#[unsafe(no_mangle)]
pub static FEATURES: Global<u32> = Global::new(0);
/// The side of the matrix: peers and `world`.
#[unsafe(no_mangle)]
pub static SIDE: Global<u32> = Global::new(1);
/// The size of [`PEERS`], a power of two, less one.
#[unsafe(no_mangle)]
pub static EXACT_MASK: Global<u32> = Global::new(0);
/// The seed of the homes in [`PEERS`].
#[unsafe(no_mangle)]
pub static EXACT_SEED: Global<u32> = Global::new(0);
/// This instance's interface, from 1; 0 if it is on many, which [`INTERFACES`] distinguishes.
#[unsafe(no_mangle)]
pub static INTERFACE: Global<u32> = Global::new(0);
/// The namespace of an instance that is on many interfaces.
#[unsafe(no_mangle)]
pub static SPACE: Global<u32> = Global::new(0);
/// How many entries of [`PROTECT_SCOPES`] count.
#[unsafe(no_mangle)]
pub static PROTECTED_SCOPES: Global<u32> = Global::new(0);

/// The commit word, alone in its map.
#[map]
pub static COMMIT: Array<u64> = Array::with_max_entries(1, MMAPABLE);
/// The dead-man's switch.
#[map]
pub static LEASE: Array<Lease> = Array::with_max_entries(1, MMAPABLE);
/// The partitions.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(injector_common::SLOTS, 0);
/// Cell `src * (SIDE + 1) + dst`: the slots that affect this link, in the low half; those of them that drop its ARP and
/// neighbour discovery too, in the high half. The column behind the peers' is for group frames at the sender's port
/// (config).
#[map]
pub static MATRIX: Array<u64> = Array::with_max_entries(1, MMAPABLE);
/// By peer: the interface that rolls the loss of its links, 0 for none, `ROLL_SEVERAL` for those in [`ROLLS`]
/// (config).
#[map]
pub static ROLL: Array<u32> = Array::with_max_entries(1, MMAPABLE);
/// The interfaces of peers with several ways, where each interface rolls.
#[map]
pub static ROLLS: HashMap<RollKey, u32> = HashMap::with_max_entries(1 << 14, NO_PREALLOC);

/// Exact addresses (config).
#[map]
pub static PEERS: Array<Entry> = Array::with_max_entries(1, 0);
/// Prefixes (config), and addresses in them that move.
#[map]
pub static PREFIXES: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);
/// MAC addresses of the config and of NICs that are seen.
#[map]
pub static MACS: HashMap<[u8; 6], MacOwner> = HashMap::with_max_entries(8192, NO_PREALLOC);
/// MAC addresses of frames that came out of a peer's port.
#[map]
pub static LEARNED: LruHashMap<[u8; 6], Learned> = LruHashMap::with_max_entries(1 << 14, 0);
/// Addresses that the config does not list, and the peers on whose NICs they are seen. Not an LRU map: a peer that claims very
/// many addresses by its frames displaces none of these.
#[map]
pub static HELD: HashMap<Address, Claim> = HashMap::with_max_entries(1 << 15, NO_PREALLOC);
/// Other addresses that the config does not list, and the peers that claim them by their frames.
#[map]
pub static CLAIMS: LruHashMap<Address, Claim> = LruHashMap::with_max_entries(1 << 14, 0);
/// The ids of interfaces that share an instance.
#[map]
pub static INTERFACES: HashMap<DeviceKey, u32> = HashMap::with_max_entries(INTERFACE_IDS, NO_PREALLOC);
/// By interface id: the peer behind it.
#[map]
pub static PORTS: Array<Port> = Array::with_max_entries(INTERFACE_IDS, 0);
/// By peer: bits of `injector_common::key::traits` (config).
#[map]
pub static TRAITS: Array<u32> = Array::with_max_entries(1, 0);
/// By peer: 1 once a packet was at its port on its way to another peer (config).
#[map]
pub static TRANSIT: Array<u32> = Array::with_max_entries(1, 0);
/// 1 once a frame's sender was named otherwise than by its port: then MACs are compared for leaks.
#[map]
pub static ODD: Array<u32> = Array::with_max_entries(1, 0);
/// Strangers: senders and receivers that no address names. The daemon empties the map while nothing is armed;
/// what no longer fits is in the counter alone.
#[map]
pub static STRANGERS: HashMap<StrangerKey, Stranger> = HashMap::with_max_entries(4096, NO_PREALLOC);
/// Protected addresses (config).
#[map]
pub static PROTECT_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(1, 0);
/// Protected ports.
#[map]
pub static PROTECT_SCOPES: Array<SlotScope> = Array::with_max_entries(MAX_SCOPES as u32, 0);
/// The addresses and ports that responses come from (config).
#[map]
pub static ENDPOINTS: HashMap<EndpointKey, Wire> = HashMap::with_max_entries(1, 0);

/// Stamps and drop counters of links (config).
#[map]
pub static LINKS: PerCpuHashMap<LinkKey, LinkStamps> = PerCpuHashMap::with_max_entries(1, 0);
/// Stamps and drop counters of links that several steady cuts hold at once (config).
#[map]
pub static OVERLAPS: PerCpuHashMap<OverlapKey, OverlapStamps> = PerCpuHashMap::with_max_entries(1, 0);
/// First responses (config).
#[map]
pub static RESPONSES: PerCpuHashMap<ResponseKey, u64> = PerCpuHashMap::with_max_entries(1, 0);
/// HTTP/2 streams with a successful HEADERS frame.
#[map]
pub static STREAMS: LruHashMap<StreamKey, u32> = LruHashMap::with_max_entries(4096, 0);
/// Conversations on watched links: the directions in which they carried payload after the heal. The lower end is the source
/// of the key: by address, and then by port of a TCP connection, by peer of all else.
#[map]
pub static CONVERSATIONS: LruHashMap<StreamKey, u32> = LruHashMap::with_max_entries(4096, 0);
/// Counters, by `injector_common::record::counter`.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);
/// The ring that wakes the daemon.
#[map]
pub static WAKEUPS: RingBuf = RingBuf::with_byte_size(1 << 16, 0);
/// The context of one verdict, which is too large for the stack.
#[map]
pub static CONTEXT: PerCpuArray<VerdictContext> = PerCpuArray::with_max_entries(1, 0);
/// Clock and random number of a test.
#[map]
pub static TEST: Array<TestInput> = Array::with_max_entries(1, 0);

/// The cell of a link.
#[inline(always)]
pub fn cell(src: u32, dst: u32) -> u64 {
    MATRIX.get(src * (SIDE.load() + 1) + dst).copied().unwrap_or(0)
}
