//! `http:` of a probe or a role: the request and the expected answer.

use std::collections::BTreeMap;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;

use super::host::{URL_USAGE, check_url, no_number, unix};
use super::kind::{Kind, Settings, Stimulus};
use super::texts::{self, ScalarKey, Texts, scalar, secret};
use super::tls::{self, TlsKeys};
use crate::config::probe::{HttpExpect, HttpRequest, JsonValue, Status, Statuses, Tls};
use crate::config::read::{Fields, Node};
use crate::config::secret::{Sent, Text};

/// An HTTP/1.1 request, and which answers are successes.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The request.
    pub request: HttpRequest,
    /// The answers that are successes.
    pub expect: HttpExpect,
}

/// An HTTP request.
#[derive(JsonSchema)]
#[schemars(rename = "Http", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
pub(in crate::config) struct HttpKeys {
    /// Where to, as in `http://{address}:8080/`; the scheme is `http` or `https`.
    url: String,
    /// The method; GET by default.
    method: Option<String>,
    /// Headers: names and texts.
    headers: Option<BTreeMap<String, String>>,
    /// The body, a text.
    body: Option<String>,
    /// The Unix socket to connect to: an absolute path.
    unix: Option<String>,
    /// Whom an `https` URL's server is trusted by; what this host trusts by default.
    tls: Option<TlsKeys>,
    /// What a success is; any 2xx by default.
    expect: Option<ExpectKeys>,
}

/// What a success is.
#[derive(JsonSchema)]
#[schemars(rename = "Expect", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
struct ExpectKeys {
    /// The status, or several.
    status: Option<StatusesKey>,
    /// A text in the body.
    body_contains: Option<String>,
    /// A value in a body of JSON.
    json: Option<JsonValueKeys>,
}

/// One status or several.
#[derive(JsonSchema)]
#[schemars(rename = "Statuses", untagged)]
#[expect(dead_code, reason = "the variants are read by the derive macro alone")]
enum StatusesKey {
    /// One.
    One(StatusKey),
    /// Several.
    Several(#[schemars(length(min = 1))] Vec<StatusKey>),
}

/// A status, or a class of them.
#[derive(JsonSchema)]
#[schemars(rename = "Status", untagged)]
#[expect(dead_code, reason = "the variants are read by the derive macro alone")]
enum StatusKey {
    /// A status.
    Number(#[schemars(range(min = 200, max = 599))] u16),
    /// A class.
    Class(StatusClassKey),
}

/// A class of statuses.
#[derive(JsonSchema)]
#[schemars(rename = "StatusClass")]
#[expect(dead_code, reason = "the variants are read by the derive macro alone")]
enum StatusClassKey {
    /// 200 to 299.
    #[serde(rename = "2xx")]
    Success,
    /// 300 to 399.
    #[serde(rename = "3xx")]
    Redirection,
    /// 400 to 499.
    #[serde(rename = "4xx")]
    ClientError,
    /// 500 to 599.
    #[serde(rename = "5xx")]
    ServerError,
}

/// A value in JSON.
#[derive(JsonSchema)]
#[schemars(rename = "JsonValue", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
struct JsonValueKeys {
    /// Where: a JSON pointer.
    pointer: String,
    /// The value of a success.
    equals: ScalarKey,
}

impl Kind for HttpProbe {
    type Keys = HttpKeys;
    const SUCCESS: &'static str = "the complete answer with an expected status, text and value";
    const SHARES_CONNECTIONS: bool = true;

    fn read(node: &Node<'_>, texts: &Texts<'_>) -> Option<Self> {
        let table = node.table("write it as: { url: \"http://{address}:8080/\" }")?;
        let request = request(&table, texts);
        let method = request.as_ref().map_or("GET", |request| &request.method);
        let expect = table.get("expect").map(|node| expect(&node, method)).unwrap_or_default();
        table.finish();
        Some(Self { request: request?, expect })
    }

