//! `GET /v1/openapi.json`: the contract, generated from the routes' table and the types.

use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::problem::{Document, PROBLEM_JSON};
use super::route::{ResponseKind, Route};
use injector_core::api::{Code, Event};

/// The problems that every call may be answered with.
const OF_EVERY_CALL: [Code; 9] = [
    Code::BadHead,
    Code::BadParameter,
    Code::NotPermitted,
    Code::UriTooLong,
    Code::TooBusy,
    Code::HeadTooLarge,
    Code::DataPlane,
    Code::Stopping,
    Code::NoAnswer,
];
/// And those of every call that takes a body.
const OF_BODIES: [Code; 2] = [Code::BadBody, Code::BodyTooLarge];

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
    let mut document = json!({
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
    });
    bound(&mut document);
    document
}

/// Says of each unsigned integer what its format means: few readers of a schema know formats, and more is refused.
fn bound(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(members) => {
            let most = match members.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(u8::MAX.into()),
                Some("uint16") => Some(u16::MAX.into()),
                Some("uint32") => Some(u32::MAX.into()),
                Some("uint64") => Some(u64::MAX),
                _ => None,
            };
            if let Some(most) = most {
                members.entry("maximum").or_insert_with(|| json!(most));
            }
            members.values_mut().for_each(bound);
        }
        _ => {}
    }
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
        ResponseKind::Json(schema) => ("application/json", schema(generator).to_value()),
        ResponseKind::Events => (super::events::NDJSON, generator.subschema_for::<Event>().to_value()),
        ResponseKind::Metrics => (super::metrics::PROMETHEUS, json!({ "type": "string" })),
        ResponseKind::Document => ("application/json", json!({ "type": "object" })),
    };
    let described = match route.answer {
        ResponseKind::Events => "a stream of events, one JSON object a line; the schema is that of a line",
        _ => "done",
    };
    let mut responses = problems(route, problem);
    responses.insert(
        "200".to_owned(),
        json!({ "description": described, "content": { media: { "schema": schema } } }),
    );
    let mut operation = json!({ "summary": route.summary, "parameters": parameters, "responses": responses });
    if let Some(body) = route.body {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": body(generator) } } });
    }
    operation
}

/// The problems of a call, by status: each has one of the codes of its status.
fn problems(route: &Route, problem: &schemars::Schema) -> Map<String, Value> {
    let of_body = route.body.map_or(&[][..], |_| &OF_BODIES);
    let mut by_status: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for code in OF_EVERY_CALL.iter().chain(of_body).chain(route.codes) {
        by_status.entry(code.status()).or_default().push(json!(code));
    }
    let response = |(status, codes): (u16, Vec<Value>)| {
        let narrowed = json!({ "properties": { "status": { "const": status }, "code": { "enum": codes } } });
        let schema = json!({ "allOf": [problem, narrowed] });
        let words: Vec<&str> = codes.iter().filter_map(Value::as_str).collect();
        let description = format!("a problem: {}", words.join(", "));
        let content = json!({ PROBLEM_JSON: { "schema": schema } });
        (status.to_string(), json!({ "description": description, "content": content }))
    };
    by_status.into_iter().map(response).collect()
}
