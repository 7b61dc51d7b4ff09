//! The owner of a port where no socket has it (any more): ports of the config, and those that sockets of
//! peers were seen with. The second kind is sticky: a peer that was killed still does not answer with a
//! reset. It ends when another socket gets the port, by itself or with all addresses.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap};
use injector_common::key::{Address, ListenKey, PortKey, PortUse};

use crate::identity::WORLD;

/// This instance's namespace, by the number that the daemon has for it.
#[unsafe(no_mangle)]
pub static PORT_SPACE: Global<u32> = Global::new(0);

/// The namespaces of peers on this machine, by their cookies.
#[map]
pub static SPACES: HashMap<u64, u32> = HashMap::with_max_entries(1 << 10, BPF_F_NO_PREALLOC);
/// The ports of the config.
#[map]
pub static LISTENS: HashMap<ListenKey, u32> = HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);
/// The ports that sockets were seen with.
#[map]
pub static USED: LruHashMap<PortKey, PortUse> = LruHashMap::with_max_entries(1 << 16, 0);

/// The address that represents any.
pub const ANY: Address = [0; 4];

/// The number of a namespace; 0 if no peer is there.
#[inline(always)]
pub fn space(cookie: u64) -> u32 {
    // SAFETY: one word.
    unsafe { SPACES.get(&cookie) }.copied().unwrap_or(0)
}

/// The peer that the config gives a port to, or `WORLD`.
#[inline(always)]
pub fn listed(space: u32, address: &Address, port: u32) -> u32 {
    let mut key = ListenKey { address: *address, space: space as u16, port: port as u16 };
    // SAFETY: one word each.
    if let Some(peer) = unsafe { LISTENS.get(&key) } {
        return *peer;
    }
    key.port = 0;
    // SAFETY: as above.
    if let Some(peer) = unsafe { LISTENS.get(&key) } {
        return *peer;
    }
    (key.address, key.port) = (ANY, port as u16);
    // SAFETY: as above.
    unsafe { LISTENS.get(&key) }.copied().unwrap_or(WORLD)
}

/// The peer whose socket was last seen with a port, or `WORLD`.
#[inline(always)]
pub fn used(space: u32, protocol: u32, address: &Address, port: u32) -> u32 {
    let mut key = PortKey { address: *address, space: space as u16, port: port as u16, protocol };
    // SAFETY: a replaced entry is another element of the map; one that is used again at this instant may mislead once.
    let exact = unsafe { USED.get(&key) }.copied();
    key.address = ANY;
    // SAFETY: as above.
    let any = unsafe { USED.get(&key) };
    PortUse::latest(exact.as_ref(), any)
}

/// Notes that a socket of a peer, or of nobody's, has a port.
#[inline(always)]
pub fn note(space: u32, protocol: u32, address: &Address, port: u32, peer: u32) {
    // A socket with all addresses may take the port from any peer that had it with one: that is written in any case.
    let is_any = address[0] | address[1] | address[2] | address[3] == 0;
    if !is_any && used(space, protocol, address, port) == peer {
        return;
    }
    let key = PortKey { address: *address, space: space as u16, port: port as u16, protocol };
    // SAFETY: a plain helper call.
    let at = unsafe { bpf_ktime_get_ns() };
    let _ = USED.insert(&key, &PortUse { at, peer, pad: 0 }, 0);
}
