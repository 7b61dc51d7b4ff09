//! `GET /metrics` of the real daemon: history over closed partitions and reloads, by TCP, in a real Prometheus, and what
//! the sample dashboard asks for.

#[path = "../support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

mod dashboard;
mod prometheus;
mod samples;
mod tcp;

use std::time::Duration;

use injector_core::api::{ConfigOutcome, EventKind, Outcome, PartitionRequest};
use injector_core::clock::Span;
use injector_lab::http::Request;
use injector_lab::{CLIENT, http, needs};
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab};
use live::traffic::{Server, ServerMode, Stream};
use rustix::process::Signal;
use samples::Samples;

/// Where the daemon listens, in the client's namespace.
pub const LISTEN: &str = "127.0.0.1:9464";

/// Two peers with a service on `n1`, and a daemon in the client's namespace.
pub struct Fixture {
    // In the order of their end.
    daemon: Daemon,
    server: Server,
    lab: Lab,
}

impl Fixture {
    /// Starts it; `more` is added to the config.
    pub fn new(more: &str) -> Self {
        let lab = Lab::new(2);
        let server = Server::start(&lab, "n1");
        let config = Self::config(&lab, &server, more);
        let daemon = lab.within(CLIENT, || Daemon::start(&config));
        daemon.wait_healthy();
        Self { daemon, server, lab }
    }

    fn config(lab: &Lab, server: &Server, more: &str) -> String {
        format!(
            "{}endpoints: [{{ name: ingress, peers: [n1], netns: {}, probe: {{ http: {{ url: \
             \"http://{{address}}:{}/\" }}, interval: 10ms, timeout: 500ms }} }}]\n\
             ready: {{ consecutive: 3, observe: 200ms, observe_max: 10s }}\ndeadline: 20s\n\
             metrics: {{ listen: {LISTEN} }}\n{more}",
            lab.config(AttachPoint::OwnNic, "auto"),
            lab.netns("n2"),
            server.port()
        )
    }

    /// Cuts `n1` off, heals it, and waits for the record.
    pub fn cut(&self, name: &str) -> Outcome {
        let _stream = Stream::start(&self.lab, "n1", "n2", Duration::from_millis(5));
        self.daemon.apply(name, &isolate("n1", Duration::from_mins(1)));
        std::thread::sleep(Duration::from_millis(700));
        self.daemon.heal(name);
        self.daemon.record(name).outcome.unwrap()
    }

    /// The metrics by the Unix socket.
    pub fn metrics(&self) -> Samples {
        let (status, rest) = http::over_unix(self.daemon.socket(), &Request::get("/metrics")).unwrap();
        assert_eq!(status, 200, "{rest}");
        Samples::read(http::body(&rest))
    }

    fn reload(&self, more: &str) -> ConfigOutcome {
        let number = |daemon: &Daemon| {
            let text = String::from_utf8(daemon.cli(&["timeline", "--json"]).stdout).unwrap();
            let events =
                text.lines().map(|line| serde_json::from_str::<injector_core::api::Event>(line).unwrap());
            let outcomes = events.filter_map(|event| match event.kind {
                EventKind::Config { outcome, .. } => Some(outcome),
                _ => None,
            });
            outcomes.collect::<Vec<_>>()
        };
        let before = number(&self.daemon).len();
        self.daemon.rewrite(&Self::config(&self.lab, &self.server, more));
        self.daemon.signal(Signal::HUP);
        injector_lab::until("SIGHUP has a result", || number(&self.daemon).get(before).copied())
    }
}

