//! Every call of the API, in one table: it makes the router and the `OpenAPI` document.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::answer::Budget;
use super::ask::{ANSWER_TIMEOUT, ask, ask_at_once};
use super::conduct::Conduct;
use super::events::Until;
use super::extract::{Json, Name, NoQuery, OptionalJson, Params};
use super::probes::{ProbesQuery, probes};
use super::problem::ProblemResponse;
use super::route::{ResponseKind, Route};
use super::{events, metrics, openapi};
use crate::server::command::{Command, Handle, Origin, PutMode};
use injector_core::api::{
    Code, EnableRequest, EndpointAnswer, Event, HealAnswer, Healed, MarkRequest, Owner, PartitionRequest,
    PartitionView, ProbeView, Problem, RecoveryRecord, Status,
};
use injector_core::clock::Span;

/// Probing every endpoint once takes as long as the slowest timeout.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest `wait` of a long poll.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// The longest text of a mark.
const LONGEST_MARK: usize = 1024;

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Queries are listed as parameters, so that their schema stays out of the components.
fn query<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

macro_rules! route {
    ($method:ident $path:literal, $summary:literal, $query:ty, $body:expr, $answer:expr, $codes:expr, $handler:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            summary: $summary,
            query: query::<$query>,
            body: $body,
            answer: $answer,
            codes: $codes,
            handler: || $handler,
        }
    };
}

/// The problems of calls that name a partition.
const KNOWN: &[Code] = &[Code::UnknownPartition];
/// The problems of a heal.
const HEAL: &[Code] = &[Code::UnknownPartition, Code::WrongState];
/// The problems of enabling what was prepared.
const ENABLE: &[Code] = &[Code::UnknownPartition, Code::WrongState, Code::BadTime, Code::OwnSsh];
/// The problems of a cut.
const CUT: &[Code] = &[
    Code::BadShape,
    Code::EmptyPartition,
    Code::UnknownPeer,
    Code::UnknownPreset,
    Code::UnknownRole,
    Code::UnknownEndpoint,
    Code::NotHere,
    Code::BadTime,
    Code::NameTaken,
    Code::RequestIdUsed,
    Code::WrongState,
    Code::NotCovered,
    Code::OwnSsh,
    Code::NoFreeSlot,
    Code::RoleUnresolved,
];

pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/status", "The daemon, its attachments, peers, partitions and endpoints",
        NoQuery, None, ResponseKind::Json(schema::<Status>), &[], get(status)),
    route!(GET "/v1/partitions", "All partitions that are not closed, and the closed ones still kept",
        NoQuery, None, ResponseKind::Json(schema::<Vec<PartitionView>>), &[], get(partitions)),
    route!(DELETE "/v1/partitions", "Heal every partition",
        NoQuery, None, ResponseKind::Json(schema::<HealAnswer<Vec<Healed>>>), &[], delete(heal_all)),
    route!(GET "/v1/partitions/{name}", "The newest partition of that name, with its drops per link",
        PartitionQuery, None, ResponseKind::Json(schema::<PartitionView>), KNOWN, get(partition)),
    route!(PUT "/v1/partitions/{name}", "Cut; the same body under a live name is answered again",
        ApplyQuery, Some(schema::<PartitionRequest>), ResponseKind::Json(schema::<PartitionView>), CUT, put(apply)),
    route!(DELETE "/v1/partitions/{name}", "Heal; answered also when it had ended",
        NoQuery, None, ResponseKind::Json(schema::<HealAnswer<Healed>>), HEAL, delete(heal)),
    route!(POST "/v1/partitions/{name}/prepare", "Take a slot and write the links without cutting",
        NoQuery, Some(schema::<PartitionRequest>), ResponseKind::Json(schema::<PartitionView>), CUT, post(prepare)),
    route!(POST "/v1/partitions/{name}/enable", "Cut what was prepared",
        NoQuery, Some(schema::<EnableRequest>), ResponseKind::Json(schema::<PartitionView>), ENABLE, post(enable)),
    route!(GET "/v1/partitions/{name}/recovery", "The recovery record, held back until it is final or `wait` is over",
        RecoveryQuery, None, ResponseKind::Json(schema::<RecoveryRecord>), KNOWN, get(recovery)),
    route!(GET "/v1/partitions/{name}/probes", "Every probe of the record, in scheduled order",
        ProbesQuery, None, ResponseKind::Json(schema::<Vec<ProbeView>>), KNOWN, get(probes)),
    route!(POST "/v1/probes", "Run every endpoint once",
        NoQuery, None, ResponseKind::Json(schema::<Vec<EndpointAnswer>>), &[], post(probe_once)),
    route!(POST "/v1/marks", "Put a mark on the timeline",
        NoQuery, Some(schema::<MarkRequest>), ResponseKind::Json(schema::<Event>), &[], post(mark)),
    route!(GET "/v1/events", "The timeline, one JSON event a line",
        EventsQuery, None, ResponseKind::Events, &[], get(stream)),
    route!(GET "/metrics", "Prometheus metrics",
        NoQuery, None, ResponseKind::Metrics, &[], get(prometheus)),
    route!(GET "/v1/openapi.json", "This document",
        NoQuery, None, ResponseKind::Document, &[], get(contract)),
];

