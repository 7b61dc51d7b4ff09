//! `probe:` what is sent and expected.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Span;
use crate::config::read::{Node, Table};
use crate::config::validate::instance::Instance;
use crate::config::{Exchange, Probe, ProbeKind, Text};
use crate::model::{Connection, ProbeOptions};

mod host;
pub(in crate::config::validate) mod http;
pub(in crate::config::validate) mod texts;
mod tls;

use texts::{Texts, secret};

/// Below, a schedule is only lateness.
const MIN_INTERVAL: Span = Span::millis(1);
/// Probes of one endpoint instance that can be under way at once.
const MAX_IN_FLIGHT: u128 = 1_000;

/// Reads a probe; texts are tried with every instance, `None` for an endpoint without peers.
pub(super) fn read(node: &Node<'_>, instances: Option<&[Instance<'_>]>) -> Option<Probe> {
    let usage = "write one of http, grpc, tcp or exec, as in: { http: { url: \"http://{address}:8080/\" } }";
    let table = node.table(usage)?;
    let texts = Texts { instances };
    let mut kinds = Vec::new();
    if let Some(node) = table.get("http") {
        kinds.push((node.clone(), http::read(&node, &texts)));
    }
    if let Some(node) = table.get("grpc") {
        kinds.push((node.clone(), grpc(&node, &texts)));
    }
    if let Some(node) = table.get("tcp") {
        kinds.push((node.clone(), tcp(&node, &texts)));
    }
    if let Some(node) = table.get("exec") {
        kinds.push((node.clone(), exec(&node, &texts)));
    }
    if kinds.is_empty() {
        node.error("the probe has no kind", usage);
    }
    for (second, _) in kinds.iter().skip(1) {
        second.key_error("the probe has two kinds", "keep one, and make another endpoint of the other");
    }
    let is_exec = table_has(&kinds, "exec");
    let (interval, timeout) = schedule(&table, is_exec);
    let connection = table.get("connection");
    let pooled = connection.as_ref().and_then(self::connection);
    if let Some(node) = &connection
        && pooled == Some(Connection::Pooled)
        && (is_exec || table_has(&kinds, "tcp"))
    {
        node.error("only http and grpc probes can share a connection", "leave connection out");
    }
    table.finish();
    let connection = if connection.is_some() { pooled? } else { Connection::Fresh };
    let (_, kind) = kinds.into_iter().next()?;
    Some(Probe { kind: kind?, options: ProbeOptions { interval, timeout, connection } })
}

