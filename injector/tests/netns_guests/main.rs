//! The life of a real guest during a partition: reset, paused, its tap renamed or remade, moved to another tap, given another
//! address. Each time the cut holds, or the record says from when to when it did not. QEMU emulates the guests, whose kernel
//! is not this one. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod guest;
#[path = "../support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guest::{Ears, Guest, Place};
use injector_lab::http::{Request, body, over_unix};
use injector_lab::{SWITCH, Subnet, needs};
use serde_json::Value;
use support::{Daemon, Lab, until};

/// The first peer, the second, and the address that the first one gets later.
const N1: Place<'static> = Place { peer: "n1", tap: "p-n1", host: 1, pings: &[2] };
const N2: Place<'static> = Place { peer: "n2", tap: "p-n2", host: 2, pings: &[1, 11] };
const ELSEWHERE: u8 = 11;

/// Two guests at a time are as much as two processors emulate.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A switch with two taps and a client.
fn switch() -> Lab {
    Lab::builder("vm").peers(2).client().guests().subnet(Subnet::SHARED.v4_only()).up().unwrap()
}

fn boot(lab: &Lab) -> (Guest, Guest) {
    let (mut one, mut two) = (Guest::start(lab, N1), Guest::start(lab, N2));
    one.wait_up(lab, 1);
    two.wait_up(lab, 1);
    Ears::of(lab, (&one, 1), (&two, 2)).wait_flow();
    (one, two)
}

/// No test here measures a recovery: a record is final soon after the heal.
const READY: &str = "ready: { observe: 1s }\n";

/// A config that says which tap is whose, for a daemon in the taps' namespace.
fn guests(lab: &Lab) -> String {
    lab.guest_config().replace(&format!(", netns: {}", lab.netns(SWITCH)), "") + READY
}

/// A daemon on the switch.
fn daemon(lab: &Lab) -> Daemon {
    let daemon = lab.within(SWITCH, || Daemon::start(lab, "lab", &guests(lab)));
    wait_covered(&daemon);
    daemon
}

/// Deletes the first guest's tap, and makes another one of its name, as libvirt does it at each start of a guest.
fn remake(lab: &Lab) {
    for words in
        ["link delete p-n1", "tuntap add dev p-n1 mode tap", "link set p-n1 master br0", "link set p-n1 up"]
    {
        lab.ip(SWITCH, words);
    }
}

/// Waits until an interface has a hook.
fn wait_hooked(daemon: &Daemon, name: &str) {
    until(&format!("{name} has a hook"), || {
        let status = daemon.cli("status");
        let attachments = status["attachments"].as_array().unwrap();
        let hooked = |found: &Value| found["interface"] == name && found["hook"].is_string();
        attachments.iter().any(hooked).then_some(())
    });
}

fn wait_covered(daemon: &Daemon) {
    until("both links are covered", || (daemon.cli("status")["coverage"]["covered"] == 2).then_some(()));
}

/// Cuts the first guest off, and waits until dropped pings prove it.
fn isolate(daemon: &Daemon) {
    daemon.cli("partition isolate n1 --name p --for 10m");
    until("the cut is proved", || {
        links(daemon, "0s").iter().all(|link| link["dropped_packets"].as_u64() > Some(0)).then_some(())
    });
}

/// The record's links, n1→n2 first.
fn links(daemon: &Daemon, wait: &str) -> [Value; 2] {
    let path = format!("/v1/partitions/p/recovery?wait={wait}");
    let (status, answer) = over_unix(daemon.socket(), &Request::get(&path)).unwrap();
    assert_eq!(status, 200, "{answer}");
    let record: Value = serde_json::from_str(body(&answer)).unwrap();
    [("n1", "n2"), ("n2", "n1")].map(|(src, dst)| {
        let mut links = record["links"].as_array().unwrap().iter();
        links.find(|link| link["src"] == src && link["dst"] == dst).unwrap().clone()
    })
}

/// How many packets of each link were dropped: a guest that has forgotten its neighbours asks for them, and no more.
fn dropped(daemon: &Daemon) -> [u64; 2] {
    links(daemon, "0s").map(|link| {
        let of = |count: &str| link[count].as_u64().unwrap();
        of("dropped_packets") + of("group_packets")
    })
}

/// Asserts that the cut was in force from its beginning to its end.
fn assert_held(daemon: &Daemon) {
    for link in links(daemon, "30s") {
        assert_eq!((&link["in_force"], &link["proved"]), (&"yes".into(), &true.into()), "{link:#}");
        assert_eq!(link["uncovered"], Value::Array(Vec::new()), "{link:#}");
        assert_eq!(link["leaked_packets"], 0, "{link:#}");
    }
}

/// Asserts that the record names times without a hook, each with its end, and does not call the cut in force.
fn assert_gap_is_recorded(daemon: &Daemon, event: &str) {
    for link in links(daemon, "30s") {
        let gaps = link["uncovered"].as_array().unwrap();
        assert!(!gaps.is_empty(), "{event}: {link:#}");
        let mut uncovered = Duration::ZERO;
        for gap in gaps {
            let (from, until) = (gap["from_ns"].as_u64().unwrap(), gap["until_ns"].as_u64().unwrap());
            assert!(from < until, "{link:#}");
            uncovered += Duration::from_nanos(until - from);
        }
        eprintln!("{event}: {}→{} was not covered for {uncovered:?}", link["src"], link["dst"]);
        assert_ne!(link["in_force"], "yes", "{link:#}");
    }
}

