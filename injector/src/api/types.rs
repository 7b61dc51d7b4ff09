//! What crosses the socket: requests, views, the recovery record, problems. The JSON of DESIGN §6.
//!
//! Every missing datum is `null`, never zero and never left out of a record.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{MonoNs, Span, WallNs};
use crate::model::{Direction, Flap, NamedLink, Neighbour, Percent, Scope, Shape};

/// The version of [`RecoveryRecord`]'s layout.
pub const RECORD_SCHEMA: u32 = 1;

/// Who keeps a partition alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Nobody: it lives until its deadline or a heal.
    #[default]
    None,
    /// The connection that applied it: it heals when that breaks.
    Connection,
}

/// When a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// Nanoseconds of `CLOCK_MONOTONIC` of the daemon's host.
    MonoNs(MonoNs),
    /// Nanoseconds since the Unix epoch, fixed to the monotonic clock at acceptance.
    WallNs(WallNs),
}

/// `PUT /v1/partitions/{name}`: what to cut, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionRequest {
    /// Which links.
    pub shape: Shape,
    /// How long; without it the config's `max_for`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub for_: Option<Span>,
    /// When; without it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StartAt>,
    /// How long after the heal the cluster may take; without it the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Which directions of a two-sided shape.
    #[serde(default)]
    pub direction: Direction,
    /// Which traffic; empty is all of it.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The share of packets to drop.
    #[serde(default = "all")]
    pub loss: Percent,
    /// Alternation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery.
    #[serde(default)]
    pub neighbour: Neighbour,
    /// The seed of drawn shapes and of nothing else; drawn if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Who keeps it alive.
    #[serde(default)]
    pub owner: Owner,
    /// A client's own id of this request: one id never cuts twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Endpoints whose role this partition's record changes to advisory (by base or full name).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisory: Vec<String>,
    /// The campaign trial that this partition is, copied into its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

fn all() -> Percent {
    Percent::ALL
}

impl PartitionRequest {
    /// A request for a shape with every default.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            for_: None,
            at: None,
            deadline: None,
            direction: Direction::Both,
            scopes: Vec::new(),
            loss: Percent::ALL,
            flap: None,
            neighbour: Neighbour::Keep,
            seed: None,
            owner: Owner::None,
            request_id: None,
            advisory: Vec::new(),
            trial: None,
        }
    }
}

/// A trial of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its index, from 0.
    pub index: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
}

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
    /// Before the store, monotonic nanoseconds.
    pub begin_ns: MonoNs,
    /// After the store.
    pub end_ns: MonoNs,
    /// The wall clock at `end_ns`.
    pub wall: WallNs,
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
#[serde(deny_unknown_fields)]
pub struct EnableRequest {
    /// When; without it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StartAt>,
}

/// `POST /v1/marks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRequest {
    /// What to write on the timeline.
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
    /// Dropped packets, GSO segments counted each.
    pub dropped_packets: u64,
    /// Dropped bytes as the hook saw them.
    pub dropped_bytes: u64,
}

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
    /// The shape after drawing and presets.
    pub resolved: Shape,
    /// The seed used, `null` if nothing was drawn.
    pub seed: Option<u64>,
    /// The directed links and their drop counters so far.
    pub links: Vec<LinkCounters>,
    /// When the cut took effect; `null` while prepared.
    pub effective: Option<Stamped>,
    /// When the kernel ends it by itself.
    pub ends_at_ns: Option<MonoNs>,
    /// When it was healed.
    pub healed: Option<Healed>,
    /// What makes this partition's record doubtful, in words (a foreign program ahead of ours, …).
    pub warnings: Vec<String>,
}

