//! The Clojure library for Jepsen, driven by Debian's Clojure, against real daemons: one for all nodes, one on each node
//! with local commands in place of ssh, and one on each node over real sshds. Over one of these the command line and the Python
//! client are tried, too.

mod cluster;
#[path = "../support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
mod scenario;
#[expect(dead_code, reason = "each test program uses a part")]
mod sshd;
mod suite;

use std::process::Command;

use cluster::{Cluster, ISOLATED, Placement};
use injector_lab::{CLIENT, needs, skip};
use live::daemon::Daemon;
use live::lab::addresses;
use live::traffic::{assert_cut, assert_flows};
use scenario::{UDP, early_ends, faults, others_stay, records};
use sshd::Sshd;
use suite::{Suite, clojure};

fn ready(test: &str) -> bool {
    suite::why_not().is_none_or(|why| {
        skip(test, &why);
        false
    })
}

#[test]
#[needs(program = "java")]
fn the_clojure_tests_pass() {
    const NAME: &str = "the_clojure_tests_pass";
    if let Some(why) = suite::why_not() {
        return skip(NAME, &why);
    }
    let output = clojure("all-tests").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("0 failures, 0 errors"), "{said}");
}

#[test]
#[needs(root, program = "java", minutes = 1)]
fn one_daemon_for_all() {
    if !ready("one_daemon_for_all") {
        return;
    }
    let cluster = Cluster::start(Placement::One);
    let mut suite = cluster.suite(Placement::One, "first", ":flaky :50%");
    faults(&cluster.lab, &mut suite);
    others_stay(&cluster, &mut suite);
    records(&cluster, &mut suite);
    early_ends(&cluster, &mut suite);

    // The daemon may have ended the connection that owns partitions, while it owned none.
    suite.eval("(.shutdownOutput @(:owner (:daemons n)))");
    // A suite that dies leaves nothing cut: its connection owned the partition.
    suite.eval(&format!("(net/drop-all! n t {ISOLATED})"));
    assert_cut(&cluster.lab, &UDP, "n1", "n2");
    suite.kill();
    assert_flows(&cluster.lab, &UDP, "n1", "n2");
}

#[test]
#[needs(root, program = "java", minutes = 1)]
fn a_daemon_on_each_node() {
    if !ready("a_daemon_on_each_node") {
        return;
    }
    let mut cluster = Cluster::start(Placement::EachNode);
    let mut suite = cluster.suite(Placement::EachNode, "first", ":flaky :50%");
    faults(&cluster.lab, &mut suite);
    others_stay(&cluster, &mut suite);
    records(&cluster, &mut suite);
    early_ends(&cluster, &mut suite);

    // What a run that died has cut is healed when the next one of that test begins, and by no other test.
    suite.eval(&format!("(net/drop-all! n t {ISOLATED})"));
    suite.kill();
    let mut suite = cluster.suite(Placement::EachNode, "second", "");
    suite.eval("(net/heal! n (assoc t :name \"netns\"))");
    assert_cut(&cluster.lab, &UDP, "n1", "n2");
    suite.eval("(nemesis/setup! (injector/nemesis (nemesis/partitioner)) t)");
    assert_flows(&cluster.lab, &UDP, "n1", "n2");

    suite.eval(&format!("(net/drop-all! n t {ISOLATED})"));
    suite.eval("(net/heal! n t)");
    // Where one daemon is gone, nothing is cut by halves, and the heal of the others is none of its business.
    cluster.daemons[1].kill();
    let thrown = suite.thrown(&format!("(net/drop-all! n t {ISOLATED})"));
    assert_eq!(thrown.data["type"], "unreachable", "{thrown:?}");
    assert_eq!(thrown.data["node"], "n2", "{thrown:?}");
    assert!(
        thrown.message.contains("the injector on n2: ") && thrown.message.contains("injector start"),
        "{thrown:?}"
    );
    assert_flows(&cluster.lab, &UDP, "n3", "n1");
    suite.eval("(net/drop! n t \"n3\" \"n1\")");
    assert_cut(&cluster.lab, &UDP, "n3", "n1");
    suite.eval("(net/heal! n t)");
    assert_flows(&cluster.lab, &UDP, "n3", "n1");
    let thrown = suite.thrown("(nemesis/setup! (injector/nemesis (nemesis/partitioner)) t)");
    assert_eq!(thrown.data["node"], "n2", "{thrown:?}");

    // A daemon that was restarted has lost its records: no verdict.
    let again = cluster.daemon("n2");
    let command = format!("[\"env\" \"INJECTOR_SOCKET={}\" \"sh\" \"-c\"]", again.socket().display());
    suite.eval(&format!("(def t (assoc-in t [:sessions \"n2\" :command] {command}))"));
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().display().to_string();
    suite.eval(&format!("(alter-var-root #'store/base-dir (constantly {folder:?}))"));
    suite.eval("(injector.jepsen.nemesis/keep-records! t)");
    let results = suite.eval("(checker/check (injector/checker) t [] {})");
    assert_eq!(results["valid?"], "unknown", "{results:#}");
    assert!(results["errors"]["n2"].as_str().unwrap().contains("has no record of jepsen."), "{results:#}");
}

/// What a Python suite does, at the daemon that the environment names.
const PYTHON: &str = "
from partition_injector import Injector
with Injector() as inj:
    with inj.partition(isolate=['n1'], for_='60s') as p:
        assert p.view().state == 'active'
    assert p.healed.healed_by == 'request'
";

