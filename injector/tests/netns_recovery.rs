//! Heal to ready: what counts as an answer, and the whole story of a small cluster.

injector_lab::group!(timed);

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use injector_core::api::{EndpointAnswer, Outcome, PartitionRequest, RecoveryRecord, WireSight};
use injector_core::clock::MonoNs;
use injector_core::model::Traffic;
use injector_lab::{Quorum, needs};
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab, ipv4};
use live::traffic::{Server, ServerMode, Stream};
use live::without_unread_hooks;

/// An answer is stamped in the kernel before the prober has read it; both clocks are one.
const NOT_BEFORE_THE_WIRE: Duration = Duration::from_millis(5);

fn endpoint(base: &str, port: u16, netns: &str) -> String {
    format!(
        "  - name: {base}\n    peers: [n1]\n    role: required\n    probe: {{ http: {{ url: \
         \"http://{{address}}:{port}/\", expect: {{ status: 200 }} }}, interval: 10ms, timeout: 1200ms }}\n    wire: {{ \
         port: {port}, success: http }}\n    netns: {netns}\n"
    )
}

/// It accepts and reads at once, and answers 900 ms late: a success counts when its answer is complete.
#[test]
#[needs(root)]
fn a_server_that_hangs_is_not_ready() {
    let lab = Lab::new(2);
    let (hanging, prompt) = (Server::start(&lab, "n1"), Server::start(&lab, "n1"));
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    // The prober sits on n2: its probes are on the links that are cut.
    config += "endpoints:\n";
    config += &endpoint("hanging", hanging.port(), &lab.netns("n2"));
    config += &endpoint("prompt", prompt.port(), &lab.netns("n2"));
    config += "ready: { consecutive: 5, observe: 1s, observe_max: 5s }\ndeadline: 10s\n";
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    // Before the cut: an answer that the cut catches would be seen on the wire again after the heal.
    hanging.set(ServerMode::Hanging);
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    // Longer than the probes' timeout, so that they fail during the cut.
    std::thread::sleep(Duration::from_millis(1_600));
    let heal = daemon.heal("p");
    std::thread::sleep(Duration::from_millis(900));
    let answered_from = MonoNs::now();
    hanging.set(ServerMode::Fine);
    let record = daemon.record("p");

    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:#?}");
    let of = |base: &str| record.endpoints.iter().find(|endpoint| endpoint.name.starts_with(base)).unwrap();
    let late = of("hanging");
    for stamp in [late.first_ok_ns, late.ready_ns, late.settled_ns, late.first_response_ns] {
        let stamp = stamp.unwrap_or_else(|| panic!("{record:#?}"));
        assert!(stamp >= answered_from, "{late:?}, answered from {answered_from:?}");
    }
    assert!(late.first_response_ns.unwrap() <= late.first_ok_ns.unwrap() + NOT_BEFORE_THE_WIRE, "{late:?}");
    assert_eq!((late.healthy_before, late.impaired), (Some(true), Some(true)));
    // What they say before the heal is of the cut on their own way.
    let outage = late.outage.as_ref().unwrap_or_else(|| panic!("{late:?}"));
    assert_eq!((outage.unseen, outage.before_heal_ns, outage.fail_over), (true, None, None), "{outage:?}");
    let cluster = record.outage.as_ref().unwrap();
    assert!(cluster.iter().all(|outage| outage.without_data > 0 && outage.all.is_none()), "{cluster:?}");
    let early = of("prompt");
    assert!(early.ready_ns.unwrap() < answered_from, "the other one was ready long before: {early:?}");
    assert!(early.first_ok_ns.unwrap() >= heal.at.begin_ns);
    assert!(record.heal_to_ready_ns.unwrap() >= 900_000_000);
}

