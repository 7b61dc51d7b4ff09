//! The answers of the API: stamps, heals, partitions, the daemon itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::{CoverageSummary, ExitView, LinkCoverageView, NameView};
use super::reload::RefusedConfig;
use super::request::{Owner, PartitionRequest, StartAt};
use super::warning::Warning;
use crate::clock::{HostClock, MonoNs, Span, WallNs};
use crate::model::{EndpointProbe, NamedLink, PeerName, ProbeRules, Ready, Shape};
use crate::sample::{FailureCode, ProbeFailure, Sample};
use crate::topology::RolePeers;

/// The interval around the one store that cut or healed; an instant (`begin == end`) where a time was set ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stamped {
    /// Before the store, monotonic nanoseconds.
    pub begin_ns: MonoNs,
    /// After the store: no verdict that begins later is by the old word.
    pub end_ns: MonoNs,
    /// The wall clock at `end_ns`, for people.
    pub wall: WallNs,
}

/// What ended a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealedBy {
    /// A heal request.
    Request,
    /// Its own `for`, in the kernel.
    Deadline,
    /// The dead-man's switch.
    Lease,
    /// The daemon's own end.
    Shutdown,
    /// The end of the connection that owned it.
    Disconnect,
}

/// The answer to a heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Healed {
    /// The partition.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// When.
    #[serde(flatten)]
    pub at: Stamped,
    /// What ended it: possibly something before this request.
    pub healed_by: HealedBy,
}

/// The answer to `DELETE /v1/partitions/{name}` (one) and `DELETE /v1/partitions` (a list).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealAnswer<T> {
    /// When and by what each was healed.
    pub healed: T,
}

/// `POST /v1/partitions/{name}/enable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object that may have `at` and `owner`")]
pub struct EnableRequest {
    /// When; without it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StartAt>,
    /// Who keeps it alive from now on; without it who did so while it was prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// `POST /v1/marks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mark, such as {\"text\": \"here\"}")]
pub struct MarkRequest {
    /// What to write on the timeline: 1 to 1,024 bytes.
    #[schemars(length(min = 1, max = 1024))]
    pub text: String,
}

/// The life of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartitionState {
    /// Prepared, not enabled.
    Prepared,
    /// Enabled, its start lies ahead.
    Scheduled,
    /// Cutting.
    Active,
    /// Healed, its record still open.
    Watched,
    /// Its record is final.
    Closed,
}

/// What a drop counter of a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkCounters {
    /// The sender.
    pub src: String,
    /// The receiver.
    pub dst: String,
    /// Dropped packets, GSO segments counted each; `null` where the kernel's count can't be read.
    pub dropped_packets: Option<u64>,
    /// Dropped bytes as the hook saw them; `null` likewise.
    pub dropped_bytes: Option<u64>,
}

/// All links of a partition in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkTotals {
    /// How many.
    pub links: usize,
    /// How many links of the shape have neither end here.
    #[serde(default)]
    pub not_here: usize,
    /// Packets dropped, GSO segments counted each; `null` where the daemon had no time to count, or can't read the count.
    pub dropped_packets: Option<u64>,
    /// Bytes dropped as the hooks saw them; `null` in the same case.
    pub dropped_bytes: Option<u64>,
}

/// The most links that a view of one partition lists: of more it lists none, or the part that is asked for.
pub const MOST_LISTED: usize = 1000;

/// `GET /v1/partitions/{name}`, and the answer to `PUT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionView {
    /// Its name.
    pub name: String,
    /// Counts every partition of this daemon, from 1.
    pub generation: u32,
    /// Where in its life it is.
    pub state: PartitionState,
    /// As asked, defaults filled in.
    pub request: PartitionRequest,
    /// The shape after drawing, roles and presets.
    #[schemars(with = "Shape")]
    pub resolved: Shape<PeerName>,
    /// The peers of each role in the shape, at the moment of the request.
    #[serde(default)]
    pub roles: RolePeers,
    /// The seed used, `null` if nothing was drawn.
    pub seed: Option<u64>,
    /// What its links have dropped so far, in sum.
    pub totals: LinkTotals,
    /// The directed links and their drop counters so far; `null` in `status` and in lists of partitions, and where there are
    /// more than 1,000 and no part of them is asked for (`links_from`).
    pub links: Option<Vec<LinkCounters>>,
    /// When the cut took effect; `null` while prepared.
    pub effective: Option<Stamped>,
    /// When the kernel ends it by itself.
    pub ends_at_ns: Option<MonoNs>,
    /// When it was healed.
    pub healed: Option<Healed>,
    /// How far its links are covered: all of them in the answer to a dry run, else those that are not covered; `null`
    /// in lists, and where there are more than 1,000 and no part is asked for.
    #[serde(default)]
    pub coverage: Option<Vec<LinkCoverageView>>,
    /// Links of its shape with neither end here: other hosts' daemons cut them; `null` likewise.
    #[serde(default)]
    pub not_here: Option<Vec<NamedLink>>,
    /// Required endpoints that were not healthy when it was cut, or asked for: its outcome will be unknown. `null` in lists.
    #[serde(default)]
    pub not_healthy: Option<Vec<String>>,
    /// What makes this partition's record doubtful (a foreign program ahead of ours, …).
    pub warnings: Vec<Warning>,
}

impl PartitionView {
    /// Whether another view is of the same partition. Its generation alone is not enough: each daemon counts from 1, so that
    /// after a restart another client's partition may have the same name and generation. Two partitions without a `request_id`
    /// can't be distinguished then.
    pub fn is_same_partition(&self, other: &Self) -> bool {
        self.name == other.name
            && self.generation == other.generation
            && self.request.request_id == other.request.request_id
    }
}

