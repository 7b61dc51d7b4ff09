//! One try of the active check: the namespaces of the peers meet, each sends its frames and listens for the others'.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, select_all};
use injector_common::packet::{CHECK_ETHERTYPE, CHECK_MAGIC, CHECK_PROTOCOL};
use tokio::sync::{mpsc, watch};
use tokio::time::{timeout, timeout_at};

use super::form::{ETHERNET, Form};
use crate::daemon::attachment::Nic;
use crate::ip_socket::{IpSocket, Version};
use crate::netns::{Identity, Worker};
use crate::packet_socket::PacketSocket;
use injector_core::clock::MonoNs;
use injector_core::model::Link;

/// How many frames of each form each pair of interfaces gets in a try.
pub const COPIES: u8 = 3;
/// How long a namespace waits for the others to listen.
const MEET: Duration = Duration::from_millis(100);
/// How long it listens after it has sent.
const LISTEN: Duration = Duration::from_millis(100);
/// How long a receiver must have listened after a frame was sent, for its silence to mean something.
const ON_ITS_WAY: Duration = Duration::from_millis(30);

/// A link, two interfaces between which it is tried, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPath {
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
    /// The form of its frames.
    pub form: Form,
}

/// The parts of one try that all namespaces share.
pub struct Round {
    /// The token of one partition's check, and no other.
    pub token: u64,
    /// 0 is the control.
    pub number: u32,
    /// The senders and receivers of the try.
    pub paths: Vec<CheckPath>,
    /// The instant from which on nothing is sent.
    pub until: MonoNs,
    /// Nothing is sent once this is set: the cut is about to begin, or over.
    pub stop: Arc<AtomicBool>,
    /// How many namespaces listen.
    present: watch::Sender<usize>,
    /// The namespaces that listen for packets of IP: to others none are sent, since their kernel would answer
    /// by an ICMP error, which moves states of neighbours.
    ip_receivers: Mutex<BTreeSet<Identity>>,
}

/// While it is there, packets of IP are sent to a namespace.
struct IpReceiver<'a>(&'a Round, Identity);

impl Drop for IpReceiver<'_> {
    fn drop(&mut self) {
        self.0.ip_receivers().remove(&self.1);
    }
}

/// The sockets that a namespace listens on.
struct Sockets {
    packet: PacketSocket,
    ip: Vec<(Version, IpSocket)>,
}

/// A payload, and over which IP it came, if over any.
type ReceivedPayload = (Option<Version>, Vec<u8>);

impl Sockets {
    /// The next payload, whichever of them it comes by.
    async fn receive(&self) -> io::Result<ReceivedPayload> {
        let framed = async {
            let mut frame = self.packet.receive().await?;
            frame.drain(..ETHERNET.min(frame.len()));
            Ok::<ReceivedPayload, io::Error>((None, frame))
        };
        let mut all: Vec<LocalBoxFuture<'_, io::Result<ReceivedPayload>>> = vec![framed.boxed_local()];
        for (version, socket) in &self.ip {
            let packets =
                async { Ok::<ReceivedPayload, io::Error>((Some(*version), socket.receive().await?)) };
            all.push(packets.boxed_local());
        }
        select_all(all).await.0
    }
}

/// The times and frames of one namespace in a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// When it began and ended to listen.
    pub listened: (MonoNs, MonoNs),
    /// The instants before the first and after the last frame that it sent.
    pub sending: (MonoNs, MonoNs),
    /// How many frames it sent, by the number of the path.
    pub sent: BTreeMap<usize, u64>,
    /// How many arrived there.
    pub arrived: BTreeMap<usize, u64>,
    /// The first refusal of the kernel.
    pub fault: Option<String>,
}

/// The report of a namespace, on its way back to the daemon's task.
pub struct Report {
    /// The check's,
    pub token: u64,
    /// and the number of its try.
    pub number: u32,
    /// The namespace that reports.
    pub namespace: Identity,
    /// The frames that it received, or why it took no part.
    pub received: Result<Incoming, String>,
}

/// The channel that reports go to.
pub type Sink = mpsc::UnboundedSender<Report>;

