//! Writes an [`Identity`] into the programs' maps, as it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use injector_common::exact::Entry;
use injector_common::key::{
    Address, Claim, Learned, MacOwner, NOBODY, Port, VIP, holders, port, prefix, traits,
};

use super::DatapathError;
use super::object::{Object, wire_address};
use injector_core::config::{Config, Peer};
use injector_core::identity::{self, End, Identity, Mac};
use injector_core::model::PeerId;

/// The maps that name frames, and what is in them.
pub struct NameMaps {
    ports: Array<MapData, Port>,
    traits: Array<MapData, u32>,
    macs: HashMap<MapData, Mac, MacOwner>,
    learned: HashMap<MapData, Mac, Learned>,
    held: HashMap<MapData, Address, Claim>,
    claims: HashMap<MapData, Address, Claim>,
    addresses: Array<MapData, Entry>,
    prefixes: LpmTrie<MapData, Address, u32>,
    /// The places of listed addresses in the table.
    places: BTreeMap<Address, u32>,
    /// The MACs of the config, and their peers: these stay, unless someone else has them too.
    sure: BTreeMap<Mac, MacOwner>,
    side: usize,
    written: Written,
}

/// The entries that were written last.
#[derive(Default)]
struct Written {
    ports: BTreeMap<u32, Port>,
    traits: BTreeMap<u32, u32>,
    macs: BTreeMap<Mac, MacOwner>,
    held: BTreeMap<IpAddr, Claim>,
    moved: BTreeSet<IpAddr>,
}

impl NameMaps {
    /// Takes the maps; what the config fixes is in them already.
    pub fn take(object: &mut Object, config: &Config) -> Result<Self, DatapathError> {
        let of = |name| move |source| DatapathError::Map { name, source };
        let listed = object.places();
        let owner = |peer: &Peer| Some((peer.mac?, MacOwner { peer: u32::from(peer.id.0), sure: 1 }));
        let sure: BTreeMap<Mac, MacOwner> = config.peers.iter().filter_map(owner).collect();
        Ok(Self {
            ports: object.take("PORTS")?.try_into().map_err(of("PORTS"))?,
            traits: object.take("TRAITS")?.try_into().map_err(of("TRAITS"))?,
            macs: object.take("MACS")?.try_into().map_err(of("MACS"))?,
            learned: object.take("LEARNED")?.try_into().map_err(of("LEARNED"))?,
            held: object.take("HELD")?.try_into().map_err(of("HELD"))?,
            claims: object.take("CLAIMS")?.try_into().map_err(of("CLAIMS"))?,
            addresses: object.take("PEERS")?.try_into().map_err(of("PEERS"))?,
            prefixes: object.take("PREFIXES")?.try_into().map_err(of("PREFIXES"))?,
            places: listed,
            written: Written { macs: sure.clone(), ..Written::default() },
            sure,
            side: config.names.len(),
        })
    }

    /// Writes what changed.
    pub fn write(&mut self, identity: &Identity) -> Result<(), DatapathError> {
        let ports = identity.ports.iter().map(|(at, port)| (*at, port_of(identity, *port))).collect();
        update(&mut self.written.ports, ports, |at, port| {
            let value = port.copied().unwrap_or_default();
            self.ports.set(*at, value, 0).map_err(|source| DatapathError::Map { name: "PORTS", source })
        })?;
        let traits = traits_of(identity, self.side);
        update(&mut self.written.traits, traits, |peer, flags| {
            let flags = flags.copied().unwrap_or_default();
            self.traits.set(*peer, flags, 0).map_err(|source| DatapathError::Map { name: "TRAITS", source })
        })?;
        update(&mut self.written.macs, owners(identity, &self.sure), |mac, owner| {
            write(&mut self.macs, "MACS", mac, owner.copied())
        })?;
        update(&mut self.written.held, claims(identity), |address, claim| {
            let claim = claim.copied();
            let address = wire_address(*address);
            if claim.is_some() {
                // A claim of this address by frames says nothing more once a NIC holds the address.
                write(&mut self.claims, "CLAIMS", &address, None)?;
            }
            write(&mut self.held, "HELD", &address, claim)
        })?;
        for address in identity.moved.keys() {
            if !self.written.moved.contains(address) {
                let key = wire_address(*address);
                if let Some(place) = self.places.get(&key) {
                    // The address stays as it is, and the other field is one word: no program reads a mixture.
                    let entry = Entry::new(key, VIP);
                    self.addresses
                        .set(*place, entry, 0)
                        .map_err(|source| DatapathError::Map { name: "PEERS", source })?;
                } else {
                    self.prefixes
                        .insert(&Key::new(128, key), prefix::value(VIP as u16, 128), 0)
                        .map_err(|source| DatapathError::Map { name: "PREFIXES", source })?;
                }
                self.written.moved.insert(*address);
            }
        }
        Ok(())
    }

    /// Forgets whose frames came from a MAC address.
    pub fn forget_mac(&mut self, mac: Mac) -> Result<(), DatapathError> {
        write(&mut self.learned, "LEARNED", &mac, None)
    }

