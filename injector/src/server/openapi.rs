//! `GET /v1/openapi.json`: the contract, generated from the routes' table and the types.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::problem::{Document, PROBLEM_JSON};
use super::route::{Answer, Route};
use injector_core::api::Event;

/// An `OpenAPI` 3.1 document (whose schemas are JSON Schema 2020-12, as schemars writes it).
pub(super) fn document(routes: &[Route]) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Document<'static>>();
    let mut paths = Map::new();
    for route in routes {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_lowercase()] = operation(route, &problem, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Partition injector",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 and JSON on the daemon's Unix socket. Instants ending in _ns are CLOCK_MONOTONIC \
                nanoseconds of the daemon's host; wall is nanoseconds since the Unix epoch. Missing data is null.",
        },
        "servers": [{ "url": "http://injector" }],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn operation(route: &Route, problem: &schemars::Schema, generator: &mut SchemaGenerator) -> Value {
    let mut parameters = Vec::new();
    if route.path.contains("{name}") {
        parameters.push(json!({
            "name": "name", "in": "path", "required": true,
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" },
        }));
    }
    let query = (route.query)(generator).to_value();
    for (name, schema) in query["properties"].as_object().into_iter().flatten() {
        let description = schema["description"].clone();
        parameters.push(json!({
            "name": name, "in": "query", "required": false, "description": description, "schema": schema,
        }));
    }
    let (media, schema) = match route.answer {
        Answer::Json(schema) => ("application/json", schema(generator).to_value()),
        Answer::Events => (super::events::NDJSON, generator.subschema_for::<Event>().to_value()),
        Answer::Metrics => (super::metrics::PROMETHEUS, json!({ "type": "string" })),
        Answer::Document => ("application/json", json!({ "type": "object" })),
    };
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "done", "content": { media: { "schema": schema } } },
            "default": { "description": "a problem", "content": { PROBLEM_JSON: { "schema": problem } } },
        },
    });
    if let Some(body) = route.body {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": body(generator) } } });
    }
    operation
}
