//! Whether each endpoint answers from where it is probed, and what to change if it does not.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::network::HostSurvey;
use crate::netns::Worker;
use crate::probe;
use injector_core::config::{Config, Endpoint, Netns, Role};
use injector_core::sample::{EndpointId, FailureCode, ProbeFailure};

/// The most other namespaces in which an endpoint is tried that does not answer where it is probed.
const MOST_TRIED: usize = 16;
/// How long a namespace's thread may take beyond the probe's own timeout.
const GRACE: Duration = Duration::from_secs(2);

/// The result of asking an endpoint once.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointCheck {
    /// `ingress@n1`.
    pub endpoint: String,
    /// Whether it gates verdicts.
    pub required: bool,
    /// Where it is probed from.
    pub from: String,
    /// Why it did not answer as the config expects; `null` if it did.
    pub error: Option<String>,
    /// The kind of that failure; `null` if it answered, or was not asked.
    pub code: Option<FailureCode>,
    /// The remedy; `null` if it answered.
    pub remedy: Option<String>,
    /// Why its answers do not show what a cut does, although it may answer; `null` if nothing speaks against it.
    pub note: Option<String>,
}

impl EndpointCheck {
    /// Whether no recovery could be measured like this.
    pub fn prevents(&self) -> bool {
        self.error.is_some() && self.required
    }
}

/// Asks every endpoint once, all at the same time, each from its namespace.
pub(super) async fn ask(config: &Config, survey: &mut HostSurvey) -> Vec<EndpointCheck> {
    let mut asked = Vec::new();
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let worker = survey.workers.of(endpoint.netns.as_ref()).await.map_err(|error| error.to_string());
        asked.push(async move {
            let answer = match &worker {
                Ok(_) if endpoint.lacks_address() => Err(Unasked::NOWHERE),
                Ok(worker) => once(config, index, worker).await,
                Err(error) => Err(Unasked::unanswered(error.clone())),
            };
            (index, answer)
        });
    }
    let mut checks = Vec::new();
    for (index, answer) in join_all(asked).await {
        let endpoint = &config.endpoints[index];
        let (error, code, remedy) = match answer {
            Ok(None) => (None, None, None),
            Ok(Some(failure)) => {
                let elsewhere = answers_from(config, index, survey).await;
                let remedy =
                    elsewhere.map_or_else(|| remedy(endpoint, &failure), |at| moved(endpoint, at.as_ref()));
                (Some(failure.text.to_string()), Some(failure.code), Some(remedy))
            }
            Err(Unasked { error, remedy }) => (Some(error.into_owned()), None, Some(remedy.to_owned())),
        };
        checks.push(EndpointCheck {
            endpoint: endpoint.name.clone(),
            required: endpoint.role == Role::Required,
            from: place(endpoint.netns.as_ref()),
            error,
            code,
            remedy,
            note: inside_a_peer(config, endpoint, survey),
        });
    }
    checks
}

/// Why an endpoint could not be asked.
struct Unasked {
    error: Cow<'static, str>,
    remedy: &'static str,
}

impl Unasked {
    const NOWHERE: Self = Self {
        error: Cow::Borrowed("was not asked: the address of its peer's container is not known"),
        remedy: "put right what keeps the daemon from starting",
    };

    fn unanswered(error: String) -> Self {
        let remedy = "correct `netns` of the endpoint, or make that namespace; entering it takes root";
        Self { error: Cow::Owned(error), remedy }
    }
}

async fn once(config: &Config, index: usize, worker: &Worker) -> Result<Option<ProbeFailure>, Unasked> {
    let endpoint = config.endpoints[index].clone();
    let peer = endpoint.peer.map(|peer| config.names.name(peer).to_owned());
    let patience = endpoint.probe.options.timeout.0 + GRACE;
    let asked = worker.run_within(patience, move || async move {
        probe::once(EndpointId(index), &endpoint, peer.as_deref()).await
    });
    asked.await.map(|sample| sample.failure).map_err(|error| Unasked::unanswered(error.to_string()))
}

