//! Sockets that a process gets in another way than by its own calls: inherited, handed over, of a group, of multipath TCP.
//! Where their frames can't be named, no cut is reported as one.

use injector_lab::{Lab, needs};
use serde_json::Value;

use super::support::{Daemon, until};
use super::talker::Talker;
use super::{A, B, C, READY, assert_proved, config, machine, record, refusal, talkers};

/// Peers by their processes: their ports say nothing.
fn by_process(lab: &Lab, peers: [&Talker; 3]) -> String {
    let netns = lab.netns("m");
    let peers = ["a", "b", "c"].iter().zip(peers);
    let peers = peers.map(|(name, talker)| format!("  {name}: {{ pid: {}, netns: {netns} }}\n", talker.id()));
    format!("peers:\n{}interfaces: auto\n{READY}", peers.collect::<String>())
}

/// Where sockets are handed over in a lab.
fn meeting(lab: &Lab, name: &str) -> String {
    lab.folder().join(name).display().to_string()
}

/// One talker gives another a socket.
fn hand(how: &str, from: &mut Talker, to: &mut Talker, path: &str, what: &str) -> String {
    assert_eq!(to.ask("take", path), "ok");
    assert_eq!(from.ask(how, &format!("{path} {what}")), "ok");
    to.ask("taken", path)
}

fn of<'a>(record: &'a Value, src: &str, dst: &str) -> &'a Value {
    let links = record["links"].as_array().unwrap();
    links.iter().find(|link| link["src"] == src && link["dst"] == dst).unwrap()
}

