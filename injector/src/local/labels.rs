//! The programs' knowledge of sockets and processes. A scan that attaches nothing has no programs: then
//! nothing is known, and nothing is labelled.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use crate::datapath::{KnownProcess, LocalError, LocalHooks, OwnerId, Reattached, SpaceId};
use injector_core::model::PeerId;

/// The programs' maps, where there are programs.
pub struct Labels(pub Option<LocalHooks>);

impl Labels {
    /// Attaches the programs again that another process has detached; `None` where there are none.
    pub fn reattach(&mut self) -> Option<Reattached> {
        self.0.as_mut().map(LocalHooks::reattach)
    }

    /// The owner of a socket.
    pub fn owner(&self, socket: &OwnedFd) -> Result<Option<OwnerId>, LocalError> {
        self.0.as_ref().map_or(Ok(None), |hooks| hooks.owner(socket))
    }

    /// Gives a socket to a peer; whether the programs know it now.
    pub fn give(&mut self, socket: &OwnedFd, peer: PeerId) -> Result<bool, LocalError> {
        let Some(hooks) = &mut self.0 else { return Ok(false) };
        hooks.give(socket, OwnerId::Peer(peer))?;
        Ok(true)
    }

    /// Notes that a peer's socket has a port, `None` for every address.
    pub fn note(
        &mut self,
        space: SpaceId,
        protocol: u8,
        at: (Option<IpAddr>, u16),
        peer: PeerId,
    ) -> Result<(), LocalError> {
        self.0.as_mut().map_or(Ok(()), |hooks| hooks.note(space, protocol, at, peer))
    }

    /// The processes that have an owner.
    pub fn processes(&self) -> Result<BTreeMap<u32, KnownProcess>, LocalError> {
        self.0.as_ref().map_or_else(|| Ok(BTreeMap::new()), LocalHooks::processes)
    }

    /// Gives a process to an owner.
    pub fn give_process(&mut self, process: u32, owner: OwnerId) -> Result<(), LocalError> {
        self.0.as_mut().map_or(Ok(()), |hooks| hooks.give_process(process, owner))
    }

    /// Takes a process from its owner.
    pub fn take_process(&mut self, process: u32) -> Result<(), LocalError> {
        self.0.as_mut().map_or(Ok(()), |hooks| hooks.take_process(process))
    }

    /// Gives what is in a cgroup to a peer, or takes it away.
    pub fn give_cgroup(&mut self, id: u64, peer: Option<PeerId>) -> Result<(), LocalError> {
        self.0.as_mut().map_or(Ok(()), |hooks| hooks.give_cgroup(id, peer))
    }
}
