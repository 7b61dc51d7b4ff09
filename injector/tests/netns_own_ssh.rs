//! The SSH connection of the user of the daemon's host: not cut unless that is asked for, and kept by `protect`. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "netns_jepsen/sshd.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod sshd;
#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use injector_lab::{SWITCH, needs, skip};
use sshd::Sshd;
use support::{Daemon, Lab, PATIENCE, run};

/// The partition, or the problem that it was refused with.
fn asked(daemon: &Daemon, words: &str) -> serde_json::Value {
    let socket = daemon.socket().display();
    let words = format!("--json --socket {socket} partition {words} --name p --for 60s");
    let output = run(env!("CARGO_BIN_EXE_injector"), &words);
    match serde_json::from_slice(&output.stdout) {
        Ok(view) => view,
        Err(_) => serde_json::from_slice::<serde_json::Value>(&output.stderr).unwrap()["problem"].clone(),
    }
}

/// The daemon is in n1, and somebody has a connection to port 22 there: from n2, a peer, or from n3, which is none.
#[test]
#[needs(root)]
fn an_ssh_connection_to_the_daemons_host_is_not_cut_unless_asked_for() {
    let lab = Lab::switched(3);
    let peers = [lab.peer("n1", 1), lab.peer("n2", 2)].join("\n  ");
    let config = format!("peers:\n  {peers}\ninterfaces: [{{ name: eth0 }}]\n");
    let listener = lab.within("n1", || TcpListener::bind((lab.ipv4(1), 22)).unwrap());
    let daemon = lab.within("n1", || Daemon::start(&lab, "d", &config));
    assert!(lab.reaches_soon(1, 2));
    let try_it = |words: &str| asked(&daemon, words);
    let is_cut = |answer: &serde_json::Value| {
        daemon.cli("heal --all");
        answer["state"] == "active"
    };

    let view = try_it("isolate n1");
    assert!(is_cut(&view), "nobody is connected: {view}");
    let connect = |node: &str| {
        let stream = lab.within(node, || TcpStream::connect((lab.ipv4(1), 22)).unwrap());
        (stream, listener.accept().unwrap())
    };

    let from_peer = connect("n2");
    let refused = try_it("isolate n1");
    assert_eq!(refused["code"], "own-ssh", "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("from n2"), "{refused}");
    assert!(refused["remedy"].as_str().unwrap().contains("--allow-ssh"), "{refused}");
    assert!(lab.reaches(1, 2), "nothing was cut");
    for spared in ["isolate n1 --scope udp", "isolate n1 --scope tcp/5122"] {
        let view = try_it(spared);
        assert!(is_cut(&view), "{spared}: {view}");
    }
    let refused = try_it("isolate n1 --scope tcp/22");
    assert_eq!(refused["code"], "own-ssh", "{refused}");
    let view = try_it("isolate n1 --allow-ssh");
    assert!(is_cut(&view), "{view}");
    drop(from_peer);

    let _from_world = connect("n3");
    let view = try_it("between n1 n2");
    assert!(is_cut(&view), "the connection is not on that link: {view}");
    let refused = try_it("between n1 world");
    assert_eq!(refused["code"], "own-ssh", "{refused}");
    daemon.stop();

    // What is protected is not cut.
    let protecting = lab.within("n1", || Daemon::start(&lab, "e", &format!("{config}protect: [tcp/22]\n")));
    let view = asked(&protecting, "between n1 world");
    assert_eq!(view["state"], "active", "{view}");
}

/// A real sshd listens on another port than 22, and was there before the daemon.
#[test]
#[needs(root, program = "sshd")]
fn an_ssh_connection_to_another_port_is_not_cut_unless_asked_for() {
    if let Some(why) = sshd::why_not() {
        return skip("an_ssh_connection_to_another_port_is_not_cut_unless_asked_for", &why);
    }
    let lab = Lab::switched(2);
    let (mut sshd, no_socket) = (Sshd::new(), lab.folder().join("no.sock"));
    std::fs::write(&no_socket, "").unwrap();
    sshd.start(&lab, "n1", &no_socket);
    let listener = lab.within("n1", || TcpListener::bind((lab.ipv4(1), 8080)).unwrap());
    let peers = [lab.peer("n1", 1), lab.peer("n2", 2)].join("\n  ");
    let config = format!("peers:\n  {peers}\ninterfaces: [{{ name: eth0 }}]\n");
    let daemon = lab.within("n1", || Daemon::start(&lab, "d", &config));
    let connect = |port| lab.within("n2", || TcpStream::connect((lab.ipv4(1), port)).unwrap());

    let to_another_server = connect(8080);
    assert_cut(&daemon, "isolate n1");
    let session = connect(sshd::PORT);
    assert_refused(&daemon, "isolate n1", "from n2");
    assert_cut(&daemon, "isolate n1 --allow-ssh");
    drop((session, to_another_server, listener));
    daemon.stop();
}

/// Whether a byte passes a connection both ways.
fn echoes((client, server): &mut (TcpStream, TcpStream)) -> bool {
    let passes = |from: &mut TcpStream, to: &mut TcpStream| {
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        from.write_all(b"k").is_ok() && to.read_exact(&mut [0]).is_ok()
    };
    passes(client, server) && passes(server, client)
}

/// Connections at a protected port go on, old and new ones, also once both ends have forgotten each other's MAC address, as they
/// do within a minute of a cut. That the cut drops everything else shows at another port.
#[test]
#[needs(root)]
fn a_protected_port_is_reached_after_both_ends_forget_each_other() {
    let lab = Lab::switched(2);
    let ipv6 = |host: u8| IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, u16::from(host)]);
    let peer = |host: u8| {
        lab.ip(&format!("n{host}"), &format!("address add {}/64 dev eth0 nodad", ipv6(host)));
        format!("n{host}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(host), ipv6(host))
    };
    let peers = [peer(1), peer(2)].join("\n  ");
    let listeners = |port: u16| {
        let listen = |address| lab.within("n1", || TcpListener::bind((address, port)).unwrap());
        [lab.ipv4(1), ipv6(1)].map(|address| (SocketAddr::new(address, port), listen(address)))
    };
    let (ssh, other) = (listeners(22), listeners(80));
    let connect = |(at, listener): &(SocketAddr, TcpListener)| {
        let stream = lab.within("n2", || TcpStream::connect_timeout(at, PATIENCE));
        stream.map(|stream| (stream, listener.accept().unwrap().0))
    };
    for (name, protect) in
        [("port", "tcp/22".to_owned()), ("address", format!("{}, \"{}\"", lab.ipv4(2), ipv6(2)))]
    {
        let config = format!("peers:\n  {peers}\ninterfaces: [{{ name: eth0 }}]\nprotect: [{protect}]\n");
        let daemon = lab.within("n1", || Daemon::start(&lab, name, &config));
        let mut old: Vec<_> = ssh.iter().map(|at| connect(at).unwrap()).collect();
        assert!(old.iter_mut().all(echoes));

        let view = asked(&daemon, "isolate n1");
        assert_eq!(view["state"], "active", "{protect}: {view}");
        let is_of_port = name == "port";
        assert_eq!(view["request"]["neighbour"], if is_of_port { "keep" } else { "auto" }, "{view}");
        for node in ["n1", "n2"] {
            lab.ip(node, "neigh flush dev eth0");
        }
        assert!(old.iter_mut().all(echoes), "{protect}: an old connection");
        for at in &ssh {
            lab.ip("n2", "neigh flush dev eth0");
            let mut new = connect(at).unwrap_or_else(|error| panic!("{protect}: {}: {error}", at.0));
            assert!(echoes(&mut new), "{protect}: {}", at.0);
        }
        for (at, _) in other.iter().filter(|_| is_of_port) {
            let refused = lab.within("n2", || TcpStream::connect_timeout(at, Duration::from_secs(1)));
            assert!(refused.is_err(), "{at} is cut");
        }
        daemon.cli("heal --all");

        let view = asked(&daemon, "isolate n1 --scope udp --neighbour drop");
        let answer = view[if is_of_port { "code" } else { "state" }].as_str();
        assert_eq!(answer, Some(if is_of_port { "bad-parameter" } else { "active" }), "{protect}: {view}");
        daemon.stop();
    }
}

