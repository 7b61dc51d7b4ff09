//! What the table of calls says of one call.

use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::Schema;
use schemars::generate::SchemaGenerator;

use super::command::Handle;

pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a call answers.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Json(SchemaOf),
    /// A stream of events.
    Events,
    /// Prometheus text.
    Metrics,
    /// This table as a document.
    Document,
}

/// One call.
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    pub query: SchemaOf,
    pub body: Option<SchemaOf>,
    pub answer: Answer,
    pub handler: fn() -> MethodRouter<Handle>,
}
