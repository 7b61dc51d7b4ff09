//! `probe:` what is sent and expected.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Uri};

use super::Instance;
use crate::clock::Span;
use crate::config::read::{Node, Table};
use crate::config::{Probe, ProbeKind, Text};
use crate::model::Connection;

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
        kinds.push((node.clone(), http(&node, &texts)));
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
    Some(Probe { kind: kind?, interval, timeout, connection })
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

const URL_USAGE: &str = "write it as \"http://{address}:8080/health\"; \
                         an IPv6 {address} is put in brackets by itself";
const TARGET_USAGE: &str = "write host and port, as in \"{address}:8080\"; \
                            an IPv6 {address} is put in brackets by itself";

fn http(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table = node.table("write it as: { url: \"http://{address}:8080/\" }")?;
    let url = table.require("url", URL_USAGE).and_then(|node| {
        let url = texts.read(&node, URL_USAGE)?;
        texts.each(&node, &without_secrets(url), check_url, URL_USAGE);
        let host = url.find("://").map_or(url, |at| &url[at + 3..]);
        if host.split('/').next().is_some_and(|host| host.contains("${")) {
            node.error("a secret can't be where the host is", URL_USAGE);
        }
        secret(&node, url)
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
    let (mut status, mut body_contains) = (None, None);
    let expect = table.get("expect");
    let usage = "write it as: { status: 200, body_contains: \"ok\" }";
    if let Some(expect) = expect.and_then(|node| node.table(usage)) {
        status = expect.get("status").and_then(|node| node.number(200, 599)).map(|status| status as u16);
        let contains = expect.get("body_contains");
        body_contains = contains.as_ref().and_then(|node| {
            secret(node, node.some_text("write what a success's body contains, in quotes")?)
        });
        if let (Some(node), Some(_)) = (&contains, &body_contains)
            && (method == "HEAD" || matches!(status, Some(204 | 205 | 304)))
        {
            let answer = if method == "HEAD" {
                "to HEAD".to_owned()
            } else {
                format!("of status {}", status.unwrap_or(0))
            };
            node.error(
                format!("an answer {answer} has no body, so that no probe could succeed"),
                "leave body_contains out, or expect another answer",
            );
        }
        expect.finish();
    }
    table.finish();
    Some(ProbeKind::Http { url: url?, method, headers, body, status, body_contains })
}

/// A text with its secrets' sources.
fn secret(node: &Node<'_>, text: &str) -> Option<Text> {
    match Text::read(text) {
        Ok(text) => Some(text),
        Err(what) => {
            node.error(what, "write ${env:NAME} or ${file:/path/to/file}");
            None
        }
    }
}

/// A text with something harmless for each secret: its source may hold characters that the secret does not.
fn without_secrets(text: &str) -> String {
    Text::read(text).map_or_else(|_| text.to_owned(), |text| text.fill(str::to_owned))
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

fn grpc(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table = node.table("write it as: { target: \"{address}:5122\" }")?;
    let target = target(&table, texts);
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
    Some(ProbeKind::Grpc { target: target?, method, message })
}

fn tcp(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table = node.table("write it as: { target: \"{address}:8080\" }")?;
    let target = target(&table, texts);
    table.finish();
    Some(ProbeKind::Tcp { target: target? })
}

fn target(table: &Table<'_>, texts: &Texts<'_>) -> Option<String> {
    let node = table.require("target", TARGET_USAGE)?;
    let target = texts.read(&node, TARGET_USAGE)?;
    texts.each(&node, target, check_target, TARGET_USAGE);
    Some(target.to_owned())
}

fn exec(node: &Node<'_>, texts: &Texts<'_>) -> Option<ProbeKind> {
    let table = node.table("write it as: { command: [/usr/bin/check, \"{address}\"], user: nobody }")?;
    let usage = "write program and arguments as a list of texts, as in: [/usr/bin/check, \"{address}\"]";
    let command = table.require("command", usage).and_then(|node| {
        let items = node.items(usage);
        if items.is_empty() && node.value().is_sequence() {
            node.error("the command is empty", usage);
        }
        if let Some(program) = items.first()
            && program.value().as_str() == Some("")
        {
            program.error("the program's name is empty", usage);
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
        let command: Option<Vec<String>> =
            items.iter().map(|node| texts.read(node, usage).map(str::to_owned)).collect();
        command
    });
    let env = table.get("env").map(|node| environment(&node, texts)).unwrap_or_default();
    let user = table
        .get("user")
        .and_then(|node| node.some_text("write the user's name, in quotes if it is a number"))
        .map(str::to_owned);
    table.finish();
    Some(ProbeKind::Exec { command: command?, user, env })
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

/// Reads texts with `{seq}`, `{peer}` and `{address}` in them.
struct Texts<'a> {
    instances: Option<&'a [Instance<'a>]>,
}

impl Texts<'_> {
    /// A text whose placeholders can be filled in for every instance.
    fn read<'n>(&self, node: &Node<'n>, usage: &str) -> Option<&'n str> {
        let text = node.text(usage)?;
        for place in ["{peer}", "{address}"] {
            if self.instances.is_none() && text.contains(place) {
                node.error(
                    format!("{place} stands for the endpoint's peer, and the endpoint has no peers"),
                    "name its peers, as in: peers: [n1]",
                );
            }
        }
        if text.contains("{address}") {
            let without =
                self.instances.into_iter().flatten().filter(|peer| peer.sound && peer.address.is_none());
            for peer in without {
                node.error(
                    format!("{{address}} needs a single address, and peer \"{}\" has none", peer.name),
                    format!("add one to peers.{}.addresses, or write the address out", peer.name),
                );
            }
        }
        Some(text)
    }

    /// Checks a URL or target as it will be at run time; the first that is wrong is reported.
    fn each(&self, node: &Node<'_>, text: &str, check: fn(&str) -> Result<(), String>, usage: &str) {
        if let Some(unknown) = unknown_place(text) {
            let what = format!("unknown placeholder {unknown}");
            node.error(what, "known are {seq}, {peer} and {address}");
            return;
        }
        let any = IpAddr::from([192, 0, 2, 1]);
        let filled = match self.instances {
            None | Some([]) => vec![fill(text, "peer", any)],
            Some(instances) => {
                instances.iter().map(|peer| fill(text, peer.name, peer.address.unwrap_or(any))).collect()
            }
        };
        if let Some((filled, problem)) =
            filled.into_iter().find_map(|filled| check(&filled).err().map(|problem| (filled, problem)))
        {
            // A query may hold a token.
            let shown =
                filled.split_once('?').map_or_else(|| filled.clone(), |(shown, _)| format!("{shown}?…"));
            node.error(format!("\"{shown}\" {problem}"), usage);
        }
    }
}

