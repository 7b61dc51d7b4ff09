//! The form of `lab.yaml` as a JSON Schema, by which editors complete and check it.
//!
//! `validate` decides what a config may say, with line, column and remedy for each fault; these types say what its keys are.
//! The tests of this folder compare the two: whatever they parse is valid here, and unknown keys are not.
#![expect(dead_code, reason = "the fields are read by the derive macro alone")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::hook::Hook;
use super::probe_kinds::exec::ExecKeys;
use super::probe_kinds::texts::ScalarKey;
use super::probe_kinds::tls::TlsKeys;
use super::probe_kinds::{KINDS, ProbeKeys};
use crate::clock::Span;
use crate::model::Shape;

/// The schema, as JSON Schema draft 2020-12.
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Lab>().to_value()
}

/// The schema's text, with a line feed at its end left out.
pub fn text() -> String {
    format!("{:#}", schema())
}

/// The kinds of probes with their keys, as a table in Markdown.
pub fn probe_kinds_table() -> String {
    let schema = schema();
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('|', "\\|");
    let mut table = "| kind | key | meaning |\n|---|---|---|\n".to_owned();
    for kind in KINDS {
        let property = &schema["$defs"]["Probe"]["properties"][kind.word];
        let what = text(&property["description"]);
        let what = what.trim_end_matches('.');
        let (word, success) = (kind.word, kind.success);
        let _ = writeln!(table, "| `{word}` | | {what}. A success is {success}. |");
        let definition = property["anyOf"][0]["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let definition = &schema["$defs"][definition.unwrap_or_default()];
        let required = definition["required"].as_array();
        let is_required = |key: &str| required.is_some_and(|keys| keys.iter().any(|it| it == key));
        let mut keys: Vec<(&String, &Value)> =
            definition["properties"].as_object().into_iter().flatten().collect();
        keys.sort_by_key(|(key, _)| !is_required(key));
        for (key, property) in keys {
            let mark = if is_required(key) { ", required" } else { "" };
            let _ = writeln!(table, "| | `{key}`{mark} | {} |", text(&property["description"]));
        }
    }
    table
}

/// The config of the partition injector's daemon: who the peers are, where their traffic passes, and what shows that they
/// serve.
#[derive(JsonSchema)]
#[schemars(title = "Partition injector: lab.yaml", deny_unknown_fields)]
struct Lab {
    /// The nodes of the system under test, by name. With `containers` there may be none.
    peers: Option<BTreeMap<String, Peer>>,
    /// Containers that are peers, each by its own name: those that run and have this label at the start, and at each reload.
    containers: Option<Selector>,
    /// Where the programs attach: the word `auto`, or a list of interfaces.
    interfaces: Interfaces,
    /// What is probed. Without endpoints, partitions are cut and healed, and no recovery is measured.
    endpoints: Option<Vec<Endpoint>>,
    /// Where the API listens.
    socket: Option<Socket>,
    /// Where metrics are read by TCP, beside the API's socket; nowhere by default.
    metrics: Option<Metrics>,
    /// When an endpoint counts as ready and settled.
    ready: Option<Ready>,
    /// How long after the heal the cluster may take; 20s by default, at most 1h.
    deadline: Option<Span>,
    /// The longest a partition may last, and how long it lasts without `for`; 10m by default, at most 24h.
    max_for: Option<Span>,
    /// What no cut drops: ports of a protocol on either side (`tcp/22`), or all traffic of an address.
    protect: Option<Vec<String>>,
    /// Named shapes, as the API takes them: `{ lonely: { isolate: [n1] } }`.
    presets: Option<BTreeMap<String, Shape>>,
    /// Who leads, who follows: names that shapes write as `@leader`.
    roles: Option<BTreeMap<String, RoleSource>>,
    /// The peers on this host; all by default. A link with neither end here is left to the daemons of other hosts.
    here: Option<Vec<String>>,
    /// Devices that lead nowhere that matters, such as a management NIC: they are no peer's exit.
    elsewhere: Option<Vec<Device>>,
    /// The socket of the engine that runs the containers among the peers; by default the first that is there of
    /// `/var/run/docker.sock` and `/run/podman/podman.sock`.
    engine: Option<String>,
}

/// A peer: what its frames are named by. It needs `addresses` or `mac`; or `container` or `compose` where it is a container;
/// or one of `listens`, `pid`, `cgroup` and `unit` where it is processes on this machine.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Peer {
    /// Addresses and prefixes; each belongs to one peer.
    addresses: Option<Vec<String>>,
    /// A MAC address that is the peer's for sure: six bytes in hex, in quotes.
    mac: Option<String>,
    /// Addresses that move between peers. Several peers may list the same one.
    vip: Option<Vec<String>>,
    /// The peer is a guest behind this interface, and no other peer is.
    vm: Option<Guest>,
    /// The peer passes on what others send, as a router does.
    forwards: Option<bool>,
    /// The ports that this peer alone listens on, on this machine: `2379`, `127.0.0.2:2379`, or a whole address.
    listens: Option<Vec<Listens>>,
    /// The process on this machine that is the peer, with its children.
    #[schemars(range(min = 1))]
    pid: Option<u32>,
    /// The control group on this machine whose processes are the peer.
    cgroup: Option<String>,
    /// The systemd unit on this machine whose processes are the peer.
    unit: Option<String>,
    /// The network namespace of a peer on this machine; the daemon's own by default.
    netns: Option<Netns>,
    /// The container of Docker or Podman that is the peer, by name or id.
    container: Option<String>,
    /// The container that is the peer, by compose project and service: `shop/restate`, or `shop/restate/2`.
    compose: Option<String>,
}

