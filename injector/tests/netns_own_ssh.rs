//! The SSH connection of the user of the daemon's host: not cut unless that is asked for. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::net::{TcpListener, TcpStream};

use injector_lab::needs;
use support::{Daemon, Lab, run};

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
