//! What the kernel does with sockets and frames on `lo` that could mislead who names them.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use injector_lab::{Lab, needs};
use serde_json::Value;

use super::support::{Daemon, until};
use super::talker::Talker;
use super::{A, B, C, assert_proved, config, machine, record, talkers};

/// A counter of TCP in a machine's namespace.
fn tcp_counter(lab: &Lab, name: &str) -> u64 {
    let text = lab.within("m", || fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|known| known == name).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// With cookies, a handshake has no socket: its SYN-ACK comes from nobody's, and its ACK makes the connection.
#[test]
#[needs(root, example = "talker")]
fn handshakes_by_syn_cookies_are_cut() {
    let lab = machine();
    lab.sysctl("m", "ipv4/tcp_syncookies", "2");
    let [mut a, mut b, mut c] = talkers(&lab);
    let mut client = Talker::start(&lab, "m", &[]);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let (a_to_b, b_to_a) = (a.dial(B), b.dial(A));
    assert!(tcp_counter(&lab, "SyncookiesSent") >= 2 && tcp_counter(&lab, "SyncookiesRecv") >= 2);
    daemon.cli("partition isolate a --name p --for 60s");
    let sent = tcp_counter(&lab, "SyncookiesSent");
    assert_eq!((a.ask("say", &a_to_b), b.ask("say", &b_to_a)), ("silent".to_owned(), "silent".to_owned()));
    for (from, to) in [(&mut a, B), (&mut b, A), (&mut c, A)] {
        assert_eq!(from.ask("dial", to), "silent", "a new connection");
    }
    assert_eq!(a.ask("dial", C), "silent");
    assert_eq!(tcp_counter(&lab, "SyncookiesSent"), sent, "no SYN arrived");
    assert_eq!(client.ask_patiently("start", A), "echo");
    assert_eq!(c.ask_patiently("start", B), "echo");
    daemon.cli("heal p");
    assert_proved(&record(&daemon, "p"));
}

/// A server on every address answers a datagram from 127.0.0.1, and each address of the machine leads to it.
#[test]
#[needs(root, example = "talker")]
fn a_server_on_every_address_is_cut_at_each_of_them() {
    let lab = machine();
    lab.ip("m", "addr add 10.9.0.3/32 dev lo");
    let mut a = Talker::start(&lab, "m", &["0.0.0.0:7001"]);
    let [mut b, mut c] = [B, C].map(|at| Talker::start(&lab, "m", &[at]));
    let mut client = Talker::start(&lab, "m", &[]);
    let addresses = ["127.0.0.1:7001", "127.0.0.9:7001", "10.9.0.3:7001"];
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let connections = addresses.map(|to| b.dial(to));
    for to in addresses {
        assert_eq!(b.ask_patiently("call", to), "echo", "{to}");
    }
    daemon.cli("partition isolate a --name p --for 60s");
    for (to, connection) in addresses.iter().zip(&connections) {
        for (how, what) in [("say", connection.as_str()), ("dial", to), ("call", to)] {
            assert_eq!(b.ask(how, what), "silent", "{how} {to}");
        }
        assert_eq!(client.ask_patiently("call", to), "echo", "who is no peer");
    }
    assert_eq!((a.ask("dial", B), a.ask("dial", C)), ("silent".to_owned(), "silent".to_owned()));
    assert_eq!((c.ask("dial", A), c.ask_patiently("start", B)), ("silent".to_owned(), "echo".to_owned()));
    daemon.cli("heal p");
    assert_proved(&record(&daemon, "p"));
}

/// The state of a TCP socket as `/proc` has it whose other end has closed.
const CLOSE_WAIT: &str = "08";
/// The timer of an entry that is no socket any more: late packets are still waited for.
const TIME_WAIT: &str = "03";

/// The TCP sockets of a machine: local port, remote port and state; of time-wait entries, the timer.
fn tcp_sockets(lab: &Lab) -> Vec<(u16, u16, String)> {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let text = lab.within("m", || ["tcp", "tcp6"].map(read).concat());
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: &str| u16::from_str_radix(word.rsplit(':').next()?, 16).ok();
        let (state, timer) = (*words.get(3)?, words.get(5)?.split(':').next()?);
        let shown = if timer == TIME_WAIT { timer } else { state };
        Some((port(words.get(1)?)?, port(words.get(2)?)?, shown.to_owned()))
    };
    text.lines().filter_map(socket).collect()
}

