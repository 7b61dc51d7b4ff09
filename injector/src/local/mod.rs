//! Peers on this machine: processes that share its addresses. Programs give each socket its owner when it is
//! made, and on `lo` name frames by that. A scan finds the sockets that are older than the programs, once
//! these are attached.

mod cgroups;
mod found;
mod labels;
pub(crate) mod process;
mod scan;
mod shared;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

pub use self::found::{Error, Found, Late};
use self::labels::Labels;
use self::process::socket_cookie;
use self::scan::Scanner;
use crate::datapath::{CgroupQuery, LocalHooks, LocalPorts, Object, SpaceId, cgroup_root};
use crate::netlink::sockets::{self, ListeningSocket};
use crate::netns::{Identity, NetnsError, Worker, Workers};
use crate::rights::{Rights, Role};
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Listen, LocalPeer, Netns};
use injector_core::model::PeerId;

/// The numbers of the namespaces that have peers on this machine.
pub fn spaces(config: &Config) -> BTreeMap<Option<Netns>, SpaceId> {
    config.local_spaces().into_iter().zip((1..).map(SpaceId)).collect()
}

/// The programs that give sockets their owners, and the scanner. The programs are detached with it.
pub struct LocalPeers {
    /// The thread that scans: it may read others' processes.
    worker: Worker,
    scanner: Arc<Mutex<Scanner>>,
    /// One scan at a time: their results come in order, and what one attached again is no loss that another one reports later.
    scanning: Arc<tokio::sync::Mutex<()>>,
    /// Whether a scan is asked for that has not begun.
    is_asked: Arc<AtomicBool>,
    /// The threads in the namespaces of peers.
    spaces: Vec<(SpaceId, Worker)>,
    /// The owners of ports,
    ports: LocalPorts,
    /// in which namespaces.
    namespaces: BTreeMap<Identity, SpaceId>,
    /// Asks whether the programs are still attached.
    query: CgroupQuery,
}

impl LocalPeers {
    /// Attaches the programs, then gives the sockets that are there to their owners. `None` if the config has no peers on
    /// this machine.
    ///
    /// # Errors
    /// This host lacks something: nothing stays attached then.
    pub async fn start(
        config: &Config,
        object: &Object,
        cgroup: Option<&OwnedFd>,
        rights: Rights,
        workers: &mut Workers,
    ) -> Result<Option<(Self, Found)>, Error> {
        let spaces = spaces(config);
        if spaces.is_empty() {
            return Ok(None);
        }
        let cgroup = cgroup.ok_or(Error::Started)?;
        let (cookies, namespaces) = identified(&spaces, workers).await?;
        let listens = listens(config, &spaces);
        // The programs come first: they give later sockets their owners, and the scan finds earlier ones.
        let hooks = LocalHooks::attach(object, cgroup, &cookies, &listens)?;
        let (ports, query) = (hooks.ports(object)?, hooks.query());
        let tree = cgroups::reopen(cgroup).and_then(cgroups::Tree::new).map_err(Error::Cgroups)?;
        let mut scanner = Scanner::new(config, Labels(Some(hooks)), cookies, listens, tree);
        scanner.identify()?;
        let scanner = Arc::new(Mutex::new(scanner));
        let worker = workers.visitor(None).await?;
        // At the start, the supervisor still has all rights.
        worker.run(move || async move { rights.take(Role::Supervisor) }).await?.map_err(NetnsError::from)?;
        let spaces = threads(&spaces, workers).await?;
        let local = Self {
            worker,
            scanner,
            scanning: Arc::default(),
            is_asked: Arc::default(),
            spaces,
            ports,
            namespaces,
            query,
        };
        let (scanner, spaces) = (Arc::clone(&local.scanner), local.spaces.clone());
        let found = local.worker.run(move || async move { scan(&scanner, &spaces).await }).await??;
        Ok(Some((local, found)))
    }

    /// Asks whether the programs are still attached, without these peers.
    pub fn query(&self) -> CgroupQuery {
        self.query.clone()
    }

    /// The peer whose TCP socket in a namespace has an address and a port.
    pub fn peer_at(&self, namespace: Identity, at: (IpAddr, u16)) -> Option<PeerId> {
        self.ports.owner(*self.namespaces.get(&namespace)?, at)
    }

    /// Follows the cgroups of peers: `report` is called when one may have been recreated, and the programs know it.
    ///
    /// # Errors
    /// The kernel does not notify of new cgroups.
    pub async fn follow(&self, report: impl Fn() + Send + 'static) -> Result<(), Error> {
        let locked = self.scanner.lock().unwrap_or_else(PoisonError::into_inner).news()?;
        let Some(news) = locked else { return Ok(()) };
        let scanner = Arc::clone(&self.scanner);
        let (began, begins) = oneshot::channel();
        self.worker.spawn(move || async move {
            // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
            let registered = unsafe { AsyncFd::register_with_interest(news, Interest::READABLE) };
            let news = match registered {
                Ok(news) => {
                    let _ = began.send(Ok(()));
                    news
                }
                Err(error) => return drop(began.send(Err(error))),
            };
            while let Ok(mut ready) = news.readable().await {
                // Before the news are taken: those that come meanwhile make it ready again.
                ready.clear_ready();
                crate::fault::here("cgroups/news");
                cgroups::drain(news.as_fd());
                let followed = scanner.lock().unwrap_or_else(PoisonError::into_inner).follow_cgroups();
                if let Err(error) = followed {
                    tracing::error!(%error, "the programs do not know the cgroups of peers");
                }
                report();
            }
        })?;
        let began = begins.await.map_err(|_| NetnsError::Gone { name: "the daemon's own".to_owned() })?;
        began.map_err(|error| Error::Cgroups(error.into()))
    }