/// Peers by their names.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Peers {
    /// All of them.
    All(All),
    /// These.
    Named(Vec<String>),
}

/// The word `all`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum All {
    /// All peers.
    All,
}

/// Which containers are peers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Selector {
    /// The labels that they have, each as `KEY` or `KEY=VALUE`.
    label: Labels,
}

/// One label, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Labels {
    /// One.
    One(String),
    /// All of these.
    All(Vec<String>),
}

/// A port, or an address with or without one.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Listens {
    /// A port of every address.
    Port(#[schemars(range(min = 1))] u16),
    /// An address with or without a port.
    Text(String),
}

/// A guest's interface on its host.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Guest {
    /// The host's end of it, such as tap1.
    interface: Device,
}

/// A network namespace: a name as under /run/netns, an absolute path, or the one of a process or a container.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Netns {
    /// A name, or an absolute path.
    Text(String),
    /// The namespace of a process.
    Process(Process),
    /// The namespace of a container.
    Container(Container),
}

/// A container.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Container {
    /// Its name or id.
    container: String,
}

/// A process.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Process {
    /// Its id.
    #[schemars(range(min = 1))]
    pid: u32,
}

/// A device: its name, or its name with its network namespace.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Device {
    /// In the daemon's own network namespace.
    Name(String),
    /// In another one.
    Placed(PlacedDevice),
}

/// A device with its network namespace.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PlacedDevice {
    /// Its name.
    name: String,
    /// Its network namespace; the daemon's own by default.
    netns: Option<Netns>,
}

/// Where the programs attach.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Interfaces {
    /// Finds where the peers live, attaches to every device by which their frames can leave, and follows them.
    Auto(Auto),
    /// These interfaces.
    Named(Vec<Interface>),
}

/// The word `auto`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Auto {
    /// Finds where the peers live.
    Auto,
}

/// An interface to attach to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Interface {
    /// The interface's name, at most 15 bytes; not lo.
    name: String,
    /// Its network namespace; the daemon's own by default.
    netns: Option<Netns>,
    /// Which hook to use; `auto` by default.
    hook: Option<Hook>,
    /// The peer that is behind it, and no other.
    peer: Option<String>,
}