/// A process that is no peer listens on a port that a peer once had for a connection: it is not taken for the peer, also
/// where the kernel has but a time-wait entry of it.
#[test]
#[needs(root, example = "talker")]
fn a_port_that_a_peer_had_once_is_no_longer_its_own() {
    let lab = machine();
    let [mut a, mut b, _c] = talkers(&lab);
    let bound = |at: &str| lab.within("m", || TcpListener::bind(at).unwrap());
    for any in ["0.0.0.0", "[::]"] {
        let daemon = Daemon::start(&lab, "lab", &config(&lab));
        let server = bound("127.0.0.1:0");
        let at = server.local_addr().unwrap();
        let (to, server_port) = (at.to_string(), at.port());
        // The server closes first: no entry of a's is left.
        let serve = std::thread::spawn(move || {
            let (mut connection, from) = server.accept().unwrap();
            connection.read_exact(&mut [0; 5]).unwrap();
            from.port()
        });
        assert_eq!(a.ask_patiently("start", &to), "closed");
        let port = serve.join().unwrap();
        let stranger = bound(&format!("{any}:{port}"));
        daemon.cli("partition between a b --name p --for 60s");
        let to_stranger = b.dial(&format!("127.0.0.1:{port}"));
        drop(stranger.accept().unwrap());
        // The state of the connection's end at b, and at the stranger's.
        let state = |is_b: bool| {
            let is_it = |(local, remote, _): &&(u16, u16, String)| {
                let (own, other) = if is_b { (remote, local) } else { (local, remote) };
                *own == port && *other != server_port && *other != 0
            };
            tcp_sockets(&lab).iter().find(is_it).map(|(_, _, state)| state.clone())
        };
        let is = |is_b: bool, wanted: Option<&str>| (state(is_b).as_deref() == wanted).then_some(());
        until("b has heard that the stranger closes", || is(true, Some(CLOSE_WAIT)));
        // Until then, a socket of the stranger's has the connection.
        until("the stranger's end is a time-wait entry", || is(false, Some(TIME_WAIT)));
        b.shut(&to_stranger);
        until("the stranger has heard that b closes", || is(true, None));
        daemon.cli("heal p");
        let record = record(&daemon, "p");
        for link in record["links"].as_array().unwrap() {
            assert_eq!(
                (&link["dropped_packets"], &link["proved"]),
                (&0.into(), &false.into()),
                "{any}: {link}"
            );
        }
    }
}