/// A trial that begins too early, or with a sick endpoint, is no result: the record says why, and what to do instead, and that
/// helps.
#[test]
#[needs(root)]
fn a_cut_before_the_endpoint_is_healthy_says_why_and_what_to_do() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let seldom = endpoint("ingress", server.port(), &lab.netns("client")).replace("10ms", "700ms");
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let config =
        format!("{config}endpoints:\n{seldom}ready: {{ observe: 1s, observe_max: 5s }}\ndeadline: 1s\n");
    // What it drops proves the cuts.
    let _stream = Stream::start(&lab, "n1", "n2", Duration::from_millis(5));
    let daemon = Daemon::start(&config);
    let waited = |name: &str| {
        let output = daemon.cli(&["wait", name]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("; cut again once `injector wait --healthy` says that all are\n"), "{said}");
        said
    };
    let isolated = |name: &str, more: &[&str]| {
        let line = ["partition", "isolate", "n1", "--name", name, "--for", "500ms"];
        let output = daemon.cli(&[&line[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let warning = "  warning: 1 required endpoint is not healthy: ingress@n1; the outcome will be unknown: cut again once ";
    assert!(isolated("early", &["--dry-run"]).contains(warning), "before the cut, too");
    let said = isolated("early", &[]);
    assert!(said.contains(warning), "{said}");
    let said = waited("early");
    assert!(said.starts_with("early: unknown: ingress@n1 had fewer than 5 probes before the cut"), "{said}");
    assert_eq!(daemon.cli(&["wait", "--healthy"]).status.code(), Some(0));

    server.set(ServerMode::Failing);
    injector_lab::until("it is noticed", || {
        (daemon.status().endpoints[0].healthy == Some(false)).then_some(())
    });
    let said = without_unread_hooks(&isolated("other", &["--dry-run", "--advisory", "ingress"]));
    assert!(!said.contains("warning: "), "an advisory endpoint decides nothing: {said}");
    let said = isolated("sick", &[]);
    assert!(said.contains(warning), "{said}");
    let said = waited("sick");
    let why = "sick: unknown: ingress@n1 was not healthy before the cut: its last failed probe says \"";
    assert!(said.starts_with(why) && said.contains("503"), "{said}");

    server.set(ServerMode::Fine);
    assert_eq!(daemon.cli(&["wait", "--healthy"]).status.code(), Some(0));
    let said = without_unread_hooks(&isolated("good", &[]));
    assert!(!said.contains("warning: "), "{said}");
    assert_eq!(daemon.partition("good").not_healthy, Some(Vec::new()));
    let output = daemon.cli(&["wait", "good"]);
    let said = String::from_utf8(output.stdout).unwrap();
    // The client is no peer: its probes never fail, and the cut is felt by none of them.
    assert!(said.contains("  ready    at the heal\n  settled  at the heal\n"), "{said}");
    assert!(!said.contains("not healthy before") && !said.contains("fewer than"), "{said}");
}

/// It never comes back: the verdict is there at the deadline, and `wait` says so.
#[test]
#[needs(root)]
fn a_server_that_stays_away_is_not_recovered() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    config += &endpoint("ingress", server.port(), &lab.netns("client"));
    config += "ready: { consecutive: 5, observe: 1s, observe_max: 5s }\ndeadline: 1s\n";
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    let _stream = Stream::start(&lab, "n1", "n2", Duration::from_millis(5));
    let listener = lab.within("n2", || TcpListener::bind((ipv4(2), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let client = lab.within("n1", || TcpStream::connect(address).unwrap());
    let stuck = (client.local_addr().unwrap().port(), address.port());
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    server.set(ServerMode::Failing);
    std::thread::sleep(Duration::from_millis(300));
    daemon.heal("p");
    let output = daemon.cli(&["wait", "p", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let record: RecoveryRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record.outcome, Some(Outcome::NotRecovered));
    let endpoint = &record.endpoints[0];
    assert_eq!((endpoint.first_ok_ns, endpoint.settled_ns, endpoint.first_response_ns), (None, None, None));
    assert_eq!(record.heal_to_settled_ns, None);
    let tcp = |src: &str, dst: &str| {
        let link =
            record.links.iter().find(|link| (link.src.as_str(), link.dst.as_str()) == (src, dst)).unwrap();
        link.tcp.clone().unwrap_or_default()
    };
    let (there, back) = (tcp("n1", "n2"), tcp("n2", "n1"));
    let socket = there.iter().find(|socket| socket.remote_port == stuck.1).unwrap();
    assert_eq!((socket.state.as_str(), socket.local_port), ("established", stuck.0));
    assert!(back.iter().any(|socket| (socket.local_port, socket.remote_port) == (stuck.1, stuck.0)));
}

/// What a probe sees of a cut on its own way is no outage of the endpoint, however the config names the endpoint and the cut.
#[test]
#[needs(root)]
fn a_cut_on_the_probes_own_way_shows_nothing_of_the_endpoint() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let port = server.port();
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    config += &endpoint("named", port, &lab.netns("n2"));
    let (from, to) = (lab.netns("n2"), ipv4(1));
    writeln!(
        config,
        "  - {{ name: literal, netns: {from}, probe: {{ http: {{ url: \"http://{to}:{port}/\" }}, interval: 10ms }} }}"
    )
    .unwrap();
    config += "ready: { consecutive: 5, observe: 1s, observe_max: 5s }\ndeadline: 10s\n";
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    let unseen = |name: &str, scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let traffic = Traffic { scopes, ..Traffic::default() };
        let request = PartitionRequest { traffic, ..isolate("n1", Duration::from_millis(1_600)) };
        daemon.apply(name, &request);
        let record = daemon.record(name);
        let of = |base: &str| {
            let endpoint = record.endpoints.iter().find(|endpoint| endpoint.name.starts_with(base)).unwrap();
            let outage = endpoint.outage.as_ref().unwrap_or_else(|| panic!("{record:#?}"));
            (outage.unseen, outage.sum_ns.is_none())
        };
        [of("named"), of("literal")]
    };
    assert_eq!(unseen("whole", &[]), [(true, true); 2]);
    assert_eq!(unseen("port", &[&format!("tcp/{port}")]), [(true, true); 2]);
    assert_eq!(unseen("number", &["proto/6"]), [(true, true); 2]);
    // Other traffic than the probes'.
    assert_eq!(unseen("other", &["tcp/1", "udp"]), [(false, false); 2]);
}

/// A network namespace beside those of the lab; deleted when it is dropped.
struct OwnNamespace(String);

impl OwnNamespace {
    fn add(name: &str) -> Self {
        let done = Command::new("ip").args(["netns", "add", name]).status().unwrap();
        assert!(done.success(), "ip netns add {name}");
        Self(name.to_owned())
    }
}

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// A prober ends with its namespace, and reports no failure. Its silence is no service, neither in a record nor in `status`.
#[test]
#[needs(root)]
fn a_prober_that_is_gone_says_nothing() {
    let lab = Lab::new(2);
    let netns = format!("{}x", lab.netns("n1"));
    let own = OwnNamespace::add(&netns);
    let config = format!(
        "{}endpoints:\n  - {{ name: alive, role: required, netns: {netns}, probe: {{ exec: {{ command: [\"true\"] }}, interval: 100ms }} }}\n\
         ready: {{ consecutive: 2, observe: 3s, observe_max: 6s }}\ndeadline: 10s\n",
        lab.config(AttachPoint::OwnNic, "auto")
    );
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    let _stream = Stream::start(&lab, "n1", "n2", Duration::from_millis(5));
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    std::thread::sleep(Duration::from_millis(500));
    drop(own);
    daemon.heal("p");
    let record = daemon.record("p");
    let reason = record.outcome_reason.as_deref().unwrap();
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{reason}");
    assert!(reason.contains("no probe of alive has a result for "), "{reason}");
    assert_eq!((record.heal_to_settled_ns, record.endpoints[0].settled_ns), (None, None), "{record:#?}");
    assert_eq!(daemon.status().endpoints[0].healthy, None);
    let output = daemon.cli(&["wait", "--healthy", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    // What is cut now says that nothing is known.
    daemon.apply("q", &isolate("n1", Duration::from_millis(300)));
    let record = daemon.record("q");
    assert_ne!(record.outcome, Some(Outcome::Recovered), "{record:#?}");
    assert_eq!(record.endpoints[0].healthy_before, None);
}

/// `injector probe` says which answers the programs on the hooks would stamp.
#[test]
#[needs(root)]
fn a_probe_tells_what_is_seen_on_the_wire() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let (port, client) = (server.port(), lab.netns("client"));
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    config += &endpoint("fits", port, &client);
    config += &endpoint("other", port, &client).replace(&format!("wire: {{ port: {port}"), "wire: { port: 9");
    writeln!(
        config,
        "  - name: silent\n    peers: [n1]\n    probe: {{ tcp: {{ target: \"{{address}}:{port}\" }} }}\n    netns: {client}"
    )
    .unwrap();
    let daemon = Daemon::start(&config);
    let answers = || {
        let output = daemon.cli(&["probe", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers: Vec<EndpointAnswer> = serde_json::from_slice(&output.stdout).unwrap();
        let names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
        assert_eq!(names, ["fits@n1", "other@n1", "silent@n1"]);
        answers
    };
    let wires = |answers: &[EndpointAnswer]| answers.iter().map(|answer| answer.wire).collect::<Vec<_>>();
    // Twice, since the second look takes the slot of the first.
    for _ in 0..2 {
        let answers = answers();
        assert_eq!(wires(&answers), [Some(WireSight::Seen), Some(WireSight::NotSeen), None]);
        let fits = &answers[0];
        let seen = fits.wire_seen_ns.unwrap();
        assert!(fits.scheduled_ns < seen && seen <= fits.done_ns + NOT_BEFORE_THE_WIRE, "{fits:?}");
    }
    let daemons_own = daemon.cli(&["probe"]);
    assert!(String::from_utf8_lossy(&daemons_own.stdout).contains("not seen: the answer passes no"));
    for partition in 0..32 {
        daemon.apply(&format!("p{partition}"), &isolate("n2", Duration::from_mins(1)));
    }
    assert_eq!(wires(&answers()), [Some(WireSight::NotLooked), Some(WireSight::NotLooked), None]);
}

#[test]
#[needs(root, example = "quorum")]
fn a_cluster_recovers_and_tells_its_story() {
    let mut lab = Lab::new(3);
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/quorum");
    Quorum { program: &program, seed: 7, faults: &[], join: 0, listen: 1 }.start(&mut lab).unwrap();
    injector_lab::until("the nodes agree who leads", || Quorum::agree(&lab, "client").ok());
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    write!(
        config,
        "endpoints:\n  - name: ingress\n    peers: [n1, n2, n3]\n    role: required\n    probe: {{ http: {{ url: \
         \"http://{{address}}:8080/\", expect: {{ status: 200 }} }}, interval: 20ms, timeout: 1s }}\n    wire: {{ \
         port: 8080, success: http }}\n    netns: {}\nready: {{ consecutive: 5, observe: 2s, observe_max: 20s \
         }}\ndeadline: 20s\n",
        lab.netns("client")
    )
    .unwrap();
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    let output =
        daemon.cli(&["partition", "isolate", "n1", "--for", "3s", "--name", "story", "--deadline", "20s"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = daemon.cli(&["wait", "story", "--json"]);
    let record: RecoveryRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{record:#?}");
    assert_eq!(record.outcome, Some(Outcome::Recovered));
    assert!(record.proved && record.is_final);
    let heal = record.heal.unwrap();
    let cut_off = record.endpoints.iter().find(|endpoint| endpoint.name == "ingress@n1").unwrap();
    assert_eq!((cut_off.healthy_before, cut_off.impaired), (Some(true), Some(true)));
    let [response, first_ok, ready, settled] =
        [cut_off.first_response_ns, cut_off.first_ok_ns, cut_off.ready_ns, cut_off.settled_ns]
            .map(|stamp| stamp.unwrap_or_else(|| panic!("{cut_off:?}")));
    assert!(heal.begin_ns <= response && response <= first_ok + NOT_BEFORE_THE_WIRE, "{cut_off:?}");
    assert!(first_ok <= ready && ready <= settled, "{cut_off:?}");
    assert_eq!(record.heal_to_settled_ns, settled.since(heal.end_ns));
    for endpoint in record.endpoints.iter().filter(|endpoint| endpoint.name != "ingress@n1") {
        assert_eq!(endpoint.impaired, Some(false), "the majority never stopped: {endpoint:?}");
    }
    // Nothing can be ready before a majority is heard again.
    let first_packet = record.links.iter().filter_map(|link| link.first_packet_ns).min().unwrap();
    assert!(heal.begin_ns <= first_packet && first_packet <= first_ok, "{record:#?}");
}
