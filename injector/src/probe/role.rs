//! Asks who has a role, by a command or over HTTP. As probes, it runs on the calling thread, in its network namespace.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::dial::Names;
use super::exec::Exec;
use super::failure::Failure;
use super::fill::{ProbedPeer, Values};
use super::http::Http;
use super::starter::Asker;
use injector_core::config::{
    AskedPeer, ExecCommand, Hosts, HttpExpect, RoleAnswer, RoleKind, RoleRequest, RoleSource,
};
use injector_core::model::{Connection, PeerName};
use injector_core::roles::{self, Directory, MAX_ANSWER};

/// The peers that have a role now; else why that is unknown. Must be called inside a `LocalSet`.
pub async fn ask(source: &RoleSource, directory: &Directory) -> Result<Vec<PeerName>, String> {
    match &source.kind {
        RoleKind::Exec(command) => {
            let nobody = ProbedPeer { peer: None, address: None };
            let values = Values { probed: &nobody, seq: 0 };
            let output = exec(source, command).output(&values, source.timeout, MAX_ANSWER).await;
            let output = output.map_err(|failure| failure.words())?;
            roles::printed(&output, directory).map_err(|error| error.to_string())
        }
        RoleKind::Http { request, answer } => {
            let answered = over_http(request, answer, &source.hosts, directory);
            let late = |_| Failure::Timeout(source.timeout).words();
            tokio::time::timeout(source.timeout.0, answered).await.map_err(late)?
        }
    }
}

fn exec(source: &RoleSource, command: &ExecCommand) -> Exec {
    Exec::new(Asker::Role(source.name.clone()), command.clone())
}

/// The obstacle to asking for a role on this host, as far as it is seen without asking.
pub fn obstacle(source: &RoleSource) -> Option<String> {
    match &source.kind {
        RoleKind::Exec(command) => exec(source, command).obstacle().map(|failure| failure.words()),
        RoleKind::Http { .. } => None,
    }
}

async fn over_http(
    request: &RoleRequest,
    answer: &RoleAnswer,
    hosts: &Hosts,
    directory: &Directory,
) -> Result<Vec<PeerName>, String> {
    let RoleRequest { http, peers } = request;
    let resolved = Names { hosts: hosts.clone(), family: None };
    let http = &Http::new(http.clone(), HttpExpect::default(), resolved, Connection::Fresh);
    if peers.is_empty() {
        let nobody = ProbedPeer { peer: None, address: None };
        let body = http.fetch(&Values { probed: &nobody, seq: 0 }, MAX_ANSWER).await;
        let body = body.map_err(|failure| failure.words())?;
        return roles::answered(&body, answer, None, directory).map_err(|error| error.to_string());
    }
    let ask = |peer: &AskedPeer| {
        let name = PeerName::from(peer.name.as_str());
        let probed = ProbedPeer { peer: Some(peer.name.clone()), address: peer.address };
        async move {
            let body = http.fetch(&Values { probed: &probed, seq: 0 }, MAX_ANSWER).await;
            let body = body.map_err(|failure| format!("{name}: {}", failure.words()))?;
            let named = roles::answered(&body, answer, Some(&name), directory);
            let named = named.map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>((name, named))
        }
    };
    let answers: BTreeMap<PeerName, Vec<PeerName>> =
        try_join_all(peers.iter().map(ask)).await?.into_iter().collect();
    roles::together(&answers, &answer.meaning).map_err(|error| error.to_string())
}
