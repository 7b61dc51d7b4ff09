//! What peers on this machine cost a host that has none in its config: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use injector_lab::{Lab, needs};

use super::support::{self, Daemon};
use super::{config, machine};

/// The kinds of links that hold the programs for peers on this machine, by their names in different kernels.
const OF_PROCESSES: [&str; 3] = ["cgroup", "tracing", "raw_tracepoint"];

/// The kinds of links by which a process holds programs to their hooks.
fn link_types(process: u32) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        types.extend(text.lines().filter_map(|line| line.strip_prefix("link_type:\t")).map(str::to_owned));
    }
    types
}

/// The least time of several that something takes, in nanoseconds a round.
fn least(rounds: u32, mut what: impl FnMut()) -> u128 {
    // Many short ones: some of them fall between what else the machine does.
    let measured = (0..200).map(|_| {
        let begun = Instant::now();
        (0..rounds).for_each(|_| what());
        begun.elapsed().as_nanos() / u128::from(rounds)
    });
    measured.min().unwrap()
}

/// What a socket, and a round trip over `lo`, cost on a machine.
fn costs(lab: &Lab) -> (u128, u128) {
    lab.within("m", || {
        let socket = least(200, || {
            // SAFETY: plain system calls on a descriptor of our own.
            unsafe { libc::close(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) };
        });
        let [one, two] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        one.connect(two.local_addr().unwrap()).unwrap();
        two.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let datagram = least(200, || {
            one.send(b"x").unwrap();
            black_box(two.recv(&mut [0; 8]).unwrap());
        });
        (socket, datagram)
    })
}

#[test]
#[needs(root, tcx, alone)]
fn nothing_is_attached_for_processes_while_no_peer_is_one() {
    let mut lab = machine();
    lab.add("wired");
    lab.ip("wired", "link add one type veth peer name two");
    let bare = costs(&lab);
    let netns = lab.netns("wired");
    let wired = format!(
        "peers: {{ a: {{ addresses: [192.0.2.1] }}, b: {{ addresses: [192.0.2.2] }} }}\n\
         interfaces: [{{ name: one, netns: {netns} }}]\n"
    );
    let daemon = Daemon::start(&lab, "wired", &wired);
    let types = link_types(daemon.id());
    assert!(types.contains("tcx"), "the positive control: {types:?}");
    assert!(OF_PROCESSES.iter().all(|kind| !types.contains(*kind)), "{types:?}");
    let programs = support::ok("tc", &format!("-n {} filter show dev lo egress", lab.netns("m")));
    assert_eq!(programs, "");
    let without = costs(&lab);
    daemon.stop();
    let daemon = Daemon::start(&lab, "local", &config(&lab));
    let types = link_types(daemon.id());
    for kinds in [&["cgroup"][..], &["tracing", "raw_tracepoint"]] {
        assert!(kinds.iter().any(|kind| types.contains(*kind)), "where a peer is one: {types:?}");
    }
    let with = costs(&lab);
    for (what, (socket, datagram)) in
        [("no daemon", bare), ("no such peer", without), ("three such peers", with)]
    {
        println!("{what}: a socket {socket} ns, a datagram over lo {datagram} ns");
    }
}
