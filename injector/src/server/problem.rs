//! Problems as HTTP answers: RFC 9457 documents.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use injector_core::api::{Code, Problem};

/// The media type of a problem document.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// A [`Problem`] with the two members that RFC 9457 adds for people.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProblemDocument")]
pub(super) struct Document<'a> {
    /// `urn:injector:problem:` and the code.
    #[serde(rename = "type")]
    type_: String,
    /// The code in words, the same for every problem of that code.
    title: &'static str,
    #[serde(flatten)]
    problem: &'a Problem,
}

impl<'a> Document<'a> {
    pub fn of(problem: &'a Problem) -> Self {
        let code = serde_json::to_value(problem.code).ok();
        let code = code.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        Self { type_: format!("urn:injector:problem:{code}"), title: title(problem.code), problem }
    }
}

fn title(code: Code) -> &'static str {
    match code {
        Code::BadHead => "The request's head is not HTTP/1.1",
        Code::HeadTooLarge => "The request's head is too large",
        Code::UriTooLong => "The request's target is too long",
        Code::BadBody => "The body is not the JSON that is expected",
        Code::BodyTooLarge => "The body is too large",
        Code::BadParameter => "A parameter is wrong",
        Code::BadShape => "The shape can't be built",
        Code::EmptyPartition => "The shape cuts no link",
        Code::UnknownPeer => "No such peer",
        Code::UnknownPreset => "No such preset",
        Code::UnknownRole => "No such role",
        Code::RoleUnresolved => "A role can't be resolved",
        Code::UnknownEndpoint => "No such endpoint",
        Code::BadTime => "A time is wrong",
        Code::NameTaken => "The name is taken",
        Code::RequestIdUsed => "The request id was used before",
        Code::NotCovered => "Not all paths of its links pass a hook",
        Code::OwnSsh => "It would cut an SSH connection to this host",
        Code::NotHere => "No link has an end here",
        Code::NoFreeSlot => "No free slot",
        Code::UnknownPartition => "No such partition",
        Code::WrongState => "Not in this state",
        Code::NoSuchCall => "No such call",
        Code::WrongMethod => "Not with this method",
        Code::TooBusy => "Too busy",
        Code::NotPermitted => "Not permitted",
        Code::DataPlane => "The data plane refused",
        Code::Stopping => "The daemon is stopping",
        Code::NoAnswer => "The daemon did not answer in time",
    }
}

/// A problem as an HTTP response: `application/problem+json`, with the problem's own status.
#[derive(Debug)]
pub struct ProblemResponse(pub Problem);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut text = serde_json::to_string(&Document::of(&problem))
            .expect("a problem is strings and numbers, which JSON can hold");
        text.push('\n');
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}
