//! The scheduler: an open loop on an even grid of the monotonic clock.
//!
//! A slow answer never delays the next probe, and a late timer never moves the grid: probes carry the instant at
//! which they were due. Every tick of the grid yields exactly one [`Sample`]: a tick that this process could not keep, since it was
//! held up, yields one that was never sent.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Prober;
use super::in_flight::{ALL, Limit};
use injector_core::clock::MonoNs;
use injector_core::config::Endpoint;
use injector_core::sample::{EndpointId, FailureCode, IDLE_INTERVAL, ProbeFailure, Sample};

/// Ticks that are still sent when the timer fires late; older ones are failures.
const MAX_BURST: usize = 100;
/// The most probes of one endpoint under way, whatever its timeout; of all of them, [`super::in_flight::MOST`].
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

/// How many probes may be under way.
#[derive(Clone, Copy)]
struct Limits {
    /// Of this endpoint: over it, the endpoint has failed.
    own: usize,
    /// Of all endpoints: over it, the probe is not sent, which says nothing about its endpoint.
    all: &'static Limit,
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
    let own = in_flight_limit(config.probe.options.interval.0, config.probe.options.timeout.0);
    let limits = Limits { own, all: &ALL };
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
                        send_due(&mut grid, endpoint, &prober, limits, &mut under_way, &sink);
                        current = new;
                        grid = Grid::new(MonoNs::now(), interval(current, &config));
                    }
                }
                Err(_) => break,
            },
            Ok(()) = address.changed() => {
                send_due(&mut grid, endpoint, &prober, limits, &mut under_way, &sink);
                config.address = *address.borrow_and_update();
                prober = Rc::new(Prober::new(endpoint, &config, peer_name.as_deref()));
            }
            () = sleep_until(instant(grid.next)) => {}
        }
        send_due(&mut grid, endpoint, &prober, limits, &mut under_way, &sink);
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
    limits: Limits,
    under_way: &mut JoinSet<()>,
    sink: &mpsc::UnboundedSender<Sample>,
) {
    let ticks = grid.due(MonoNs::now());
    let skipped = ticks.len().saturating_sub(MAX_BURST);
    for (at, &scheduled) in ticks.iter().enumerate() {
        let permitted = if at < skipped {
            let text = format!("the prober fell behind by {} ticks: not sent", ticks.len());
            Err(ProbeFailure::new(FailureCode::Unsent, text))
        } else if under_way.len() >= limits.own {
            let text = format!("{} probes in flight: not sent", limits.own);
            Err(ProbeFailure::new(FailureCode::InFlight, text))
        } else {
            limits.all.take(under_way.len()).map_err(|most| {
                let text = format!("{most} probes of all endpoints in flight: not sent");
                ProbeFailure::new(FailureCode::Unsent, text)
            })
        };
        let permit = match permitted {
            Ok(permit) => permit,
            Err(refusal) => {
                let now = MonoNs::now();
                let failure = Some(refusal);
                let sample = Sample { endpoint, scheduled, begun: now, done: now, failure, source: None };
                // Without a receiver the loop ends at its next turn.
                let _ = sink.send(sample);
                continue;
            }
        };
        let prober = Rc::clone(prober);
        let sink = sink.clone();
        under_way.spawn_local(async move {
            let sample = prober.sample(scheduled).await;
            drop(permit);
            let _ = sink.send(sample);
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
    use injector_core::clock::Span;

    use super::super::test_server::{endpoint, get, on_one_thread, reported, serve};
    use super::*;

    #[test]
    fn a_probe_over_the_limit_of_its_endpoint_has_failed() {
        let limits = Limits { own: 2, all: &ALL };
        let refused = "2 probes in flight: not sent";
        let (timeout, code) = ("timeout after 200ms", FailureCode::InFlight);
        let wanted = [timeout, timeout, refused, refused, refused];
        assert_eq!(five_probes_of_a_server_that_hangs(limits), (wanted.map(str::to_owned), code));
    }

    #[test]
    fn a_probe_over_the_limit_of_all_endpoints_was_never_sent() {
        static OTHERS: Limit = Limit::new(3);
        let _held = [OTHERS.take(1), OTHERS.take(1), OTHERS.take(1)];
        // One probe of each endpoint is always sent.
        let refused = "3 probes of all endpoints in flight: not sent";
        let wanted = ["timeout after 200ms", refused, refused, refused, refused];
        let found = five_probes_of_a_server_that_hangs(Limits { own: 2, all: &OTHERS });
        assert_eq!(found, (wanted.map(str::to_owned), FailureCode::Unsent));
    }

    /// How each of five probes ended, and the code of the last one.
    fn five_probes_of_a_server_that_hangs(limits: Limits) -> ([String; 5], FailureCode) {
        on_one_thread(async {
            let (address, _) = serve(|stream| async move {
                let _held = stream;
                std::future::pending::<()>().await;
            })
            .await;
            let mut config = endpoint(address, get(address));
            config.probe.options.timeout = Span::millis(200);
            // Also how late a busy machine may be.
            config.probe.options.interval = Span::secs(60);
            let prober = Rc::new(Prober::new(EndpointId(0), &config, None));
            let (sink, mut results) = mpsc::unbounded_channel();
            let mut under_way = JoinSet::new();
            let mut grid = Grid::new(MonoNs::now() - Duration::from_secs(45), Duration::from_secs(10));
            send_due(&mut grid, EndpointId(0), &prober, limits, &mut under_way, &sink);
            while under_way.join_next().await.is_some() {}
            let samples = reported(&mut results);
            let failures: Vec<_> = samples.into_iter().map(|sample| sample.failure.unwrap()).collect();
            let code = failures.last().unwrap().code;
            let texts: Vec<String> = failures.iter().map(|failure| failure.text.to_string()).collect();
            (texts.try_into().unwrap(), code)
        })
    }

    /// What is asked a second late is no answer to how the endpoint was a second ago.
    #[test]
    fn probes_that_are_begun_late_are_never_sent() {
        static LIMIT: Limit = Limit::new(100);
        on_one_thread(async {
            let (address, _) = serve(|stream| async move { drop(stream) }).await;
            let mut config = endpoint(address, get(address));
            config.probe.options.timeout = Span::secs(10);
            let prober = Rc::new(Prober::new(EndpointId(0), &config, None));
            let (sink, mut results) = mpsc::unbounded_channel();
            let mut under_way = JoinSet::new();
            let interval = Duration::from_secs(5);
            // Held up for 32 s: of seven ticks the last two are late by 2 and 7 s.
            let mut grid = Grid::new(MonoNs::now() - Duration::from_secs(32), interval);
            let limits = Limits { own: 100, all: &LIMIT };
            send_due(&mut grid, EndpointId(0), &prober, limits, &mut under_way, &sink);
            while under_way.join_next().await.is_some() {}
            let samples = reported(&mut results);
            let unsent: Vec<bool> = samples.iter().map(Sample::is_unsent).collect();
            assert_eq!(unsent, [true, true, true, true, true, false, false]);
            assert!(
                samples[0].failure.as_ref().unwrap().text.starts_with("this host held the daemon up for 3")
            );
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