fn table_has(kinds: &[(Node<'_>, Option<ProbeKind>)], kind: &str) -> bool {
    kinds.first().is_some_and(|(node, _)| node.path.ends_with(&format!(".{kind}")))
}

fn schedule(table: &Table<'_>, is_exec: bool) -> (Span, Span) {
    let default = if is_exec { Span::secs(1) } else { Span::millis(10) };
    let interval_node = table.get("interval");
    let interval = interval_node.as_ref().and_then(|node| node.span(MIN_INTERVAL)).unwrap_or(default);
    let timeout_node = table.get("timeout");
    let timeout = timeout_node.as_ref().and_then(|node| node.span(MIN_INTERVAL)).unwrap_or(Span::secs(1));
    let in_flight = timeout.0.as_nanos() / interval.0.as_nanos();
    if in_flight > MAX_IN_FLIGHT {
        let node = timeout_node.or(interval_node).unwrap_or_else(|| table.node.clone());
        node.error(
            format!("a timeout of {timeout} every {interval} leaves {in_flight} probes under way at once"),
            format!("shorten the timeout or lengthen the interval: at most {MAX_IN_FLIGHT}"),
        );
    }
    (interval, timeout)
}

fn connection(node: &Node<'_>) -> Option<Connection> {
    let usage = "write fresh or pooled";
    match node.text(usage)? {
        "fresh" => Some(Connection::Fresh),
        "pooled" => Some(Connection::Pooled),
        other => {
            node.error(format!("unknown connection \"{other}\""), usage);
            None
        }
    }
}

fn grpc(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table = node.table("write it as: { target: \"{address}:5122\" }")?;
    let target = host::target(&table, texts);
    let tls = table.get("tls").map(|node| tls::read(&node));
    let mut method = "grpc.health.v1.Health/Check".to_owned();
    if let Some(node) = table.get("method")
        && let Some(text) = node.text("write it as package.Service/Method")
    {
        let word = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        };
        if !text.split_once('/').is_some_and(|(service, method)| word(service) && word(method)) {
            let what = format!("\"{text}\" is not a gRPC method");
            node.error(what, "write it as package.Service/Method, without a leading slash");
        }
        text.clone_into(&mut method);
    }
    let mut message = Vec::new();
    if let Some(node) = table.get("message")
        && let Some(text) = node.text("write the protobuf message as base64, in quotes")
    {
        match STANDARD.decode(text) {
            Ok(bytes) => message = bytes,
            Err(error) => node.error(
                format!("the message is not base64 ({error})"),
                "write the protobuf message as base64 with padding",
            ),
        }
    }
    table.finish();
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(ProbeKind::Grpc { target: target?, tls, method, message })
}

fn tcp(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table =
        node.table("write it as: { target: \"{address}:6379\", send: \"PING\\r\\n\", expect: \"+PONG\" }")?;
    let target = host::target(&table, texts);
    let tls = table.get("tls").map(|node| tls::read(&node));
    let (send_node, expect_node) = (table.get("send"), table.get("expect"));
    let usage = "write the text in quotes, with its line ends, as in: \"PING\\r\\n\"";
    let send = send_node.as_ref().map(|node| secret(node, texts.read(node, usage)?));
    let expect = expect_node.as_ref().map(|node| {
        let text = texts.read(node, "write what the answer begins with, as in: \"+PONG\"")?;
        if text.is_empty() {
            node.error("the text is empty", "write what the answer begins with, as in: \"+PONG\"");
        } else if text.len() > MAX_ANSWER {
            let what = format!("the text has {} bytes, and {MAX_ANSWER} of an answer are read", text.len());
            node.error(what, "write only its beginning");
        }
        secret(node, text)
    });
    if let (Some(node), None) = (&send_node, &expect_node) {
        node.key_error(
            "without expect nobody looks at the answer",
            "write what the answer begins with, as in: expect: \"+PONG\"",
        );
    }
    if let (None, Some(node)) = (&send_node, &expect_node) {
        node.key_error(
            "without send nothing is asked",
            "write what is sent, as in: send: \"PING\\r\\n\"; or send: \"\" for a server that speaks first",
        );
    }
    table.finish();
    let exchange = match (send, expect) {
        (Some(send), Some(expect)) => Some(Exchange { send: send?, expect: expect? }),
        _ => None,
    };
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(ProbeKind::Tcp { target: target?, tls, exchange })
}

/// The most bytes of an expected answer.
const MAX_ANSWER: usize = 1024;

fn exec(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let (command, user, env) = command_table(node, texts)?;
    Some(ProbeKind::Exec { command, user, env })
}

/// Command, user and environment.
pub(in crate::config::validate) type Run = (Vec<String>, Option<String>, BTreeMap<String, Text>);

/// What is run, and as whom.
pub(in crate::config::validate) fn command_table(node: &Node<'_>, texts: &Texts<'_>) -> Option<Run> {
    let table = node.table("write it as: { command: [/usr/bin/check, \"{address}\"], user: nobody }")?;
    let command = table.require("command", COMMAND_USAGE).and_then(|node| command(&node, texts));
    let env = table.get("env").map(|node| environment(&node, texts)).unwrap_or_default();
    let user = table
        .get("user")
        .and_then(|node| node.some_text("write the user's name, in quotes if it is a number"))
        .map(str::to_owned);
    table.finish();
    Some((command?, user, env))
}

const COMMAND_USAGE: &str =
    "write program and arguments as a list of texts, as in: [/usr/bin/check, \"{address}\"]";

/// Program and arguments.
pub(in crate::config::validate) fn command(node: &Node<'_>, texts: &Texts<'_>) -> Option<Vec<String>> {
    let items = node.items(COMMAND_USAGE);
    if items.is_empty() && node.value().is_sequence() {
        node.error("the command is empty", COMMAND_USAGE);
    }
    if let Some(program) = items.first()
        && program.value().as_str() == Some("")
    {
        program.error("the program's name is empty", COMMAND_USAGE);
    }
    let is_secret = |node: &&Node<'_>| {
        let text = node.value().as_str().and_then(|text| Text::read(text).ok());
        text.is_some_and(|text| text.has_secret())
    };
    if let Some(node) = items.iter().find(is_secret) {
        node.error(
            "every user of this host can read a command line",
            "hand the secret over by the environment, as in: env: { TOKEN: \"${env:TOKEN}\" }",
        );
    }
    items.iter().map(|node| texts.read(node, COMMAND_USAGE).map(str::to_owned)).collect()
}

fn environment(node: &Node<'_>, texts: &Texts<'_>) -> BTreeMap<String, Text> {
    let usage = "write it as: { TOKEN: \"${env:TOKEN}\" }";
    let mut environment = BTreeMap::new();
    for (name, node) in node.entries(usage) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            node.key_error(format!("\"{name}\" can't be the name of an environment variable"), usage);
        }
        let text = texts.read(&node, usage);
        if text.is_some_and(|text| text.contains('\0')) {
            node.error("the text has a zero byte", usage);
        }
        if let Some(text) = text.and_then(|text| secret(&node, text)) {
            environment.insert(name.to_owned(), text);
        }
    }
    environment
}
