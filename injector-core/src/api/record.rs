//! The recovery record: the whole story of one partition. Every missing datum is `null`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::outage::{ClusterOutage, Outage};
use super::verdict_options::VerdictOptions;
use super::verify::LinkCheck;
use super::view::{HealedBy, Stamped};
use super::warning::Warning;
use crate::clock::{HostClock, MonoNs, TimeRange};
use crate::model::{Direction, NamedLink, PeerName, ROLE_SIGN, Shape, Traffic, whole_traffic};
use crate::topology::RolePeers;
use crate::topology::words::joined;

/// The version of [`RecoveryRecord`]'s layout.
pub const RECORD_SCHEMA: u32 = 2;

/// The oldest layout that can still be read: what it lacks is null, and its warnings are of the code `other`.
pub const OLDEST_RECORD_SCHEMA: u32 = 1;

/// One link of a recovery record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRecord {
    /// The sender.
    pub src: String,
    /// The receiver.
    pub dst: String,
    /// Packets dropped that were addressed to the receiver, GSO segments counted each; `null`, as the other counts of the
    /// programs, where the kernel's counts could not be read.
    pub dropped_packets: Option<u64>,
    /// Their bytes as the hook saw them.
    pub dropped_bytes: Option<u64>,
    /// Group frames, ARP, neighbour discovery and frames of the active check dropped: these are no traffic of the two
    /// peers.
    #[serde(default)]
    pub group_packets: Option<u64>,
    /// The first drop; `null` if nothing was dropped.
    pub first_drop_ns: Option<MonoNs>,
    /// The last drop.
    pub last_drop_ns: Option<MonoNs>,
    /// The first packet after the heal that the cut would have dropped: in a scope of the partition, and not protected. So
    /// are the first packets below.
    pub first_packet_ns: Option<MonoNs>,
    /// The first SYN after the heal.
    pub first_syn_ns: Option<MonoNs>,
    /// The first SYN-ACK after the heal. One that answers a SYN in scope counts too.
    pub first_synack_ns: Option<MonoNs>,
    /// The first payload after the heal.
    pub first_data_ns: Option<MonoNs>,
    /// The first packet after the heal by which a conversation had carried payload both ways, if this was its way.
    #[serde(default)]
    pub first_exchange_ns: Option<MonoNs>,
    /// When the link carried again: from a SYN-ACK either way, or from payload both ways.
    pub reconnected_ns: Option<MonoNs>,
    /// Partitions that held this link when this one was healed.
    pub still_cut_by: Vec<String>,
    /// Times at which no hook of ours covered the link.
    pub uncovered: Vec<Uncovered>,
    /// Times at which something could send packets of the link past our programs.
    #[serde(default)]
    pub bypassed: Vec<Bypassed>,
    /// Packets that passed during a full cut although another of their names (a claimed address, a MAC, the port that
    /// they came by) puts them on this link.
    #[serde(default)]
    pub leaked_packets: Option<u64>,
    /// The first of them.
    #[serde(default)]
    pub first_leak_ns: Option<MonoNs>,
    /// Packets that passed during the cut between one of the two and a host that nothing identifies and that may be the other.
    #[serde(default)]
    pub unnamed_packets: u64,
    /// Whether hooks that the link relies on were not read after the heal: a program that was placed ahead of ours toward the end
    /// of the cut would not be known.
    #[serde(default)]
    pub hooks_unread: bool,
    /// Packets dropped at the receiver's port a second or more after the cut, although the sender's port should have
    /// dropped them: some of the sender's ways pass no hook of ours.
    #[serde(default)]
    pub late_packets: Option<u64>,
    /// Bytes that TCP connections of the receiver got from the sender between a second after the cut and the heal, as the
    /// receiver's namespace counts them; `null` where none was looked into, or the cut was not full or too short.
    #[serde(default)]
    pub crossed_bytes: Option<u64>,
    /// Connections and other flows between the two that NAT gave other addresses at both ends, so that no hook sees whose they
    /// are, and that carried packets from about a second after the cut to the heal, as the namespace tracks them that does so; a
    /// flow from before the cut counts where it was opened, if both directions are cut. `null` where none was looked into, or
    /// the cut was not full or too short.
    #[serde(default)]
    pub crossed_flows: Option<u64>,
    /// What the active check saw; `null` if it was not asked for.
    #[serde(default)]
    pub check: Option<LinkCheck>,
    /// Whether the cut was in force from its beginning to its end; `null` before the heal.
    #[serde(default)]
    pub in_force: Option<InForce>,
    /// Whether it was in force, and dropped a packet addressed to the receiver or every frame of the active check.
    #[serde(default)]
    pub proved: bool,
    /// How far its paths passed hooks of ours, at the worst, from the cut to the heal; `null` if there was no cut.
    #[serde(default)]
    pub coverage: Option<Coverage>,
    /// Whether it was not covered when it was asked for, and left out on purpose by `allow_uncovered`.
    #[serde(default)]
    pub left_out: bool,
    /// The sender's TCP sockets on this link, if the record was still open just before the deadline; `null` where
    /// none was seen, as with a sender whose namespace is none of the config's.
    #[serde(default)]
    pub tcp: Option<Vec<TcpState>>,
}

