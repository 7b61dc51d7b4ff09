//! Reads whom the programs met at peers' ports without an address that names them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, MapData, MapError};
use injector_common::key::{Address, StrangerKey, is_mapped, stranger};
use injector_common::record;

use super::DatapathError;
use super::object::Object;
use injector_core::clock::MonoNs;
use injector_core::identity::{Contact, Stranger, StrangerId};
use injector_core::model::PeerId;

/// The map that the programs write.
pub struct StrangerMap(HashMap<MapData, StrangerKey, record::Stranger>);

impl StrangerMap {
    /// How many strangers it takes.
    pub const MOST: usize = 4096;
    const NAME: &str = "STRANGERS";

    pub(super) fn take(object: &mut Object) -> Result<Self, DatapathError> {
        Ok(Self(object.take(Self::NAME)?.try_into().map_err(fail)?))
    }

    /// All that is in it.
    pub fn read(&self) -> Result<Vec<Stranger>, DatapathError> {
        let mut found = Vec::new();
        for entry in &self.0 {
            let (key, value) = entry.map_err(fail)?;
            let contact = if key.peer & stranger::SPOKEN_FOR != 0 {
                Contact::UnlistedSource
            } else if key.peer & stranger::TO != 0 {
                Contact::To
            } else {
                Contact::From
            };
            found.push(Stranger {
                id: StrangerId { peer: PeerId(key.peer & stranger::PEER), mac: key.mac, contact },
                packets: value.packets,
                first: MonoNs(value.first),
                last: MonoNs(value.last),
                address: shown(&value.address),
            });
        }
        Ok(found)
    }

    /// Empties it.
    pub fn clear(&mut self) -> Result<(), DatapathError> {
        let keys: Vec<StrangerKey> = self.0.keys().filter_map(Result::ok).collect();
        for key in keys {
            match self.0.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}

fn fail(source: MapError) -> DatapathError {
    DatapathError::Map { name: StrangerMap::NAME, source }
}

fn shown(address: &Address) -> Option<IpAddr> {
    if *address == [0; 4] {
        return None;
    }
    let v4 = || IpAddr::V4(Ipv4Addr::from(address[3].to_ne_bytes()));
    let v6 = || {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(address) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(if is_mapped(address) { v4() } else { v6() })
}
