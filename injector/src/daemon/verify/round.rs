//! One try of the active check: the namespaces of the peers meet, each sends its frames and listens for the others'.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use injector_common::packet::CHECK_ETHERTYPE;
use tokio::sync::{mpsc, watch};
use tokio::time::{timeout, timeout_at};

use crate::daemon::attachment::Nic;
use crate::netns::{Identity, Worker};
use crate::packet_socket::PacketSocket;
use injector_core::clock::MonoNs;
use injector_core::model::Link;

/// How many frames each pair of interfaces gets in a try.
pub const COPIES: u8 = 3;
/// How long a namespace waits for the others to listen.
const MEET: Duration = Duration::from_millis(100);
/// How long it listens after it has sent.
const LISTEN: Duration = Duration::from_millis(100);
/// How long a receiver must have listened after a frame was sent, for its silence to mean something.
const ON_ITS_WAY: Duration = Duration::from_millis(30);
/// The shortest frame of Ethernet, without its checksum.
const SHORTEST: usize = 60;
/// What the payload begins with.
const MAGIC: [u8; 4] = *b"injc";

/// A link, and two interfaces between which it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// The link.
    pub link: Link,
    /// The sender's interface,
    pub from: Nic,
    /// and the namespace that it is in.
    pub sender: Identity,
    /// The receiver's,
    pub to: Nic,
    /// and its namespace.
    pub receiver: Identity,
}

/// What all namespaces share in one try.
pub struct Round {
    /// Of one partition's check, and no other.
    pub token: u64,
    /// 0 is the control.
    pub number: u32,
    /// Who sends to whom.
    pub trips: Vec<Trip>,
    /// From then on nothing is sent.
    pub until: MonoNs,
    /// Nothing is sent once this is set: the cut is about to begin, or over.
    pub stop: Arc<AtomicBool>,
    /// How many namespaces listen.
    present: watch::Sender<usize>,
}

/// What one namespace did and received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// From when to when it listened.
    pub listened: (MonoNs, MonoNs),
    /// Before the first and after the last frame that it sent.
    pub sending: (MonoNs, MonoNs),
    /// How many frames it sent, by the number of the trip.
    pub sent: BTreeMap<usize, u64>,
    /// How many arrived there.
    pub arrived: BTreeMap<usize, u64>,
    /// The first refusal of the kernel.
    pub fault: Option<String>,
}

/// How it comes back to the daemon's task.
pub struct Report {
    /// The check's,
    pub token: u64,
    /// and the number of its try.
    pub number: u32,
    /// Who reports.
    pub namespace: Identity,
    /// What it received, or why it took no part.
    pub received: Result<Incoming, String>,
}

/// Where reports go.
pub type Sink = mpsc::UnboundedSender<Report>;

/// What came of a trip whose sender and receiver both took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Frames sent.
    pub sent: u64,
    /// Frames that arrived.
    pub arrived: u64,
    /// When the last was sent.
    pub end: MonoNs,
}

impl Round {
    /// A try that nobody has taken part in yet.
    pub fn new(token: u64, number: u32, trips: Vec<Trip>, until: MonoNs, stop: Arc<AtomicBool>) -> Self {
        Self { token, number, trips, until, stop, present: watch::Sender::new(0) }
    }

    /// The namespaces that take part.
    pub fn spaces(&self) -> BTreeSet<Identity> {
        self.trips.iter().flat_map(|trip| [trip.sender, trip.receiver]).collect()
    }

    /// Asks a namespace's thread to take part; it reports in any case, unless it is gone or held up.
    pub fn ask(self: &Arc<Self>, worker: &Worker, sink: &Sink) {
        let (round, here, sink) = (self.clone(), worker.identity(), sink.clone());
        // A namespace that is gone reports nothing.
        let _ = worker.spawn(move || async move {
            let received = round.take_part(here).await.map_err(|error| error.to_string());
            let Self { token, number, .. } = *round;
            drop(sink.send(Report { token, number, namespace: here, received }));
        });
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || MonoNs::now() >= self.until
    }

    async fn take_part(&self, here: Identity) -> io::Result<Incoming> {
        if self.is_over() {
            return Err(io::Error::other("its thread was asked too late"));
        }
        let socket = PacketSocket::open(CHECK_ETHERTYPE)?;
        let from = MonoNs::now();
        let everyone = self.spaces().len();
        self.present.send_modify(|present| *present += 1);
        // Those that do not come in time do not keep the others.
        let _ = timeout(MEET, self.present.subscribe().wait_for(|present| *present >= everyone)).await;
        let begin = MonoNs::now();
        let (sent, fault) = self.send(&socket, here);
        let end = MonoNs::now();
        let arrived = self.listen(&socket, here).await;
        Ok(Incoming { listened: (from, MonoNs::now()), sending: (begin, end), sent, arrived, fault })
    }

    fn send(&self, socket: &PacketSocket, here: Identity) -> (BTreeMap<usize, u64>, Option<String>) {
        let (mut sent, mut fault) = (BTreeMap::new(), None);
        for (at, trip) in self.trips.iter().enumerate().filter(|(_, trip)| trip.sender == here) {
            for copy in 0..COPIES {
                if self.is_over() {
                    return (sent, fault);
                }
                match socket.send(trip.from.index, &self.frame(at, copy)) {
                    Ok(()) => *sent.entry(at).or_default() += 1,
                    Err(error) => drop(fault.get_or_insert_with(|| error.to_string())),
                }
            }
        }
        (sent, fault)
    }