/// One link of a recovery record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRecord {
    /// The sender.
    pub src: String,
    /// The receiver.
    pub dst: String,
    /// Packets dropped, GSO segments counted each.
    pub dropped_packets: u64,
    /// Bytes dropped as the hook saw them.
    pub dropped_bytes: u64,
    /// The first drop; `null` if nothing was dropped.
    pub first_drop_ns: Option<MonoNs>,
    /// The last drop.
    pub last_drop_ns: Option<MonoNs>,
    /// The first packet after the heal.
    pub first_packet_ns: Option<MonoNs>,
    /// The first SYN after the heal.
    pub first_syn_ns: Option<MonoNs>,
    /// The first SYN-ACK after the heal.
    pub first_synack_ns: Option<MonoNs>,
    /// The first payload after the heal.
    pub first_data_ns: Option<MonoNs>,
    /// Partitions that held this link when this one was healed.
    pub still_cut_by: Vec<String>,
    /// Times at which no hook of ours covered the link.
    pub uncovered: Vec<Uncovered>,
    /// The sender's TCP sockets on this link, if the record was still open just before the deadline; `null` where
    /// none was seen, as with a sender whose namespace is none of the config's.
    #[serde(default)]
    pub tcp: Option<Vec<TcpState>>,
}

/// A TCP socket of a link's sender, as its own host saw it shortly before the deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpState {
    /// When it was looked at.
    pub seen_ns: MonoNs,
    /// The sender's port.
    pub local_port: u16,
    /// The receiver's port.
    pub remote_port: u16,
    /// `established`, `syn-sent`, …
    pub state: String,
    /// Its retransmission time-out, back-off included.
    pub rto_ns: u64,
    /// How often the time-out was doubled.
    pub backoff: u8,
    /// Retransmissions of what is unacknowledged now.
    pub retransmits: u8,
}

/// A time at which an interface had no hook of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uncovered {
    /// The interface, as in the config.
    pub interface: String,
    /// From.
    pub from_ns: MonoNs,
    /// Until; `null` if it lasts.
    pub until_ns: Option<MonoNs>,
}

/// How an endpoint, or a whole trial, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Settled by the deadline.
    Recovered,
    /// Not settled by the deadline: right-censored there.
    NotRecovered,
    /// Another cut became active before the record was final.
    Censored,
    /// Nothing can be said: not healthy before, or a link still cut.
    Unknown,
    /// Our own failure: the cut is not proved, or the instrument broke.
    HarnessFailed,
}

/// One endpoint of a recovery record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointRecord {
    /// `ingress@n1`, or the bare name of an endpoint without peers.
    pub name: String,
    /// The peer it runs on.
    pub peer: Option<String>,
    /// Whether it gates the verdict.
    pub required: bool,
    /// Whether the last K idle probes before the cut succeeded; `null` if there were fewer.
    pub healthy_before: Option<bool>,
    /// The share of failed probes before the cut; `null` without probes.
    pub failure_rate_before: Option<f64>,
    /// Whether probes failed during the cut; `null` if none ended then.
    pub impaired: Option<bool>,
    /// The first successful response on the wire after the heal (evidence, never the verdict).
    pub first_response_ns: Option<MonoNs>,
    /// The first success after the heal.
    pub first_ok_ns: Option<MonoNs>,
    /// The answer to the first probe of the first run of K successes.
    pub ready_ns: Option<MonoNs>,
    /// The same of the run that lasted through the observation.
    pub settled_ns: Option<MonoNs>,
    /// Failures after ready.
    pub relapses: u64,
    /// Probes scheduled from the heal on.
    pub probes_sent: u64,
    /// Of these, failed ones.
    pub probes_failed: u64,
    /// This endpoint's own outcome.
    pub outcome: Option<Outcome>,
}

/// The phases between heal and settled, over the links that dropped something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// Heal → the last link's first packet: nobody tried.
    pub silence_ns: Option<u64>,
    /// → the last first handshake.
    pub reconnect_ns: Option<u64>,
    /// → the last first payload.
    pub resync_ns: Option<u64>,
    /// → the last required endpoint's first ok.
    pub response_ns: Option<u64>,
    /// → settled.
    pub coordination_ns: Option<u64>,
    /// The link whose first packet came last.
    pub last_link: Option<NamedLink>,
}

/// How well the instrument itself was served during the trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostRecord {
    /// How late probes left, 99th percentile.
    pub probe_lateness_p99_ns: Option<u64>,
    /// Probes a second, all endpoints.
    pub probe_rate: Option<f64>,
    /// The share of time in which some task waited for a CPU, 0 to 1.
    pub cpu_pressure: Option<f64>,
    /// The share of time in which some task waited for I/O, 0 to 1.
    pub io_pressure: Option<f64>,
}

