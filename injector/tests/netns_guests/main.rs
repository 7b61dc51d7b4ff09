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

use guest::{Guest, GuestSpec, Replies, assert_silent_since, replies_once_cut, wait_flow};
use injector_lab::http::{Request, body, over_unix};
use injector_lab::{SWITCH, Subnet, needs};
use serde_json::Value;
use support::{Daemon, Lab, until};

/// The first peer, the second, and the address that the first one gets later.
const N1: GuestSpec<'static> = GuestSpec { peer: "n1", tap: "p-n1", host: 1, pings: &[2] };
const N2: GuestSpec<'static> = GuestSpec { peer: "n2", tap: "p-n2", host: 2, pings: &[1, 11] };
const ELSEWHERE: u8 = 11;

/// No test here measures a recovery: a record is final soon after the heal.
const READY: &str = "ready: { observe: 1s }\n";

/// Two guests on the taps of a switch, and a daemon in the taps' namespace.
struct Fixture {
    // In the order of their end.
    daemon: Daemon,
    one: Guest,
    two: Guest,
    lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Fixture {
    /// With the first guest cut off, by a daemon whose config says which tap is whose.
    fn isolated() -> Self {
        let fixture = Self::with_config(by_tap);
        wait_covered(&fixture.daemon);
        isolate(&fixture.daemon);
        fixture
    }

    /// With a daemon with another config, and both guests up.
    fn with_config(config: impl FnOnce(&Lab) -> String) -> Self {
        // Two guests at a time are as much as two processors emulate.
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let lab =
            Lab::builder("vm").peers(2).client().guests().subnet(Subnet::SHARED.v4_only()).up().unwrap();
        let (mut one, mut two) = (Guest::start(&lab, N1), Guest::start(&lab, N2));
        one.wait_up(&lab, 1);
        two.wait_up(&lab, 1);
        wait_flow(&one, &two);
        let daemon = lab.within(SWITCH, || Daemon::start(&lab, "lab", &config(&lab)));
        Self { daemon, one, two, lab, _turn: turn }
    }

    /// Powers the first guest off, changes something, and boots it again.
    fn boot_again(&mut self, spec: GuestSpec<'_>, change: impl FnOnce(&Lab)) {
        self.one.power_off();
        change(&self.lab);
        self.one = Guest::boot(&self.lab, spec);
    }

    fn replies_once_cut(&self) -> Replies {
        replies_once_cut(&self.one, &self.two)
    }

    /// Asserts that no guest gets a reply of the other.
    #[track_caller]
    fn assert_cut_since(&self, then: Replies) {
        assert_silent_since(then, &self.one, &self.two);
    }

    /// Heals, and waits until the guests reach each other.
    fn heal(&self) {
        self.daemon.heal_by_hand("p");
        wait_flow(&self.one, &self.two);
    }

    /// The same; the cut was in force from its beginning to its end.
    fn heal_and_assert_held(&self) {
        self.heal();
        assert_held(&self.daemon);
    }
}

/// A config that says which tap is whose.
fn by_tap(lab: &Lab) -> String {
    lab.guest_config().replace(&format!(", netns: {}", lab.netns(SWITCH)), "") + READY
}

/// Deletes the first guest's tap, and makes another one of its name, as libvirt does it at each start of a guest.
fn remake(lab: &Lab) {
    lab.ip(SWITCH, "link delete p-n1");
    add_tap(lab, "p-n1");
}

fn add_tap(lab: &Lab, name: &str) {
    lab.ip(SWITCH, &format!("tuntap add dev {name} mode tap"));
    lab.ip(SWITCH, &format!("link set {name} master br0"));
    lab.ip(SWITCH, &format!("link set {name} up"));
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
    let mut fixture = Fixture::isolated();
    let then = fixture.replies_once_cut();
    let before = dropped(&fixture.daemon);

    fixture.one.command("system_reset");
    fixture.one.wait_up(&fixture.lab, 2);
    fixture.assert_cut_since(then);
    let rebooted = dropped(&fixture.daemon);
    assert!(rebooted[0] > before[0] && rebooted[1] > before[1], "{before:?}, then {rebooted:?}");

    fixture.one.command("stop");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!fixture.one.serves(&fixture.lab), "it is paused");
    fixture.one.command("cont");
    fixture.one.wait_up(&fixture.lab, 2);
    fixture.assert_cut_since(then);
    let resumed = dropped(&fixture.daemon);
    assert!(resumed[0] > rebooted[0], "{rebooted:?}, then {resumed:?}");