fn fill(text: &str, peer: &str, address: IpAddr) -> String {
    let address = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    // Brackets that were written are not doubled.
    let text =
        if address.starts_with('[') { text.replace("[{address}]", "{address}") } else { text.to_owned() };
    text.replace("{seq}", "1").replace("{peer}", peer).replace("{address}", &address)
}

/// The first `{word}` that nothing fills in.
fn unknown_place(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let from = &rest[open..];
        let end = from.find('}').map_or(from.len(), |close| close + 1);
        if !matches!(&from[..end], "{seq}" | "{peer}" | "{address}") {
            return Some(&from[..end]);
        }
        rest = &from[end..];
    }
    None
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("is not a URL ({error})"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(scheme) => return Err(format!("has the scheme {scheme}, and probes speak http alone")),
        None => return Err("has no scheme".to_owned()),
    }
    let authority = uri.authority().ok_or("has no host")?;
    check_authority(authority).map(|_| ())
}

fn check_target(target: &str) -> Result<(), String> {
    let authority: Authority =
        target.parse().map_err(|error| format!("is not a host with a port ({error})"))?;
    match check_authority(&authority)? {
        Some(_) => Ok(()),
        None => Err("has no port".to_owned()),
    }
}

/// Checks the host; answers the port, if there is one.
fn check_authority(authority: &Authority) -> Result<Option<u16>, String> {
    let host = authority.host();
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    // What `Authority` itself says of the port is the same for one that is absent and one that is too large.
    let port = match authority.as_str().strip_prefix(host) {
        None => return Err("names a user, which probes do not send".to_owned()),
        Some("") => None,
        Some(port) => {
            let port = port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port > 0);
            Some(port.ok_or("has a port that is not from 1 to 65535")?)
        }
    };
    check_host(host)?;
    Ok(port)
}

/// Whether a probe can be sent there: names are never resolved, and some addresses are no one's.
fn check_host(host: &str) -> Result<(), String> {
    if host == "localhost" {
        return Ok(());
    }
    let address: IpAddr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().map(Into::into),
        None => host.parse::<Ipv4Addr>().map(Into::into),
    }
    .map_err(|_| {
        if host.starts_with('[') {
            format!("has a host {host} that is not an IPv6 address")
        } else {
            format!("has the host name {host}, and names are not resolved: write an address, {{address}} or localhost")
        }
    })?;
    let why = match address.to_canonical() {
        address if address.is_unspecified() => "is not an address that can be sent to",
        address if address.is_multicast() => "is a multicast address, and probes need one peer's",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address, and probes need one peer's",
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            "is link-local, which takes an interface that a probe can't name: write another address of the peer"
        }
        _ => return Ok(()),
    };
    Err(format!("has the host {host}, which {why}"))
}