/// Gives a device a link-local address, and another one that no config lists.
fn give_unlisted(lab: &Lab, of: &str, device: &str, host: u16) {
    for prefix in ["fe80", "fd99"] {
        lab.ip(of, &format!("address add {prefix}::{host:x}/64 dev {device} nodad"));
    }
}

/// A connection from a node to port 22 of an address, a link-local one too.
fn connect(lab: &Lab, node: &str, to: IpAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let shown = lab.ip(node, "-o link show eth0");
    let scope = shown.split(':').next().unwrap().trim().parse().unwrap();
    let to = match to {
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 22, 0, scope).into(),
        IpAddr::V4(_) => SocketAddr::new(to, 22),
    };
    let stream = lab.within(node, || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    (stream, listener.accept().unwrap().0)
}

/// A partition is refused because of an SSH connection, also as a dry run.
fn assert_refused(daemon: &Daemon, words: &str, detail: &str) {
    for step in ["--dry-run", ""] {
        let refused = asked(daemon, &format!("{words} {step}"));
        assert_eq!(refused["code"], "own-ssh", "{words} {step}: {refused}");
        let found = refused["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{words} {step}: {found}");
    }
}

fn assert_cut(daemon: &Daemon, words: &str) {
    let view = asked(daemon, words);
    assert_eq!(view["state"], "active", "{words}: {view}");
    daemon.cli("heal --all");
}

const PREPARED: &[u8] = br#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;