/// The table, for a call that is in it.
fn all() -> &'static [Route] {
    ROUTES
}

/// The router over [`ROUTES`]; what it does not know is a problem too.
pub(super) fn router(handle: Handle) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    router.method_not_allowed_fallback(wrong_method).fallback(no_such_call).with_state(handle)
}

async fn wrong_method(method: Method, uri: axum::http::Uri) -> ProblemResponse {
    not_with(&method, uri.path()).into()
}

/// The problem of a path that is there, with a method that it does not know.
pub(super) fn not_with(method: &Method, path: &str) -> Problem {
    Problem::new(Code::WrongMethod, format!("{path} does not know {method}"))
        .remedy("the Allow header lists what it knows")
}

async fn no_such_call(method: Method, uri: axum::http::Uri) -> ProblemResponse {
    Problem::new(Code::NoSuchCall, format!("there is no {method} {}", uri.path()))
        .remedy("GET /v1/openapi.json lists every call")
        .into()
}

fn content(media: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

async fn status(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    budget.json(&ask(&handle, &budget, ANSWER_TIMEOUT, Command::Status).await?)
}

async fn partitions(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    let _turn = budget.turn_for_list().await?;
    budget.json_aside(ask(&handle, &budget, ANSWER_TIMEOUT, Command::Partitions).await?).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PartitionQuery {
    /// List up to 1,000 links from the one of this number on, counted from 0; without it all are listed, or, of more than
    /// 1,000, none.
    links_from: Option<u32>,
}

async fn partition(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Name(name): Name,
    Params(query): Params<PartitionQuery>,
) -> Result<Response, ProblemResponse> {
    let from = query.links_from.map(|from| from as usize);
    let command = |reply| Command::Partition { name, from, reply };
    budget.json(&ask(&handle, &budget, ANSWER_TIMEOUT, command).await??)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    /// Answer the links that would be cut, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// List up to 1,000 links from the one of this number on, counted from 0; without it all are listed, or, of more than
    /// 1,000, none.
    links_from: Option<u32>,
}

async fn apply(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Extension(whose): Extension<Origin>,
    Extension(conduct): Extension<Conduct>,
    Name(name): Name,
    Params(query): Params<ApplyQuery>,
    Json(request): Json<PartitionRequest>,
) -> Result<Response, ProblemResponse> {
    let step = if query.dry_run { PutMode::DryRun } else { PutMode::Apply };
    let from = query.links_from.map(|from| from as usize);
    reserve(&handle, &budget, whose, &conduct, name, request, (step, from)).await
}

async fn prepare(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Extension(whose): Extension<Origin>,
    Extension(conduct): Extension<Conduct>,
    Name(name): Name,
    _: Params<NoQuery>,
    Json(request): Json<PartitionRequest>,
) -> Result<Response, ProblemResponse> {
    reserve(&handle, &budget, whose, &conduct, name, request, (PutMode::Prepare, None)).await
}

async fn reserve(
    handle: &Handle,
    budget: &Budget,
    whose: Origin,
    conduct: &Conduct,
    name: String,
    request: PartitionRequest,
    (step, from): (PutMode, Option<usize>),
) -> Result<Response, ProblemResponse> {
    if conduct.is_gone() {
        return Err(no_reply().into());
    }
    if request.owner == Owner::Connection && step != PutMode::DryRun {
        conduct.owns_a_partition();
    }
    let request = Box::new(request);
    let client = conduct.clone();
    let is_gone = Box::new(move || client.is_gone());
    let command = |reply| Command::Apply { name, request, step, from, whose, is_gone, reply };
    let view = ask(handle, budget, ANSWER_TIMEOUT, command);
    reported(budget, view.await??)
}

/// The answer to what took effect: it is given also where there is no room for a list of its links.
fn reported(budget: &Budget, view: PartitionView) -> Result<Response, ProblemResponse> {
    budget.json(&view).or_else(|_| {
        budget.json(&PartitionView { links: None, coverage: None, not_here: None, not_healthy: None, ..view })
    })
}

async fn enable(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Extension(whose): Extension<Origin>,
    Extension(conduct): Extension<Conduct>,
    Name(name): Name,
    _: Params<NoQuery>,
    OptionalJson(request): OptionalJson<EnableRequest>,
) -> Result<Response, ProblemResponse> {
    if conduct.is_gone() {
        return Err(no_reply().into());
    }
    if request.owner == Some(Owner::Connection) {
        conduct.owns_a_partition();
    }
    let client = conduct.clone();
    let is_gone = Box::new(move || client.is_gone());
    let command = |reply| Command::Enable { name, request, whose, is_gone, reply };
    reported(&budget, ask(&handle, &budget, ANSWER_TIMEOUT, command).await??)
}

/// The client closed the connection after its request: nobody would know what was cut. Nobody reads this either.
fn no_reply() -> Problem {
    Problem::new(Code::BadBody, "the client is gone")
}

async fn heal(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Name(name): Name,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    let healed = ask_at_once(&handle, ANSWER_TIMEOUT, |reply| Command::Heal { name, reply }).await??;
    budget.json(&HealAnswer { healed })
}

async fn heal_all(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    let healed = ask_at_once(&handle, ANSWER_TIMEOUT, Command::HealAll).await??;
    budget.json(&HealAnswer { healed })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RecoveryQuery {
    /// How long to hold the answer back while the record is not final, at most 10m; default 0s.
    #[serde(default)]
    wait: Span,
    /// Which partition of that name; default the newest.
    generation: Option<u32>,
}

async fn recovery(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Name(name): Name,
    Params(query): Params<RecoveryQuery>,
) -> Result<Response, ProblemResponse> {
    let (wait, generation) = (query.wait.0, query.generation);
    if wait > LONGEST_WAIT {
        return Err(Problem::new(Code::BadParameter, format!("wait={} is over 10m", query.wait))
            .field("wait")
            .remedy("ask again while the answer says \"final\": false")
            .into());
    }
    let command = |reply| Command::Recovery { name, generation, wait, reply };
    // It may wait for readings after the heal, and does not take its user's turn of other commands.
    let record = ask_at_once(&handle, wait + ANSWER_TIMEOUT, command).await??;
    let _turn = budget.turn_for_list().await?;
    budget.json_aside(record).await
}

async fn probe_once(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    let turn = budget.turn_for_round().await?;
    // A client that goes away does not end the round, nor give up its turn.
    let round = tokio::spawn(async move {
        let answer = ask_at_once(&handle, PROBE_TIMEOUT, Command::ProbeOnce).await;
        drop(turn);
        answer
    });
    budget.json(&round.await.map_err(|_| Problem::new(Code::Stopping, "the daemon is stopping"))??)
}

async fn mark(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
    Json(MarkRequest { text }): Json<MarkRequest>,
) -> Result<Response, ProblemResponse> {
    if text.is_empty() || text.len() > LONGEST_MARK {
        return Err(Problem::new(
            Code::BadParameter,
            format!("a mark has 1 to {LONGEST_MARK} bytes of text"),
        )
        .field("text")
        .into());
    }
    budget.json(&ask(&handle, &budget, ANSWER_TIMEOUT, |reply| Command::Mark { text, reply }).await?)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only events with a larger id; default 0.
    #[serde(default)]
    since: u64,
    /// Whether to continue with what comes; default true.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

async fn stream(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    Params(EventsQuery { since, follow }): Params<EventsQuery>,
) -> Result<Response, ProblemResponse> {
    let first = ask(&handle, &budget, ANSWER_TIMEOUT, |reply| Command::Events { since, reply }).await?;
    // An answer that has begun can't become a problem: a reader waits for the rest for as long as the daemon is busy.
    let read = move |since| {
        let (handle, budget) = (handle.clone(), budget.clone());
        async move { ask(&handle, &budget, Duration::MAX, |reply| Command::Events { since, reply }).await }
    };
    let until = if follow { Until::TheEnd } else { Until::Now };
    Ok(content(events::NDJSON, events::lines(first, since, until, read)))
}

async fn prometheus(
    State(handle): State<Handle>,
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    let reading = ask(&handle, &budget, ANSWER_TIMEOUT, Command::Metrics).await?;
    budget.made_aside(metrics::PROMETHEUS, move || metrics::render(&reading).into_bytes()).await
}

async fn contract(
    Extension(budget): Extension<Budget>,
    _: Params<NoQuery>,
) -> Result<Response, ProblemResponse> {
    budget.json(&openapi::document(all()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(target) if key == "$ref" => found.push(target.clone()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves_and_every_route_is_there() {
        let document = openapi::document(ROUTES);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').expect("references stay inside the document");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for route in ROUTES {
            let method = route.method.as_str().to_lowercase();
            assert!(document["paths"][route.path][&method].is_object(), "{method} {}", route.path);
        }
        let request = &document["components"]["schemas"]["PartitionRequest"]["properties"];
        assert!(request["for"].is_object() && request["shape"].is_object());
        let recovery = &document["paths"]["/v1/partitions/{name}/recovery"]["get"]["parameters"];
        let names: Vec<_> = recovery.as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
        assert_eq!(names, ["name", "generation", "wait"]);
    }
}
