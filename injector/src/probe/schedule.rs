//! The scheduler: an open loop on an even grid of the monotonic clock.
//!
//! A slow answer never delays the next probe, and a late timer never moves the grid: probes carry the instant at
//! which they were due. Every tick of the grid yields exactly one [`Sample`].

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Prober;
use injector_core::clock::{MonoNs, Span};
use injector_core::config::Endpoint;
use injector_core::sample::{EndpointId, FailureCode, ProbeFailure, Sample};

/// The interval between probes while nobody measures.
pub const IDLE_INTERVAL: Span = Span::millis(500);

/// Ticks that are still sent when the timer fires late; older ones are failures.
const MAX_BURST: usize = 100;
/// The most probes of one endpoint under way, whatever its timeout.
const MAX_IN_FLIGHT: usize = 1024;

/// How often to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Every [`IDLE_INTERVAL`], or at the endpoint's own interval if that is longer.
    Idle,
    /// At the endpoint's own interval.
    Full,
}

/// The parts that may change while an endpoint is probed.
pub struct Changes {
    /// How often.
    pub rate: watch::Receiver<Rate>,
    /// Where it is: a container may get another address.
    pub address: watch::Receiver<Option<IpAddr>>,
}

/// Probes one endpoint until the sender of the rate is gone (then the probes under way still report) or the
/// receiver of `sink` is (then they are dropped). Must be called inside a `LocalSet`.
///
/// A change of the rate takes effect at once: the new grid starts at that moment.
pub async fn run(
    endpoint: EndpointId,
    config: Endpoint,
    peer_name: Option<String>,
    rate: watch::Receiver<Rate>,
    sink: mpsc::UnboundedSender<Sample>,
) {
    let (_, address) = watch::channel(config.address);
    follow(endpoint, config, peer_name, Changes { rate, address }, sink).await;
}

/// [`run`] for an endpoint that may get another address: probes that are not under way yet go there.
pub async fn follow(
    endpoint: EndpointId,
    mut config: Endpoint,
    peer_name: Option<String>,
    news: Changes,
    sink: mpsc::UnboundedSender<Sample>,
) {
    let Changes { mut rate, mut address } = news;
    config.address = *address.borrow_and_update();
    let mut prober = Rc::new(Prober::new(endpoint, &config, peer_name.as_deref()));
    let limit = in_flight_limit(config.probe.options.interval.0, config.probe.options.timeout.0);
    let mut under_way = JoinSet::new();
    let mut current = *rate.borrow_and_update();
    let mut grid = Grid::new(MonoNs::now(), interval(current, &config));
    loop {
        crate::fault::here("probe/turn");
        tokio::select! {
            biased;
            () = sink.closed() => return,
            changed = rate.changed() => match changed {
                Ok(()) => {
                    let new = *rate.borrow_and_update();
                    if new != current {
                        // Ticks of the old grid that are due already are not lost.
                        send_due(&mut grid, endpoint, &prober, limit, &mut under_way, &sink);
                        current = new;
                        grid = Grid::new(MonoNs::now(), interval(current, &config));
                    }
                }
                Err(_) => break,
            },
            Ok(()) = address.changed() => {
                send_due(&mut grid, endpoint, &prober, limit, &mut under_way, &sink);
                config.address = *address.borrow_and_update();
                prober = Rc::new(Prober::new(endpoint, &config, peer_name.as_deref()));
            }
            () = sleep_until(instant(grid.next)) => {}
        }
        send_due(&mut grid, endpoint, &prober, limit, &mut under_way, &sink);
        while let Some(ended) = under_way.try_join_next() {
            propagate(ended);
        }
    }
    while let Some(ended) = under_way.join_next().await {
        propagate(ended);
    }
}