/// A link was not cut for some time, and the record says why.
fn assert_not_in_force(record: &Value, (src, dst): (&str, &str), why: &str) {
    let link = of(record, src, dst);
    assert_eq!((&link["in_force"], &link["proved"]), (&"no".into(), &false.into()), "{link}");
    assert!(!link["uncovered"].as_array().unwrap().is_empty(), "{link}");
    assert!(link["coverage"]["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{link}");
}

#[test]
#[needs(root, example = "talker")]
fn a_listener_that_is_handed_over_is_its_new_processs_once_it_was_seen_and_the_record_says_since_when() {
    const LATE: &str = "127.0.0.1:7011";
    const LATER: &str = "127.0.0.1:7012";
    let lab = machine();
    let [mut a, mut b, c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    let mut supervisor = Talker::start(&lab, "m", &[]);
    let daemon = Daemon::start(&lab, "lab", &by_process(&lab, [&a, &b, &c]));
    assert_eq!(hand("hand", &mut supervisor, &mut a, &meeting(&lab, "one"), LATE), "listener");
    // Each cut begins with a look.
    daemon.cli("partition isolate a --name p --for 60s");
    until("the socket is a's", || (b.ask("dial", LATE) == "silent").then_some(()));
    assert_eq!(hand("hand", &mut supervisor, &mut a, &meeting(&lab, "two"), LATER), "listener");
    let to_a = b.dial(LATER);
    assert_eq!(b.ask_patiently("say", &to_a), "echo", "no program knows whose it is");
    daemon.cli("heal p");
    let first = record(&daemon, "p");
    assert_not_in_force(&first, ("b", "a"), "of its sockets had no owner yet");
    daemon.cli("partition isolate a --name q --for 60s");
    assert_eq!(b.ask("say", &to_a), "silent", "it was accepted before the socket had an owner");
    assert_eq!((b.ask("dial", LATE), b.ask("dial", LATER)), ("silent".to_owned(), "silent".to_owned()));
    assert_eq!(supervisor.ask_patiently("start", LATER), "echo", "who is no peer");
    daemon.cli("heal q");
    let second = record(&daemon, "q");
    assert_eq!(of(&second, "b", "a")["coverage"]["state"], "covered", "{second}");
}

#[test]
#[needs(root, example = "talker")]
fn a_connection_that_is_handed_to_a_peer_during_the_cut_is_in_its_record() {
    let lab = machine();
    let [mut a, b, c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    let mut supervisor = Talker::start(&lab, "m", &[]);
    let to_b: Vec<String> = (0..20).map(|_| supervisor.dial(B)).collect();
    let daemon = Daemon::start(&lab, "lab", &by_process(&lab, [&a, &b, &c]));
    daemon.cli("partition isolate a --name p --for 60s");
    let mut number = 0;
    // The look that each cut begins with may still find the first ones.
    let connection = until("no program knows that a connection is a's now", || {
        let path = meeting(&lab, &format!("hand{number}"));
        let taken = hand("hand-connection", &mut supervisor, &mut a, &path, &to_b[number]);
        number += 1;
        let connection = taken.strip_prefix("up ").unwrap_or_else(|| panic!("{taken}")).to_owned();
        (a.ask("say", &connection) == "echo").then_some(connection)
    });
    daemon.cli("heal p");
    assert_not_in_force(&record(&daemon, "p"), ("a", "b"), "of its sockets had no owner yet");
    daemon.cli("partition isolate a --name q --for 60s");
    assert_eq!(a.ask("say", &connection), "silent");
    daemon.cli("heal q");
}

#[test]
#[needs(root, example = "talker")]
fn a_listener_that_two_peers_accept_from_is_refused() {
    const SHARED: &str = "127.0.0.1:7010";
    let lab = machine();
    let [mut a, mut b, c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    let daemon = Daemon::start(&lab, "lab", &by_process(&lab, [&a, &b, &c]));
    daemon.cli("partition isolate a --name p --for 60s");
    assert_eq!(hand("hand-copy", &mut a, &mut b, &meeting(&lab, "one"), SHARED), "listener");
    daemon.cli("heal p");
    let why = format!("process {} (talker) of b has a socket of a's, on port 7010", b.id());
    assert_not_in_force(&record(&daemon, "p"), ("c", "a"), &why);
    for shape in ["links a:c", "links b:c"] {
        let said = refusal(&daemon, shape, "q").unwrap_err();
        assert!(said.contains(&why) && said.contains("make one peer of both"), "{said}");
    }
}

#[test]
#[needs(root, example = "talker")]
fn a_port_that_two_peers_share_is_refused_and_one_that_a_peers_processes_share_is_cut() {
    const SHARED: &str = "127.0.0.1:7020";
    let lab = machine();
    let [mut a, mut b, mut c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    for talker in [&mut a, &mut b] {
        assert_eq!(talker.ask("share", SHARED), "ok");
    }
    let daemon = Daemon::start(&lab, "two", &by_process(&lab, [&a, &b, &c]));
    let said = refusal(&daemon, "links a:c", "p").unwrap_err();
    for words in
        ["port 7020 is shared (SO_REUSEPORT) by", "of a and", "of b: who gets a packet can't be foreseen"]
    {
        assert!(said.contains(words), "{said}");
    }
    daemon.stop();
    // By the port, both processes are one peer.
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  d: {{ listens: [7020], netns: {netns} }}\n  c: {{ listens: [7003], netns: {netns} }}\n\
         interfaces: auto\n{READY}"
    );
    let daemon = Daemon::start(&lab, "one", &config);
    let connections: Vec<String> = (0..8).map(|_| c.dial(SHARED)).collect();
    daemon.cli("partition isolate c --name p --for 60s");
    for connection in &connections {
        assert_eq!(c.ask("say", connection), "silent");
    }
    for _ in 0..8 {
        assert_eq!(c.ask("dial", SHARED), "silent");
    }
    assert_eq!((a.ask("dial", C), b.ask("dial", C)), ("silent".to_owned(), "silent".to_owned()));
    daemon.cli("heal p");
    assert_proved(&record(&daemon, "p"));
}

#[test]
#[needs(root, example = "talker")]
fn multipath_tcp_is_refused_and_a_socket_of_it_that_comes_during_the_cut_is_in_its_record() {
    const MULTIPATH: &str = "127.0.0.1:7030";
    let lab = machine();
    let [mut a, _b, _c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    let dialled = a.ask("dial-multipath", B);
    daemon.cli("heal p");
    // Whether frames of the kernel's own socket are named or not, the record must not say that they were cut.
    assert_not_in_force(&record(&daemon, "p"), ("a", "b"), "multipath TCP");
    if dialled.starts_with("up ") {
        let said = refusal(&daemon, "isolate a", "q").unwrap_err();
        for words in ["has sockets of multipath TCP", "GODEBUG=multipathtcp=0"] {
            assert!(said.contains(words), "{said}");
        }
    }
    daemon.stop();
    let mut d = Talker::start(&lab, "m", &[]);
    assert_eq!(d.ask("listen-multipath", MULTIPATH), "ok");
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  d: {{ listens: [7030], netns: {netns} }}\n  b: {{ listens: [7002], netns: {netns} }}\n\
         interfaces: auto\n"
    );
    let daemon = Daemon::start(&lab, "listens", &config);
    let said = refusal(&daemon, "isolate d", "p").unwrap_err();
    for words in ["listens on port 7030 by multipath TCP", "GODEBUG=multipathtcp=0"] {
        assert!(said.contains(words), "{said}");
    }
}