    /// The addresses that peers claim by their frames, each with the peer that claimed it last.
    pub fn learned_claims(&self) -> Result<Vec<(IpAddr, PeerId)>, DatapathError> {
        let mut learned = Vec::new();
        for entry in &self.claims {
            let (address, claim) = entry.map_err(|source| DatapathError::Map { name: "CLAIMS", source })?;
            if claim.peer != 0 {
                learned.push((plain_address(address), PeerId(claim.peer as u16)));
            }
        }
        Ok(learned)
    }
}

/// An address from the form that the programs have it in.
fn plain_address(address: Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(address) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
}

fn port_of(identity: &Identity, from: identity::Port) -> Port {
    let is_seen = identity.peers.get(&from.peer).is_some_and(|traits| traits.is_seen);
    let mut flags = 0;
    for (is_so, flag) in
        [(from.end == End::Own, port::OWN), (!from.is_shared, port::NAMES), (!is_seen, port::LEARNS)]
    {
        if is_so {
            flags |= flag;
        }
    }
    Port { peer: u32::from(from.peer.0), flags, ..Port::default() }
}

fn traits_of(identity: &Identity, side: usize) -> BTreeMap<u32, u32> {
    let bound = identity.bound();
    let mut flags: BTreeMap<u32, u32> = BTreeMap::new();
    for peer in (1..side).map(|peer| PeerId(peer as u16)) {
        let known = identity.peers.get(&peer).copied().unwrap_or_default();
        let mut of_peer = 0;
        for (is_so, flag) in [
            (known.is_plain && !known.forwards, traits::PLAIN),
            (known.forwards, traits::FORWARDS),
            (bound.contains(&peer), traits::BOUND),
            (identity.forwarders.values().any(|peers| peers.contains(&peer)), traits::SHARES),
            (known.has_known_macs, traits::MACS_KNOWN),
            (known.may_forward, traits::MAY_FORWARD),
        ] {
            if is_so {
                of_peer |= flag;
            }
        }
        flags.insert(u32::from(peer.0), of_peer);
    }
    let are_all_bound = bound.len() + 1 == side;
    let learns = |port: &identity::Port| {
        !port.is_shared && !identity.peers.get(&port.peer).is_some_and(|traits| traits.is_seen)
    };
    let mut of_all = if are_all_bound { traits::ALL_BOUND } else { 0 };
    if identity.ports.values().any(learns) {
        of_all |= traits::LEARNS;
    }
    flags.insert(0, of_all);
    flags
}

/// The holders of the addresses that the config does not list.
fn claims(identity: &Identity) -> BTreeMap<IpAddr, Claim> {
    let claim = |peer, contested_until, mac| Claim { peer, held: 1, at: 0, contested_until, mac };
    let held = identity.held.iter();
    let mut claims: BTreeMap<IpAddr, Claim> =
        held.map(|(address, peer)| (*address, claim(u32::from(peer.0), 0, 0))).collect();
    let private = identity.private.iter();
    claims.extend(private.map(|(address, peer)| (*address, claim(u32::from(peer.0), u64::MAX, 0))));
    claims.extend(identity.shared.iter().map(|(address, peer)| {
        let forwarders = identity.forwarders.get(address).into_iter().flatten();
        let peer = peer.map_or(VIP, |peer| u32::from(peer.0));
        (*address, claim(peer, u64::MAX, holders::packed(forwarders.map(|peer| peer.0))))
    }));
    claims
}

/// The owner of each MAC address: the config precedes what is seen, and an address that someone else has too
/// is nobody's.
fn owners(identity: &Identity, sure: &BTreeMap<Mac, MacOwner>) -> BTreeMap<Mac, MacOwner> {
    let seen = identity.macs.iter();
    let seen = seen.map(|(mac, peer)| (*mac, MacOwner { peer: u32::from(peer.0), sure: 0 }));
    let mut owners: BTreeMap<Mac, MacOwner> = seen.collect();
    owners.extend(sure);
    owners.extend(identity.doubled.iter().map(|mac| (*mac, MacOwner { peer: NOBODY, sure: 0 })));
    owners
}

/// Brings a map from what was written to what is wanted, entry by entry; an entry that is gone is `None`.
fn update<K: Ord + Clone, V: PartialEq + Clone>(
    written: &mut BTreeMap<K, V>,
    wanted: BTreeMap<K, V>,
    mut write: impl FnMut(&K, Option<&V>) -> Result<(), DatapathError>,
) -> Result<(), DatapathError> {
    let gone: Vec<K> = written.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    for key in gone {
        write(&key, None)?;
        written.remove(&key);
    }
    for (key, value) in wanted {
        if written.get(&key) != Some(&value) {
            write(&key, Some(&value))?;
            written.insert(key, value);
        }
    }
    Ok(())
}

fn write<K: Pod + Eq + Hash, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    key: &K,
    value: Option<V>,
) -> Result<(), DatapathError> {
    let done = match value {
        Some(value) => map.insert(key, value, 0),
        None => match map.remove(key) {
            // A least-recently-used map may have dropped it.
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            other => other,
        },
    };
    done.map_err(|source| DatapathError::Map { name, source })
}