/// The shape as asked, and after drawing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapePair {
    /// As asked.
    pub asked: Shape,
    /// After drawing and presets.
    pub resolved: Shape,
}

/// The whole story of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryRecord {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The partition's name.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// The campaign's trial index.
    pub trial: Option<u64>,
    /// The attempt at that trial, from 1.
    pub attempt: Option<u32>,
    /// What was cut.
    pub shape: ShapePair,
    /// The seed used.
    pub seed: Option<u64>,
    /// From cut end to heal begin; `null` before the heal.
    pub hold_ns: Option<u64>,
    /// The deadline, from the heal.
    pub deadline_ns: u64,
    /// How long readiness was observed.
    pub observe_ns: u64,
    /// The cut; `null` if it never took effect.
    pub cut: Option<Stamped>,
    /// The heal; `null` before.
    pub heal: Option<Stamped>,
    /// What healed it.
    pub healed_by: Option<HealedBy>,
    /// Every link of the partition.
    pub links: Vec<LinkRecord>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointRecord>,
    /// The phases.
    pub phases: Phases,
    /// From heal end to the instant at which all required endpoints were ready.
    pub heal_to_ready_ns: Option<u64>,
    /// The same, settled.
    pub heal_to_settled_ns: Option<u64>,
    /// The instrument's own condition.
    pub host: HostRecord,
    /// Whether the host starved the instrument.
    pub starved: bool,
    /// What makes this record doubtful, in words (a foreign program that runs before ours, …).
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Events lost during the trial.
    pub lost_events: u64,
    /// Whether at least one packet was dropped on the partition's links.
    pub proved: bool,
    /// Whether this record changes no more.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// How it ended; `null` until decided.
    pub outcome: Option<Outcome>,
    /// Why, in words.
    pub outcome_reason: Option<String>,
    /// The partition that closed this record early.
    pub closed_by: Option<String>,
    /// Until when the endpoints were watched.
    pub observed_until_ns: Option<MonoNs>,
}

/// One probe's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeView {
    /// The endpoint.
    pub endpoint: String,
    /// When it was due.
    pub scheduled_ns: MonoNs,
    /// When its answer was complete, or it failed.
    pub done_ns: MonoNs,
    /// Why it failed; `null` for a success.
    pub error: Option<String>,
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
    /// Whether it gates verdicts.
    pub required: bool,
    /// Whether its last K probes succeeded; `null` before there were K.
    pub healthy: Option<bool>,
    /// The last failure's reason.
    pub last_error: Option<String>,
    /// How it is probed.
    pub probe: ProbeRules,
}

/// How an endpoint is probed, as far as two measurements must agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRules {
    /// What is sent and expected, in words: `http GET http://10.0.0.1:8080/health, expects 200`.
    pub stimulus: String,
    /// The schedule at the full rate.
    pub interval: Span,
    /// When a probe has failed.
    pub timeout: Span,
    /// `fresh` or `pooled`.
    pub connection: String,
}

/// What decides verdicts, the same for every partition of a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// K: successes in a row.
    pub consecutive: u32,
    /// How long readiness is observed.
    pub observe: Span,
    /// How long at most, with relapses.
    pub observe_max: Span,
    /// The longest isolated failure that is no relapse.
    pub tolerate: Span,
    /// The deadline of partitions that name none.
    pub deadline: Span,
    /// The longest that a partition may last.
    pub max_for: Span,
}

/// A configured peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerView {
    /// Its addresses and prefixes.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: Option<String>,
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
    /// The daemon's clock now.
    pub now_ns: MonoNs,
    /// Per interface.
    pub attachments: Vec<AttachmentView>,
    /// Per peer name.
    pub peers: BTreeMap<String, PeerView>,
    /// Partitions not yet closed.
    pub partitions: Vec<PartitionView>,
    /// Per endpoint.
    pub endpoints: Vec<EndpointView>,
    /// What decides verdicts.
    pub rules: Rules,
    /// Events lost since the start.
    pub lost_events: u64,
    /// Data plane counters by name.
    pub counters: BTreeMap<String, u64>,
}

