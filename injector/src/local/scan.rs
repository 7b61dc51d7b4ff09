//! Scans the processes of this machine: who listens on the ports of the config, and whose sockets have no
//! owner yet.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::cgroups::{self, Cgroup, CgroupName, Tree};
use super::found::{Error, Found, Late};
use super::labels::Labels;
use super::process::{self, Kind, SocketCopy, Stat};
use super::shared::{Mixed, Port, SharedPorts};
use crate::datapath::{KnownProcess, LocalError, OwnerId, SpaceId};
use crate::discovery::local::{Doubt, LocalPeerProcesses, LocalProcesses, Process};
use crate::netlink::sockets::ListeningSocket;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Listen, LocalBy};
use injector_core::model::{PeerId, PeerNames};

/// How often processes are gone through until nothing new is found: each time, what was made meanwhile has its owner from
/// the programs, unless its process was not known.
const PASSES: usize = 10;
/// The process that binds ports for the services that it starts.
const INIT: u32 = 1;
/// Why sockets of multipath TCP name nobody.
const MULTIPATH: &str = "multipath TCP, where the kernel's own sockets send and receive";
const NO_MULTIPATH: &str = "turn that off (GODEBUG=multipathtcp=0 for a program in Go)";

/// The scanner, and what its last scan found.
pub struct Scanner {
    labels: Labels,
    /// When the last scan began.
    before: Option<MonoNs>,
    spaces: BTreeMap<u64, SpaceId>,
    listens: Vec<(SpaceId, Listen, PeerId)>,
    /// Peers that are known by a process, and when that started.
    processes: Vec<(u32, PeerId, Option<u64>)>,
    /// Peers that are known by a cgroup.
    cgroups: Vec<ByCgroup>,
    /// The sockets of processes that the last scan found on ports of the config, by their inodes.
    seen: BTreeSet<u64>,
    tree: Tree,
    peers: Vec<PeerId>,
    names: PeerNames,
}

/// A peer that is known by a cgroup.
struct ByCgroup {
    name: CgroupName,
    peer: PeerId,
    /// The one that is there,
    known: Option<Cgroup>,
    /// and others that may be meant.
    others: Vec<Cgroup>,
}

/// The findings of one pass.
#[derive(Default)]
struct Pass {
    /// The peers whose ports a process listens on.
    holders: BTreeMap<u32, BTreeSet<PeerId>>,
    /// The processes that have a socket at such a port, also if it does not listen.
    at_ports: BTreeSet<u32>,
    /// The sockets of these processes, by their inodes.
    seen: BTreeSet<u64>,
    /// Sockets that had no owner until now.
    late: BTreeMap<PeerId, Late>,
    doubts: BTreeMap<PeerId, Doubt>,
    /// Sockets whose port others may have too.
    shared: SharedPorts,
    /// A process whose sockets may not be read, and why.
    closed: Option<(Process, io::Error)>,
}

impl Scanner {
    pub fn new(
        config: &Config,
        labels: Labels,
        spaces: BTreeMap<u64, SpaceId>,
        listens: Vec<(SpaceId, Listen, PeerId)>,
        tree: Tree,
    ) -> Self {
        let mut processes = Vec::new();
        let mut cgroups = Vec::new();
        for (peer, local) in config.local_peers() {
            match &local.by {
                LocalBy::Listens(_) => {}
                LocalBy::Process(process) => processes.push((*process, peer, None)),
                LocalBy::Cgroup(path) => cgroups.push(ByCgroup::new(CgroupName::Path(path.clone()), peer)),
                LocalBy::Unit(unit) => cgroups.push(ByCgroup::new(CgroupName::Unit(unit.clone()), peer)),
            }
        }
        let peers = config.local_peers().map(|(peer, _)| peer).collect();
        let names = config.names.clone();
        let seen = BTreeSet::new();
        Self { labels, before: None, spaces, listens, processes, cgroups, seen, tree, peers, names }
    }