/// The daemon is on the host of n1. Neither n2, whose MAC address the config has, nor n3, which is no peer, is seen inside.
#[test]
#[needs(root)]
fn an_ssh_connection_is_found_by_what_the_hooks_see_of_it() {
    let mut lab = Lab::switched(3);
    for host in 1..=3 {
        give_unlisted(&lab, &format!("n{host}"), "eth0", host);
    }
    let vip: IpAddr = lab.ipv4(100);
    lab.ip("n1", &format!("address add {vip}/32 dev eth0"));
    lab.ip("n2", &format!("route add {vip} dev eth0"));
    let (one, two) = (lab.ipv4(1), lab.ipv4(2));
    let mac = lab.mac("n2", "eth0");
    lab.hide("n2");
    lab.hide("n3");
    let peers = format!(
        "n1: {{ addresses: [{one}], vip: [{vip}] }}\n  n2: {{ addresses: [{two}], mac: \"{mac}\", vip: [{vip}] }}"
    );
    let config = format!("peers:\n  {peers}\ninterfaces: [{{ name: eth0 }}]\n");
    let listener = lab.within("n1", || TcpListener::bind("[::]:22").unwrap());
    let daemon = lab.within("n1", || Daemon::start(&lab, "d", &config));
    let connect = |node: &str, to: IpAddr| connect(&lab, node, to, &listener);
    let link_local: IpAddr = "fe80::1".parse().unwrap();

    let from_peer = connect("n2", link_local);
    assert_refused(&daemon, "isolate n1", "from n2 (fe80::2) to n1 (fe80::1)");
    assert_cut(&daemon, "isolate n1 --allow-ssh");
    assert_cut(&daemon, "between n1 world");
    drop(from_peer);
    let from_world = connect("n3", link_local);
    assert_refused(&daemon, "between n1 world", "from world (fe80::3) to n1 (fe80::1)");
    assert_cut(&daemon, "isolate n1");
    drop(from_world);
    let from_unlisted = connect("n2", "fd99::1".parse().unwrap());
    assert_refused(
        &daemon,
        "isolate n1",
        "may cut an SSH connection to this host, from fd99::2, which may be n2, to n1",
    );
    drop(from_unlisted);

    let to_vip = connect("n2", vip);
    assert_refused(&daemon, "isolate n1", &format!("from n2 ({two}) to n1 ({vip})"));
    drop(to_vip);

    // A scope that spares the port spares the connection, but not without ARP.
    let to_listed = connect("n2", one);
    assert_cut(&daemon, "isolate n1 --scope udp");
    assert_refused(&daemon, "isolate n1 --scope udp --neighbour drop", "from n2");
    drop(to_listed);

    // Someone connects after a partition was prepared.
    let post = |path: &str, body: &[u8]| daemon.raw("POST", &format!("/v1/partitions/q/{path}"), body);
    let (status, view) = post("prepare", PREPARED);
    assert_eq!(status, 200, "{view}");
    let late = connect("n2", one);
    let (status, refused) = post("enable", b"{}");
    assert_eq!((status, refused["code"].as_str()), (409, Some("own-ssh")), "{refused}");
    assert!(lab.reaches(1, 2), "nothing was cut");
    drop(late);
    let (status, view) = post("enable", b"{}");
    assert_eq!((status, view["state"].as_str()), (200, Some("active")), "it stayed prepared: {view}");
}

/// The daemon is on the host of the bridge, which is no peer. The guest n2 is not seen inside, and n3 is no peer.
#[test]
#[needs(root)]
fn an_ssh_connection_of_a_guest_to_its_host_is_not_cut_unless_asked_for() {
    let mut lab = Lab::switched(3);
    for host in 1..=3 {
        give_unlisted(&lab, &format!("n{host}"), "eth0", host);
    }
    give_unlisted(&lab, SWITCH, "br0", 0xfe);
    lab.hide("n2");
    lab.hide("n3");
    let (one, two) = (lab.ipv4(1), lab.ipv4(2));
    let config = format!(
        "peers:\n  n1: {{ addresses: [{one}] }}\n  n2: {{ addresses: [{two}], vm: {{ interface: p-n2 }} }}\n\
         interfaces: [{{ name: p-n1 }}, {{ name: p-n2 }}]\n"
    );
    let listener = lab.within(SWITCH, || TcpListener::bind("[::]:22").unwrap());
    let daemon = lab.within(SWITCH, || Daemon::start(&lab, "d", &config));
    for (host, from) in
        [("fe80::fe", "from n2 (fe80::2) to world"), ("fd99::fe", "from fd99::2, which may be n2, to world")]
    {
        let of_guest = connect(&lab, "n2", host.parse().unwrap(), &listener);
        assert_refused(&daemon, "between n2 world", from);
        assert_cut(&daemon, "between n1 n2");
        assert_cut(&daemon, "between n2 world --allow-ssh");
        drop(of_guest);
        let of_world = connect(&lab, "n3", host.parse().unwrap(), &listener);
        assert_cut(&daemon, "between n2 world");
        drop(of_world);
    }
}
