//! The commands of the API to the daemon: a closed set, each with its own kind of answer.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::sync::{broadcast, mpsc, oneshot};

use injector_core::api::{
    EnableRequest, EndpointAnswer, Event, Healed, PartitionRequest, PartitionView, ProbeView, Problem,
    RecoveryRecord, Status,
};
use injector_core::clock::MonoNs;
use injector_core::metrics::Reading;
use injector_core::sample::EndpointId;

/// The id of an API connection, for partitions that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The user that a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Root, or the daemon's own user.
    Privileged,
    /// Another user who may use the socket, by uid.
    Member(u32),
}

/// The origin of a request.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The connection.
    pub connection: ConnectionId,
    /// Its user.
    pub by: Requester,
}

/// Whether `PUT` takes effect or only reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Cut now (or at the request's `at`).
    Apply,
    /// Take a slot and write the links; a later enable cuts.
    Prepare,
    /// Answer the links that would be cut, and change nothing: the view has generation 0, is `prepared` and has no
    /// effective interval. The seed it names gives the same links again.
    DryRun,
}

/// The events after an id, a page of them at a time, and those to come. A reader that does not read holds no more than
/// that: there may be a hundred such readers, and ten thousand events.
pub struct EventFeed {
    /// The events that the history still holds, at most [`Self::PAGE`] of them.
    pub page: Vec<Arc<Event>>,
    /// Whether it holds more: then they are asked for after these.
    pub is_more: bool,
    /// The events that come after the history.
    pub live: broadcast::Receiver<Arc<Event>>,
}

impl EventFeed {
    /// How many events a reader is given at a time.
    pub const PAGE: usize = 256;
}

/// Partitions as they are listed. Those that are closed are shared: there may be a thousand, and the daemon's task has more
/// to do than to copy them.
pub struct Views(pub Vec<Arc<PartitionView>>);

impl Serialize for Views {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|view| &**view))
    }
}

/// The probes of a record, in scheduled order.
pub enum ProbeList {
    /// Those of a record that is closed, shared for the same reason.
    Closed(Arc<Vec<ProbeView>>),
    /// The order of those of an open partition, which are asked for part by part.
    Open {
        /// The partition,
        generation: u32,
        /// and the config whose endpoints they are of.
        config_number: u32,
        /// The number of the first probe of each endpoint.
        first: Vec<u64>,
        /// A key of each probe, by endpoints.
        keys: Vec<ProbeKey>,
    },
}

/// The place of a probe in a list: small, since a list may have half a million.
#[derive(Clone, Copy, Debug)]
pub struct ProbeKey {
    /// When it was due.
    pub scheduled: MonoNs,
    /// The index of its endpoint.
    pub endpoint: u32,
    /// How many of its endpoint come before it in the list.
    pub number: u32,
}

/// A part of a [`ProbeList::Open`].
pub struct ProbesPart {
    /// The partition.
    pub generation: u32,
    /// The config of the list.
    pub config_number: u32,
    /// The probes: endpoint, number since the start, and when it was due.
    pub wanted: Vec<(EndpointId, u64, MonoNs)>,
}

/// A recovery record, shared for the same reason: a hundred readers may wait for one of thousands of links.
#[derive(Clone)]
pub struct Record(pub Arc<RecoveryRecord>);

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The channel that an answer goes to.
pub type Reply<T> = oneshot::Sender<T>;

/// Finds whether a client is gone: a [`Reply`] closes only once the runtime has noticed.
pub type IsGone = Box<dyn Fn() -> bool + Send>;

