//! An entry of the table of calls.

use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::Schema;
use schemars::generate::SchemaGenerator;

use super::command::Handle;
use injector_core::api::Code;

pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The kind of answer of a call.
#[derive(Clone, Copy)]
pub(super) enum ResponseKind {
    Json(SchemaOf),
    /// A stream of events.
    Events,
    /// Prometheus text.
    Metrics,
    /// This table as a document.
    Document,
}

/// A call of the API.
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    pub query: SchemaOf,
    pub body: Option<SchemaOf>,
    pub answer: ResponseKind,
    /// The problems of this call beside those of every call.
    pub codes: &'static [Code],
    pub handler: fn() -> MethodRouter<Handle>,
}