    /// A descriptor that is readable when a cgroup of a peer may have been made; `None` if no peer is known by one.
    pub fn news(&self) -> Result<Option<OwnedFd>, Error> {
        let is_needed = !self.cgroups.is_empty();
        is_needed.then(|| self.tree.news()).transpose().map_err(Error::Cgroups)
    }

    /// Fixes which processes those of the config are: their ids are used again.
    pub fn identify(&mut self) -> Result<(), Error> {
        let all = process::all().map_err(Error::Processes)?;
        for (process, peer, started) in &mut self.processes {
            let Some(stat) = all.iter().find(|stat| stat.id == *process) else {
                let peer = self.names.name(*peer).to_owned();
                return Err(Error::NoProcess { peer, process: *process });
            };
            *started = Some(stat.started);
        }
        Ok(())
    }

    /// Writes for the programs which cgroups are peers' now: quick, since what starts in one does so soon.
    pub fn follow_cgroups(&mut self) -> Result<(), Error> {
        for ByCgroup { name, peer, known, others } in &mut self.cgroups {
            let mut found = self.tree.find(name, known.as_ref()).map_err(Error::Cgroups)?.into_iter();
            let first = found.next();
            *others = found.collect();
            if first == *known {
                continue;
            }
            if let Some(gone) = known.take() {
                self.labels.give_cgroup(gone.id, None)?;
            }
            if let Some(first) = &first {
                self.labels.give_cgroup(first.id, Some(*peer))?;
            }
            *known = first;
        }
        Ok(())
    }

    /// Scans until a pass finds nothing new.
    pub fn scan(&mut self) -> Result<Found, Error> {
        let begun = MonoNs::now();
        let before = self.before.unwrap_or(begun);
        // The programs come first: they give later sockets their owners, and the passes find earlier ones.
        let programs = self.labels.reattach();
        let mut late: BTreeMap<PeerId, Late> = BTreeMap::new();
        self.follow_cgroups()?;
        for pass in 0..PASSES {
            let all = process::all().map_err(Error::Processes)?;
            let mut seen = self.listeners(&all)?;
            self.named(&all, &mut seen);
            let members = self.members(&all);
            let owners = self.owners(&all, &mut seen, &members)?;
            self.rest(&all, &owners, &mut seen)?;
            let is_last = seen.late.is_empty() || pass + 1 == PASSES;
            for (peer, found) in std::mem::take(&mut seen.late) {
                found.add_to(late.entry(peer));
            }
            if is_last {
                doubt_unreadable(&all, &owners, &mut seen);
                self.seen = std::mem::take(&mut seen.seen);
                let observed = self.processes_of_peers(&all, &owners, seen);
                self.before = Some(begun);
                return Ok(Found { before, at: MonoNs::now(), programs, observed, late });
            }
        }
        unreachable!("the last pass returns")
    }

    /// Adds the processes that the config names.
    fn named(&self, all: &[Stat], pass: &mut Pass) {
        for (process, peer, started) in &self.processes {
            if all.iter().any(|stat| stat.id == *process && Some(stat.started) == *started) {
                pass.holders.entry(*process).or_default().insert(*peer);
            } else {
                let why =
                    format!("process {process} has ended, and its id does not lead to what comes after it");
                let remedy = Some("name the peer by its ports, cgroup or unit");
                pass.doubts.insert(*peer, Doubt { why, remedy });
            }
        }
        for (at, ByCgroup { name, peer, known, others }) in self.cgroups.iter().enumerate() {
            let Some(cgroup) = known else { continue };
            if let (CgroupName::Unit(unit), [other, ..]) = (name, &others[..]) {
                let (one, two) = (cgroup.path.display(), other.path.display());
                let why =
                    format!("two cgroups are called {unit}, /{one} and /{two}, and either may be meant");
                let remedy = Some("name the peer by the path of its cgroup (cgroup: PATH)");
                pass.doubts.insert(*peer, Doubt { why, remedy });
            }
            for ByCgroup { peer: other, known: theirs, .. } in &self.cgroups[at + 1..] {
                let Some(theirs) = theirs else { continue };
                if cgroup.path.starts_with(&theirs.path) || theirs.path.starts_with(&cgroup.path) {
                    let (one, two) = (self.names.name(*peer), self.names.name(*other));
                    let why = format!(
                        "the cgroups of {one} and {two} are one, or one is within the other: /{} and /{}",
                        cgroup.path.display(),
                        theirs.path.display()
                    );
                    let doubt =
                        Doubt { why, remedy: Some("name them by cgroups of their own, or by their ports") };
                    pass.doubts.insert(*peer, doubt.clone());
                    pass.doubts.insert(*other, doubt);
                }
            }
        }
    }

