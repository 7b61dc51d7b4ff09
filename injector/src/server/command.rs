//! What the API asks of the daemon: a closed set, each with its own way to answer.

use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use injector_core::api::{
    EndpointAnswer, Event, Healed, PartitionRequest, PartitionView, ProbeView, Problem, RecoveryRecord,
    StartAt, Status,
};

/// One API connection, for partitions that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Whether `PUT` takes effect or only reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Cut now (or at the request's `at`).
    Apply,
    /// Take a slot and write the links; a later enable cuts.
    Prepare,
    /// Answer the links that would be cut, and change nothing: the view has generation 0, is `prepared` and has no
    /// effective interval. The seed it names gives the same links again.
    DryRun,
}

/// The events after an id, and those to come.
pub struct EventFeed {
    /// What the history still holds.
    pub backlog: Vec<Event>,
    /// What comes; a lagging reader learns how many it lost.
    pub live: broadcast::Receiver<Event>,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<T>;

/// A request to the one task that owns the daemon's state.
pub enum Command {
    /// `GET /v1/status`.
    Status(Reply<Status>),
    /// `PUT /v1/partitions/{name}` and `POST …/prepare`.
    Apply {
        /// The partition's name.
        name: String,
        /// What to cut.
        request: Box<PartitionRequest>,
        /// Whether to cut.
        step: Step,
        /// The connection it came by.
        connection: ConnectionId,
        /// The view after it took effect.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `POST …/enable`.
    Enable {
        /// The partition's name.
        name: String,
        /// When; `None` is now.
        at: Option<StartAt>,
        /// The view after it took effect.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `DELETE /v1/partitions/{name}`.
    Heal {
        /// The partition's name.
        name: String,
        /// When and by what it was healed.
        reply: Reply<Result<Healed, Problem>>,
    },
    /// `DELETE /v1/partitions`: all live ones.
    HealAll(Reply<Result<Vec<Healed>, Problem>>),
    /// `GET /v1/partitions`: those not closed, and the closed ones still kept.
    Partitions(Reply<Vec<PartitionView>>),
    /// `GET /v1/partitions/{name}`: the newest of that name.
    Partition {
        /// The partition's name.
        name: String,
        /// Its view.
        reply: Reply<Result<PartitionView, Problem>>,
    },
    /// `GET …/recovery`: answered when the record is final, or after `wait`.
    Recovery {
        /// The partition's name.
        name: String,
        /// Which of that name; `None` is the newest.
        generation: Option<u32>,
        /// How long to hold the answer back while the record is not final.
        wait: Duration,
        /// The record as it then is.
        reply: Reply<Result<Box<RecoveryRecord>, Problem>>,
    },
    /// `GET …/probes`: every probe of the partition's record, in scheduled order.
    Probes {
        /// The partition's name.
        name: String,
        /// Which of that name; `None` is the newest.
        generation: Option<u32>,
        /// The results.
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
        /// Only events with a larger id.
        since: u64,
        /// Backlog and feed.
        reply: Reply<EventFeed>,
    },
    /// A connection ended; what it owned is healed.
    Disconnected(ConnectionId),
}

/// How the API reaches the daemon.
pub type Handle = mpsc::Sender<Command>;