/// Another namespace from which an endpoint answers: one that is no peer's home, if there is any.
async fn answers_from(config: &Config, index: usize, survey: &mut HostSurvey) -> Option<Option<Netns>> {
    let endpoint = &config.endpoints[index];
    // A command goes where it likes, and may do more than ask.
    if endpoint.probe.kind.command().is_some() {
        return None;
    }
    let mut others: Vec<Option<Netns>> = survey
        .spaces
        .iter()
        .map(|space| space.netns.clone())
        .filter(|netns| *netns != endpoint.netns)
        .collect();
    others.sort_by_key(|netns| survey.homes.values().any(|home| home == netns));
    others.truncate(MOST_TRIED);
    let mut tried = Vec::new();
    for netns in others {
        let Ok(worker) = survey.workers.of(netns.as_ref()).await else { continue };
        tried.push(async move { (once(config, index, &worker).await, netns) });
    }
    let tried = join_all(tried).await;
    tried.into_iter().find(|(answer, _)| matches!(answer, Ok(None))).map(|(_, netns)| netns)
}

/// What is wrong with asking an endpoint from where it is asked, if that is the home of a peer.
fn inside_a_peer(config: &Config, endpoint: &Endpoint, survey: &HostSurvey) -> Option<String> {
    let space = survey.spaces.iter().find(|space| space.is(endpoint.netns.as_ref()))?;
    let mut residents = survey.homes.iter().filter(|(_, home)| **home == space.netns).map(|(peer, _)| *peer);
    let is_own = endpoint.peer.is_some_and(|peer| residents.clone().any(|resident| resident == peer));
    let resident = if is_own { endpoint.peer? } else { residents.next()? };
    let (name, base) = (config.names.name(resident), &endpoint.base);
    let why = if is_own {
        format!(
            "it is asked from {name}'s own network namespace, where {name} still answers itself while it is cut off: its \
             outage would not be seen"
        )
    } else {
        format!(
            "it is asked from the network namespace of {name}: while {name} is cut off, the cut is between the probe and the \
             endpoint"
        )
    };
    Some(format!(
        "{why}; write `netns` with a client's namespace, which is no peer's, at the endpoint {base}"
    ))
}

fn place(netns: Option<&Netns>) -> String {
    netns.map_or_else(|| "the daemon's own network namespace".to_owned(), |netns| format!("netns {netns}"))
}

fn moved(endpoint: &Endpoint, at: Option<&Netns>) -> String {
    let base = &endpoint.base;
    match at {
        Some(netns) => {
            format!("it answers from netns {netns}: write `netns: {netns}` at the endpoint {base}")
        }
        None => {
            format!("it answers from the daemon's own namespace: leave `netns` out at the endpoint {base}")
        }
    }
}

fn remedy(endpoint: &Endpoint, failure: &ProbeFailure) -> String {
    let from = place(endpoint.netns.as_ref());
    match failure.code {
        FailureCode::Connect if failure.text.contains("refused") => {
            "nothing listens at that address and port: start the service, or correct the port".to_owned()
        }
        FailureCode::Connect => format!(
            "{from} has no way to it: write `netns` with a namespace from which clients reach it, or add the route"
        ),
        FailureCode::Timeout => format!(
            "no answer reaches {from} in time: check that the peer is up and no firewall drops it, write `netns` with a namespace from which clients reach it, or raise `timeout`"
        ),
        FailureCode::Exchange => {
            "what listens there speaks another protocol: choose http, grpc or tcp as the service does"
                .to_owned()
        }
        FailureCode::Answer => {
            "it answers otherwise than `expect` says: wait until the service is healthy, or correct the probe"
                .to_owned()
        }
        FailureCode::Command => "check the probe's command, its path and its user".to_owned(),
        FailureCode::Unsent => {
            "check that the file system of the probe's command, and the directory of users, answer on this host"
                .to_owned()
        }
        _ => "correct the probe's settings in the config".to_owned(),
    }
}