    /// Listens until all have arrived that can, or long enough.
    async fn listen(&self, socket: &PacketSocket, here: Identity) -> BTreeMap<usize, u64> {
        let trips = self.trips.iter().filter(|trip| trip.receiver == here).count();
        let mut seen = BTreeSet::new();
        let end = tokio::time::Instant::now() + LISTEN;
        while seen.len() < trips * usize::from(COPIES) {
            match timeout_at(end, socket.receive()).await {
                Err(_) => break,
                Ok(Ok(frame)) => seen.extend(self.read(&frame, here)),
                // An interface went down; the others are still received.
                Ok(Err(_)) => tokio::task::yield_now().await,
            }
        }
        let mut arrived = BTreeMap::new();
        for (trip, _) in seen {
            *arrived.entry(trip).or_default() += 1;
        }
        arrived
    }

    /// One copy of a trip's frame.
    fn frame(&self, at: usize, copy: u8) -> Vec<u8> {
        let trip = &self.trips[at];
        let mut frame = [trip.to.mac, trip.from.mac].concat();
        frame.extend(CHECK_ETHERTYPE.to_be_bytes());
        frame.extend(MAGIC);
        frame.extend(self.token.to_be_bytes());
        frame.extend(self.number.to_be_bytes());
        frame.extend((at as u32).to_be_bytes());
        frame.push(copy);
        frame.resize(SHORTEST, 0);
        frame
    }

    /// The trip and the copy of a frame that arrived in a namespace; `None` if it is none of this try's.
    fn read(&self, frame: &[u8], here: Identity) -> Option<(usize, u8)> {
        let number = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let at = number(30)? as usize;
        let copy = *frame.get(34)?;
        let is_here = self.trips.get(at)?.receiver == here;
        (is_here && copy < COPIES && frame == self.frame(at, copy)).then_some((at, copy))
    }

    /// What came of a trip.
    ///
    /// # Errors
    /// Why nothing can be said of it.
    pub fn outcome(
        &self,
        at: usize,
        reports: &BTreeMap<Identity, Result<Incoming, String>>,
    ) -> Result<Outcome, Silence> {
        let trip = &self.trips[at];
        let of = |space, nic: &Nic| match reports.get(&space) {
            Some(Ok(received)) => Ok(received),
            Some(Err(error)) => Err(Silence::Failed(nic.clone(), error.clone())),
            None => Err(Silence::NoAnswer(nic.clone())),
        };
        let (sender, receiver) = (of(trip.sender, &trip.from)?, of(trip.receiver, &trip.to)?);
        let Some(sent) = sender.sent.get(&at).copied() else {
            return Err(sender
                .fault
                .clone()
                .map_or(Silence::Late, |fault| Silence::Failed(trip.from.clone(), fault)));
        };
        let arrived = receiver.arrived.get(&at).copied().unwrap_or(0);
        let (begin, end) = sender.sending;
        let has_listened = receiver.listened.0 <= begin && receiver.listened.1 >= end + ON_ITS_WAY;
        if arrived < sent && !has_listened {
            return Err(Silence::Late);
        }
        Ok(Outcome { sent, arrived, end })
    }
}

/// Why nothing can be said of a trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The namespace of this interface did not answer in time.
    NoAnswer(Nic),
    /// The kernel refused, in the namespace of this interface.
    Failed(Nic, String),
    /// The two namespaces did not meet in time.
    Late,
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::model::PeerId;

    fn nic(last: u8) -> Nic {
        Nic { netns: None, index: u32::from(last), mac: [2, 0, 0, 0, 0, last] }
    }

    fn round(number: u32) -> Round {
        let here = Identity::now(None).unwrap();
        let link = Link { src: PeerId(1), dst: PeerId(2) };
        let trip = Trip { link, from: nic(1), sender: here, to: nic(2), receiver: here };
        Round::new(7, number, vec![trip], MonoNs(u64::MAX), Arc::default())
    }

    #[test]
    fn frames_are_read_in_their_own_try_alone() {
        let here = Identity::now(None).unwrap();
        let (first, second) = (round(1), round(2));
        let frame = first.frame(0, 2);
        assert_eq!(frame.len(), SHORTEST);
        assert_eq!(first.read(&frame, here), Some((0, 2)));
        assert_eq!(second.read(&frame, here), None);
        assert_eq!(Round { token: 8, ..round(1) }.read(&frame, here), None);
        assert_eq!(first.read(&frame[..34], here), None);
        let mut another = frame;
        another[33] = 1;
        assert_eq!(first.read(&another, here), None, "no such trip");
    }

    #[test]
    fn silence_counts_only_where_the_receiver_listened() {
        let here = Identity::now(None).unwrap();
        let round = round(1);
        let ms = |ms: u64| MonoNs(ms * 1_000_000);
        let outcome = |listened: (u64, u64), sent: u64, arrived: u64| {
            let received = Incoming {
                listened: (ms(listened.0), ms(listened.1)),
                sending: (ms(10), ms(11)),
                sent: BTreeMap::from([(0, sent)]),
                arrived: BTreeMap::from([(0, arrived)]),
                fault: None,
            };
            round.outcome(0, &BTreeMap::from([(here, Ok(received))]))
        };
        let of = |arrived| Ok(Outcome { sent: 3, arrived, end: ms(11) });
        assert_eq!(outcome((9, 100), 3, 0), of(0));
        assert_eq!(outcome((9, 12), 3, 3), of(3), "it need not wait for more");
        assert_eq!(outcome((9, 12), 3, 2), Err(Silence::Late));
        assert_eq!(outcome((11, 100), 3, 0), Err(Silence::Late), "it came after the first was sent");
        assert_eq!(round.outcome(0, &BTreeMap::new()), Err(Silence::NoAnswer(nic(1))));
        let failed = BTreeMap::from([(here, Err("no".to_owned()))]);
        assert_eq!(round.outcome(0, &failed), Err(Silence::Failed(nic(1), "no".to_owned())));
    }
}