    /// The processes in the cgroups of peers.
    fn members(&self, all: &[Stat]) -> BTreeMap<u32, PeerId> {
        if self.cgroups.iter().all(|peer| peer.known.is_none()) {
            return BTreeMap::new();
        }
        let peer = |stat: &Stat| {
            let path = cgroups::of_process(stat.id)?;
            let is_in = |cgroup: &Cgroup| path.starts_with(&cgroup.path);
            let found = self.cgroups.iter().find(|peer| peer.known.as_ref().is_some_and(is_in))?;
            Some((stat.id, found.peer))
        };
        let own = std::process::id();
        all.iter().filter(|stat| stat.id != own).filter_map(peer).collect()
    }

    /// Goes through all sockets for those on ports of the config.
    fn listeners(&mut self, all: &[Stat]) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let own = std::process::id();
        for stat in all.iter().filter(|stat| stat.id != own) {
            each_socket(stat, &mut pass, |held, pass| self.listener(stat, held, pass))?;
        }
        Ok(pass)
    }

    /// The entry of the config that an address, `None` for every address, and a port are of, and its peer.
    fn of_config(&self, space: SpaceId, (address, port): (Option<IpAddr>, u16)) -> Option<(Listen, PeerId)> {
        let mut listens = self.listens.iter();
        let found = listens.find(|(of, listen, _)| *of == space && listen.holds(address, port));
        found.map(|(_, listen, peer)| (*listen, *peer))
    }

    fn listener(&mut self, stat: &Stat, held: &SocketCopy, pass: &mut Pass) -> Result<(), LocalError> {
        let Some(space) = self.spaces.get(&held.cookie).copied() else { return Ok(()) };
        let (address, port) = held.at;
        let of_config = self.of_config(space, held.at);
        if of_config.is_some() {
            pass.at_ports.insert(stat.id);
            pass.seen.insert(held.inode);
        }
        if !held.listens {
            return Ok(());
        }
        // A group's port may have many: what comes there for one of them has its own address.
        if let Some(cookie) = held.shared
            && !address.is_some_and(|address| address.is_multicast())
        {
            pass.shared.add(Port { space, kind: held.kind, address, number: port }, cookie, stat.id);
        }
        let Some((listen, peer)) = of_config else { return Ok(()) };
        if held.kind == Kind::Mptcp {
            let why = format!("process {} ({}) listens on {listen} by {MULTIPATH}", stat.id, stat.name);
            pass.doubts.insert(peer, Doubt { why, remedy: Some(NO_MULTIPATH) });
            return Ok(());
        }
        if stat.id != INIT {
            pass.holders.entry(stat.id).or_default().insert(peer);
        }
        self.give(space, held, peer, stat, pass)
    }

    /// Gives a socket of a process to a peer, if it has no owner yet.
    fn give(
        &mut self,
        space: SpaceId,
        held: &SocketCopy,
        peer: PeerId,
        stat: &Stat,
        pass: &mut Pass,
    ) -> Result<(), LocalError> {
        if self.labels.owner(&held.fd)?.is_none() && self.labels.give(&held.fd, peer)? {
            // The process had none before it started, and none at the last scan.
            let from = self.before.map_or(MonoNs(0), |before| before.max(stat.started_at()));
            Late { count: 1, from }.add_to(pass.late.entry(peer));
        }
        let protocol = match held.kind {
            Kind::Tcp | Kind::Mptcp => libc::IPPROTO_TCP,
            Kind::Udp => libc::IPPROTO_UDP,
            Kind::UdpLite => libc::IPPROTO_UDPLITE,
        };
        if held.at.1 != 0 {
            self.labels.note(space, protocol as u8, held.at, peer)?;
        }
        Ok(())
    }

    /// The owners of processes: by their ports, by what the programs saw, or by their parents.
    fn owners(
        &mut self,
        all: &[Stat],
        seen: &mut Pass,
        members: &BTreeMap<u32, PeerId>,
    ) -> Result<BTreeMap<u32, OwnerId>, Error> {
        let known = self.still_known(all, seen)?;
        let mut owners: BTreeMap<u32, OwnerId> = BTreeMap::new();
        for (process, peers) in &seen.holders {
            let by_ports = match peers.first() {
                Some(peer) if peers.len() == 1 => OwnerId::Peer(*peer),
                _ => OwnerId::Several,
            };
            let owner = match known.get(process) {
                Some(before) if *before != by_ports => OwnerId::Several,
                _ => by_ports,
            };
            owners.insert(*process, owner);
        }
        for (process, owner) in &known {
            owners.entry(*process).or_insert(*owner);
        }
        let parents: BTreeMap<u32, u32> = all.iter().map(|stat| (stat.id, stat.parent)).collect();
        let own = std::process::id();
        for stat in all {
            let mut at = stat.id;
            // No process is its own ancestor, but they come and go while they are read.
            for _ in 0..all.len() {
                if at == own {
                    break;
                }
                if let Some(owner) = owners.get(&at).copied() {
                    owners.insert(stat.id, owner);
                    break;
                }
                match parents.get(&at) {
                    Some(parent) if *parent > INIT => at = *parent,
                    _ => break,
                }
            }
        }
        for (process, peer) in members {
            if let Some(owner) = owners.get_mut(process)
                && *owner != OwnerId::Peer(*peer)
            {
                *owner = OwnerId::Several;
            }
        }
        // Of a process that ends before the programs know it, they would know the next process with its id as a peer's: it is looked
        // at just before and just after.
        let is_there = |stat: &Stat| process::stat(stat.id).is_some_and(|now| now.started == stat.started);
        for stat in all {
            let owner = owners.get(&stat.id);
            if let Some(owner) = owner
                && known.get(&stat.id) != Some(owner)
                && is_there(stat)
            {
                self.labels.give_process(stat.id, *owner)?;
                if !is_there(stat) {
                    self.labels.take_process(stat.id)?;
                }
            }
        }
        owners.retain(|process, _| parents.contains_key(process));
        // The programs name these processes by their cgroup, as long as they are in it.
        for (process, peer) in members {
            owners.entry(*process).or_insert(OwnerId::Peer(*peer));
        }
        Ok(owners)
    }

    /// The processes that the programs know, without those that became a peer's by a port and have left it.
    fn still_known(&mut self, all: &[Stat], seen: &mut Pass) -> Result<BTreeMap<u32, OwnerId>, Error> {
        let mut known = BTreeMap::new();
        for (process, KnownProcess { owner, is_by_port }) in self.labels.processes()? {
            let stat = all.iter().find(|stat| stat.id == process);
            let Some(stat) = stat.filter(|_| is_by_port && !seen.at_ports.contains(&process)) else {
                known.insert(process, owner);
                continue;
            };
            self.labels.take_process(process)?;
            // The process may have come back to a port since its sockets were read.
            each_socket(stat, seen, |held, seen| self.listener(stat, held, seen))?;
        }
        Ok(known)
    }

    /// Doubts peers on whose ports sockets listen that no process was found to have. `listening` are the
    /// sockets that listened before the last scan and after it.
    pub fn doubt_unseen(&self, listening: &[(SpaceId, ListeningSocket)], observed: &mut LocalProcesses) {
        for (space, socket) in listening {
            let address = Some(socket.address).filter(|address| !address.is_unspecified());
            let Some((listen, peer)) = self.of_config(*space, (address, socket.port)) else { continue };
            if self.seen.contains(&u64::from(socket.inode)) {
                continue;
            }
            let why = format!("a socket listens on {listen}, and no process was found that has it");
            let remedy = Some(
                "run the server without ending its main thread, and without descriptors of a thread's own",
            );
            observed.peers.entry(peer).or_default().doubt.get_or_insert(Doubt { why, remedy });
        }
    }

    /// Gives the sockets of peers' processes that have no owner to them.
    fn rest(&mut self, all: &[Stat], owners: &BTreeMap<u32, OwnerId>, pass: &mut Pass) -> Result<(), Error> {
        for stat in all {
            let Some(OwnerId::Peer(peer)) = owners.get(&stat.id).copied() else { continue };
            each_socket(stat, pass, |held, pass| self.other(held, peer, stat, pass))?;
        }
        Ok(())
    }

    fn other(
        &mut self,
        held: &SocketCopy,
        peer: PeerId,
        stat: &Stat,
        pass: &mut Pass,
    ) -> Result<(), LocalError> {
        let Some(space) = self.spaces.get(&held.cookie).copied() else { return Ok(()) };
        if held.kind == Kind::Mptcp {
            let why = format!("process {} ({}) has sockets of {MULTIPATH}", stat.id, stat.name);
            pass.doubts.entry(peer).or_insert(Doubt { why, remedy: Some(NO_MULTIPATH) });
            return Ok(());
        }
        match self.labels.owner(&held.fd)? {
            // The socket was inherited or handed over, and its frames are named after the peer that had it
            // first.
            Some(OwnerId::Peer(other)) if other != peer => {
                let (mine, theirs) = (self.names.name(peer), self.names.name(other));
                let why = format!(
                    "process {} ({}) of {mine} has a socket of {theirs}'s, on port {}: what goes over it could be either's",
                    stat.id, stat.name, held.at.1
                );
                let remedy = Some("start each peer without sockets of the other's, or make one peer of both");
                for peer in [peer, other] {
                    pass.doubts.entry(peer).or_insert_with(|| Doubt { why: why.clone(), remedy });
                }
                Ok(())
            }
            // The process's ports are of several peers, which is reported for the process.
            Some(OwnerId::Several) => Ok(()),
            _ => self.give(space, held, peer, stat, pass),
        }
    }

    /// Doubts peers that share a port, each with its reason.
    fn doubt_shared(&self, all: &[Stat], owners: &BTreeMap<u32, OwnerId>, pass: &mut Pass) {
        let owner = |process: u32| match owners.get(&process) {
            Some(OwnerId::Peer(peer)) => Some(*peer),
            Some(OwnerId::Several) | None => None,
        };
        for Mixed { port, owners } in pass.shared.mixed(owner) {
            let holder = |(owner, process): (&Option<PeerId>, &u32)| {
                let of = owner.map_or("no peer", |peer| self.names.name(peer));
                format!("{} of {of}", shown(all, *process))
            };
            let holders: Vec<String> = owners.iter().map(holder).collect();
            let why = format!(
                "port {} is shared (SO_REUSEPORT) by {}: who gets a packet can't be foreseen",
                port.number,
                holders.join(" and ")
            );
            let remedy = Some("give each peer a port, or an address, of its own");
            for peer in owners.keys().flatten() {
                pass.doubts.entry(*peer).or_insert_with(|| Doubt { why: why.clone(), remedy });
            }
        }
    }

    fn processes_of_peers(
        &self,
        all: &[Stat],
        owners: &BTreeMap<u32, OwnerId>,
        mut pass: Pass,
    ) -> LocalProcesses {
        self.doubt_shared(all, owners, &mut pass);
        let mut observed = LocalProcesses::default();
        for peer in &self.peers {
            observed.peers.entry(*peer).or_insert_with(LocalPeerProcesses::default);
        }
        for stat in all {
            if let Some(OwnerId::Peer(peer)) = owners.get(&stat.id) {
                let process = Process { id: stat.id, name: stat.name.clone() };
                observed.peers.entry(*peer).or_default().processes.push(process);
            }
        }
        for (process, _) in owners.iter().filter(|(_, owner)| **owner == OwnerId::Several) {
            let peers: Vec<PeerId> = pass.holders.get(process).into_iter().flatten().copied().collect();
            let names: Vec<&str> = peers.iter().map(|peer| self.names.name(*peer)).collect();
            let of = if names.len() > 1 { names.join(" and ") } else { "several peers".to_owned() };
            let why = format!(
                "process {} belongs to {of}: what it sends can't be attributed to one peer",
                shown(all, *process)
            );
            let doubt = Doubt { why, remedy: Some("run each peer in a process of its own") };
            let all_peers: Vec<PeerId> = observed.peers.keys().copied().collect();
            for peer in if peers.is_empty() { all_peers } else { peers } {
                observed.peers.entry(peer).or_default().doubt = Some(doubt.clone());
            }
        }
        for (peer, doubt) in pass.doubts {
            observed.peers.entry(peer).or_default().doubt = Some(doubt);
        }
        if let Some((process, error)) = pass.closed {
            let why = format!(
                "the sockets of process {process} can't be looked at, so that those of a peer may be among them: {error}"
            );
            let remedy = Some("start the daemon with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
            let doubt = Doubt { why, remedy };
            for peer in observed.peers.values_mut() {
                peer.doubt.get_or_insert_with(|| doubt.clone());
            }
        }
        observed
    }
}

