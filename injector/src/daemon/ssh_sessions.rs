//! The SSH connections to this host, which are listed beside the daemon's task.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::netlink::facts::Stations;
use crate::netlink::sockets::{self, TcpSocket};

/// How long the kernel may take to list the sockets: without an answer the cut is refused.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The SSH connections to this host from elsewhere, as the daemon's own namespace has them.
pub(super) struct Sessions {
    pub(super) sockets: Vec<TcpSocket>,
    /// The MAC addresses that the namespace has learned; nothing if there is no connection, or they could not be read.
    pub(super) stations: Stations,
}

/// Sessions that are being listed beside the daemon's task: a host may have very many sockets and neighbours, and the kernel
/// holds up whoever asks for the latter where interfaces come and go.
pub(super) struct PendingSessions {
    listed: Arc<Mutex<Listed>>,
    begun: Instant,
}

#[derive(Default)]
struct Listed {
    sockets: Option<io::Result<Vec<TcpSocket>>>,
    stations: Option<Stations>,
}

impl PendingSessions {
    /// Begins to list those to servers with these ports.
    pub(super) fn begin(ports: BTreeSet<u16>) -> Self {
        let listed = Arc::new(Mutex::new(Listed::default()));
        let pending = Self { listed: Arc::clone(&listed), begun: Instant::now() };
        let list = move || {
            let sockets = sockets_of(&ports);
            let are_wanted = sockets.as_ref().is_ok_and(|sockets| !sockets.is_empty());
            lock(&listed).sockets = Some(sockets);
            if are_wanted {
                let stations = stations();
                lock(&listed).stations = Some(stations);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("sockets".into()).spawn(list) {
            lock(&pending.listed).sockets = Some(Err(error));
        }
        pending
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_done(&self) -> bool {
        match &*lock(&self.listed) {
            Listed { sockets: None, .. } => false,
            Listed { sockets: Some(Ok(sockets)), stations } => sockets.is_empty() || stations.is_some(),
            Listed { sockets: Some(Err(_)), .. } => true,
        }
    }

    /// The result, if there is one by now.
    pub(super) fn found(&self) -> Result<Sessions, Unlisted> {
        let mut listed = lock(&self.listed);
        let late = || Unlisted::Late(self.begun.elapsed());
        let sockets =
            listed.sockets.take().ok_or_else(late)?.map_err(|error| Unlisted::Failed(error.to_string()))?;
        let stations = match listed.stations.take() {
            None if sockets.is_empty() => Stations::default(),
            stations => stations.ok_or_else(late)?,
        };
        Ok(Sessions { sockets, stations })
    }
}

/// Why the sessions are not known.
pub(super) enum Unlisted {
    /// They were not listed by now, so long after it began.
    Late(Duration),
    Failed(String),
}

fn lock(listed: &Mutex<Listed>) -> MutexGuard<'_, Listed> {
    listed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists the connections on the calling thread, which waits.
fn sockets_of(ports: &BTreeSet<u16>) -> io::Result<Vec<TcpSocket>> {
    let mut sockets = sockets::tcp()?;
    sockets.retain(|socket| {
        ports.contains(&socket.local.1) && !socket.remote.0.is_loopback() && socket.state == "established"
    });
    Ok(sockets)
}

/// Reads the neighbours on the calling thread, which waits.
fn stations() -> Stations {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.and_then(|runtime| runtime.block_on(Stations::ask()));
    asked.unwrap_or_else(|error| {
        tracing::warn!(%error, "neighbours could not be read: SSH connections are known by their addresses alone");
        Stations::default()
    })
}
