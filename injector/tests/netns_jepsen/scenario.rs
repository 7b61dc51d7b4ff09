//! What every way to reach the daemons must do: each fault of Jepsen's protocols, and a run with its records.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, ISOLATED};
use crate::live::daemon::Daemon;
use crate::live::traffic::{KINDS, Kind, ServerMode, Stream, assert_cut, assert_flows};
use crate::suite::Suite;
use injector_lab::Lab;

/// The traffic that alone is checked where all kinds would take too long.
pub const UDP: [Kind; 1] = [Kind::Udp];

const PATIENCE: Duration = Duration::from_secs(20);
/// How long the slow node of [`records`] fails after the heal.
const SLOW: Duration = Duration::from_millis(800);

/// Every operation of the protocols, with the traffic that must and must not pass after each.
pub fn faults(lab: &Lab, suite: &mut Suite) {
    assert_flows(lab, &KINDS, "n1", "n2");
    suite.eval("(net/drop! n t \"n2\" \"n1\")");
    assert_cut(lab, &UDP, "n2", "n1");
    assert_flows(lab, &UDP, "n1", "n2");
    assert_flows(lab, &UDP, "n3", "n1");
    // Further drops join the first ones; empty sets drop nothing.
    suite.eval("(net/drop! n t \"n3\" \"n1\")");
    suite.eval("(net/drop! n t \"n3\" \"n1\")");
    suite.eval("(net/drop-all! n t {\"n2\" '(\"n3\") \"n3\" #{} \"n1\" []})");
    for (from, to) in [("n2", "n1"), ("n3", "n1"), ("n3", "n2")] {
        assert_cut(lab, &UDP, from, to);
    }
    assert_flows(lab, &UDP, "n1", "n3");
    suite.eval("(net/heal! n t)");
    for (from, to) in [("n2", "n1"), ("n3", "n1"), ("n3", "n2")] {
        assert_flows(lab, &UDP, from, to);
    }

    suite.eval(&format!("(net/drop-all! n t {ISOLATED})"));
    assert_cut(lab, &KINDS, "n1", "n2");
    assert_cut(lab, &KINDS, "n3", "n1");
    assert_flows(lab, &KINDS, "n2", "n3");
    suite.eval("(net/heal! n t)");
    assert_flows(lab, &KINDS, "n1", "n2");
    // As Jepsen's fallback for networks without drop-all!: each link by itself, at the same time.
    suite.eval(
        "(dorun (pmap #(net/drop! n t %1 %2) [\"n2\" \"n3\" \"n1\" \"n1\"] [\"n1\" \"n1\" \"n2\" \"n3\"]))",
    );
    assert_cut(lab, &KINDS, "n1", "n2");
    assert_cut(lab, &KINDS, "n1", "n3");
    suite.eval("(net/heal! n t)");
    suite.eval("(net/drop-all! n t {\"n1\" #{} \"n2\" nil})");
    suite.eval("(net/drop-all! n t {})");
    assert_flows(lab, &KINDS, "n1", "n3");

    suite.eval("(net/flaky! n t)");
    let share = arrived(lab);
    // Of 500 packets, each lost with probability 1/2: beyond six standard deviations.
    assert!((0.36..0.64).contains(&share), "{share} of the packets arrived");
    suite.eval("(net/fast! n t)");
    assert!(arrived(lab) > 0.99);
    let shaped = suite.eval("(net/shape! n t [\"n1\"] {:loss {:percent :100%}})");
    assert_eq!(shaped, serde_json::json!(["shaped", ["n1"], "loss", "100%"]));
    assert_cut(lab, &UDP, "n1", "n2");
    assert_cut(lab, &UDP, "n3", "n1");
    assert_flows(lab, &UDP, "n2", "n3");
    // Shaping replaces: what it was before does not count.
    suite.eval("(net/shape! n t [\"n3\"] {:loss {:percent 100}})");
    assert_flows(lab, &UDP, "n1", "n2");
    assert_cut(lab, &UDP, "n2", "n3");
    // Loss and drops are apart: one ends without the other.
    suite.eval("(net/drop! n t \"n2\" \"n1\")");
    assert_eq!(suite.eval("(net/shape! n t nil nil)"), serde_json::json!(["reliable", null]));
    assert_flows(lab, &UDP, "n2", "n3");
    assert_cut(lab, &UDP, "n2", "n1");
    suite.eval("(net/flaky! n t)");
    suite.eval("(net/heal! n t)");
    assert_flows(lab, &KINDS, "n1", "n2");
    assert!(arrived(lab) > 0.99);
}