/// On `lo`, frames are longer than an MTU, and their Ethernet header is empty.
#[test]
#[needs(root, example = "talker")]
fn frames_of_many_segments_are_cut_and_counted() {
    const MUCH: u64 = 1 << 20;
    let lab = machine();
    let [mut a, _b, _c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let to_b = a.dial(B);
    assert_eq!(a.ask_patiently("pour", &to_b), MUCH.to_string());
    daemon.cli("partition isolate a --name p --for 60s");
    assert_eq!(a.ask("pour", &to_b), "0");
    daemon.cli("heal p");
    let record = record(&daemon, "p");
    let link = link(&record, "a", "b");
    assert_eq!((&link["in_force"], &link["proved"]), (&"yes".into(), &true.into()), "{link}");
    let figure = |name: &str| link[name].as_u64().unwrap_or_else(|| panic!("{link}"));
    // An MTU of `lo` is 65,536 bytes: what was sent at once is longer than so many segments of Ethernet's.
    assert!(figure("dropped_bytes") > 65_536 && figure("dropped_packets") > 1, "{link}");
}

fn link(record: &Value, src: &str, dst: &str) -> Value {
    let links = record["links"].as_array().unwrap();
    links.iter().find(|link| link["src"] == src && link["dst"] == dst).unwrap().clone()
}

/// Its sockets can't be looked up as those of UDP can: the sender's own socket and the ports name both ends, of sockets from
/// before the daemon and from after it.
#[test]
#[needs(root, example = "talker")]
fn udp_lite_is_cut_as_udp_is() {
    let lab = machine();
    let [mut a, mut b, mut c] = talkers(&lab);
    if a.ask("listen-lite", A) == "none" {
        return injector_lab::skip("udp_lite_is_cut_as_udp_is", "this kernel has no UDP-Lite");
    }
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    b.report("listen-lite", B);
    let mut client = Talker::start(&lab, "m", &[]);
    assert_eq!(a.ask_patiently("ask-lite", B), "echo", "before");
    assert_eq!(b.ask_patiently("ask-lite", A), "echo", "before");
    daemon.cli("partition isolate a --scope proto/136 --name p --for 60s");
    for (from, to) in [(&mut a, B), (&mut b, A), (&mut c, A)] {
        assert_eq!(from.ask("ask-lite", to), "silent", "to {to}");
        assert_eq!(from.ask_patiently("ask", to), "echo", "UDP is not in the scope");
    }
    assert_eq!(c.ask_patiently("ask-lite", B), "echo", "an innocent");
    assert_eq!(client.ask_patiently("ask-lite", A), "echo", "an innocent");
    daemon.cli("heal p");
    let record = record(&daemon, "p");
    for (src, dst) in [("a", "b"), ("b", "a"), ("c", "a")] {
        let link = link(&record, src, dst);
        assert_eq!((&link["proved"], &link["in_force"]), (&true.into(), &"yes".into()), "{link}");
    }
    assert_eq!(a.ask_patiently("ask-lite", B), "echo", "after");
    assert_eq!(b.ask_patiently("ask-lite", A), "echo", "after");
}

/// One look-up names one socket, and a group may have many: the page on one machine says that they pass.
#[test]
#[needs(root, example = "talker")]
fn multicast_passes_as_the_page_says() {
    const GROUP: &str = "239.7.7.7:7400";
    let lab = machine();
    let [mut a, mut b, mut c] = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    for talker in [&mut b, &mut c] {
        assert_eq!(talker.ask("hear", GROUP), "ok");
    }
    assert_eq!(a.ask("cast", GROUP), "ok");
    for talker in [&mut b, &mut c] {
        until("it is heard", || (talker.ask("heard", GROUP) == "1").then_some(()));
    }
    let page = include_str!("../../../docs/local.md");
    assert!(page.contains("Multicast and broadcast, ICMP echo (the kernel answers it)"));
    assert_eq!(b.ask("dial", A), "silent", "all else is cut");
    daemon.cli("heal p");
}

/// The kernel uses process ids again: what comes after a peer's process is nobody's.
#[test]
#[needs(root, example = "talker")]
fn a_process_with_the_id_of_a_peers_that_has_ended_is_nobodys() {
    let lab = machine();
    let [a, mut b, mut c] = talkers(&lab);
    let mut client = Talker::start(&lab, "m", &[]);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    let id = a.id();
    a.kill();
    let until_free = Instant::now() + Duration::from_secs(10);
    let mut is_scanned = false;
    let answer = loop {
        // Another process may have got it meanwhile: then this one ends, and says so. And the daemon may have been scanning processes at
        // that very moment, where an id is not used again in real life: the next process is not a's either way.
        match client.ask_patiently("start-as", &format!("{id} {B}")).as_str() {
            "taken" if Instant::now() < until_free => {}
            "silent" if !is_scanned => is_scanned = true,
            answer => break answer.to_owned(),
        }
    };
    assert_eq!(answer, "echo", "a process with a's old id");
    assert_eq!(c.ask("dial", A), "silent", "a's port is still a's");
    assert_eq!(b.ask_patiently("start", C), "echo");
    daemon.cli("heal p");
}

/// Whoever asks whether a peer's port is free is not that peer; nor is, after a moment, whoever has listened there.
#[test]
#[needs(root, example = "talker")]
fn a_process_that_has_left_a_peers_port_is_nobodys() {
    let lab = machine();
    let mut b = Talker::start(&lab, "m", &[B]);
    let [mut tries, mut listened, mut sent] = [(); 3].map(|()| Talker::start(&lab, "m", &[]));
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    assert_eq!(tries.ask("try", A), "ok");
    assert_eq!(tries.ask("try", C), "ok");
    daemon.cli("partition isolate a --name p --for 60s");
    let assert_talks = |talker: &mut Talker, why: &str| {
        let connection = talker.dial(B);
        assert_eq!(talker.ask_patiently("say", &connection), "echo", "{why}");
    };
    let talks = |talker: &mut Talker| {
        let connection = talker.ask("dial", B);
        connection.starts_with("up") && talker.ask("say", connection.trim_start_matches("up ")) == "echo"
    };
    assert_talks(&mut tries, "it never listened");
    daemon.cli("heal p");
    assert_eq!((listened.ask("try-listen", A), listened.ask("try-listen", C)), ("ok".into(), "ok".into()));
    assert_eq!(sent.ask("try-udp", A), "ok");
    daemon.cli("partition isolate a --name q --for 60s");
    for talker in [&mut listened, &mut sent] {
        until("it is nobody's", || talks(talker).then_some(()));
    }
    // Who listens there is the peer, as before.
    let mut a = Talker::start(&lab, "m", &[A]);
    assert_eq!((a.ask("dial", B), b.ask("dial", A)), ("silent".into(), "silent".into()));
    assert_talks(&mut tries, "nor did it later");
    daemon.cli("heal q");
}

/// `/proc` shows no sockets of a process whose main thread has ended: they are there, and can't be named.
#[test]
#[needs(root, example = "talker")]
fn a_listener_whose_process_is_not_found_is_not_covered() {
    let lab = machine();
    let [mut a, _b, _c] = talkers(&lab);
    assert_eq!(a.ask("end", "main"), "ok");
    until("its main thread has ended", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", a.id())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let said = super::refusal(&daemon, "isolate a", "p").unwrap_err();
    assert!(said.contains("a socket listens on port 7001, and no process was found that has it"), "{said}");
    assert_eq!(super::refusal(&daemon, "links b:c", "p"), Ok(()), "the others are not concerned");
    daemon.stop();
    let by_pid = config(&lab).replacen("listens: [7001]", &format!("pid: {}", a.id()), 1);
    let daemon = Daemon::start(&lab, "pid", &by_pid);
    let said = super::refusal(&daemon, "isolate a", "p").unwrap_err();
    assert!(said.contains("has ended its main thread: its sockets can't be looked at"), "{said}");
}

/// The cookie of a namespace names it to the programs, and its successor has another one.
#[test]
#[needs(root, example = "talker")]
fn a_namespace_that_is_made_anew_under_its_name_is_not_reported_as_cut() {
    let mut lab = machine();
    let old = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    drop(old);
    lab.delete("m");
    lab.add("m");
    let _new = talkers(&lab);
    let words = "its network namespace was recreated, and the programs know the old one";
    let said = until("the new namespace is noticed", || {
        // Until then, nothing of ours is attached there.
        let said = super::refusal(&daemon, "links b:c", "q").unwrap_err();
        said.contains(words).then_some(said)
    });
    assert!(said.contains("restart the daemon"), "{said}");
    daemon.cli("heal p");
    let record = record(&daemon, "p");
    for link in record["links"].as_array().unwrap() {
        assert_eq!((&link["in_force"], &link["proved"]), (&"no".into(), &false.into()), "{link}");
    }
    daemon.stop();
    let daemon = Daemon::start(&lab, "lab2", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    daemon.cli("heal p");
}