/// A line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Rises by one with each event.
    pub id: u64,
    /// When, by the daemon's clock.
    pub at_ns: MonoNs,
    /// The wall clock at that instant.
    pub wall: WallNs,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A partition took effect (or was scheduled).
    Cut {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// When.
        effective: Stamped,
    },
    /// A partition ended.
    Heal {
        /// When and by what.
        healed: Healed,
    },
    /// The kernel stamped a first: a drop, a packet, a response.
    First {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// `drop`, `packet`, `syn`, `synack`, `data` or `response`.
        what: String,
        /// The link or endpoint.
        subject: String,
        /// The kernel's stamp.
        stamp_ns: MonoNs,
    },
    /// An endpoint became healthy or unhealthy.
    Health {
        /// The endpoint.
        endpoint: String,
        /// Its state now.
        healthy: bool,
        /// Why not.
        error: Option<String>,
    },
    /// A record became final.
    Record {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// The outcome.
        outcome: Outcome,
    },
    /// An interface was attached, lost or found again.
    Interface {
        /// The interface.
        interface: String,
        /// What happened to it.
        what: String,
    },
    /// A user's mark.
    Mark {
        /// Its text.
        text: String,
    },
    /// The lease ran out: everything was healed.
    LeaseLapsed,
    /// Events were dropped here because the reader was too slow or the history too short.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}{}", remedy_suffix(remedy.as_deref()))]
pub struct Problem {
    /// A fixed word for programs, such as `unknown-peer`.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and where.
    pub detail: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

fn remedy_suffix(remedy: Option<&str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}

/// The fixed codes of [`Problem`], each with one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The body is not the JSON that is expected.
    BadBody,
    /// The body is over the limit.
    BodyTooLarge,
    /// A query parameter or name is wrong.
    BadParameter,
    /// The shape can't be built from these peers.
    BadShape,
    /// A peer is not in the config.
    UnknownPeer,
    /// A preset is not in the config.
    UnknownPreset,
    /// An endpoint is not in the config.
    UnknownEndpoint,
    /// A time is wrong: zero, past, or over `max_for`.
    BadTime,
    /// The name is taken by another partition that is not closed.
    NameTaken,
    /// The request id was used for something else.
    RequestIdUsed,
    /// All slots are live.
    NoFreeSlot,
    /// No partition had this name.
    UnknownPartition,
    /// The state does not allow it (enabling what is not prepared).
    WrongState,
    /// No such path.
    NoSuchCall,
    /// The path knows other methods.
    WrongMethod,
    /// Too many connections or requests.
    TooBusy,
    /// The caller may not.
    NotPermitted,
    /// The data plane refused.
    DataPlane,
    /// The daemon is stopping.
    Stopping,
    /// The daemon did not answer in time.
    NoAnswer,
}

impl Code {
    /// The HTTP status of this code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadBody
            | Self::BadParameter
            | Self::BadShape
            | Self::UnknownPeer
            | Self::UnknownPreset
            | Self::UnknownEndpoint
            | Self::BadTime => 400,
            Self::NotPermitted => 403,
            Self::UnknownPartition | Self::NoSuchCall => 404,
            Self::WrongMethod => 405,
            Self::NameTaken | Self::RequestIdUsed | Self::WrongState => 409,
            Self::BodyTooLarge => 413,
            Self::TooBusy => 429,
            Self::DataPlane => 500,
            Self::NoFreeSlot | Self::Stopping => 503,
            Self::NoAnswer => 504,
        }
    }
}

impl Problem {
    /// A problem with its code's status.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, status: code.status(), detail: detail.into(), field: None, remedy: None }
    }

    /// Names the wrong field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heal_event_is_read_as_it_was_written() {
        let healed = Healed {
            name: "p".into(),
            generation: 1,
            begin_ns: MonoNs(1),
            end_ns: MonoNs(2),
            wall: WallNs(3),
            healed_by: HealedBy::Request,
        };
        let event = Event { id: 1, at_ns: MonoNs(2), wall: WallNs(4), kind: EventKind::Heal { healed } };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