/// The share of packets that get from n1 to n2.
fn arrived(lab: &Lab) -> f64 {
    let stream = Stream::start(lab, "n1", "n2", Duration::from_millis(2));
    std::thread::sleep(Duration::from_secs(1));
    let packets = stream.stop();
    assert!(packets.len() > 100, "{} packets", packets.len());
    packets.iter().filter(|packet| packet.received.is_some()).count() as f64 / packets.len() as f64
}

/// Partitions of others, and of another test, are nobody's but theirs.
pub fn others_stay(cluster: &Cluster, suite: &mut Suite) {
    let daemon = cluster.daemons.last().unwrap();
    let body = br#"{"shape": {"links": [{"src": "n2", "dst": "n3"}]}}"#;
    assert_eq!(daemon.raw("PUT", "/v1/partitions/theirs", body).0, 200);
    suite.eval("(net/drop! n t \"n1\" \"n3\")");
    suite.eval("(net/heal! n (assoc t :name \"another test\"))");
    assert_cut(&cluster.lab, &UDP, "n1", "n3");
    suite.eval("(net/heal! n t)");
    assert_flows(&cluster.lab, &UDP, "n1", "n3");
    assert_eq!(daemon.raw("GET", "/v1/partitions/theirs", b"").1["state"], "active");
    assert_cut(&cluster.lab, &UDP, "n2", "n3");
    assert_eq!(daemon.raw("DELETE", "/v1/partitions/theirs", b"").0, 200);
}

/// A run with the nemesis: n1 is slow after the first heal, and does not come back after the second.
pub fn records(cluster: &Cluster, suite: &mut Suite) {
    let store = tempfile::tempdir().unwrap();
    let slow = &cluster.servers[0];
    let _traffic = cluster.traffic();
    suite.eval(&format!(
        "(alter-var-root #'store/base-dir (constantly {:?}))",
        store.path().display().to_string()
    ));
    suite.eval("(def t (assoc t :start-time \"recorded\"))");
    suite.eval("(def nem (nemesis/setup! (injector/nemesis (nemesis/partitioner)) t))");
    assert_eq!(suite.eval("(nemesis/fs nem)"), serde_json::json!(["start", "stop"]));
    let invoke = |suite: &mut Suite, f: &str, value: &str| {
        suite.eval(&format!(
            "(nemesis/invoke! nem t {{:type :info :process :nemesis :f {f} :value {value}}})"
        ));
    };
    invoke(suite, ":start", ISOLATED);
    slow.set(ServerMode::Failing);
    std::thread::sleep(Duration::from_millis(500));
    invoke(suite, ":stop", "nil");
    std::thread::sleep(SLOW);
    slow.set(ServerMode::Fine);
    cluster.daemons.iter().for_each(until_quiet);
    // Only this fault is given so little time: commands on nodes may take seconds on a loaded machine.
    suite.eval("(def t (assoc-in t [:net :request] {:deadline \"2s\"}))");
    invoke(suite, ":start", ISOLATED);
    std::thread::sleep(Duration::from_millis(500));
    slow.set(ServerMode::Failing);
    // Without a probe that fails before the heal, n1 would be in service at the heal.
    injector_lab::until("a daemon knows that n1 is out of service", || {
        let statuses = cluster.daemons.iter().map(Daemon::status);
        let mut endpoints = statuses.flat_map(|status| status.endpoints);
        endpoints.any(|endpoint| endpoint.healthy == Some(false)).then_some(())
    });
    invoke(suite, ":stop", "nil");
    suite.eval("(nemesis/teardown! nem t)");
    slow.set(ServerMode::Fine);

    let results = suite.eval("(checker/check (injector/checker) t [] {})");
    assert_eq!(results["valid?"], false, "{results:#}");
    let outcomes: Vec<&Value> =
        results["heals"].as_array().unwrap().iter().map(|heal| &heal["outcome"]).collect();
    assert_eq!(outcomes, ["recovered", "not_recovered"], "{results:#}");
    let times = |node: &str, key: &str| -> Vec<Option<f64>> {
        results["nodes"][node][key].as_array().unwrap().iter().map(Value::as_f64).collect()
    };
    let slowest = times("n1", "heal-to-ready-ms");
    assert!(slowest[0].unwrap() > SLOW.as_secs_f64() * 1e3 && slowest[1].is_none(), "{results:#}");
    assert_eq!(times("n1", "heal-to-settled-ms")[1], None, "{results:#}");
    for node in ["n2", "n3"] {
        assert_eq!(times(node, "heal-to-settled-ms"), [Some(0.0); 2], "{node}: {results:#}");
    }
    let first = results["heals"][0]["records"].as_object().unwrap();
    assert_eq!(first.len(), cluster.daemons.len(), "{results:#}");
    for record in first.values() {
        assert_eq!(
            (&record["proved"], &record["healed-by"]),
            (&true.into(), &"request".into()),
            "{results:#}"
        );
        assert!(record["phases"]["return-ms"].is_number(), "{results:#}");
    }
    // The records are in the test's folder: analyzing the test again needs no daemon.
    let folder = store.path().join("netns jepsen/recorded");
    let svg = std::fs::read_to_string(folder.join("recovery.svg")).unwrap();
    assert!(svg.contains("n1: ready –, settled – (not_recovered)"), "{svg}");
    let kept: Value = serde_json::from_slice(&std::fs::read(folder.join("recovery.json")).unwrap()).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), cluster.daemons.len(), "{kept:#}");
    // What the nemesis did is on every timeline.
    for daemon in &cluster.daemons {
        let timeline = String::from_utf8(daemon.cli(&["timeline", "--json"]).stdout).unwrap();
        for says in ["nemesis begins :start {", "nemesis has done :start [:isolated", "nemesis begins :stop"]
        {
            assert!(timeline.contains(&format!("netns jepsen {says}")), "{says}: {timeline}");
        }
    }
}

