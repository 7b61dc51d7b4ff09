//! Peers on this machine: processes that share its addresses, distinguished by their sockets. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(kernels);

mod cgroups;
mod cost;
mod detached;
mod etcd;
mod handed;
#[path = "../support/links.rs"]
mod links;
mod rights;
#[path = "../support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
mod talker;
mod traps;
mod way_in;

use injector_lab::http::{Request, over_unix};
use injector_lab::{Lab, needs};
use serde_json::Value;
use support::{Daemon, until};
use talker::Talker;

const A: &str = "127.0.0.1:7001";
const B: &str = "127.0.0.1:7002";
const C: &str = "127.0.0.1:7003";

/// A namespace of its own, with nothing but a loopback device.
fn machine() -> Lab {
    let mut lab = Lab::builder("l").up().unwrap();
    lab.add("m");
    lab
}

/// No test here measures a recovery: a record is final soon after the heal.
const READY: &str = "ready: { observe: 1s }\n";

/// Three peers, each by its port.
fn config(lab: &Lab) -> String {
    let netns = lab.netns("m");
    let peer = |name: &str, port: u16| format!("  {name}: {{ listens: [{port}], netns: {netns} }}\n");
    format!("peers:\n{}{}{}interfaces: auto\n{READY}", peer("a", 7001), peer("b", 7002), peer("c", 7003))
}

/// Three processes that run before the daemon does.
fn talkers(lab: &Lab) -> [Talker; 3] {
    [A, B, C].map(|at| Talker::start(lab, "m", &[at]))
}

/// What a talker hears on each of some connections.
fn says(talker: &mut Talker, connections: &[&str]) -> Vec<String> {
    connections.iter().map(|connection| talker.ask("say", connection)).collect()
}

/// The same of connections that must carry.
fn hears(talker: &mut Talker, connections: &[&str]) -> Vec<String> {
    connections.iter().map(|connection| talker.ask_patiently("say", connection)).collect()
}