/// The command line and the Python client start ssh by themselves.
fn other_clients(cluster: &Cluster, sshd: &Sshd) {
    let host = format!("ssh://root@{}:{}", addresses("n1")[0], sshd::PORT);
    let path = format!("{}:{}", sshd.programs().display(), std::env::var("PATH").unwrap_or_default());
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/src");
    let run = |words: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cluster.lab.netns(CLIENT)]).args(words);
        command.env("PATH", &path).env("INJECTOR_HOST", &host).env_remove("INJECTOR_SOCKET");
        command.env("PYTHONPATH", python).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let status: serde_json::Value = serde_json::from_str(&run(&["injector", "--json", "status"])).unwrap();
    assert_eq!(status["pid"], cluster.daemons[0].status().pid, "{status}");
    run(&["injector", "with", "isolate", "n1", "--for", "60s", "--", "true"]);
    run(&["python3", "-c", PYTHON]);
    let healed: Vec<_> = cluster.daemons[0].status().partitions.into_iter().map(|view| view.healed).collect();
    assert!(healed.iter().all(Option::is_some), "{healed:#?}");
}

#[test]
#[needs(root, program = "java", program = "python3", minutes = 1)]
fn over_a_real_sshd() {
    const NAME: &str = "over_a_real_sshd";
    if !ready(NAME) {
        return;
    }
    if let Some(why) = sshd::why_not() {
        return skip(NAME, &why);
    }
    let cluster = Cluster::start(Placement::EachNode);
    let nodes = cluster.lab.peer_names();
    let mut sshd = Sshd::new();
    for (node, daemon) in nodes.iter().zip(&cluster.daemons) {
        sshd.start(&cluster.lab, node, daemon.socket());
    }
    let sessions: Vec<_> =
        nodes.iter().map(|node| (node.clone(), sshd.session(&cluster.lab, node))).collect();
    // The socket is where a node has it by default; commands run as root through sudo, as Jepsen does it.
    let net = format!("{{:program {:?} :flaky :50%}}", env!("CARGO_BIN_EXE_injector"));
    let mut suite = Suite::start(&nodes, "first", &net, &sessions);
    faults(&cluster.lab, &mut suite);
    records(&cluster, &mut suite);
    other_clients(&cluster, &sshd);

    let mut suite = Suite::start(&nodes, "second", "{:program \"/nowhere/injector\"}", &sessions);
    let thrown = suite.thrown("(net/drop! n t \"n2\" \"n1\")");
    assert_eq!(thrown.data["node"], "n1", "{thrown:?}");
    assert!(thrown.message.contains("Install the program there"), "{thrown:?}");
}

#[test]
#[needs(root, program = "java")]
fn bad_input() {
    if !ready("bad_input") {
        return;
    }
    let cluster = Cluster::start(Placement::One);
    let mut suite = cluster.suite(Placement::One, "first", "");
    let thrown = suite.thrown("(injector.jepsen.nemesis/check-daemons! (update t :nodes conj \"n9\"))");
    assert!(thrown.message.contains("no peer for the node n9"), "{thrown:?}");
    // The library speaks to the daemon of its own source, and names one of another version.
    let speaks = |version: &str| format!("(injector.jepsen.nemesis/other-version \"n1\" {version:?})");
    assert!(suite.eval(&speaks(&cluster.daemons[0].status().version)).is_null());
    let other = suite.eval(&speaks("99.0.0"));
    assert!(other.as_str().unwrap().contains("is of version 99.0.0"), "{other}");
    // The daemon's own words, with its code, field and remedy.
    let thrown = suite.thrown("(net/drop! (injector/net {:daemon :one :socket (:path (:daemons n)) :request {:scopes [\"tpc/1\"]}}) t \"n2\" \"n1\")");
    assert_eq!(
        (&thrown.data["type"], &thrown.data["code"]),
        (&"refused".into(), &"bad-body".into()),
        "{thrown:?}"
    );
    assert!(thrown.message.contains("scopes"), "{thrown:?}");
    let thrown =
        suite.thrown("(net/drop! (injector/net {:daemon :one :socket \"/nowhere/s\"}) t \"n2\" \"n1\")");
    assert_eq!(thrown.data["type"], "unreachable", "{thrown:?}");
    assert!(thrown.message.contains("/nowhere/s") && thrown.message.contains("injector start"), "{thrown:?}");
    let thrown = suite.thrown("(nemesis/setup! (injector/nemesis (nemesis/partitioner)) (dissoc t :net))");
    assert!(thrown.message.contains(":net is not the injector's"), "{thrown:?}");
    // Without the nemesis there are no records, and without records no verdict.
    let results = suite.eval("(checker/check (injector/checker) t [] {})");
    assert_eq!(results["valid?"], "unknown", "{results}");
    assert!(results["error"].as_str().unwrap().contains("injector.jepsen/nemesis"), "{results}");
    // A daemon that leaves links to others makes half a cut, which is none.
    let lab = &cluster.lab;
    let config = lab.config(injector_lab::AttachPoint::OwnNic, "auto");
    drop(cluster.daemons);
    let partial = Daemon::start(&format!("{config}here: [n1]\n"));
    let net = format!("(injector/net {{:daemon :one :socket {:?}}})", partial.socket().display().to_string());
    let thrown = suite.thrown(&format!("(net/drop-all! {net} t {{\"n1\" #{{\"n2\"}} \"n3\" #{{\"n2\"}}}})"));
    assert!(thrown.message.contains("leaves the links") && thrown.message.contains("`here:`"), "{thrown:?}");
    assert_flows(lab, &UDP, "n2", "n1");
}