    fn describe<'a>(&'a self, stimulus: &mut Stimulus<'a>) {
        let HttpRequest { url, method, headers, body, unix, tls } = &self.request;
        let url = url.written();
        if let Some((shown, query)) = url.split_once('?') {
            stimulus.hide([query]);
            stimulus.say(format_args!("http {method} {shown}?…"));
        } else {
            stimulus.say(format_args!("http {method} {url}"));
        }
        for (name, value) in headers {
            stimulus.hide([value.written()]);
            stimulus.say(format_args!(", {name}: …"));
        }
        if let Some(body) = body {
            stimulus.hide([body.written()]);
            stimulus.say(format_args!(", sends a body"));
        }
        if let Some(path) = unix {
            stimulus.say(format_args!(", by unix:{path}"));
        }
        stimulus.say_tls(tls.as_ref());
        stimulus.say(format_args!(", expects {}", self.expect.status));
        if let Some(part) = &self.expect.body_contains {
            stimulus.say(format_args!(" with {:?}", part.written()));
        }
        if let Some(json) = &self.expect.json {
            stimulus.say(format_args!(", {:?} is {:?}", json.pointer, json.equals));
        }
    }

    fn settings(&self, settings: &mut Settings) {
        let HttpRequest { url, method, headers, body, unix, tls } = &self.request;
        let url = url.written();
        let (shown, query) = url.split_once('?').map_or((url, None), |(shown, query)| (shown, Some(query)));
        settings.set("url", shown);
        if let Some(query) = query {
            settings.hide("query", [query]);
        }
        settings.set("method", method);
        for (name, value) in headers {
            settings.hide(&format!("headers.{}", name.to_ascii_lowercase()), [value.written()]);
        }
        if let Some(body) = body {
            settings.hide("body", [body.written()]);
        }
        if let Some(path) = unix {
            settings.set("unix", path);
        }
        settings.set_tls(tls.as_ref());
        settings.set("expect.status", self.expect.status.canonical());
        if let Some(part) = &self.expect.body_contains {
            settings.set("expect.body_contains", part.written());
        }
        if let Some(json) = &self.expect.json {
            settings.set(&format!("expect.json {}", json.pointer), &json.equals);
        }
    }

    fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        let contains = self.expect.body_contains.as_mut().map(|text| (Sent::Elsewhere, text));
        self.request.texts().chain(contains).collect()
    }

    fn authority(&self) -> Option<&str> {
        self.request.unix.is_none().then(|| self.request.authority())
    }

    fn tls(&self) -> Option<&Tls> {
        self.request.tls.as_ref()
    }

    fn tls_mut(&mut self) -> Option<&mut Tls> {
        self.request.tls.as_mut()
    }
}

/// Reads the parts of an HTTP request from the keys of a table; `None` if one is wrong, which is reported.
pub(in crate::config) fn request(table: &Fields<'_>, texts: &Texts<'_>) -> Option<HttpRequest> {
    let url = table.require("url", URL_USAGE).and_then(|node| {
        let url = texts.read(&node, URL_USAGE)?;
        // A source that can't be read would make a URL that is wrong as well: one fault is enough.
        let text = secret(&node, url)?;
        let host = url.split_once("://").map_or("", |(_, rest)| rest);
        let host = host.split(['/', '?', '#']).next().unwrap_or_default();
        if Text::read(host).is_ok_and(|host| host.has_secret()) {
            node.error("the host has a secret, and hosts are shown", "write the host out");
        } else {
            texts.each(&node, &text.fill(str::to_owned), check_url, URL_USAGE);
            no_number(&node, host, URL_USAGE);
        }
        Some(text)
    });
    let mut method = "GET".to_owned();
    if let Some(node) = table.get("method")
        && let Some(text) = node.text("write the method, such as POST")
    {
        let known = Method::from_bytes(text.as_bytes()).is_ok_and(|method| method != Method::CONNECT);
        if !known || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let what = format!("\"{text}\" is not a method of a request");
            node.error(what, "write it in capitals, such as GET or POST");
        }
        text.clone_into(&mut method);
    }
    let headers = table.get("headers").map(|node| headers(&node, texts)).unwrap_or_default();
    let body = table
        .get("body")
        .and_then(|node| secret(&node, texts.read(&node, "write the body as a text, in quotes")?));
    let unix = unix(table, texts);
    let tls_node = table.get("tls");
    let given = tls_node.as_ref().map(tls::read);
    let url = url?;
    let is_https = url.written().starts_with("https://");
    if let (Some(node), false) = (&tls_node, is_https) {
        node.key_error(
            "the URL does not begin with https://, so that nothing is encrypted",
            "write https:// in the URL",
        );
    }
    let tls = is_https.then(|| given.unwrap_or_else(|| Some(tls::default())));
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(HttpRequest { url, method, headers, body, unix, tls })
}