    /// Attaches the programs again that another process has detached, and scans the processes again; `report` is called with when the scan began, and its result.
    ///
    /// # Errors
    /// The thread that scans has ended.
    pub fn scan(
        &self,
        report: impl FnOnce(MonoNs, Result<Found, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        if self.is_asked.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let (scanner, is_asked) = (Arc::clone(&self.scanner), Arc::clone(&self.is_asked));
        let (scanning, spaces) = (Arc::clone(&self.scanning), self.spaces.clone());
        let asked = self.worker.spawn(move || async move {
            let _scanning = scanning.lock().await;
            // A request from here on calls for another scan.
            is_asked.store(false, Ordering::SeqCst);
            let begun = MonoNs::now();
            crate::fault::here("local/look");
            report(begun, scan(&scanner, &spaces).await);
        });
        if asked.is_err() {
            self.is_asked.store(false, Ordering::SeqCst);
        }
        Ok(asked?)
    }
}

impl Drop for LocalPeers {
    fn drop(&mut self) {
        self.worker.stop();
    }
}

/// Scans all processes, and doubts peers on whose ports something listens that no process was found to have.
async fn scan(scanner: &Mutex<Scanner>, spaces: &[(SpaceId, Worker)]) -> Result<Found, Error> {
    let before = listening(spaces).await;
    let mut found = scanner.lock().unwrap_or_else(PoisonError::into_inner).scan()?;
    // A socket that was opened or closed meanwhile may have been missed.
    let mut stayed = listening(spaces).await;
    stayed.retain(|socket| before.contains(socket));
    scanner.lock().unwrap_or_else(PoisonError::into_inner).doubt_unseen(&stayed, &mut found.observed);
    Ok(found)
}

/// The sockets that listen in the namespaces of peers.
async fn listening(spaces: &[(SpaceId, Worker)]) -> Vec<(SpaceId, ListeningSocket)> {
    let mut all = Vec::new();
    for (space, worker) in spaces {
        match worker.ask(|| async { sockets::listening() }).await {
            Ok(Ok(found)) => all.extend(found.into_iter().map(|socket| (*space, socket))),
            Ok(Err(error)) => tracing::warn!(%error, "the sockets that listen could not be read"),
            // A namespace that is gone has none.
            Err(error) => tracing::debug!(%error, "the sockets that listen were not read"),
        }
    }
    all
}

/// The threads in the namespaces of peers.
async fn threads(
    spaces: &BTreeMap<Option<Netns>, SpaceId>,
    workers: &mut Workers,
) -> Result<Vec<(SpaceId, Worker)>, Error> {
    let mut threads = Vec::new();
    for (netns, space) in spaces {
        threads.push((*space, workers.of(netns.as_ref()).await?));
    }
    Ok(threads)
}

/// Scans processes as a start does, and attaches nothing. `None` if the config has no peers on this machine.
///
/// # Errors
/// The reason why the daemon could not start.
pub async fn preview(config: &Config, workers: &mut Workers) -> Result<Option<Found>, Error> {
    let spaces = spaces(config);
    if spaces.is_empty() {
        return Ok(None);
    }
    let (cookies, _) = identified(&spaces, workers).await?;
    let tree = cgroups::Tree::new(cgroup_root()?).map_err(Error::Cgroups)?;
    let mut scanner = Scanner::new(config, Labels(None), cookies, listens(config, &spaces), tree);
    scanner.identify()?;
    let spaces = threads(&spaces, workers).await?;
    Ok(Some(scan(&Mutex::new(scanner), &spaces).await?))
}

/// The namespaces of peers by their cookies, and by what their names refer to.
type Identified = (BTreeMap<u64, SpaceId>, BTreeMap<Identity, SpaceId>);

async fn identified(
    spaces: &BTreeMap<Option<Netns>, SpaceId>,
    workers: &mut Workers,
) -> Result<Identified, Error> {
    let (mut cookies, mut namespaces) = Identified::default();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    for (netns, space) in spaces {
        let name = netns.as_ref().map_or_else(|| "the daemon's own".to_owned(), ToString::to_string);
        let visitor = workers.visitor(netns.as_ref()).await?;
        let cookie = visitor.run(|| async { socket_cookie() }).await;
        visitor.stop();
        namespaces.insert(visitor.identity(), *space);
        let cookie = cookie?.map_err(|source| Error::Cookie { name: name.clone(), source })?;
        cookies.insert(cookie, *space);
        if let Some(one) = names.insert(cookie, name.clone()) {
            return Err(Error::Same { one, other: name });
        }
    }
    Ok((cookies, namespaces))
}

/// The ports of the config.
fn listens(config: &Config, spaces: &BTreeMap<Option<Netns>, SpaceId>) -> Vec<(SpaceId, Listen, PeerId)> {
    let of_peer = |(peer, local): (PeerId, &LocalPeer)| {
        let space = spaces[&local.netns];
        let listens: Vec<_> = local.listens().iter().map(|listen| (space, *listen, peer)).collect();
        listens
    };
    config.local_peers().flat_map(of_peer).collect()
}