impl LinkRecord {
    /// Its ends.
    pub fn named(&self) -> NamedLink {
        NamedLink { src: self.src.clone(), dst: self.dst.clone() }
    }
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

impl TcpState {
    /// Whether it waits for its peer.
    pub fn is_stuck(&self) -> bool {
        self.backoff > 0 || self.retransmits > 0 || self.state == "syn-sent"
    }
}

/// A time at which an interface had no hook of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uncovered {
    /// The interface, as in the config.
    pub interface: String,
    /// When.
    #[serde(flatten)]
    pub time: TimeRange,
}

/// A time at which something could send packets past our programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bypassed {
    /// The interface, as in the config.
    pub interface: String,
    /// What ran before our programs.
    pub why: String,
    /// When.
    #[serde(flatten)]
    pub time: TimeRange,
}

/// Whether a link's cut was in force from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InForce {
    /// Nothing speaks against it.
    Yes,
    /// Packets passed, or could pass, some of the time.
    No,
    /// It is not known which ways the link's packets take, and none was dropped; or packets passed that may be the link's.
    Unknown,
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
    /// Where its probes go: the address that the config names, or what a host name was resolved to at the start; `null`
    /// for commands and Unix sockets, and in records of older versions.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Whether it gates the verdict.
    pub required: bool,
    /// Whether the last K idle probes before the cut succeeded; `null` if there were fewer, or if none failed and some were
    /// never sent.
    pub healthy_before: Option<bool>,
    /// The share of failed probes before the cut, of those that were sent; `null` without any.
    pub failure_rate_before: Option<f64>,
    /// Whether probes failed during the cut; `null` if none ended then.
    pub impaired: Option<bool>,
    /// The first successful response on the wire after the heal (evidence, never the verdict).
    pub first_response_ns: Option<MonoNs>,
    /// The first success after the heal.
    pub first_ok_ns: Option<MonoNs>,
    /// When service was back after the heal: the heal itself where it was there then.
    pub ready_ns: Option<MonoNs>,
    /// The end of the last window without service, through an observation; the heal where none came after it.
    pub settled_ns: Option<MonoNs>,
    /// Failures after ready.
    pub relapses: u64,
    /// Probes scheduled from the heal on.
    pub probes_sent: u64,
    /// Of these, failed ones.
    pub probes_failed: u64,
    /// When it was out of service, from the cut to the end of the watch; `null` before the heal, and where it was not
    /// healthy before the cut.
    pub outage: Option<Outage>,
    /// This endpoint's own outcome.
    pub outcome: Option<Outcome>,
}