/// What is probed, and what the programs take as a response.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Endpoint {
    /// The base name; with `peers`, instances are named NAME@PEER.
    name: String,
    /// The endpoint runs on each of these peers.
    peers: Option<Peers>,
    /// Which of several addresses is probed.
    family: Option<Family>,
    /// Whether the endpoint gates the verdict; `required` by default.
    role: Option<Role>,
    /// What is sent and expected.
    probe: ProbeKeys,
    /// What the programs take as a successful response. It needs `peers`.
    wire: Option<Wire>,
    /// The network namespace that the probes start from; the daemon's own by default.
    netns: Option<Netns>,
}

/// The version of IP.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Whether an endpoint gates the verdict.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Role {
    /// It does.
    Required,
    /// It is only reported.
    Advisory,
}

/// What the programs take as a successful response.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Wire {
    /// The endpoint's TCP port.
    #[schemars(range(min = 1))]
    port: u16,
    /// What it begins with.
    success: Success,
}

/// What a successful response begins with.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Success {
    /// A protocol.
    Protocol(Protocol),
    /// These bytes.
    Prefix(Prefix),
}

/// A protocol.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Protocol {
    /// An HTTP/1 status line with 2xx.
    Http,
    /// HTTP/2 HEADERS with :status 200, followed by DATA.
    Grpc,
    /// Any payload.
    Payload,
}

/// Bytes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Prefix {
    /// 1 to 16 bytes.
    #[schemars(length(min = 1, max = 16))]
    prefix: String,
}

/// Whom to ask who has a role: either a command or an HTTP service.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RoleSource {
    /// A command that prints names or addresses of peers.
    exec: Option<RoleExec>,
    /// A request whose answer is JSON.
    http: Option<RoleHttp>,
    /// How long all of it may take; 2s by default, at most 5s.
    timeout: Option<Span>,
    /// The network namespace that the daemon asks from; its own by default.
    netns: Option<Netns>,
}

/// A command, short or in full.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum RoleExec {
    /// The program and its arguments.
    Command(Vec<String>),
    /// With its user and environment.
    Full(ExecKeys),
}

/// A request whose answer says who has a role.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RoleHttp {
    /// Where to.
    url: String,
    /// The method; GET by default.
    method: Option<String>,
    /// Headers.
    headers: Option<BTreeMap<String, String>>,
    /// The body.
    body: Option<String>,
    /// The Unix socket to connect to: an absolute path.
    unix: Option<String>,
    /// Whom an `https` URL's server is trusted by; what this host trusts by default.
    tls: Option<TlsKeys>,
    /// Who is asked, each once.
    peers: Option<Peers>,
    /// Where in the answer the value is that says who has the role: a JSON pointer.
    pointer: String,
    /// What the answer may say instead of a peer's name or address.
    names: Option<BTreeMap<String, String>>,
    /// The asked peer has the role if the value is this.
    equals: Option<ScalarKey>,
    /// The asked peer has the role if the value there is the same: a JSON pointer.
    same_as: Option<String>,
}

/// Where the API listens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Socket {
    /// The Unix socket; /run/injector/injector.sock by default.
    path: Option<String>,
    /// The group that may use it; injector by default.
    group: Option<String>,
    /// The group whose members may read and change nothing.
    readers: Option<String>,
    /// Its mode in octal, in quotes; "0660" by default.
    mode: Option<String>,
}

/// Where metrics are read by TCP.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Metrics {
    /// An address of this host and a port: `127.0.0.1:9464`, or `[::1]:9464` in quotes.
    listen: String,
}

/// When an endpoint counts as ready and settled.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Ready {
    /// How many probes in a row must be served; 5 by default.
    #[schemars(range(min = 1, max = 10_000))]
    consecutive: Option<u32>,
    /// How long service must last after ready; 12s by default.
    observe: Option<Span>,
    /// How long the observation may take, with relapses; 60s by default.
    observe_max: Option<Span>,
    /// The longest isolated failure that is counted and is no relapse; 0s by default.
    tolerate: Option<Span>,
}
