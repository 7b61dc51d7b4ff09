//! Active probes: open-loop stimuli of the endpoints, one file a kind and one scheduler.
//!
//! Everything here runs on the calling thread, in its network namespace: sockets and child processes are made
//! where the future is polled. The thread needs a current-thread runtime with a `LocalSet`.

#[cfg(test)]
#[path = "../../tests/support/authority.rs"]
mod authority;
mod dial;
mod exec;
mod failure;
mod fill;
mod grpc;
mod http;
pub mod in_flight;
mod io;
mod prepare;
pub mod role;
pub mod schedule;
mod starter;
mod tcp;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tls;
mod tls;
mod tls_fault;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use dial::Names;
use failure::Failure;
use fill::{ProbedPeer, Values};
use injector_core::clock::{MonoNs, Span};
use injector_core::config::{Endpoint, ProbeKind};
use injector_core::sample::{EndpointId, ProbeFailure, Sample, patience};
pub use prepare::prepare;
pub use schedule::{Rate, run};
use starter::Asker;
use tokio::time::timeout;

/// How long a source address that was looked up counts as the present one.
const SOURCE_LASTS: Duration = Duration::from_secs(1);

/// Runs one probe now, on a connection of its own. Must be called inside a `LocalSet`.
pub async fn once(endpoint: EndpointId, config: &Endpoint, peer_name: Option<&str>) -> Sample {
    let prober = Prober::new(endpoint, config, peer_name);
    prober.sample(MonoNs::now()).await
}

/// The parts that one endpoint's probes share: settings, the sequence number, kept connections.
struct Prober {
    endpoint: EndpointId,
    probed: ProbedPeer,
    kind: Kind,
    /// Where its packets go.
    destination: Option<IpAddr>,
    timeout: Span,
    /// How late a probe may begin: what is asked later says nothing of the instant at which it was due.
    patience: Duration,
    next_seq: Cell<u64>,
    /// When [`Self::source`] was last looked up, and the result.
    looked_up: Cell<Option<(MonoNs, Option<IpAddr>)>>,
}

/// The client that sends the probes of an endpoint.
enum Kind {
    Http(Box<http::Http>),
    Grpc(grpc::Grpc),
    Tcp(tcp::Tcp),
    Exec(exec::Exec),
}

impl Prober {
    fn new(endpoint: EndpointId, config: &Endpoint, peer_name: Option<&str>) -> Self {
        let connection = config.probe.options.connection;
        let names = Names { hosts: config.hosts.clone(), family: config.family };
        let kind = match &config.probe.kind {
            ProbeKind::Http(http) => Kind::Http(Box::new(http::Http::of_probe(http, names, connection))),
            ProbeKind::Grpc(grpc) => Kind::Grpc(grpc::Grpc::new(grpc, names, connection)),
            ProbeKind::Tcp(tcp) => Kind::Tcp(tcp::Tcp::new(tcp, names)),
            ProbeKind::Exec(command) => {
                Kind::Exec(exec::Exec::new(Asker::Endpoint(endpoint), command.clone()))
            }
        };
        Self {
            endpoint,
            probed: ProbedPeer { peer: peer_name.map(str::to_owned), address: config.address },
            kind,
            // Packets that stay on this host pass no hook.
            destination: config.destination(peer_name).filter(|address| !address.is_loopback()),
            timeout: config.probe.options.timeout,
            patience: patience(config.probe.options.interval, config.probe.options.timeout),
            next_seq: Cell::new(0),
            looked_up: Cell::new(None),
        }
    }

    /// Runs the probe that was due at `scheduled`; the timeout counts from its real beginning. Where this process is held up for
    /// longer than [`Self::patience`], the probe says nothing of its endpoint.
    async fn sample(&self, scheduled: MonoNs) -> Sample {
        let values = Values { probed: &self.probed, seq: self.next_seq.get() };
        self.next_seq.set(values.seq + 1);
        let begun = MonoNs::now();
        let late = begun.saturating_since(scheduled);
        let answer = if late > self.patience { Err(Failure::HeldUp(late)) } else { self.ask(&values).await };
        let done = MonoNs::now();
        // A timer that fires so late has waited for this process, and may have fired before an answer that was there was read.
        let late = done.saturating_since(begun + self.timeout.0);
        let answer = match answer {
            Err(Failure::Timeout(_)) if late > self.patience => Err(Failure::HeldUp(late)),
            answer => answer,
        };
        let failure = answer.err().map(|failure| ProbeFailure::new(failure.code(), failure.words()));
        Sample { endpoint: self.endpoint, scheduled, begun, done, failure, source: self.source(begun) }
    }

    /// The source address of a route to the endpoint's address, from this thread's namespace.
    fn source(&self, now: MonoNs) -> Option<IpAddr> {
        if let Some((at, found)) = self.looked_up.get()
            && now.saturating_since(at) < SOURCE_LASTS
        {
            return found;
        }
        let find = |address: IpAddr| {
            // Connecting a UDP socket sends nothing.
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect((address, 9)).ok()?;
            socket.local_addr().ok().map(|local| local.ip())
        };
        let found = self.destination.and_then(find);
        self.looked_up.set(Some((now, found)));
        found
    }

    async fn ask(&self, values: &Values<'_>) -> Result<(), Failure> {
        let limit = self.timeout.0;
        let late = |_| Failure::Timeout(self.timeout);
        match &self.kind {
            Kind::Http(http) => timeout(limit, http.probe(values)).await.map_err(late)?,
            Kind::Grpc(grpc) => timeout(limit, grpc.probe(values)).await.map_err(late)?,
            Kind::Tcp(tcp) => timeout(limit, tcp.probe(values)).await.map_err(late)?,
            // Whether it was started in time decides what its end without an answer says.
            Kind::Exec(exec) => exec.probe(values, self.timeout).await,
        }
    }
}
