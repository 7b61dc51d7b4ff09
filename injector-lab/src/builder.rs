//! Bringing a lab up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, expect};
use crate::folder::Folder;
use crate::lab::{CLIENT, CLIENT_HOST, Lab, SWITCH};
use crate::namespace::hide_names;
use crate::subnet::Subnet;

/// The description of a lab; [`Lab::builder`] begins one.
#[derive(Clone, Debug)]
#[must_use = "`up` makes the lab"]
pub struct LabBuilder {
    label: String,
    peers: u8,
    client: bool,
    has_guests: bool,
    is_public: bool,
    subnet: Subnet,
    interrupted: fn() -> bool,
}

impl LabBuilder {
    pub(crate) fn new(label: &str) -> Self {
        let label = label.to_owned();
        Self {
            label,
            peers: 0,
            client: false,
            has_guests: false,
            is_public: false,
            subnet: Subnet::SHARED,
            interrupted: || false,
        }
    }

    /// Peers `n1`, `n2` and so on, each on a port of the switch: [`Lab::join`] describes it.
    pub fn peers(self, peers: u8) -> Self {
        Self { peers, ..self }
    }

    /// The peers are virtual machines: instead of a namespace, each has a tap on the switch, [`Lab::guest`].
    pub fn guests(self) -> Self {
        Self { has_guests: true, ..self }
    }

    /// A namespace on the switch that is no peer.
    pub fn client(self) -> Self {
        Self { client: true, ..self }
    }

    /// Gives the lab other addresses than [`Subnet::SHARED`].
    pub fn subnet(self, subnet: Subnet) -> Self {
        Self { subnet, ..self }
    }

    /// Names its namespaces where every process sees them. Without this, only the calling thread and what it starts see
    /// them, so that labs that are up at the same time know nothing of each other.
    pub fn public(self) -> Self {
        Self { is_public: true, ..self }
    }

    /// Says whether the user has asked to stop: [`Lab::check`] then fails with [`Error::Interrupted`].
    pub fn interrupted_by(self, interrupted: fn() -> bool) -> Self {
        Self { interrupted, ..self }
    }

    /// Makes the namespaces, the switch and the cables between them. Without peers and client, nothing but an empty lab.
    ///
    /// # Errors
    /// A namespace or a device can't be made, most often because the process is not root. Nothing stays behind.
    ///
    /// # Panics
    /// The subnet has fewer hosts than the lab.
    pub fn up(self) -> Result<Lab, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        if !self.is_public {
            hide_names()?;
        }
        let prefix = format!("inj{}-{}{count}-", std::process::id(), self.label);
        let folder = Folder::create(prefix.trim_end_matches('-'))?;
        let mut lab = Lab {
            processes: Vec::new(),
            spaces: BTreeMap::new(),
            folder,
            prefix,
            subnet: self.subnet,
            peers: self.peers,
            interrupted: self.interrupted,
        };
        let mut hosts: Vec<(String, u8)> = lab.peer_names().into_iter().zip(1..).collect();
        if self.client {
            hosts.push((CLIENT.to_owned(), CLIENT_HOST));
        }
        if hosts.is_empty() {
            return Ok(lab);
        }
        for (_, host) in &hosts {
            lab.subnet.assert_has(*host);
        }
        lab.try_add(SWITCH)?;
        lab.try_bridge(SWITCH, "br0")?;
        for (of, host) in &hosts {
            if self.has_guests && of != CLIENT {
                lab.try_plug(of)?;
            } else {
                lab.try_add(of)?;
                lab.try_join(of, *host)?;
            }
        }
        Ok(lab)
    }
}

impl Lab {
    /// Begins to describe a lab. The label becomes a part of the namespaces' names.
    pub fn builder(label: &str) -> LabBuilder {
        LabBuilder::new(label)
    }

    /// The usual lab of a test: peers `n1` to `n<peers>` and a client on a switch, with the shared addresses.
    ///
    /// # Panics
    /// The lab can't be made.
    pub fn new(peers: u8) -> Self {
        expect(Self::builder("t").peers(peers).client().up())
    }

    /// Peers on a switch, without a client, with IPv4 addresses of this lab alone.
    ///
    /// # Panics
    /// The lab can't be made.
    pub fn switched(peers: u8) -> Self {
        expect(Self::builder("s").peers(peers).subnet(Subnet::own().v4_only()).up())
    }
}