    fixture.heal_and_assert_held();
}

/// A tap keeps its hook under another name. One that is remade has none until the daemon has attached again.
#[test]
#[needs(root, program = "boot-guest", minutes = 2)]
fn a_tap_that_is_renamed_or_remade_is_followed() {
    let mut fixture = Fixture::isolated();
    let then = fixture.replies_once_cut();
    fixture.lab.ip(SWITCH, "link set p-n1 name other");
    fixture.assert_cut_since(then);
    assert!(fixture.one.serves(&fixture.lab), "its tap works under the other name");
    fixture.lab.ip(SWITCH, "link set other name p-n1");
    fixture.assert_cut_since(then);
    fixture.heal_and_assert_held();

    // The other tap's hook is on both links too.
    fixture.daemon.cli("wait p --timeout 60s");
    isolate(&fixture.daemon);
    fixture.boot_again(N1, remake);
    wait_hooked(&fixture.daemon, "p-n1");
    let [_, replies] = fixture.replies_once_cut();
    fixture.assert_cut_since([0, replies]);
    fixture.heal_and_assert_held();
    fixture.daemon.terminate();

    // Here its own tap's hook is the only one.
    let list = by_tap(&fixture.lab).replace("interfaces: auto", "interfaces: [{ name: p-n1 }]");
    let list = list.replace(", vm: { interface: { name: p-n2 } }", "");
    fixture.daemon = fixture.lab.within(SWITCH, || Daemon::start(&fixture.lab, "list", &list));
    wait_covered(&fixture.daemon);
    isolate(&fixture.daemon);
    fixture.boot_again(N1, remake);
    wait_hooked(&fixture.daemon, "p-n1");
    fixture.assert_cut_since(fixture.replies_once_cut());
    fixture.heal();
    assert_gap_is_recorded(&fixture.daemon, "a tap that is remade");
}

/// Its tap says whose frames they are.
#[test]
#[needs(root, program = "boot-guest", minutes = 1)]
fn a_guest_that_is_recreated_with_another_address_stays_cut() {
    let mut fixture = Fixture::isolated();
    let before = dropped(&fixture.daemon);
    fixture.boot_again(GuestSpec { host: ELSEWHERE, ..N1 }, |_| {});
    fixture.assert_cut_since([0, 0]);
    let after = dropped(&fixture.daemon);
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?}, then {after:?}");
    fixture.heal_and_assert_held();
}

/// A guest that is named by its MAC address is found behind another tap, once it has sent something there.
#[test]
#[needs(root, program = "boot-guest", minutes = 1)]
fn a_guest_that_moves_to_another_tap_is_followed() {
    let mut fixture = Fixture::with_config(|lab| {
        let peer = |name: &str, host: u8| {
            let (address, mac) = (lab.ipv4(host), lab.guest(name).mac);
            format!("{name}: {{ addresses: [{address}], mac: \"{mac}\" }}")
        };
        format!("peers: {{ {}, {} }}\ninterfaces: auto\n{READY}", peer("n1", 1), peer("n2", 2))
    });
    isolate(&fixture.daemon);
    fixture.boot_again(GuestSpec { tap: "moved", ..N1 }, |lab| {
        add_tap(lab, "moved");
        lab.ip(SWITCH, "link delete p-n1");
    });
    wait_hooked(&fixture.daemon, "moved");
    fixture.assert_cut_since(fixture.replies_once_cut());
    fixture.heal_and_assert_held();
}