impl ByCgroup {
    fn new(name: CgroupName, peer: PeerId) -> Self {
        Self { name, peer, known: None, others: Vec::new() }
    }
}

/// Doubts peers that have a process not all of whose sockets can be read.
fn doubt_unreadable(all: &[Stat], owners: &BTreeMap<u32, OwnerId>, pass: &mut Pass) {
    for stat in all {
        let Some(OwnerId::Peer(peer)) = owners.get(&stat.id) else { continue };
        let why = if stat.has_lost_its_main_thread {
            "has ended its main thread".to_owned()
        } else if let Some(thread) = process::own_descriptors(stat.id) {
            format!("has a thread with descriptors of its own, {thread}")
        } else {
            continue;
        };
        let why = format!("process {} ({}) {why}: its sockets can't be looked at", stat.id, stat.name);
        let remedy = Some("run it without that");
        pass.doubts.entry(*peer).or_insert(Doubt { why, remedy });
    }
}

impl Late {
    /// Adds these to what was found before.
    fn add_to(self, entry: Entry<'_, PeerId, Self>) {
        entry
            .and_modify(|all| *all = Self { count: all.count + self.count, from: all.from.min(self.from) })
            .or_insert(self);
    }
}

/// A process for people.
fn shown(all: &[Stat], process: u32) -> String {
    let stat = all.iter().find(|stat| stat.id == process);
    stat.map_or_else(|| process.to_string(), |stat| format!("{process} ({})", stat.name))
}

/// Hands each socket of a process to `take`. A process whose sockets may not be read is noted in `pass`.
fn each_socket(
    stat: &Stat,
    pass: &mut Pass,
    mut take: impl FnMut(&SocketCopy, &mut Pass) -> Result<(), LocalError>,
) -> Result<(), Error> {
    let mut failed = None;
    let looked = process::sockets(stat.id, |held| {
        failed = failed.take().or(take(&held, pass).err());
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    // The process is no peer's, and the sockets that it opens for a service are found in the service too.
    if let Err(error) = looked
        && stat.id != INIT
    {
        let process = Process { id: stat.id, name: stat.name.clone() };
        pass.closed.get_or_insert((process, error));
    }
    Ok(())
}