fn expect(node: &Node<'_>, method: &str) -> HttpExpect {
    let usage = "write it as: { status: [200, 204], body_contains: \"ok\" }";
    let Some(table) = node.table(usage) else { return HttpExpect::default() };
    let status = table.get("status").and_then(|node| statuses(&node)).unwrap_or_default();
    let contains = table.get("body_contains");
    let body_contains = contains
        .as_ref()
        .and_then(|node| secret(node, node.some_text("write what a success's body contains, in quotes")?));
    let json_node = table.get("json");
    let json = json_node.as_ref().and_then(json);
    for (key, node) in [("body_contains", &contains), ("json", &json_node)] {
        let Some(node) = node else { continue };
        let answer = match method {
            "HEAD" => "to HEAD".to_owned(),
            _ if status.have_no_body() => format!("of status {status}"),
            _ => continue,
        };
        node.error(
            format!("an answer {answer} has no body, so that no probe could succeed"),
            format!("leave {key} out, or expect another answer"),
        );
    }
    table.finish();
    HttpExpect { status, body_contains, json }
}

const STATUS_USAGE: &str = "write a number from 200 to 599, a class such as 2xx, or a list of them";

fn statuses(node: &Node<'_>) -> Option<Statuses> {
    if !node.value().is_sequence() {
        return Some(Statuses(vec![status(node)?]));
    }
    let items = node.items(STATUS_USAGE);
    if items.is_empty() {
        node.error("the list of statuses is empty, so that no probe could succeed", STATUS_USAGE);
    }
    let mut statuses: Vec<Status> = Vec::new();
    for node in items {
        let Some(status) = status(&node) else { continue };
        if statuses.contains(&status) {
            node.error("this status is given twice", "keep one of the two");
        } else {
            statuses.push(status);
        }
    }
    (!statuses.is_empty()).then_some(Statuses(statuses))
}

fn status(node: &Node<'_>) -> Option<Status> {
    let Some(text) = node.value().as_str() else {
        return node.number(200, 599).map(|status| Status::One(status as u16));
    };
    let class = ["2xx", "3xx", "4xx", "5xx"].iter().zip(2..).find(|(class, _)| **class == text);
    if class.is_none() {
        node.error(format!("\"{text}\" is not a status"), STATUS_USAGE);
    }
    class.map(|(_, class)| Status::Class(class))
}

fn json(node: &Node<'_>) -> Option<JsonValue> {
    let table = node.table("write it as: { pointer: /status, equals: ok }")?;
    let pointer = table.require("pointer", "write a JSON pointer, as in: pointer: /status");
    let pointer = pointer.and_then(|node| texts::pointer(&node));
    let equals = table.require("equals", "write the value of a success, as in: equals: ok");
    let equals = equals.and_then(|node| scalar(&node, "write the value of a success"));
    table.finish();
    Some(JsonValue { pointer: pointer?, equals: equals? })
}

fn headers(node: &Node<'_>, texts: &Texts<'_>) -> BTreeMap<String, Text> {
    let mut headers = BTreeMap::new();
    for (name, node) in node.entries("write it as: { content-type: application/json }") {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            node.key_error(format!("\"{name}\" can't be the name of a header"), "write it as content-type");
        }
        let Some(value) = texts.read(&node, "write the header's value as a text, in quotes") else {
            continue;
        };
        if HeaderValue::from_str(value).is_err() {
            node.error("this can't be the value of a header", "leave out control characters");
        }
        let Some(value) = secret(&node, value) else { continue };
        headers.insert(name.to_owned(), value);
    }
    headers
}