/// One probe's result. `error` and `code` are of one failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeView {
    /// The endpoint.
    pub endpoint: String,
    /// When it was due.
    pub scheduled_ns: MonoNs,
    /// When it was sent, from which its bound counts; left out in records of versions that did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_ns: Option<MonoNs>,
    /// When its answer was complete, or it failed.
    pub done_ns: MonoNs,
    /// Why it failed, in words; `null` for a success.
    pub error: Option<String>,
    /// The kind of the failure; left out for a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
}

impl ProbeView {
    /// A sample of the endpoint of this name.
    pub fn new(endpoint: &str, sample: &Sample) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            scheduled_ns: sample.scheduled,
            begun_ns: Some(sample.begun),
            done_ns: sample.done,
            error: sample.failure.as_ref().map(|failure| failure.text.to_string()),
            code: sample.failure.as_ref().map(|failure| failure.code),
        }
    }

    /// Why it failed; `None` for a success.
    pub fn failure(&self) -> Option<ProbeFailure> {
        self.error.as_deref().map(|text| ProbeFailure::stored(self.code, text))
    }
}

/// An endpoint's answer when it was asked once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointAnswer {
    /// The endpoint's name.
    pub name: String,
    /// When it was asked.
    pub scheduled_ns: MonoNs,
    /// When its answer was complete, or it failed.
    pub done_ns: MonoNs,
    /// Why it failed; `null` for a success.
    pub error: Option<String>,
    /// Whether the programs on the hooks saw a successful response; `null` where the endpoint has no `wire`.
    pub wire: Option<WireSight>,
    /// When they saw the first.
    pub wire_seen_ns: Option<MonoNs>,
}

/// What the programs on the hooks saw of an endpoint's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WireSight {
    /// A successful response.
    Seen,
    /// None: it passes no attached interface, or `wire` does not describe it.
    NotSeen,
    /// It could not be looked for: every slot was in use, or it was asked for twice at once.
    NotLooked,
}

/// Where our programs sit on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachmentView {
    /// The interface's name.
    pub interface: String,
    /// Its namespace as in the config; `null` is the daemon's own.
    pub netns: Option<String>,
    /// The hook in force: `tcx`, `clsact`, `xdp-native+tcx`, `xdp-generic+tcx`, …; `null` while absent.
    pub hook: Option<String>,
    /// Why this hook, or why none.
    pub why: String,
    /// Programs of others on the same hooks, by name and id.
    pub others: Vec<String>,
}

/// An endpoint as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointView {
    /// `ingress@n1`.
    pub name: String,
    /// Its peer.
    pub peer: Option<String>,
    /// Where its probes go: the address that the config names, or what a host name was resolved to at the start; `null`
    /// for commands and Unix sockets, and from daemons of older versions.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Whether it gates verdicts.
    pub required: bool,
    /// Whether its last K probes succeeded; `null` before there were K, and where none failed and some were never sent.
    pub healthy: Option<bool>,
    /// The last failure's reason.
    pub last_error: Option<String>,
    /// How it is probed.
    pub probe: ProbeRules,
}

impl EndpointView {
    /// The endpoint's probe, as a campaign keeps it.
    pub fn endpoint_probe(&self) -> EndpointProbe {
        EndpointProbe { endpoint: self.name.clone(), required: self.required, rules: self.probe.clone() }
    }
}

/// What decides verdicts, the same for every partition of a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// When an endpoint counts as ready and settled.
    #[serde(flatten)]
    pub ready: Ready,
    /// The deadline of partitions that name none.
    pub deadline: Span,
    /// The longest that a partition may last.
    pub max_for: Span,
}

/// A configured peer.
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerView {
    /// Its addresses and prefixes.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// All that its frames are named by, and what each was taken from.
    #[serde(default)]
    pub names: Vec<NameView>,
    /// The network namespace that is its home; `null` where that is not seen.
    #[serde(default)]
    pub home: Option<String>,
    /// The devices by which its frames leave its home.
    #[serde(default)]
    pub exits: Vec<ExitView>,
    /// Whether all its devices are known and hooked.
    #[serde(default)]
    pub is_closed: bool,
    /// Whether this daemon cuts its links.
    #[serde(default)]
    pub is_here: bool,
    /// Whether its port and MAC addresses name its frames whatever their addresses: nothing shows that it forwards.
    #[serde(default)]
    pub is_plain: bool,
    /// Whether it passes on what others send: by the config, or as the next hop of a route.
    #[serde(default)]
    pub forwards: bool,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The ABI between daemon and programs.
    pub abi: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Which config is in force: 1 at the start, one more with each that took its place (SIGHUP).
    pub config_number: u32,
    /// The last reload, if it did not put its config in force; `null` if there was none, or it did.
    #[serde(default)]
    pub refused_config: Option<RefusedConfig>,
    /// The daemon's clock now.
    pub now_ns: MonoNs,
    /// Whose clock all stamps of this daemon are of.
    pub clock: HostClock,
    /// Per interface.
    pub attachments: Vec<AttachmentView>,
    /// Per peer name.
    pub peers: BTreeMap<PeerName, PeerView>,
    /// How far the links between the peers are covered; `null` with too many peers.
    #[serde(default)]
    pub coverage: Option<CoverageSummary>,
    /// Partitions not yet closed.
    pub partitions: Vec<PartitionView>,
    /// Per endpoint.
    pub endpoints: Vec<EndpointView>,
    /// What decides verdicts.
    pub rules: Rules,
    /// Events lost since the start; `null` where the count can't be read.
    pub lost_events: Option<u64>,
    /// Lines that the daemon's log lost since the start: its output was full, gone or too slow.
    pub lost_log_lines: u64,
    /// Data plane counters by name.
    pub counters: BTreeMap<String, u64>,
}