/// The record of a healed partition.
fn record(daemon: &Daemon, name: &str) -> Value {
    let path = format!("/v1/partitions/{name}/recovery?wait=20s");
    let (status, answer) = over_unix(daemon.socket(), &Request::get(&path)).unwrap();
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// What a refused partition says; `Ok` if it was not refused, and is healed again.
fn refusal(daemon: &Daemon, shape: &str, name: &str) -> Result<(), String> {
    let words = format!("partition {shape} --name {name} --for 1s");
    let output = injector_lab::Daemon::cli(daemon).run(words.split(' '));
    if output.status.success() {
        daemon.cli(&format!("heal {name}"));
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Every link of a record was cut as it says.
fn assert_proved(record: &Value) {
    let links = record["links"].as_array().unwrap();
    assert!(!links.is_empty(), "{record}");
    for link in links {
        assert_eq!((&link["proved"], &link["in_force"]), (&true.into(), &"yes".into()), "{link}");
        assert_eq!(link["coverage"]["state"], "covered", "{link}");
        assert!(link["dropped_packets"].as_u64().unwrap() > 0, "{link}");
    }
}

#[test]
#[needs(root, example = "talker")]
fn processes_that_share_an_address_are_cut_apart_in_silence_and_nobody_else_is() {
    let lab = machine();
    let [mut a, mut b, mut c] = talkers(&lab);
    let mut client = Talker::start(&lab, "m", &[]);
    // Connections of both directions, from before the daemon and from after it.
    let (mut a_to_b, mut b_to_a) = (vec![a.dial(B)], vec![b.dial(A)]);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    a_to_b.push(a.dial(B));
    b_to_a.push(b.dial(A));
    let (a_to_b, b_to_a): (Vec<&str>, Vec<&str>) =
        (a_to_b.iter().map(String::as_str).collect(), b_to_a.iter().map(String::as_str).collect());
    assert_eq!((hears(&mut a, &a_to_b), hears(&mut b, &b_to_a)), (all("echo"), all("echo")), "before");
    daemon.cli("partition isolate a --name p --for 60s");
    assert_eq!((says(&mut a, &a_to_b), says(&mut b, &b_to_a)), (all("silent"), all("silent")));
    for (from, to) in [(&mut a, B), (&mut b, A), (&mut c, A)] {
        assert_eq!(from.ask("dial", to), "silent", "a new connection");
        assert_eq!(from.ask("ask", to), "silent", "a datagram");
    }
    assert_eq!(a.ask("dial", C), "silent");
    let (b_to_c, client_to_a, a_to_a) = (b.dial(C), client.dial(A), a.dial(A));
    assert_eq!(b.ask_patiently("say", &b_to_c), "echo", "two that are not cut apart");
    assert_eq!(client.ask_patiently("say", &client_to_a), "echo", "one that is no peer");
    assert_eq!(client.ask_patiently("ask", A), "echo", "one that is no peer");
    assert_eq!(a.ask_patiently("say", &a_to_a), "echo", "a peer with itself");
    daemon.cli("heal p");
    until("a's connections carry again", || (says(&mut a, &a_to_b) == all("echo")).then_some(()));
    until("b's connections carry again", || (says(&mut b, &b_to_a) == all("echo")).then_some(()));
    let record = record(&daemon, "p");
    assert_eq!(record["links"].as_array().unwrap().len(), 4, "{record}");
    assert_proved(&record);
    for link in record["links"].as_array().unwrap() {
        assert_eq!(link["crossed_bytes"], 0, "{link}");
    }
    assert!(support::warnings(&record).is_empty(), "{record}");
}

/// A connection outside the scopes goes on through the heal: its packets are no first ones after it.
#[test]
#[needs(root, example = "talker")]
fn what_was_never_cut_stamps_no_first_packet() {
    let lab = machine();
    let [mut a, _b, _c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let to_b = a.dial(B);
    daemon.cli("partition between a b --scope udp --name p --for 60s");
    assert_eq!((a.ask("ask", B), a.ask_patiently("say", &to_b)), ("silent".to_owned(), "echo".to_owned()));
    daemon.cli("heal p");
    assert_eq!(a.ask_patiently("say", &to_b), "echo");
    let record = record(&daemon, "p");
    for link in record["links"].as_array().unwrap() {
        for stamp in ["first_packet_ns", "first_data_ns", "first_exchange_ns", "reconnected_ns"] {
            assert_eq!(link[stamp], Value::Null, "{stamp}: {link}");
        }
    }
    let dropped = |link: &Value| link["dropped_packets"].as_u64().unwrap();
    assert!(record["links"].as_array().unwrap().iter().any(|link| dropped(link) > 0), "{record}");
}

/// All peers have one address: an exchange of datagrams is of two peers nevertheless, whatever ports they send from.
#[test]
#[needs(root, example = "talker")]
fn datagrams_of_two_peers_are_no_exchange_with_a_third() {
    const OTHER: &str = "127.0.0.1:7102";
    let lab = machine();
    let [mut a, mut b, mut c] = [A, B, C].map(|at| {
        let mut talker = Talker::start(&lab, "m", &[]);
        talker.report("hold", at);
        talker
    });
    let daemon = Daemon::start(&lab, "lab", &config(&lab).replace("observe: 1s", "observe: 5s"));
    b.report("hold", OTHER);
    daemon.cli("partition isolate a --name p --for 60s");
    let mut say = || {
        a.report("send", &format!("{A} {B}"));
        c.report("send", &format!("{C} {A}"));
        b.report("send", &format!("{OTHER} {A}"));
    };
    say();
    daemon.cli("heal p");
    say();
    let record = record(&daemon, "p");
    for (src, dst, is_exchange, is_reconnected) in
        [("a", "b", false, true), ("b", "a", true, true), ("c", "a", false, false), ("a", "c", false, false)]
    {
        let links = record["links"].as_array().unwrap();
        let link = links.iter().find(|link| link["src"] == src && link["dst"] == dst).unwrap();
        let is_known = |stamp: &str| !link[stamp].is_null();
        assert_eq!(is_known("first_data_ns"), (src, dst) != ("a", "c"), "{link}");
        assert_eq!(is_known("first_exchange_ns"), is_exchange, "{link}");
        assert_eq!(is_known("reconnected_ns"), is_reconnected, "{link}");
    }
}

/// What both connections say.
fn all(word: &str) -> Vec<String> {
    vec![word.to_owned(); 2]
}

#[test]
#[needs(root, example = "talker")]
fn a_killed_peer_stays_silent_and_one_that_starts_again_stays_cut() {
    let lab = machine();
    let [mut a, mut b, _c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let b_to_a = b.dial(A);
    daemon.cli("partition isolate a --name p --for 60s");
    assert_eq!(a.ask("start", B), "silent", "what a peer's process starts is the peer's");
    a.kill();
    assert_eq!(b.ask("dial", A), "silent", "a cut hides that nobody listens");
    assert_eq!(b.ask("ask", A), "silent", "nor does an ICMP error say so");
    assert_eq!(b.ask("say", &b_to_a), "silent", "nor a reset");
    let mut client = Talker::start(&lab, "m", &[]);
    let refused = client.ask_patiently("dial", A);
    assert_eq!(refused, "error connection refused", "one that is no peer gets the refusal");
    let mut again = Talker::start(&lab, "m", &[A]);
    until("the new process is a's", || {
        let peers = daemon.cli("peers");
        let names = peers["a"]["names"].as_array().unwrap().clone();
        let own = format!("{} (talker)", again.id());
        names.iter().any(|name| name["name"] == own.as_str()).then_some(())
    });
    assert_eq!((b.ask("dial", A), again.ask("dial", B)), ("silent".to_owned(), "silent".to_owned()));
    assert_eq!(client.ask_patiently("start", A), "echo", "one that is no peer");
    daemon.cli("heal p");
    assert_eq!(again.ask_patiently("start", B), "echo");
    b.dial(A);
}

#[test]
#[needs(root, example = "talker")]
fn late_data_of_a_half_closed_connection_is_cut() {
    let lab = machine();
    let [mut a, mut b, _c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let to_b = a.dial(B);
    assert_eq!(a.ask_patiently("say", &to_b), "echo");
    a.shut(&to_b);
    daemon.cli("partition isolate a --name p --for 60s");
    // From here on, no socket of a's has the port: only the time-wait entry of the kernel.
    a.kill();
    assert_eq!(b.ask("answer", "late"), "ok");
    let dropped = || {
        let (status, shown) = daemon.raw("GET", "/v1/partitions/p", b"");
        assert_eq!(status, 200, "{shown}");
        let links = shown["links"].as_array().unwrap_or_else(|| panic!("{shown}")).clone();
        let b_to_a = links.iter().find(|link| link["src"] == "b" && link["dst"] == "a").unwrap().clone();
        b_to_a["dropped_packets"].as_u64().unwrap()
    };
    until("b's late data is dropped", || (dropped() > 0).then_some(()));
    daemon.cli("heal p");
}

#[test]
#[needs(root, example = "talker")]
fn peers_with_addresses_of_their_own_are_cut_whatever_address_a_frame_leaves_from() {
    let lab = machine();
    let netns = lab.netns("m");
    lab.ip("m", "addr add 10.9.0.3/32 dev lo");
    let [a, b] = ["127.0.0.2:7000", "10.9.0.3:7000"];
    let [mut one, mut two] = [a, b].map(|at| Talker::start(&lab, "m", &[at]));
    let mut v6 = Talker::start(&lab, "m", &["[::1]:7000"]);
    let config = format!(
        "peers:\n  a: {{ listens: [127.0.0.2], netns: {netns} }}\n  b: {{ listens: [\"{b}\"], netns: {netns} }}\n  \
         c: {{ listens: [\"[::1]:7000\"], netns: {netns} }}\ninterfaces: auto\n"
    );
    let daemon = Daemon::start(&lab, "lab", &config);
    // An unbound client leaves from 127.0.0.1 to the first, and to the second from the address that it asks.
    let (to_b, to_a) = (one.dial(b), two.dial(a));
    daemon.cli("partition isolate a --name p --for 60s");
    assert_eq!((one.ask("say", &to_b), two.ask("say", &to_a)), ("silent".to_owned(), "silent".to_owned()));
    assert_eq!((one.ask("ask", b), two.ask("ask", a)), ("silent".to_owned(), "silent".to_owned()));
    assert_eq!(v6.ask("dial", a), "silent");
    assert_eq!(two.ask_patiently("start", "[::1]:7000"), "echo");
    daemon.cli("heal p");
    daemon.cli("partition isolate c --name q --for 60s");
    assert_eq!(
        (two.ask("dial", "[::1]:7000"), two.ask("ask", "[::1]:7000")),
        ("silent".to_owned(), "silent".to_owned())
    );
    assert_eq!(two.ask_patiently("start", a), "echo");
    daemon.cli("heal q");
}
