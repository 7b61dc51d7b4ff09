//! `GET …/probes`: the probes of a record, of which there may be half a million, as one JSON array that is made while it is read.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Budget;
use super::ask::{ANSWER_TIMEOUT, ask};
use super::extract::{Name, Params};
use super::problem::ProblemResponse;
use crate::server::command::{Command, Handle, ProbeKey, ProbeList, ProbesPart};
use injector_core::api::{Code, ProbeView, Problem};
use injector_core::sample::EndpointId;

/// How many times as long as a list of probes took the next one waits.
const PAUSE_AFTER_PROBES: u32 = 4;
/// How many probes are in memory for one reader at a time.
const PAGE: usize = 256;
/// The bytes of a probe that an answer keeps from being freed, about.
const KEPT_BYTES: usize = 160;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbesQuery {
    /// Which partition of that name; default the newest.
    generation: Option<u32>,
}

/// A list, as far as it has not been read.
struct Rest {
    list: ProbeList,
    read: usize,
    handle: Handle,
    budget: Budget,
}

pub(super) async fn probes(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Name(name): Name,
    Params(ProbesQuery { generation }): Params<ProbesQuery>,
) -> Result<Response, ProblemResponse> {
    let turn = budget.turn_for_probes().await?;
    let asked = Instant::now();
    let command = |reply| Command::Probes { name, generation, reply };
    let list = ask(&handle, &budget, ANSWER_TIMEOUT, command).await??;
    let took = asked.elapsed();
    let list = in_order(list).await?;
    // The daemon's task lists the probes of an open partition: it has time for others before the next list.
    tokio::spawn(async move {
        tokio::time::sleep(took * PAUSE_AFTER_PROBES).await;
        drop(turn);
    });
    let mut rest = Rest { list, read: 0, handle, budget: budget.clone() };
    if rest.len() <= PAGE {
        return budget.json(&rest.next().await?);
    }
    let body = budget.made_when_read(rest.kept(), pieces(rest))?;
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Sorts what is not in order, on another thread.
async fn in_order(list: ProbeList) -> Result<ProbeList, Problem> {
    let ProbeList::Open { generation, config_number, first, mut keys } = list else { return Ok(list) };
    let sort = move || {
        keys.sort_by_key(|key| key.scheduled);
        keys
    };
    let sorted = tokio::task::spawn_blocking(sort).await;
    let keys = sorted.map_err(|_| Problem::new(Code::Stopping, "the daemon is stopping"))?;
    Ok(ProbeList::Open { generation, config_number, first, keys })
}

impl Rest {
    /// How many probes the whole list has.
    fn len(&self) -> usize {
        match &self.list {
            ProbeList::Closed(probes) => probes.len(),
            ProbeList::Open { keys, .. } => keys.len(),
        }
    }

    /// How many bytes are kept until it is read.
    fn kept(&self) -> usize {
        match &self.list {
            ProbeList::Closed(probes) => probes.len() * KEPT_BYTES,
            ProbeList::Open { keys, .. } => keys.len() * size_of::<ProbeKey>(),
        }
    }

    /// The next probes; none at the end.
    async fn next(&mut self) -> Result<Vec<ProbeView>, Problem> {
        let part = self.read..self.len().min(self.read + PAGE);
        self.read = part.end;
        match &self.list {
            _ if part.is_empty() => Ok(Vec::new()),
            ProbeList::Closed(probes) => Ok(Arc::clone(probes)[part].to_vec()),
            ProbeList::Open { generation, config_number, first, keys } => {
                let wanted = keys[part].iter().map(|key| {
                    let endpoint = key.endpoint as usize;
                    (EndpointId(endpoint), first[endpoint] + u64::from(key.number), key.scheduled)
                });
                let (generation, config_number) = (*generation, *config_number);
                let part = ProbesPart { generation, config_number, wanted: wanted.collect() };
                let command = |reply| Command::ProbesPart { part, reply };
                ask(&self.handle, &self.budget, ANSWER_TIMEOUT, command).await?
            }
        }
    }
}

/// The list as JSON, page by page.
fn pieces(rest: Rest) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
    stream::try_unfold(Some(rest), |rest| async move {
        let Some(mut rest) = rest else { return Ok(None) };
        let is_first = rest.read == 0;
        let probes = rest.next().await?;
        if probes.is_empty() {
            return Ok(Some((Bytes::from_static(b"]\n"), None)));
        }
        let mut json = serde_json::to_vec(&probes)
            .map_err(|error| Problem::new(Code::DataPlane, format!("the answer is not JSON: {error}")))?;
        // One array of all pages: each begins by what separates it from the one before, and none but the last one ends it.
        json.pop();
        json[0] = if is_first { b'[' } else { b',' };
        Ok(Some((Bytes::from(json), Some(rest))))
    })
}
