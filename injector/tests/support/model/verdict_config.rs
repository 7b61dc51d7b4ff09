//! What the model knows of the config.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use injector_core::identity::Mac;
use injector_core::model::Scope;
use ipnet::IpNet;

use super::reading::{Reading, plain};

/// What a successful response looks like.
#[derive(Clone, Debug)]
pub enum Response {
    Any,
    Http,
    Prefix(Vec<u8>),
}

/// What a config says that bears on the verdict.
#[derive(Clone, Debug, Default)]
pub struct VerdictConfig {
    /// How many peers there are.
    pub peers: usize,
    pub exact: HashMap<IpAddr, u16>,
    pub nets: Vec<(IpNet, u16)>,
    pub macs: HashMap<Mac, u16>,
    pub protected_addresses: HashSet<IpAddr>,
    pub protected_scopes: Vec<Scope>,
    /// By address and port, the id and what a response looks like.
    pub endpoints: HashMap<(IpAddr, u16), (u32, Response)>,
    /// By peer: the interfaces where its loss is rolled.
    pub rolls: HashMap<u16, BTreeSet<u32>>,
}

impl VerdictConfig {
    pub fn protects(&self, reading: &Reading<'_>) -> bool {
        let by_address = reading.addresses.is_some_and(|(from, to)| {
            [from, to].iter().any(|address| self.protected_addresses.contains(&plain(*address)))
        });
        by_address
            || self.protected_scopes.iter().any(|scope| reading.is_in(*scope) || reading.may_be_in(*scope))
    }
}