/// The phases between heal and settled, over the links that dropped something. Links on which an event came only after
/// settled move no boundary; one on which it never came while it was watched makes the boundary `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// Heal → the last link's first packet: nobody tried.
    pub silence_ns: Option<u64>,
    /// → the last link carries (see [`LinkRecord::reconnected_ns`]).
    pub reconnect_ns: Option<u64>,
    /// → all required endpoints are ready.
    pub return_ns: Option<u64>,
    /// → settled.
    pub relapse_ns: Option<u64>,
    /// The part of the relapse in which a required endpoint was out; `null` if the outage of one is not known.
    pub relapse_out_ns: Option<u64>,
    /// From the instant at which the last link carried to settled: what links do not explain.
    pub after_links_ns: Option<u64>,
    /// The link whose first packet came last; `null` if one had none.
    pub last_link: Option<NamedLink>,
    /// The last of the links' first SYN-ACKs. It is evidence and moves no boundary.
    pub last_synack_ns: Option<MonoNs>,
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

#[expect(clippy::ref_option, reason = "serde hands it the field")]
fn maybe_traffic<S: serde::Serializer>(traffic: &Option<Traffic>, serializer: S) -> Result<S::Ok, S::Error> {
    match traffic {
        Some(traffic) => whole_traffic(traffic, serializer),
        None => serializer.serialize_none(),
    }
}

/// The shape as asked, and after drawing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapePair {
    /// As asked.
    pub asked: Shape,
    /// After drawing, roles and presets; `null` if a role could not be resolved.
    #[schemars(with = "Option<Shape>")]
    pub resolved: Option<Shape<PeerName>>,
    /// Which of its directions were cut.
    #[serde(default)]
    pub direction: Direction,
    /// The peers of each role in the shape, at the moment of the request.
    #[serde(default)]
    pub roles: RolePeers,
}

impl ShapePair {
    /// The resolved shape and who had its roles, in words; the shape as asked where a role could not be resolved.
    pub fn words(&self) -> String {
        let shape = match &self.resolved {
            Some(resolved) => resolved.to_string(),
            None => format!("{} (not resolved)", self.asked),
        };
        format!("{shape}{}", role_suffix(&self.roles))
    }
}

/// The peers of each role as a suffix of a shape; empty without roles.
pub fn role_suffix(roles: &RolePeers) -> String {
    if roles.is_empty() { String::new() } else { format!(" ({})", role_words(roles)) }
}

/// The peers of each role, in words.
pub fn role_words(roles: &RolePeers) -> String {
    let held = roles.iter().map(|(role, peers)| format!("{ROLE_SIGN}{role} = {}", joined(peers, ",")));
    held.collect::<Vec<_>>().join(", ")
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
    /// Whose clock every stamp of this record is of; `null` in records of older versions.
    #[serde(default)]
    pub clock: Option<HostClock>,
    /// The campaign's trial index.
    pub trial: Option<u64>,
    /// The attempt at that trial, from 1.
    pub attempt: Option<u32>,
    /// What was cut.
    pub shape: ShapePair,
    /// What the cut did to the packets of its links; `null` in records of older versions.
    #[serde(default, serialize_with = "maybe_traffic")]
    pub traffic: Option<Traffic>,
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
    /// The outages of the required endpoints together, by name; `null` before the heal.
    pub outage: Option<Vec<ClusterOutage>>,
    /// From heal end to the instant at which all required endpoints were ready.
    pub heal_to_ready_ns: Option<u64>,
    /// The same, settled.
    pub heal_to_settled_ns: Option<u64>,
    /// The instrument's own condition.
    pub host: HostRecord,
    /// Whether the host starved the instrument.
    pub starved: bool,
    /// What makes this record doubtful (a foreign program that runs before ours, …).
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Events lost during the trial; `null` where the count could not be read.
    pub lost_events: Option<u64>,
    /// Whether at least one of the partition's links is proved, and none was not in force.
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

impl RecoveryRecord {
    /// The first link whose cut was not in force. If there is none and the verdict is strict, the first link for which it is
    /// unknown whether its cut was.
    pub fn link_not_in_force(&self, verdict: &VerdictOptions) -> Option<(&LinkRecord, InForce)> {
        let first = |in_force| {
            let link = self.links.iter().find(|link| link.in_force == Some(in_force))?;
            Some((link, in_force))
        };
        first(InForce::No).or_else(|| first(InForce::Unknown).filter(|_| verdict.strict))
    }
}