/// The result for a path whose sender and receiver both took part.
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
    pub fn new(token: u64, number: u32, paths: Vec<CheckPath>, until: MonoNs, stop: Arc<AtomicBool>) -> Self {
        let present = watch::Sender::new(0);
        Self { token, number, paths, until, stop, present, ip_receivers: Mutex::default() }
    }

    /// The namespaces that take part.
    pub fn spaces(&self) -> BTreeSet<Identity> {
        self.paths.iter().flat_map(|path| [path.sender, path.receiver]).collect()
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
        let packet = PacketSocket::open(CHECK_ETHERTYPE)?;
        let (ip, refused) = self.ip_sockets(here);
        let sockets = Sockets { packet, ip };
        let ip_receiver = (!sockets.ip.is_empty()).then(|| self.register_receiver(here));
        let from = MonoNs::now();
        let everyone = self.spaces().len();
        self.present.send_modify(|present| *present += 1);
        // Namespaces that are not ready in time do not keep the others waiting.
        let _ = timeout(MEET, self.present.subscribe().wait_for(|present| *present >= everyone)).await;
        let begin = MonoNs::now();
        let (sent, fault) = self.send(&sockets.packet, here);
        let fault = fault.or(refused);
        let end = MonoNs::now();
        let arrived = self.listen(&sockets, here).await;
        if ip_receiver.is_some() {
            drop(ip_receiver);
            // Packets sent until now may still be on their way, and nothing else would take them.
            let ip = sockets.ip;
            tokio::task::spawn_local(async move {
                tokio::time::sleep(ON_ITS_WAY).await;
                drop(ip);
            });
        }
        Ok(Incoming { listened: (from, MonoNs::now()), sending: (begin, end), sent, arrived, fault })
    }

    /// Opens what a namespace needs to receive its packets of IP: all or, with the reason, nothing.
    fn ip_sockets(&self, here: Identity) -> (Vec<(Version, IpSocket)>, Option<String>) {
        let mine = self.paths.iter().filter(|path| path.receiver == here);
        let versions: BTreeSet<Version> = mine.filter_map(|path| path.form.version()).collect();
        let open = |version| IpSocket::open(version, CHECK_PROTOCOL).map(|socket| (version, socket));
        let opened: io::Result<Vec<_>> = versions.into_iter().map(open).collect();
        match opened {
            Ok(sockets) => (sockets, None),
            Err(error) => (Vec::new(), Some(format!("IP protocol {CHECK_PROTOCOL}: {error}"))),
        }
    }

    fn register_receiver(&self, here: Identity) -> IpReceiver<'_> {
        self.ip_receivers().insert(here);
        IpReceiver(self, here)
    }

    fn ip_receivers(&self) -> MutexGuard<'_, BTreeSet<Identity>> {
        self.ip_receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one frame, unless nobody takes it.
    fn send_one(&self, socket: &PacketSocket, at: usize, copy: u8) -> Option<io::Result<()>> {
        let path = &self.paths[at];
        // Held until the frame has arrived, as it has with the system call where both namespaces are on one machine.
        let ip_receivers = path.form.version().map(|_| self.ip_receivers());
        if ip_receivers.as_ref().is_some_and(|ip_receivers| !ip_receivers.contains(&path.receiver)) {
            return None;
        }
        Some(socket.send(path.from.index, &self.frame(at, copy)))
    }

    fn send(&self, socket: &PacketSocket, here: Identity) -> (BTreeMap<usize, u64>, Option<String>) {
        let (mut sent, mut fault) = (BTreeMap::new(), None);
        for (at, _) in self.paths.iter().enumerate().filter(|(_, path)| path.sender == here) {
            for copy in 0..COPIES {
                if self.is_over() {
                    return (sent, fault);
                }
                match self.send_one(socket, at, copy) {
                    Some(Ok(())) => *sent.entry(at).or_default() += 1,
                    Some(Err(error)) => drop(fault.get_or_insert_with(|| error.to_string())),
                    None => {}
                }
            }
        }
        (sent, fault)
    }

    /// Listens until all have arrived that can, or long enough.
    async fn listen(&self, sockets: &Sockets, here: Identity) -> BTreeMap<usize, u64> {
        let paths = self.paths.iter().filter(|path| path.receiver == here).count();
        let mut seen = BTreeSet::new();
        let end = tokio::time::Instant::now() + LISTEN;
        while seen.len() < paths * usize::from(COPIES) {
            match timeout_at(end, sockets.receive()).await {
                Err(_) => break,
                Ok(Ok((version, payload))) => seen.extend(self.read(&payload, version, here)),
                // An interface went down; the others are still received.
                Ok(Err(_)) => tokio::task::yield_now().await,
            }
        }
        let mut arrived = BTreeMap::new();
        for (path, _) in seen {
            *arrived.entry(path).or_default() += 1;
        }
        arrived
    }

    /// A copy of a path's frame.
    fn frame(&self, at: usize, copy: u8) -> Vec<u8> {
        let path = &self.paths[at];
        path.form.frame(path.from.mac, path.to.mac, &self.payload(at, copy))
    }

    fn payload(&self, at: usize, copy: u8) -> Vec<u8> {
        let mut payload = CHECK_MAGIC.to_vec();
        payload.extend(self.token.to_be_bytes());
        payload.extend(self.number.to_be_bytes());
        payload.extend((at as u32).to_be_bytes());
        payload.push(copy);
        payload
    }

    /// The path and the copy of a payload that arrived in a namespace; `None` if it is none of this try's. Ethernet may have
    /// padded it.
    fn read(&self, payload: &[u8], version: Option<Version>, here: Identity) -> Option<(usize, u8)> {
        let number = |at: usize| payload.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let at = number(16)? as usize;
        let copy = *payload.get(20)?;
        let path = self.paths.get(at)?;
        let is_here = path.receiver == here && path.form.version() == version;
        (is_here && copy < COPIES && payload.starts_with(&self.payload(at, copy))).then_some((at, copy))
    }

    /// The result for a path.
    ///
    /// # Errors
    /// Why the path has no result.
    pub fn outcome(
        &self,
        at: usize,
        reports: &BTreeMap<Identity, Result<Incoming, String>>,
    ) -> Result<Outcome, Silence> {
        let path = &self.paths[at];
        let of = |space, nic: &Nic| match reports.get(&space) {
            Some(Ok(received)) => Ok(received),
            Some(Err(error)) => Err(Silence::Failed(nic.clone(), error.clone())),
            None => Err(Silence::NoAnswer(nic.clone())),
        };
        let (sender, receiver) = (of(path.sender, &path.from)?, of(path.receiver, &path.to)?);
        let Some(sent) = sender.sent.get(&at).copied() else {
            return Err(sender
                .fault
                .clone()
                .map_or(Silence::Late, |fault| Silence::Failed(path.from.clone(), fault)));
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

/// Why nothing can be said of a path.
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
        let here = Identity::own().unwrap();
        let link = Link { src: PeerId(1), dst: PeerId(2) };
        let form = Form::Ethertype;
        let path = CheckPath { link, from: nic(1), sender: here, to: nic(2), receiver: here, form };
        Round::new(7, number, vec![path], MonoNs(u64::MAX), Arc::default())
    }

    #[test]
    fn frames_are_read_in_their_own_try_alone() {
        let here = Identity::own().unwrap();
        let (first, second) = (round(1), round(2));
        let payload = first.frame(0, 2).split_off(ETHERNET);
        assert_eq!(first.read(&payload, None, here), Some((0, 2)));
        assert_eq!(first.read(&payload, Some(Version::Four), here), None, "by another way");
        assert_eq!(second.read(&payload, None, here), None);
        assert_eq!(Round { token: 8, ..round(1) }.read(&payload, None, here), None);
        assert_eq!(first.read(&payload[..20], None, here), None);
        let mut another = payload;
        another[19] = 1;
        assert_eq!(first.read(&another, None, here), None, "no such path");
    }

    #[test]
    fn a_namespace_takes_packets_of_ip_as_long_as_it_says_so() {
        let (here, round) = (Identity::own().unwrap(), round(1));
        assert!(!round.ip_receivers().contains(&here));
        let ip_receiver = round.register_receiver(here);
        assert!(round.ip_receivers().contains(&here));
        drop(ip_receiver);
        assert!(!round.ip_receivers().contains(&here));
    }

    #[test]
    fn silence_counts_only_where_the_receiver_listened() {
        let here = Identity::own().unwrap();
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