#[test]
#[needs(root)]
fn what_closed_partitions_and_a_reload_leave_behind_is_kept_and_never_goes_down() {
    let fixture = Fixture::new("");
    let start = fixture.metrics();
    let closed = |samples: &Samples, outcome: &str| {
        samples.get("injector_partitions_closed_total", &[("shape", "isolate"), ("outcome", outcome)])
    };
    assert_eq!(start.get("injector_cuts_total", &[("shape", "isolate")]), Some(0.0));
    assert_eq!(
        closed(&start, "recovered"),
        Some(0.0),
        "a first one is an increase to whoever scraped before"
    );

    assert_eq!(fixture.cut("first"), Outcome::Recovered);
    let first = fixture.metrics();
    assert_eq!(closed(&first, "recovered"), Some(1.0));
    assert_eq!(closed(&first, "not_recovered"), Some(0.0));
    assert_eq!(first.get("injector_heals_total", &[("by", "request")]), Some(1.0));
    let ready = [("endpoint", "ingress@n1")];
    assert_eq!(first.get("injector_endpoint_heal_to_ready_seconds_count", &ready), Some(1.0));
    assert_eq!(first.get("injector_heal_to_settled_seconds_count", &[("shape", "isolate")]), Some(1.0));
    let n1 = [("peer", "n1"), ("outcome", "recovered")];
    assert_eq!(first.get("injector_peer_partitions_closed_total", &n1), Some(1.0), "n1 was cut off");
    let dropped = first.get("injector_dropped_packets_total", &[]).unwrap();
    assert!(dropped > 0.0, "the stream of n1 was dropped");
    assert_eq!(first.with("injector_partition_dropped_packets_total").count(), 0, "it is closed");
    for toggle in ["cut", "heal"] {
        let late = [("toggle", toggle), ("by", "request")];
        assert_eq!(first.get("injector_toggle_lateness_seconds_count", &late), Some(1.0), "{toggle}");
        assert!(first.get("injector_toggle_lateness_seconds_sum", &late).unwrap() < 5.0, "{toggle}");
    }

    // One whose service never comes back: no time, and no 0 in its place.
    let deadline = Some(Span(Duration::from_secs(1)));
    let request = PartitionRequest { deadline, ..isolate("n1", Duration::from_secs(2)) };
    fixture.daemon.apply("second", &request);
    fixture.server.set(ServerMode::Failing);
    assert_eq!(fixture.daemon.record("second").outcome, Some(Outcome::NotRecovered));
    let second = fixture.metrics();
    assert_eq!(closed(&second, "not_recovered"), Some(1.0));
    assert_eq!(second.get("injector_heal_to_settled_seconds_count", &[("shape", "isolate")]), Some(1.0));
    assert_eq!(second.get("injector_heals_total", &[("by", "deadline")]), Some(1.0));
    let noticed = [("toggle", "heal"), ("by", "clock")];
    assert_eq!(second.get("injector_toggle_lateness_seconds_count", &noticed), Some(1.0));

    assert_eq!(fixture.reload("max_for: 5m\n"), ConfigOutcome::InForce);
    let third = fixture.metrics();
    assert_eq!(third.get("injector_config_number", &[]), Some(2.0));
    assert_eq!(closed(&third, "recovered"), Some(1.0), "a reload keeps what was counted");
    for (before, after) in [(&start, &first), (&first, &second), (&second, &third)] {
        after.assert_not_below(before);
    }
}

/// A shape that cuts nobody off, and an outcome that says nothing.
#[test]
#[needs(root)]
fn what_is_not_known_is_counted_as_its_own() {
    let fixture = Fixture::new("");
    fixture.daemon.apply("one-way", &live::daemon::links(&[("n1", "n2")], Duration::from_millis(200)));
    let outcome = fixture.daemon.record("one-way").outcome.unwrap();
    let samples = fixture.metrics();
    let word = serde_json::to_value(outcome).unwrap();
    let word = word.as_str().unwrap();
    let nobody = [("peer", "(none)"), ("outcome", word)];
    assert_eq!(samples.get("injector_peer_partitions_closed_total", &nobody), Some(1.0), "{word}");
    let links = [("shape", "links"), ("outcome", word)];
    assert_eq!(samples.get("injector_partitions_closed_total", &links), Some(1.0));
}

/// A reload that would listen elsewhere is refused, and says what to do.
#[test]
#[needs(root)]
fn another_address_for_metrics_takes_a_restart() {
    let fixture = Fixture::new("");
    let config = Fixture::config(&fixture.lab, &fixture.server, "").replace(":9464", ":9465");
    fixture.daemon.rewrite(&config);
    fixture.daemon.signal(Signal::HUP);
    injector_lab::until("the reload is refused", || {
        fixture.daemon.log().contains("metrics.listen: has changed; restart the daemon").then_some(())
    });
    let served = fixture
        .lab
        .within(CLIENT, || http::over_tcp(LISTEN.parse().unwrap(), &Request::get("/metrics")).unwrap());
    assert_eq!(served.0, 200, "the old address is still answered");
}

#[test]
#[needs(root, tcx)]
fn programs_that_another_process_detaches_are_counted_also_through_a_reload() {
    let fixture = Fixture::new("");
    let lost = |from| fixture.metrics().get("injector_attachments_lost_total", &[("from", from)]);
    assert_eq!((lost("interface"), lost("cgroup")), (Some(0.0), Some(0.0)));
    let interfaces = fixture.daemon.status().attachments.len();
    assert_eq!(live::links::detach_all(fixture.daemon.id(), "tcx"), 2 * interfaces);
    // A status reads the hooks, and has the programs attached again.
    let is_attached =
        || fixture.daemon.status().attachments.iter().all(|attachment| attachment.hook.is_some());
    injector_lab::until("the losses are counted", || {
        (lost("interface") == Some(interfaces as f64)).then_some(()).or_else(|| {
            fixture.daemon.status();
            None
        })
    });
    injector_lab::until("the programs are attached again", || is_attached().then_some(()));
    assert_eq!(fixture.reload("max_for: 5m\n"), ConfigOutcome::InForce);
    assert_eq!((lost("interface"), lost("cgroup")), (Some(interfaces as f64), Some(0.0)));
}
