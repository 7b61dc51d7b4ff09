//! The SSH connection of the user of the daemon's host: not cut unless that is asked for, and kept by `protect`. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use injector_lab::needs;
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