/// A request to the one task that owns the daemon's state.
pub enum Command {
    /// `GET /v1/status`.
    Status(Reply<Status>),
    /// `GET /metrics`.
    Metrics(Reply<Box<Reading>>),
    /// `PUT /v1/partitions/{name}` and `POST …/prepare`.
    Apply {
        /// The partition's name.
        name: String,
        /// The partition to cut.
        request: Box<PartitionRequest>,
        /// Whether to cut.
        step: PutMode,
        /// The link from which on its links are listed, if that is asked for.
        from: Option<usize>,
        /// Where it comes from.
        whose: Origin,
        /// Whether its client is gone: nobody would know what was cut.
        is_gone: IsGone,
        /// The view after it took effect.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `POST …/enable`.
    Enable {
        /// The partition's name.
        name: String,
        /// The start of the cut, and the partition's owner from then on.
        request: EnableRequest,
        /// The caller.
        whose: Origin,
        /// Whether its client is gone.
        is_gone: IsGone,
        /// The view after it took effect.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `DELETE /v1/partitions/{name}`.
    Heal {
        /// The partition's name.
        name: String,
        /// The heal: when, and by what.
        reply: Reply<Result<Healed, Problem>>,
    },
    /// `DELETE /v1/partitions`: all live ones.
    HealAll(Reply<Result<Vec<Healed>, Problem>>),
    /// `GET /v1/partitions`: those not closed, and the closed ones still kept.
    Partitions(Reply<Views>),
    /// `GET /v1/partitions/{name}`: the newest of that name.
    Partition {
        /// The partition's name.
        name: String,
        /// The link from which on its links are listed, if that is asked for.
        from: Option<usize>,
        /// Its view.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `GET …/recovery`: answered when the record is final, or after `wait`.
    Recovery {
        /// The partition's name.
        name: String,
        /// The generation, among the partitions of that name; `None` is the newest.
        generation: Option<u32>,
        /// How long to hold the answer back while the record is not final.
        wait: Duration,
        /// The record as it then is.
        reply: Reply<Result<Record, Problem>>,
    },
    /// `GET …/probes`: every probe of the partition's record, in scheduled order.
    Probes {
        /// The partition's name.
        name: String,
        /// The generation, among the partitions of that name; `None` is the newest.
        generation: Option<u32>,
        /// The list.
        reply: Reply<Result<ProbeList, Problem>>,
    },
    /// Some of the probes of such a list.
    ProbesPart {
        /// Which.
        part: ProbesPart,
        /// Those probes.
        reply: Reply<Result<Vec<ProbeView>, Problem>>,
    },
    /// `POST /v1/probes`: runs every endpoint once and answers the results.
    ProbeOnce(Reply<Vec<EndpointAnswer>>),
    /// `POST /v1/marks`.
    Mark {
        /// The text.
        text: String,
        /// The event it became.
        reply: Reply<Event>,
    },
    /// `GET /v1/events?since=`.
    Events {
        /// The id after which events are wanted.
        since: u64,
        /// A page and the feed.
        reply: Reply<EventFeed>,
    },
    /// A connection ended; what it owned is healed.
    Disconnected(ConnectionId),
}

/// The way of the API to the daemon. Commands that heal have a queue of their own, which goes first: a heal
/// waits for no other command, whoever sent it.
#[derive(Clone, Debug)]
pub struct Handle {
    heals: mpsc::Sender<Sent>,
    others: mpsc::Sender<Sent>,
}

/// A command, and when it was sent.
struct Sent {
    command: Command,
    at: MonoNs,
}

/// The commands of the API, heals first.
#[derive(Debug)]
pub struct CommandReceiver {
    heals: mpsc::Receiver<Sent>,
    others: mpsc::Receiver<Sent>,
    sent_at: Option<MonoNs>,
}

impl Handle {
    /// Makes both ends; so many commands of each kind may wait.
    pub fn channel(waiting: usize) -> (Self, CommandReceiver) {
        let (heals, heals_asked) = mpsc::channel(waiting);
        let (others, others_asked) = mpsc::channel(waiting);
        (Self { heals, others }, CommandReceiver { heals: heals_asked, others: others_asked, sent_at: None })
    }

    fn queue(&self, command: &Command) -> &mpsc::Sender<Sent> {
        match command {
            Command::Heal { .. } | Command::HealAll(_) => &self.heals,
            _ => &self.others,
        }
    }

    /// Waits for a place in the queue; the command comes back if the daemon has ended.
    pub(super) async fn send(&self, command: Command) -> Result<(), mpsc::error::SendError<Command>> {
        let sent = self.queue(&command).send(Sent { command, at: MonoNs::now() }).await;
        sent.map_err(|mpsc::error::SendError(Sent { command, .. })| mpsc::error::SendError(command))
    }

    /// [`Self::send`] without waiting.
    pub(super) fn try_send(&self, command: Command) -> Result<(), mpsc::error::TrySendError<Command>> {
        use mpsc::error::TrySendError::{Closed, Full};
        let sent = self.queue(&command).try_send(Sent { command, at: MonoNs::now() });
        sent.map_err(|error| match error {
            Full(Sent { command, .. }) => Full(command),
            Closed(Sent { command, .. }) => Closed(command),
        })
    }
}

impl CommandReceiver {
    /// The next command; `None` once the API has ended. Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<Command> {
        let sent = tokio::select! {
            biased;
            Some(heal) = self.heals.recv() => Some(heal),
            other = self.others.recv() => other,
        };
        let Sent { command, at } = sent?;
        self.sent_at = Some(at);
        Some(command)
    }

    /// When the command that was received last was sent.
    pub fn sent_at(&self) -> Option<MonoNs> {
        self.sent_at
    }
}