/// Cuts that the test does not heal itself: another client does, or their own `:for`, before the heal or before the same
/// request is sent again. The cluster recovers from each, and none has a verdict.
pub fn early_ends(cluster: &Cluster, suite: &mut Suite) {
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().display().to_string();
    let daemon = &cluster.daemons[0];
    let _traffic = cluster.traffic();
    suite.eval(&format!("(alter-var-root #'store/base-dir (constantly {folder:?}))"));
    suite.eval("(def t (assoc t :start-time \"early\"))");
    cluster.daemons.iter().for_each(until_quiet);

    let cut = format!("(net/drop-all! n t {ISOLATED})");
    let short = cut.replace("n t", "(assoc n :request {:for \"3s\"}) t");
    let wait = || std::thread::sleep(Duration::from_millis(3500));
    // Another client.
    suite.eval(&cut);
    assert_cut(&cluster.lab, &UDP, "n1", "n2");
    let theirs = ours_at(daemon);
    assert_eq!(daemon.raw("DELETE", &format!("/v1/partitions/{theirs}"), b"").0, 200);
    suite.eval("(net/heal! n t)");
    cluster.daemons.iter().for_each(until_quiet);
    // Its own end.
    suite.eval(&short);
    wait();
    suite.eval("(net/heal! n t)");
    cluster.daemons.iter().for_each(until_quiet);
    // Its own end, before the same request cuts again.
    suite.eval(&short);
    wait();
    suite.eval(&short);
    suite.eval("(net/heal! n t)");
    cluster.daemons.iter().for_each(until_quiet);
    // The control: the test ends it.
    suite.eval(&cut);
    std::thread::sleep(Duration::from_secs(1));
    suite.eval("(net/heal! n t)");

    suite.eval("(injector.jepsen.nemesis/keep-records! t)");
    let results = suite.eval("(checker/check (injector/checker) t [] {})");
    assert_eq!(results["valid?"], "unknown", "{results:#}");
    let heals = results["heals"].as_array().unwrap();
    assert_eq!(heals.len(), 4, "{results:#}");
    let says = ["another client healed it", "its own :for came first", "has cut again"];
    for (heal, says) in heals.iter().zip(says) {
        assert_eq!(heal["valid?"], "unknown", "{results:#}");
        assert!(heal["error"].as_str().unwrap().contains(says), "{says}: {results:#}");
    }
    assert_eq!((&heals[3]["valid?"], &heals[3]["error"]), (&true.into(), &Value::Null), "{results:#}");
}

/// The name of the only live partition of a daemon.
fn ours_at(daemon: &Daemon) -> String {
    let (_, status) = daemon.raw("GET", "/v1/status", b"");
    let live: Vec<_> =
        status["partitions"].as_array().unwrap().iter().filter(|view| view["state"] == "active").collect();
    let [one] = live[..] else { panic!("{status:#}") };
    one["name"].as_str().unwrap().to_owned()
}

/// Until every record is final, which the next cut would censor, and every endpoint is healthy. (By connections of its
/// own: the daemon ends one that is idle for a minute.)
fn until_quiet(daemon: &Daemon) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (code, status) = daemon.raw("GET", "/v1/status", b"");
        assert_eq!(code, 200, "{status}");
        let all =
            |what: &str, is_good: fn(&Value) -> bool| status[what].as_array().unwrap().iter().all(is_good);
        if all("partitions", |view| view["state"] == "closed") && all("endpoints", |it| it["healthy"] == true)
        {
            return;
        }
        assert!(Instant::now() < end, "{status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