fn send_due(
    grid: &mut Grid,
    endpoint: EndpointId,
    prober: &Rc<Prober>,
    limit: usize,
    under_way: &mut JoinSet<()>,
    sink: &mpsc::UnboundedSender<Sample>,
) {
    let ticks = grid.due(MonoNs::now());
    let skipped = ticks.len().saturating_sub(MAX_BURST);
    for (at, &scheduled) in ticks.iter().enumerate() {
        let refusal = if at < skipped {
            let text = format!("the prober fell behind by {} ticks: not sent", ticks.len());
            Some(ProbeFailure::new(FailureCode::Unsent, text))
        } else if under_way.len() >= limit {
            Some(ProbeFailure::new(FailureCode::InFlight, format!("{limit} probes in flight: not sent")))
        } else {
            None
        };
        if refusal.is_some() {
            let now = MonoNs::now();
            let sample =
                Sample { endpoint, scheduled, begun: now, done: now, failure: refusal, source: None };
            // Without a receiver the loop ends at its next turn.
            let _ = sink.send(sample);
            continue;
        }
        let prober = Rc::clone(prober);
        let sink = sink.clone();
        under_way.spawn_local(async move {
            let _ = sink.send(prober.sample(scheduled).await);
        });
        while let Some(ended) = under_way.try_join_next() {
            propagate(ended);
        }
    }
}

/// A panic in a probe is a bug of ours and would lose a sample silently: it continues.
fn propagate(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

fn interval(rate: Rate, config: &Endpoint) -> Duration {
    match rate {
        Rate::Full => config.probe.options.interval.0,
        Rate::Idle => config.probe.options.interval.0.max(IDLE_INTERVAL.0),
    }
}

/// The most probes under way: as many as a server that never answers keeps open, and one burst.
fn in_flight_limit(interval: Duration, timeout: Duration) -> usize {
    let open = timeout.as_nanos().div_ceil(interval.as_nanos().max(1));
    usize::try_from(open).unwrap_or(MAX_IN_FLIGHT).saturating_add(MAX_BURST).min(MAX_IN_FLIGHT)
}

/// Tokio's instant for one of ours, as far as tokio's clock and ours run alike: over one tick.
fn instant(at: MonoNs) -> Instant {
    Instant::now() + at.saturating_since(MonoNs::now())
}

/// The instants `start + n·interval`.
struct Grid {
    next: MonoNs,
    interval: Duration,
}

impl Grid {
    fn new(start: MonoNs, interval: Duration) -> Self {
        Self { next: start, interval: interval.max(Duration::from_nanos(1)) }
    }

    /// Takes the ticks that are due at `now`, oldest first.
    fn due(&mut self, now: MonoNs) -> Vec<MonoNs> {
        let mut ticks = Vec::new();
        while self.next <= now {
            ticks.push(self.next);
            self.next = self.next + self.interval;
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{endpoint, get, on_one_thread, serve};
    use super::*;

    #[test]
    fn probes_over_the_limit_are_told() {
        on_one_thread(async {
            let (address, _) = serve(|stream| async move {
                let _held = stream;
                std::future::pending::<()>().await;
            })
            .await;
            let mut config = endpoint(address, get(address));
            config.probe.options.timeout = Span::millis(200);
            let prober = Rc::new(Prober::new(EndpointId(0), &config, None));
            let (sink, mut results) = mpsc::unbounded_channel();
            let mut under_way = JoinSet::new();
            let mut grid = Grid::new(MonoNs::now() - Duration::from_millis(49), Duration::from_millis(10));
            send_due(&mut grid, EndpointId(0), &prober, 2, &mut under_way, &sink);
            while under_way.join_next().await.is_some() {}
            let mut errors = Vec::new();
            while let Ok(sample) = results.try_recv() {
                errors.push((sample.scheduled, sample.failure.unwrap().text));
            }
            errors.sort();
            let texts: Vec<&str> = errors.iter().map(|(_, error)| error.as_str()).collect();
            let refused = "2 probes in flight: not sent";
            assert_eq!(texts, ["timeout after 200ms", "timeout after 200ms", refused, refused, refused]);
        });
    }

    #[test]
    fn the_limit_follows_timeout_and_interval() {
        let limit = |interval, timeout| {
            in_flight_limit(Duration::from_millis(interval), Duration::from_millis(timeout))
        };
        assert_eq!(limit(10, 1000), 200);
        assert_eq!(limit(300, 1000), 104);
        assert_eq!(limit(1, 60_000), 1024);
    }
}
