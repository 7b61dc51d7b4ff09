//! Chains of nftables on a device's egress: they run before TC, and a rule there may send a packet past it. And what the
//! kernel reports of nftables as it changes.

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::nat;
use super::nft_message::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, GET_CHAIN, HOOK_NUMBER, NEW_CHAIN, SUBSYSTEM, is_absent, unchanged,
};
use super::raw::{RawSocket, attributes, text, u32_at};

const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
/// The multicast group of all that changes in nftables.
const GROUP: u32 = 7;
const FAMILY_NETDEV: u8 = 5;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;
const DEVICE_PREFIX: u16 = 2;
const EGRESS: u32 = 1;

/// A chain on the egress of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressChain {
    /// Its table and its name, as in `table netdev t` `chain c`.
    pub name: String,
    /// The names of its devices,
    devices: Vec<String>,
    /// and what the names of others begin with (`eth*`).
    prefixes: Vec<String>,
}

impl EgressChain {
    /// Whether it is on the device of a name.
    pub fn is_on(&self, device: &str) -> bool {
        self.devices.iter().any(|name| name == device)
            || self.prefixes.iter().any(|prefix| device.starts_with(prefix.as_str()))
    }
}

/// A change in nftables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A chain was added to the egress of devices. The event carries the chain, which may be gone when the
    /// chains are listed.
    Egress(EgressChain),
    /// Chains on devices came or went.
    Chains,
    /// Rules of destination NAT came or went.
    Nat,
}

/// The egress chains of the calling thread's namespace; none where the kernel has no nftables.
pub fn egress_chains() -> io::Result<Vec<EgressChain>> {
    // The family, version 0, no resource.
    let question = [FAMILY_NETDEV, 0, 0, 0];
    let found = unchanged(|socket| {
        socket.dump(GET_CHAIN, &question, |found: &mut Vec<EgressChain>, kind, body| {
            if kind == NEW_CHAIN {
                found.extend(body.get(4..).and_then(egress));
            }
        })
    });
    found.map(Option::unwrap_or_default)
}

/// The stream of changes in the calling thread's namespace.
pub struct ChangeStream {
    /// `None` where the kernel has no nftables: nothing changes.
    socket: Option<AsyncFd<RawSocket>>,
}

impl ChangeStream {
    /// Subscribes to it.
    pub fn open() -> io::Result<Self> {
        let socket = match RawSocket::open(libc::NETLINK_NETFILTER) {
            Ok(socket) => socket,
            Err(error) if is_absent(&error) => return Ok(Self { socket: None }),
            Err(error) => return Err(error),
        };
        socket.join(GROUP)?;
        // SAFETY: a socket answers the same open descriptor for as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self { socket: Some(socket.map_err(io::Error::from)?) })
    }

    /// Calls `report` for each change, until it answers `false`. However many rules of NAT change at once, they are one change.
    ///
    /// # Errors
    /// The kernel notifies of nothing any more.
    pub async fn follow(self, mut report: impl FnMut(Change) -> bool) -> io::Result<()> {
        let Some(socket) = self.socket else { return Ok(()) };
        loop {
            socket.readable().await?.clear_ready();
            if !changes(socket.get_ref()).into_iter().all(&mut report) {
                return Ok(());
            }
        }
    }
}

/// The changes that a socket has been notified of.
fn changes(socket: &RawSocket) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut is_translated = false;
    let read = socket.notices(|kind, body| {
        let is_netdev = body.first() == Some(&FAMILY_NETDEV);
        match kind {
            NEW_CHAIN if is_netdev => {
                changes.push(body.get(4..).and_then(egress).map_or(Change::Chains, Change::Egress));
            }
            DELETE_CHAIN if is_netdev => changes.push(Change::Chains),
            nat::NEW_RULE | nat::DELETE_RULE if !is_translated => {
                is_translated = nat::translates(body);
            }
            _ => {}
        }
    });
    if read.is_err() {
        // Some notifications were lost.
        changes.push(Change::Chains);
        is_translated = true;
    }
    changes.extend(is_translated.then_some(Change::Nat));
    changes
}

fn egress(body: &[u8]) -> Option<EgressChain> {
    let (mut table, mut name, mut number) = (String::new(), String::new(), None);
    let (mut devices, mut prefixes) = (Vec::new(), Vec::new());
    for (kind, payload) in attributes(body) {
        match kind {
            CHAIN_TABLE => table = text(payload),
            CHAIN_NAME => name = text(payload),
            CHAIN_HOOK => {
                for (kind, payload) in attributes(payload) {
                    match kind {
                        HOOK_NUMBER => number = u32_at(payload, 0).map(u32::from_be),
                        HOOK_DEVICE => devices.push(text(payload)),
                        HOOK_DEVICES => {
                            for (kind, device) in attributes(payload) {
                                // In Linux 6.16 and 6.17, a missing zero at the end marks a prefix.
                                let is_prefix = kind == DEVICE_PREFIX || device.last() != Some(&0);
                                let names = if is_prefix { &mut prefixes } else { &mut devices };
                                names.push(text(device));
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (number == Some(EGRESS)).then(|| EgressChain {
        name: format!("netdev {table} {name}"),
        devices,
        prefixes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(((payload.len() + 4) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_egress_chain_is_read_with_its_devices() {
        let chain = |number: u32| {
            let devices = [attribute(1, b"eth0\0"), attribute(1, b"eth1\0")].concat();
            let hook = [attribute(1, &number.to_be_bytes()), attribute(4, &devices)].concat();
            [attribute(1, b"t\0"), attribute(3, b"c\0"), attribute(0x8004, &hook)].concat()
        };
        let found = egress(&chain(1)).unwrap();
        assert_eq!(found.name, "netdev t c");
        let is_on = ["eth0", "eth1", "eth", "eth10"].map(|device| found.is_on(device));
        assert_eq!(is_on, [true, true, false, false]);
        assert_eq!(egress(&chain(0)), None, "ingress comes after TC");
    }

    #[test]
    fn an_egress_chain_may_be_on_all_devices_of_a_prefix() {
        let chain = |device: Vec<u8>| {
            let hook = [attribute(1, &EGRESS.to_be_bytes()), attribute(4, &device)].concat();
            [attribute(1, b"t\0"), attribute(3, b"c\0"), attribute(0x8004, &hook)].concat()
        };
        for device in [attribute(2, b"eth\0"), attribute(1, b"eth")] {
            let found = egress(&chain(device)).unwrap();
            let is_on = ["eth0", "eth10", "et0", "veth0"].map(|device| found.is_on(device));
            assert_eq!(is_on, [true, true, false, false]);
        }
    }
}