/// QEMU, its tap and its place on the switch outlive both.
#[test]
#[needs(root, program = "boot-guest", minutes = 1)]
fn a_guest_that_is_reset_or_paused_stays_cut() {
    let _turn = turn();
    let lab = switch();
    let (mut one, two) = boot(&lab);
    let daemon = daemon(&lab);
    isolate(&daemon);
    let then = Ears::of(&lab, (&one, 1), (&two, 2)).once_cut();
    let before = dropped(&daemon);

    one.command("system_reset");
    one.wait_up(&lab, 2);
    Ears::of(&lab, (&one, 1), (&two, 2)).assert_silent_since(then);
    let rebooted = dropped(&daemon);
    assert!(rebooted[0] > before[0] && rebooted[1] > before[1], "{before:?}, then {rebooted:?}");

    one.command("stop");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!one.serves(&lab), "it is paused");
    one.command("cont");
    one.wait_up(&lab, 2);
    let ears = Ears::of(&lab, (&one, 1), (&two, 2));
    ears.assert_silent_since(then);
    let resumed = dropped(&daemon);
    assert!(resumed[0] > rebooted[0], "{rebooted:?}, then {resumed:?}");

    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_held(&daemon);
}

/// A tap keeps its hook under another name. One that is remade has none until the daemon has attached again.
#[test]
#[needs(root, program = "boot-guest", minutes = 2)]
fn a_tap_that_is_renamed_or_remade_is_followed() {
    let _turn = turn();
    let lab = switch();
    let (one, two) = boot(&lab);
    let daemon = daemon(&lab);
    isolate(&daemon);
    let ears = Ears::of(&lab, (&one, 1), (&two, 2));
    let then = ears.once_cut();
    lab.ip(SWITCH, "link set p-n1 name other");
    ears.assert_silent_since(then);
    assert!(one.serves(&lab), "its tap works under the other name");
    lab.ip(SWITCH, "link set other name p-n1");
    ears.assert_silent_since(then);
    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_held(&daemon);

    // The other tap's hook is on both links too.
    daemon.cli("wait p --timeout 60s");
    isolate(&daemon);
    one.power_off();
    remake(&lab);
    let one = Guest::boot(&lab, N1);
    wait_hooked(&daemon, "p-n1");
    let ears = Ears::of(&lab, (&one, 1), (&two, 2));
    ears.assert_silent_since([0, ears.once_cut()[1]]);
    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_held(&daemon);
    daemon.stop();

    // Here its own tap's hook is the only one.
    let list = guests(&lab).replace("interfaces: auto", "interfaces: [{ name: p-n1 }]");
    let list = list.replace(", vm: { interface: { name: p-n2 } }", "");
    let daemon = lab.within(SWITCH, || Daemon::start(&lab, "list", &list));
    wait_covered(&daemon);
    isolate(&daemon);
    one.power_off();
    remake(&lab);
    let one = Guest::boot(&lab, N1);
    wait_hooked(&daemon, "p-n1");
    let ears = Ears::of(&lab, (&one, 1), (&two, 2));
    let then = ears.once_cut();
    ears.assert_silent_since(then);
    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_gap_is_recorded(&daemon, "a tap that is remade");
}

/// Its tap says whose frames they are.
#[test]
#[needs(root, program = "boot-guest", minutes = 1)]
fn a_guest_that_is_recreated_with_another_address_stays_cut() {
    let _turn = turn();
    let lab = switch();
    let (one, two) = boot(&lab);
    let daemon = daemon(&lab);
    isolate(&daemon);
    let before = dropped(&daemon);
    one.power_off();
    let one = Guest::boot(&lab, Place { host: ELSEWHERE, ..N1 });
    let ears = Ears::of(&lab, (&one, ELSEWHERE), (&two, 2));
    ears.assert_silent_since([0, 0]);
    let after = dropped(&daemon);
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?}, then {after:?}");
    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_held(&daemon);
}

/// A guest that is named by its MAC address is found behind another tap, once it has sent something there.
#[test]
#[needs(root, program = "boot-guest", minutes = 1)]
fn a_guest_that_moves_to_another_tap_is_followed() {
    let _turn = turn();
    let lab = switch();
    let (one, two) = boot(&lab);
    let peer = |name: &str, host: u8| {
        let (address, mac) = (lab.ipv4(host), lab.guest(name).mac);
        format!("{name}: {{ addresses: [{address}], mac: \"{mac}\" }}")
    };
    let peers = format!("peers: {{ {}, {} }}\ninterfaces: auto\n{READY}", peer("n1", 1), peer("n2", 2));
    let daemon = lab.within(SWITCH, || Daemon::start(&lab, "lab", &peers));
    isolate(&daemon);
    one.power_off();
    lab.ip(SWITCH, "tuntap add dev moved mode tap");
    lab.ip(SWITCH, "link set moved master br0");
    lab.ip(SWITCH, "link set moved up");
    lab.ip(SWITCH, "link delete p-n1");
    let one = Guest::boot(&lab, Place { tap: "moved", ..N1 });
    wait_hooked(&daemon, "moved");
    let ears = Ears::of(&lab, (&one, 1), (&two, 2));
    let then = ears.once_cut();
    ears.assert_silent_since(then);
    daemon.heal_by_hand("p");
    ears.wait_flow();
    assert_held(&daemon);
}
