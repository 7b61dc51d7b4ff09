//! Makes our types of the parts of a request; each failure is a problem that names the field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::ProblemResponse;
use injector_core::api::{Code, Problem, partition_name};
use injector_core::object::ObjectOnly;

/// The largest body.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The longest time from the end of the head to the end of the body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The remedy where a body is not what the call takes.
const SEE_BODY: &str = "send the JSON that GET /v1/openapi.json describes for this call";

/// A partition's name from the path, as [`partition_name`] allows it.
pub(super) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(Code::BadParameter, error.body_text()).field("name"))?;
        partition_name(&name)?;
        Ok(Self(name))
    }
}

/// The query of a call that takes none: a mistyped parameter must not pass unseen.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// The query, unknown parameters refused.
pub(super) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let why = std::error::Error::source(&rejection)
                    .map_or_else(|| rejection.body_text(), ToString::to_string);
                // "generation: invalid digit": the field comes first where serde knows it.
                let field = why.split_once(": ").map(|(field, _)| field.to_owned());
                let mut problem = Problem::new(Code::BadParameter, format!("query: {why}"))
                    .remedy("see the call's parameters in GET /v1/openapi.json");
                problem.field = field.filter(|field| !field.contains(' '));
                Err(problem.into())
            }
        }
    }
}

/// The body as JSON, whatever its content type says (curl says "form" by default).
pub(super) struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        let bytes = read(request).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::new(Code::BadBody, "the body is empty").remedy(SEE_BODY).into());
        }
        Ok(Self(parse(&bytes)?))
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        let bytes = read(request).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            Ok(Self(T::default()))
        } else {
            Ok(Self(parse(&bytes)?))
        }
    }
}

fn too_large() -> Problem {
    Problem::new(Code::BodyTooLarge, format!("the body is larger than {BODY_LIMIT} bytes (1 MiB)"))
        .remedy("name groups by a preset in the config instead of listing every link")
}

async fn read(request: Request<Body>) -> Result<bytes::Bytes, Problem> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(Code::BadBody, format!("the body could not be read: {error}"))),
        Err(_) => Err(Problem::new(
            Code::BadBody,
            format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )
        .remedy("send as many bytes as Content-Length says")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let whole = ObjectOnly(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    let value = T::deserialize(whole).map_err(|error| {
        let path = track.path().to_string();
        // A place that the JSON ends before has no name.
        let is_named = path != "." && !path.contains('?');
        let remedy = if error.is_eof() { "send the JSON to its end: it is cut short here" } else { SEE_BODY };
        let problem = Problem::new(Code::BadBody, error.to_string()).remedy(remedy);
        if is_named { problem.field(path) } else { problem }
    })?;
    json.end()
        .map_err(|error| Problem::new(Code::BadBody, format!("after the JSON: {error}")).remedy(SEE_BODY))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::api::PartitionRequest;

    #[test]
    fn bad_json_names_place_and_field() {
        for (text, place, field) in [
            (r#"{"shape": "#, "line 1 column", Some("shape")),
            ("{\"shape\": {\"isolate\": [\"n1\"]},\n \"fro\": \"5s\"}", "line 2 column", Some("fro")),
            (r#"{"shape": {"isolate": [7]}}"#, "expected a string", Some("shape.isolate[0]")),
            (r#"{"shape": {"isolate": ["n1"]}, "for": "5"}"#, "250ms", Some("for")),
            (r#"{"shape": {"halves": {}}, "scopes": ["tcp", "gre"]}"#, "unknown protocol", Some("scopes[1]")),
            (r#"{"shape": {"halves": {}}, "verify": "passive"}"#, "`active`", Some("verify")),
            (r#"{"for": "5s"}"#, "missing field `shape`", None),
            (r#"{"shape": {"isolate": ["n1"]}} x"#, "after the JSON", None),
            ("{", "EOF while parsing an object", None),
            ("[]", "invalid type: sequence, expected a request, such as {\"shape\":", None),
            ("7", "invalid type: integer `7`, expected a request, such as", None),
            (r#"[{"isolate": ["n1"]}, "5s"]"#, "invalid type: sequence, expected a request", None),
            (r#"{"shape": {}}"#, "the shape is empty; write one, such as", Some("shape")),
            (r#"{"shape": "halves"}"#, "expected a shape, such as", Some("shape")),
            (
                r#"{"shape": {"halve": {}}}"#,
                "unknown shape `halve`, expected one of `isolate`",
                Some("shape"),
            ),
            (
                r#"{"shape": {"isolate": ["n1"], "halves": {}}}"#,
                "two shapes in one, isolate and halves; make a partition of each",
                Some("shape"),
            ),
            (
                r#"{"shape": {"grudge": {"n1": ["n2"], "n1": ["n3"]}}}"#,
                "\"n1\" is twice in the grudge; put all that it drops into one list",
                Some("shape.grudge"),
            ),
            (r#"{"shape": {"links": [["n1", "n2"]]}}"#, "expected a link", Some("shape.links[0]")),
            (r#"{"shape": {"halves": {}}, "trial": [0, 1]}"#, "expected a trial, such as", Some("trial")),
            (r#"{"shape": {"halves": {}}, "at": 7}"#, "expected a start, such as", Some("at")),
            (
                r#"{"shape": {"halves": {}}, "loss": "0%"}"#,
                "0% cuts nothing; write a share above 0%",
                Some("loss"),
            ),
            (
                r#"{"shape": {"halves": {}}, "flap": "1s/0%"}"#,
                "never drops; write a larger on-share",
                Some("flap"),
            ),
        ] {
            let problem = parse::<PartitionRequest>(text.as_bytes()).unwrap_err();
            assert_eq!(problem.code, Code::BadBody);
            assert!(problem.detail.contains(place), "{text}: {}", problem.detail);
            assert_eq!(problem.field.as_deref(), field, "{text}: {}", problem.detail);
            assert!(problem.remedy.is_some() && !problem.detail.contains("Flat"), "{text}: {problem:?}");
        }
    }
}
